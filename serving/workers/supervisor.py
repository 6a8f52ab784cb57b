"""Several servers behind one port: starts them, replaces those that die, lets them swap and drain together.

It handles no call itself: the kernel gives each connection to one of the workers.
"""

import asyncio
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge

from serving.config import Settings
from serving.engine.transport.port import ReservedPort
from serving.errors import WorkerError
from serving.telemetry.metrics import close_http, serve_http
from serving.transport.envoy.process import launch_envoy
from serving.workers.gate import Change, Gate, State
from serving.workers.launch import launch_python
from serving.workers.link import Link
from serving.workers.scrape import WorkersCollector

YOUNG_S = 10.0
"""A worker that ends sooner than this after its start is replaced after a pause."""

MIN_PAUSE_S = 1.0
MAX_PAUSE_S = 30.0

STOP_MARGIN_S = 3.0
"""Beyond what a drain may take; what still runs then is killed."""

SCRAPE_S = 1.0
"""A worker that does not tell its metrics in time is left out."""

log = logging.getLogger(__name__)


@dataclass
class Worker:
    """A server process, as the supervisor sees it."""

    process: asyncio.subprocess.Process
    link: Link
    fault: str = ""
    """Why it cannot start, in its own words."""
    scrapes: dict[int, asyncio.Future[str]] = field(default_factory=dict)
    """What it was asked for Prometheus and has not answered."""


class Supervisor:
    """Several servers, built from settings: `start`, then `drain`, as a single one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._are_several = settings.workers > 1
        self.broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """How the only worker ended, when nobody had told it to: there is no other one to go on meanwhile."""
        self._workers: dict[int, Worker] = {}
        self._listening: set[int] = set()
        self._all_listen = asyncio.get_running_loop().create_future()
        self._draining = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._gate = Gate(self._swap, self._replace)
        self._served: Change | None = None
        self._killed_count = 0
        self._second_signal: signal.Signals | None = None
        self._bad_ends: list[str] = []
        """How workers ended that should have drained."""
        self._scrape_count = 0
        self._http: WSGIServer | None = None
        self._registry = CollectorRegistry()
        living = Gauge("serving_workers", "Server processes that live", registry=self._registry)
        living.set_function(lambda: len(self._workers))
        self._restarts = Counter(
            "serving_worker_restarts", "Server processes that replaced one", registry=self._registry
        )
        self.port = 0
        self.metrics_port: int | None = None

    async def start(self) -> None:
        """Return when all workers listen.

        Raises OSError where a port cannot be had, WorkerError with a worker's own words when it cannot start.
        """
        settings = self._settings
        self._port = ReservedPort(settings.host, settings.port)
        self.port = self._port.number
        if settings.metrics_port is not None:
            loop = asyncio.get_running_loop()
            self._registry.register(
                WorkersCollector(
                    lambda: asyncio.run_coroutine_threadsafe(self._scrape(), loop).result(), labels=self._are_several
                )
            )
            self._http = serve_http(self._registry, settings.host, settings.metrics_port)
            self.metrics_port = int(self._http.server_port)
        self._tasks = [asyncio.create_task(self._keep(number)) for number in range(settings.workers)]
        try:
            await asyncio.wait({self._all_listen, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done():
                    task.result()  # it ends early by a fault of our own, or with the worker's words in `_all_listen`
            await self._all_listen
        except WorkerError:
            self._kill()
            await self._close()
            raise

    async def drain(self) -> None:
        """Let all workers drain at the same time; raises WorkerError when some had to be killed."""
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, self._end_now, name)
        log.info("draining %d workers", len(self._workers))
        self._draining.set()
        for worker in self._workers.values():
            worker.link.send(drain=True)
        limit_s = self._settings.drain_linger_s + self._settings.drain_s + STOP_MARGIN_S
        _, late = await asyncio.wait(self._tasks, timeout=limit_s)
        if late:
            log.error("%d workers still run after %g s", len(self._workers), limit_s)
            self._kill()
        await self._close()
        if self._second_signal:
            signal.signal(self._second_signal, signal.SIG_DFL)
            signal.raise_signal(self._second_signal)
        if self.broken.done():
            raise WorkerError(f"the server ended by itself: {self.broken.result()}")
        if self._killed_count:
            raise WorkerError(f"{self._killed_count} workers were killed before they had drained")
        if self._bad_ends:
            raise WorkerError(f"a worker did not drain: {self._bad_ends[0]}")
        log.info("stopped")

    async def _close(self) -> None:
        await asyncio.wait(self._tasks)
        close_http(self._http)
        self._port.close()

    async def _keep(self, number: int) -> None:
        """Run a worker, and another one in its place when it ends, until the drain."""
        pause_s = 0.0
        while True:
            began = time.monotonic()
            end = await self._run(number)
            if self._draining.is_set():
                return
            if not self._all_listen.done():
                self._draining.set()
                self._all_listen.set_exception(WorkerError(end))
                return
            if not self._are_several:
                self._draining.set()
                self.broken.set_result(end)
                return
            is_young = time.monotonic() - began < YOUNG_S
            pause_s = min(max(MIN_PAUSE_S, 2 * pause_s), MAX_PAUSE_S) if is_young else 0.0
            log.error("worker %d ended: %s; another one starts in %g s", number, end, pause_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._draining.wait(), pause_s)
                return
            self._restarts.inc()

    async def _run(self, number: int) -> str:
        """Run a worker from its start to its end; return how it ended."""
        settings = self._settings.model_copy(update={"port": self.port, "metrics_port": None})
        with ExitStack() as stack:
            try:
                worker = await _start(settings, stack)
            except (OSError, WorkerError) as error:
                return f"it cannot be started: {error}"
            return await self._accompany(number, worker, settings)

    async def _accompany(self, number: int, worker: Worker, settings: Settings) -> str:
        """Listen to a worker until it has ended."""
        self._workers[number] = worker
        self._gate.enter(number)
        worker.link.send(
            worker=number if self._are_several else None,
            settings=settings.model_dump_json(exclude_unset=True),
            serves=self._served,
        )
        if self._draining.is_set():
            worker.link.send(drain=True)
        async for message in worker.link.messages():
            self._hear(number, worker, message)
        code = await worker.process.wait()
        await worker.link.close()
        del self._workers[number]
        self._gate.leave(number)
        end = worker.fault or f"process {worker.process.pid} {_how_it_ended(code)}"
        if code and self._draining.is_set():
            self._bad_ends.append(end)
        return end

    def _hear(self, number: int, worker: Worker, message: Mapping[str, Any]) -> None:
        match message:
            case {"listens": True}:
                self._listening.add(number)
                if len(self._listening) == self._settings.workers and not self._all_listen.done():
                    self._all_listen.set_result(None)
            case {"fault": fault}:
                worker.fault = fault
            case {"state": state, "change": change}:
                if state == State.SERVES:
                    self._served = Change(*change)
                self._gate.hear(number, State(state), Change(*change))
            case {"scrape": scrape, "exposition": exposition}:
                if scrape in worker.scrapes:  # else it comes too late
                    worker.scrapes.pop(scrape).set_result(exposition)

    def _swap(self, number: int, change: Change) -> None:
        self._served = change
        self._workers[number].link.send(swap=change)

    def _replace(self, number: int) -> None:
        log.error("worker %d refused a version that another one serves: it is replaced", number)
        self._workers[number].link.send(drain=True)

    def _end_now(self, second_signal: signal.Signals) -> None:
        log.warning("killing %d workers that have not drained yet: got a second signal", len(self._workers))
        self._second_signal = second_signal
        self._kill()

    def _kill(self) -> None:
        self._killed_count += len(self._workers)
        for worker in self._workers.values():
            with suppress(ProcessLookupError):
                worker.process.kill()

    async def _scrape(self) -> Mapping[int, str]:
        """Every worker's metrics, of those that tell them in time."""
        self._scrape_count += 1
        number = self._scrape_count
        asked = dict(self._workers)
        futures = {asyncio.get_running_loop().create_future(): index for index in asked}
        for future, index in futures.items():
            asked[index].scrapes[number] = future
            asked[index].link.send(scrape=number)
        done, late = await asyncio.wait(futures, timeout=SCRAPE_S) if futures else (set(), set())
        for future in late:
            del asked[futures[future]].scrapes[number]
        return {futures[future]: future.result() for future in done}


async def _start(settings: Settings, stack: ExitStack) -> Worker:
    """Start a worker; what it leaves behind goes with `stack`. Raises OSError and WorkerError."""
    ours, theirs = socket.socketpair()
    stack.callback(ours.close)
    with theirs:
        link = theirs.fileno()
        launching = launch_envoy(settings, link) if settings.transport == "envoy" else launch_python(link)
        launch = stack.enter_context(launching)
        process = await asyncio.create_subprocess_exec(
            *launch.command,
            env=launch.environment,
            pass_fds=[link],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,  # stdout is for the one line of the supervisor
            start_new_session=True,  # a Ctrl-C reaches the supervisor alone
        )
    return Worker(process, await Link.over(ours))


def _how_it_ended(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
