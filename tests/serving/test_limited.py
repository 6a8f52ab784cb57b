"""Work with a time limit: what hangs is abandoned, and only so much of it is begun."""

import threading

import pytest

from serving.versions.limited import MAX_HUNG, LimitedThreads


async def test_results_and_errors_arrive() -> None:
    """As from a call."""
    threads = LimitedThreads()
    assert await threads.run(lambda: 7, 60) == 7
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0, 60)


async def test_work_that_hangs_is_abandoned_and_other_work_runs() -> None:
    """Up to a number of threads; when one of them ends, there is room again."""
    threads, ends = LimitedThreads(), threading.Event()
    for _ in range(MAX_HUNG - 1):
        with pytest.raises(TimeoutError):
            await threads.run(ends.wait, 0.01)
    assert await threads.run(lambda: 7, 60) == 7
    with pytest.raises(TimeoutError):
        await threads.run(ends.wait, 0.01)
    began: list[int] = []
    with pytest.raises(TimeoutError):
        await threads.run(lambda: began.append(1), 60)
    assert began == []
    ends.set()
    while True:
        try:
            await threads.run(lambda: began.append(1), 60)
            break
        except TimeoutError:
            continue
    assert began == [1]


async def test_a_thread_that_cannot_start_costs_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a container's limit of processes is reached: an error that may pass, for whoever asked."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = LimitedThreads()
    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", refuse)
        for _ in range(2 * MAX_HUNG):
            with pytest.raises(OSError, match="can't start new thread"):
                await threads.run(lambda: 7, 60)
    assert await threads.run(lambda: 7, 60) == 7


async def test_work_that_fails_after_it_was_abandoned_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for it, and nothing complains."""
    threads, ends = LimitedThreads(), threading.Event()

    def fail() -> None:
        ends.wait()
        raise ValueError

    with pytest.raises(TimeoutError):
        await threads.run(fail, 0.01)
    ends.set()
    for thread in threading.enumerate():
        if thread.name == "load":
            thread.join()
    await threads.run(lambda: None, 60)
    assert caplog.records == []
