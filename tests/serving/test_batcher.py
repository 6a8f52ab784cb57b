"""The batcher: a queue, a limit and a clock; no transport, no onnxruntime, and the test moves the clock."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.batching.admission import Limits
from serving.batching.batcher import Batcher, Observer
from serving.batching.pace import Pace
from serving.batching.queue import Outputs, Ran, Tensors
from serving.errors import DeadlineError, OverloadedError
from serving.pixels import Images

QUICK = {4: 0.0001}
SLOW = {1: 0.001}
Answer = NDArray[np.uint8]  # the first pixel of each image


def pictures(*values: int, size: int = 2) -> Images:
    """One image a value, filled with it."""
    return np.stack([np.full((size, size), value, np.uint8) for value in values])


class Runs:
    """Keeps the batches that models ran; a run in a thread ends when the test lets it."""

    def __init__(self, *, is_open: bool = True, bad: Sequence[int] = ()) -> None:
        self.before: Callable[[list[int]], object] = lambda _: None
        self.batches: list[list[int]] = []
        self.names: list[str] = []
        self.bad = set(bad)
        self.gate = asyncio.Event()
        if is_open:
            self.gate.set()

    def in_thread(self, work: Callable[[], Any]) -> "asyncio.Future[Any]":
        """Begin, and end when the gate is open."""

        async def run() -> Any:
            try:
                return work()
            finally:
                await self.gate.wait()

        return asyncio.ensure_future(run())

    def run(self, name: str, values: list[int]) -> None:
        """Fail when one of the images is bad."""
        self.before(values)
        self.batches.append(values)
        self.names.append(name)
        if self.bad & set(values):
            raise ValueError(f"cannot answer {self.bad & set(values)}")


@dataclass(eq=False)
class Named:
    """A model: answers an image of `size` x `size` with its first pixel."""

    name: str
    runs: Runs
    size: int = 2
    pace: Pace = field(default_factory=Pace)

    def predict(self, tensors: Tensors) -> Outputs:
        """The first pixels."""
        pixels = np.frombuffer(tensors[0], np.uint8).reshape(-1, self.size**2)[:, 0]
        self.runs.run(self.name, pixels.tolist())
        return (pixels,)

    def encode(self, outputs: Outputs, row_counts: Sequence[int]) -> list[bytes]:
        """As bytes."""
        stops = np.cumsum(row_counts).tolist()
        return [outputs[0][stop - count : stop].tobytes() for count, stop in zip(row_counts, stops, strict=True)]


class Call:
    """A call, as the batcher sees it."""

    def __init__(self, deadline: float | None) -> None:
        self.queued = 0.0
        self.deadline = deadline
        self.is_over = False
        self.on_failure: Callable[[], object] | None = None
        self.answered: asyncio.Future[tuple[bytes, Ran]] = asyncio.get_running_loop().create_future()

    def respond(self, content: bytes, ran: Ran) -> None:
        """Once."""
        if not self.is_over:
            self.is_over = True
            self.answered.set_result((content, ran))

    def fail(self, error: BaseException) -> None:
        """Once."""
        if not self.is_over:
            self.abandon()
            self.answered.set_exception(error)

    def abandon(self) -> None:
        """Leave."""
        self.is_over = True
        if self.on_failure:
            self.on_failure()


class Answering:
    """A batcher for one model."""

    def __init__(self, runs: Runs, *arguments: Any, **settings: Any) -> None:
        self.batcher: Batcher[Named] = Batcher(runs.in_thread, *arguments, **settings)
        self.model = Named("a", runs)

    async def submit(self, images: Images, deadline: float | None = None, model: Named | None = None) -> Answer:
        """Submit, and leave the run out."""
        answers, _ = await self.timed(images, deadline, model)
        return answers

    async def timed(
        self, images: Images, deadline: float | None = None, model: Named | None = None
    ) -> tuple[Answer, Ran]:
        """Submit; a task that is cancelled abandons its call."""
        call = Call(deadline)
        self.batcher.submit(call, model or self.model, (images.tobytes(),), len(images))
        try:
            content, ran = await call.answered
        except asyncio.CancelledError:
            call.abandon()
            raise
        return np.frombuffer(content, np.uint8), ran

    def loaded(self, run_s: Mapping[int, float]) -> None:
        """Give the model's times when it was loaded."""
        self.model.pace = Pace(run_s)


class Nobody:
    """Counts nothing."""

    def calls_waited(self, began: float, queued: Sequence[float]) -> None:
        """Forget it."""

    def batch_ran(self, row_count: int, compute_s: float, dispatch: str) -> None:
        """Forget it."""


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now_s


def make(
    runs: Runs,
    *,
    batch: int = 100,
    queue: int = 100,
    queue_s: float = 100,
    concurrent_runs: int = 1,
    inline: bool = False,
    clock: Callable[[], float] | None = None,
    observer: Observer | None = None,
) -> Answering:
    """A batcher over a model; nothing runs in the event loop unless `inline` says so."""
    return Answering(
        runs,
        observer or Nobody(),
        runs_inline=inline,
        max_batch_rows=batch,
        limits=Limits(queue, queue_s),
        concurrent_runs=concurrent_runs,
        clock=clock or Clock(),
    )


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def busy(model: Runs, batcher: Answering) -> "asyncio.Task[Answer]":
    """Occupy the only worker with one image of value 0."""
    first = asyncio.create_task(batcher.submit(pictures(0)))
    await settle()
    assert model.batches == [[0]]
    return first


async def test_an_idle_server_never_waits() -> None:
    """A single call runs at once, alone."""
    model = Runs()
    assert (await make(model).submit(pictures(7))).tolist() == [7]
    assert model.batches == [[7]]


async def test_what_arrives_while_the_model_runs_forms_the_next_batch() -> None:
    """Three calls that wait together run together."""
    model = Runs(is_open=False)
    batcher = make(model)
    first = await busy(model, batcher)
    waiting = [asyncio.create_task(batcher.submit(pictures(value))) for value in (1, 2, 3)]
    await settle()
    model.gate.set()
    answers = await asyncio.gather(first, *waiting)
    assert model.batches == [[0], [1, 2, 3]]
    assert [answer.tolist() for answer in answers] == [[0], [1], [2], [3]]


async def test_a_batch_never_exceeds_its_limit_and_keeps_the_order() -> None:
    """A call that does not fit waits for the next batch; nobody overtakes it."""
    model = Runs(is_open=False)
    batcher = make(model, batch=4)
    first = await busy(model, batcher)
    sizes = [(1, 2), (3, 4, 5), (6,)]
    waiting = [asyncio.create_task(batcher.submit(pictures(*values))) for values in sizes]
    await settle()
    model.gate.set()
    await asyncio.gather(first, *waiting)
    assert model.batches == [[0], [1, 2], [3, 4, 5, 6]]


async def test_a_batch_is_answered_by_one_model() -> None:
    """Calls for several versions may wait together: the first one says whose turn it is, and those of its kind join."""
    model = Runs(is_open=False)
    batcher = make(model)
    first = await busy(model, batcher)
    old, new = Named("old", model), Named("new", model, size=3)
    calls = [(1, 2, old), (2, 3, new), (3, 3, new), (4, 2, old), (5, 3, new)]
    waiting = [asyncio.create_task(batcher.submit(pictures(value, size=size), model=who)) for value, size, who in calls]
    await settle()
    model.gate.set()
    answers = await asyncio.gather(first, *waiting)
    assert [answer.tolist() for answer in answers] == [[0], [1], [2], [3], [4], [5]]
    assert model.names == ["a", "old", "new"]
    assert model.batches == [[0], [1, 4], [2, 3, 5]]


async def test_a_quick_model_does_not_make_a_slow_one_quick() -> None:
    """Each is judged by its own times: the slow one goes to a worker."""
    model = Runs(is_open=False)
    batcher = make(model, inline=True)
    batcher.loaded(QUICK)
    slow = Named("slow", model, pace=Pace(SLOW))
    call = asyncio.create_task(batcher.submit(pictures(1), model=slow))
    await settle()
    assert not call.done()
    model.gate.set()
    assert (await call).tolist() == [1]


async def test_bulk_calls_that_wait_get_no_interactive_call_refused() -> None:
    """It goes before them: what waits behind it is not its concern, in images or in time."""
    model = Runs(is_open=False)
    batcher = make(model, queue=100, queue_s=0.5)
    batcher.loaded({1: 0.01})
    first = await busy(model, batcher)
    bulk = [asyncio.create_task(batcher.submit(pictures(*[1] * 50))) for _ in range(2)]
    await settle()
    with pytest.raises(OverloadedError):
        await batcher.submit(pictures(*[1] * 20))
    single = asyncio.create_task(batcher.submit(pictures(2)))
    await settle()
    model.gate.set()
    await asyncio.gather(first, single, *bulk)
    assert [batch[0] for batch in model.batches] == [0, 2, 1]


async def test_a_call_is_split_only_when_it_exceeds_the_largest_batch() -> None:
    """Its parts run one after the other or at once, and its answers come back in one piece, in order."""
    model = Runs()
    batcher = make(model, batch=4, concurrent_runs=2)
    assert (await batcher.submit(pictures(*range(10)))).tolist() == list(range(10))
    assert sorted(map(len, model.batches)) == [2, 4, 4]


async def test_a_part_that_fails_fails_its_call_and_nobody_else() -> None:
    """The other parts leave the queue; the neighbour is answered."""
    model = Runs(is_open=False, bad=[5])
    batcher = make(model, batch=4)
    split = asyncio.create_task(batcher.submit(pictures(*range(12))))
    other = asyncio.create_task(batcher.submit(pictures(20, 21)))
    await settle()
    model.gate.set()
    with pytest.raises(ValueError, match="cannot answer"):
        await split
    assert (await other).tolist() == [20, 21]
    await settle()
    assert batcher.batcher.queued_rows == 0


async def test_what_is_known_to_be_quick_runs_in_the_event_loop() -> None:
    """In its next turn, as the model's times when it was loaded have shown."""
    model = Runs()
    batcher = make(model, inline=True)
    batcher.loaded(QUICK)
    model.gate.clear()
    call = asyncio.create_task(batcher.submit(pictures(1, 2)))
    for _ in range(3):  # it begins, the model runs, it has its answer
        await asyncio.sleep(0)
    assert call.done()
    assert (await call).tolist() == [1, 2]


@pytest.mark.parametrize("run_s", [SLOW, {}], ids=["slow", "not known"])
async def test_what_is_slow_never_runs_in_the_event_loop(run_s: Mapping[int, float]) -> None:
    """A millisecond an image: every call goes to a worker. So does one of which nothing is known."""
    model = Runs(is_open=False)
    batcher = make(model, inline=True)
    batcher.loaded(run_s)
    call = asyncio.create_task(batcher.submit(pictures(1)))
    await settle()
    assert not call.done()
    model.gate.set()
    assert (await call).tolist() == [1]


async def test_a_busy_machine_does_not_make_a_model_slow() -> None:
    """Runs that took long lately, whatever for, are still known to be quick."""
    clock = Clock()
    model = Runs()
    batcher = make(model, inline=True, clock=clock)
    batcher.loaded(QUICK)
    model.before = lambda _: setattr(clock, "now_s", clock.now_s + 0.1)
    for _ in range(5):
        call = asyncio.create_task(batcher.submit(pictures(1)))
        for _ in range(3):
            await asyncio.sleep(0)
        assert call.done()


async def test_a_failure_where_it_arrives_is_the_callers_alone() -> None:
    """And the next call is answered."""
    batcher = make(Runs(bad=[1]), inline=True)
    batcher.loaded(QUICK)
    with pytest.raises(ValueError, match="cannot answer"):
        await batcher.submit(pictures(1))
    assert (await batcher.submit(pictures(2))).tolist() == [2]


async def test_nobody_overtakes_those_who_wait() -> None:
    """A call that could be run where it arrives joins the queue behind others."""
    model = Runs(is_open=False)
    batcher = make(model, inline=True)
    batcher.loaded({16: 0.0, 32: 0.1})
    first = asyncio.create_task(batcher.submit(pictures(*[0] * 20)))
    await settle()
    waiting = [asyncio.create_task(batcher.submit(pictures(value))) for value in (1, 2)]
    await settle()
    model.gate.set()
    await asyncio.gather(first, *waiting)
    assert model.batches == [[0] * 20, [1, 2]]


async def test_a_deadline_that_has_passed_is_never_run() -> None:
    """Not even where it arrives."""
    clock = Clock()
    model = Runs()
    batcher = make(model, inline=True, clock=clock)
    clock.now_s = 5
    with pytest.raises(DeadlineError):
        await batcher.submit(pictures(1), deadline=4)
    assert model.batches == []


async def test_an_interactive_batch_takes_no_bulk_along() -> None:
    """Else the single image would wait for the hundred."""
    model = Runs(is_open=False)
    batcher = make(model, batch=200, queue=1000)
    first = await busy(model, batcher)
    calls = [asyncio.create_task(batcher.submit(pictures(*[value] * size))) for value, size in ((1, 100), (2, 1))]
    await settle()
    model.gate.set()
    await asyncio.gather(first, *calls)
    assert [len(batch) for batch in model.batches] == [1, 1, 100]


class Clumsy(Nobody):
    """Fails when it is told of a batch, the first time."""

    def __init__(self) -> None:
        self.is_first = True

    def batch_ran(self, row_count: int, compute_s: float, dispatch: str) -> None:
        """Stumble."""
        if self.is_first:
            self.is_first = False
            raise RuntimeError("as the test says")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_observer_that_fails_loses_no_call() -> None:
    """The batch is answered, the worker is given back, and those who wait are served."""
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    batcher = make(Runs(), batch=40, queue=200, observer=Clumsy())
    calls = [asyncio.create_task(batcher.submit(pictures(*[value] * 40))) for value in range(4)]
    answers = await asyncio.wait_for(asyncio.gather(*calls), 60)
    assert [answer[0] for answer in answers] == [0, 1, 2, 3]


async def test_one_slow_run_does_not_refuse_what_comes_after() -> None:
    """A stall of a third of a second for one image says little about the next hundreds."""
    clock = Clock()
    model = Runs()
    batcher = make(model, batch=600, queue=6000, clock=clock)
    duration = {"s": 0.006}
    model.before = lambda _: setattr(clock, "now_s", clock.now_s + duration["s"])
    for _ in range(20):
        await batcher.submit(pictures(*[1] * 500))
    duration["s"] = 0.3
    await batcher.submit(pictures(1))
    model.gate.clear()
    duration["s"] = 0.006
    running = asyncio.create_task(batcher.submit(pictures(*[1] * 500)))
    await settle()
    patient = asyncio.create_task(batcher.submit(pictures(*[1] * 500), deadline=clock.now_s + 0.2))
    await settle()
    assert not patient.done()
    model.gate.set()
    await asyncio.gather(running, patient)


async def test_a_long_queue_is_shared_among_idle_workers() -> None:
    """Three calls of 64 images, two workers: both have work."""
    model = Runs(is_open=False)
    batcher = make(model, batch=1024, queue=1024, concurrent_runs=2)
    calls = [asyncio.create_task(batcher.submit(pictures(*[value] * 64))) for value in (1, 2, 3)]
    await settle()
    assert [len(batch) for batch in model.batches] == [128, 64]
    model.gate.set()
    await asyncio.gather(*calls)


async def test_a_short_queue_is_one_batch() -> None:
    """A second batch of a few images would cost more than it saves."""
    model = Runs(is_open=False)
    batcher = make(model, concurrent_runs=2)
    calls = [asyncio.create_task(batcher.submit(pictures(value))) for value in (1, 2, 3)]
    await settle()
    assert model.batches == [[1, 2, 3]]
    model.gate.set()
    await asyncio.gather(*calls)


async def test_interactive_calls_go_before_bulk_calls() -> None:
    """One image overtakes a hundred that came first."""
    model = Runs(is_open=False)
    batcher = make(model, batch=100, queue=1000)
    first = await busy(model, batcher)
    bulk = asyncio.create_task(batcher.submit(pictures(*[1] * 100)))
    await settle()
    single = asyncio.create_task(batcher.submit(pictures(2)))
    await settle()
    model.gate.set()
    await asyncio.gather(first, bulk, single)
    assert [batch[0] for batch in model.batches] == [0, 2, 1]


async def test_bulk_calls_are_not_passed_over_for_ever() -> None:
    """However many single images keep coming."""
    model = Runs()
    batcher = make(model, batch=20, queue=1000)
    bulk = asyncio.create_task(batcher.submit(pictures(*[1] * 20)))
    singles: list[asyncio.Task[Answer]] = []
    model.before = lambda _: singles.extend(asyncio.create_task(batcher.submit(pictures(2))) for _ in range(20))
    singles.append(asyncio.create_task(batcher.submit(pictures(2))))
    for _ in range(200):
        await asyncio.sleep(0)
        if bulk.done():
            break
    assert bulk.done()
    model.before = lambda _: None
    await asyncio.gather(*singles)


async def test_a_deadline_that_cannot_be_met_is_refused_at_the_door() -> None:
    """By the pace of the batches that ran: here a tenth of a second each."""
    clock = Clock()
    model = Runs(is_open=False)
    batcher = make(model, clock=clock)
    first = await busy(model, batcher)
    clock.now_s += 0.1
    model.gate.set()
    await first
    model.gate.clear()
    running = asyncio.create_task(batcher.submit(pictures(1)))
    await settle()
    with pytest.raises(OverloadedError, match="the deadline is 50 ms away") as error:
        await batcher.submit(pictures(2), deadline=clock.now_s + 0.05)
    assert error.value.retry_after_s is not None
    patient = asyncio.create_task(batcher.submit(pictures(3), deadline=clock.now_s + 10))
    await settle()
    model.gate.set()
    assert [(await call).tolist() for call in (running, patient)] == [[1], [3]]


async def test_a_call_learns_where_its_time_went() -> None:
    """Queue and run by the clock, and the size of its batch."""
    clock = Clock()
    model = Runs(is_open=False)
    batcher = make(model, clock=clock)
    first = await busy(model, batcher)
    waiting = asyncio.create_task(batcher.timed(pictures(1, 2)))
    await settle()
    clock.now_s = 0.25
    model.gate.set()
    _, ran = await waiting
    assert ran._replace(compute_s=0) == Ran(began=0.25, ended=0.25, compute_s=0, row_count=2, dispatch="freed")
    await first


async def test_the_guilty_one_of_sixty_four_is_found_by_halving() -> None:
    """Exactly one error, in a dozen runs and not in sixty-four."""
    model = Runs(is_open=False, bad=[40])
    batcher = make(model, batch=64)
    first = await busy(model, batcher)
    calls = [asyncio.create_task(batcher.submit(pictures(value))) for value in range(1, 65)]
    await settle()
    model.gate.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers].count(ValueError) == 1
    assert isinstance(answers[39], ValueError)
    assert len(model.batches) < 16
    await first


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    """The refusal names the limit; the calls that wait already get their answers."""
    model = Runs(is_open=False)
    batcher = make(model, queue=3)
    first = await busy(model, batcher)
    waiting = asyncio.create_task(batcher.submit(pictures(1, 2, 3)))
    await settle()
    with pytest.raises(OverloadedError, match="the queue is full: 3 images") as refusal:
        await batcher.submit(pictures(4))
    assert refusal.value.retry_after_s is not None
    model.gate.set()
    assert (await waiting).tolist() == [1, 2, 3]
    assert (await first).tolist() == [0]
    assert (await batcher.submit(pictures(5))).tolist() == [5]


async def test_a_call_whose_deadline_passes_in_the_queue_never_reaches_the_model() -> None:
    """It fails with DeadlineError, and its neighbour is answered."""
    model, clock = Runs(is_open=False), Clock()
    batcher = make(model, clock=clock)
    first = await busy(model, batcher)
    late = asyncio.create_task(batcher.submit(pictures(1), deadline=5.0))
    patient = asyncio.create_task(batcher.submit(pictures(2), deadline=50.0))
    await settle()
    clock.now_s = 10.0
    model.gate.set()
    with pytest.raises(DeadlineError):
        await late
    assert (await patient).tolist() == [2]
    assert model.batches == [[0], [2]]
    await first


async def test_a_cancelled_call_never_reaches_the_model_and_never_touches_its_neighbours() -> None:
    """Cancelled in the queue: dropped."""
    model = Runs(is_open=False)
    batcher = make(model)
    first = await busy(model, batcher)
    waiting = [asyncio.create_task(batcher.submit(pictures(value))) for value in (1, 2, 3)]
    await settle()
    waiting[1].cancel()
    await settle()
    model.gate.set()
    assert [(await call).tolist() for call in (first, waiting[0], waiting[2])] == [[0], [1], [3]]
    assert model.batches == [[0], [1, 3]]


async def test_a_call_cancelled_while_its_batch_runs_leaves_the_others_their_answers() -> None:
    """Cancelled in the batch: only its own answer is lost."""
    model = Runs(is_open=False)
    batcher = make(model)
    first = await busy(model, batcher)
    waiting = [asyncio.create_task(batcher.submit(pictures(value))) for value in (1, 2)]
    await settle()
    first.cancel()
    await settle()
    model.gate.set()
    assert [(await call).tolist() for call in waiting] == [[1], [2]]


async def test_one_guilty_call_fails_alone() -> None:
    """Its neighbours in the failed batch are run again and answered."""
    model = Runs(is_open=False, bad=[2])
    batcher = make(model)
    first = await busy(model, batcher)
    waiting = [asyncio.create_task(batcher.submit(pictures(value))) for value in (1, 2, 3)]
    await settle()
    model.gate.set()
    answers = await asyncio.gather(first, *waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [np.ndarray, np.ndarray, ValueError, np.ndarray]


async def test_the_worker_goes_on_after_a_failure() -> None:
    """A failed run gives its worker back."""
    model = Runs(bad=[1])
    batcher = make(model)
    with pytest.raises(ValueError, match="cannot answer"):
        await batcher.submit(pictures(1))
    assert (await batcher.submit(pictures(2))).tolist() == [2]


@settings(deadline=None, max_examples=50)
@given(
    calls=st.lists(st.lists(st.integers(0, 255), min_size=1, max_size=5), min_size=1, max_size=20),
    concurrent_runs=st.integers(1, 3),
)
def test_every_call_gets_its_own_answers_whatever_it_is_batched_with(
    calls: list[list[int]], concurrent_runs: int
) -> None:
    """Over random calls: right answers, right order, no batch above the limit, no image lost or run twice."""

    async def scenario() -> None:
        model = Runs()
        batcher = make(model, batch=5, concurrent_runs=concurrent_runs)
        answers = await asyncio.gather(*(batcher.submit(pictures(*values)) for values in calls))
        assert [answer.tolist() for answer in answers] == calls
        assert max(map(len, model.batches)) <= 5
        assert sorted(chain(*model.batches)) == sorted(chain(*calls))

    asyncio.run(scenario())


async def test_a_cancelled_call_gives_its_place_in_the_queue_back() -> None:
    """Callers that went away never make the server refuse those that are there."""
    model = Runs(is_open=False)
    batcher = make(model, queue=3)
    first = await busy(model, batcher)
    gone = [asyncio.create_task(batcher.submit(pictures(value))) for value in (1, 2, 3)]
    await settle()
    for call in gone:
        call.cancel()
    await settle()
    patient = asyncio.create_task(batcher.submit(pictures(4, 5, 6)))
    await settle()
    model.gate.set()
    assert (await patient).tolist() == [4, 5, 6]
    assert model.batches == [[0], [4, 5, 6]]
    await first


async def test_a_call_cancelled_after_its_batch_failed_is_not_run_again() -> None:
    """Only those that still wait are."""
    model = Runs(is_open=False, bad=[1])
    batcher = make(model)
    first = await busy(model, batcher)
    waiting = [asyncio.create_task(batcher.submit(pictures(value))) for value in (1, 2, 3)]
    await settle()
    model.before = lambda values: values == [1] and waiting[2].cancel()
    model.gate.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ValueError, np.ndarray, asyncio.CancelledError]
    assert [3] not in model.batches
    await first


async def test_a_queue_is_full_when_it_holds_so_much_work() -> None:
    """Measured in time by the pace of the model: ten images of 10 ms, and at most 50 ms may wait."""
    model = Runs(is_open=False)
    batcher = make(model, queue=1000, queue_s=0.05)
    batcher.loaded({1: 0.01, 2: 0.02, 4: 0.04, 8: 0.08})
    first = await busy(model, batcher)
    waiting = asyncio.create_task(batcher.submit(pictures(*range(10))))
    await settle()
    with pytest.raises(
        OverloadedError, match="10 images wait before this call, 100 ms of work; at most 1000 images and 50 ms"
    ) as refusal:
        await batcher.submit(pictures(1))
    assert refusal.value.retry_after_s == pytest.approx(0.05)
    model.gate.set()
    await asyncio.gather(first, waiting)


async def test_an_empty_queue_takes_a_call_however_large() -> None:
    """Else it would be refused for ever."""
    model = Runs()
    batcher = make(model, queue=1000, queue_s=0.001)
    batcher.loaded({1: 10.0})
    assert len(await batcher.submit(pictures(*range(50)))) == 50
