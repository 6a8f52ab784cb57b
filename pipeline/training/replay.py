"""Repeats a step on a GPU as a CUDA graph: hundreds of kernels for one launch.

A step of a small network is over sooner than the host can launch its kernels one by one. A graph records the launches
of one step and repeats them all at once (docs.pytorch.org, "CUDA Graphs").
"""

import logging
from collections.abc import Callable

import torch

WARM_UPS = 3  # in these cuDNN, cuBLAS and the optimizer set up what a graph may not

logger = logging.getLogger(__name__)


class Replayed:
    """Does on each call what `step` does: the first times by calling it, then by a graph of it.

    Every call is a step that counts, those that warm up as well. `step` reads and writes the same memory each time and
    never asks the device for a value. A step that cannot be recorded is called each time instead, and a warning says
    why: a network that looks at its own numbers, say. Torch then keeps what it had set aside for the recording until
    the process ends.
    """

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._warm_ups = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._is_refused = False

    def __call__(self) -> None:
        """Take one step; it may not be done yet when this returns."""
        if self._graph is not None:
            self._graph.replay()
        elif self._is_refused:
            self._step()
        elif self._warm_ups < WARM_UPS:
            self._warm_up()
        else:
            self._record()
            self()

    def _warm_up(self) -> None:
        """Take a step aside from the current stream, as a recording is: what libraries set up is kept by stream."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._step()
        torch.cuda.current_stream().wait_stream(self._stream)
        self._warm_ups += 1

    def _record(self) -> None:
        """Record a step without taking it."""
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._step()
        except RuntimeError as error:
            self._is_refused = True
            torch.cuda.set_stream(current)  # a recording that fails leaves its own behind
            cause = error.__context__ or error  # the end of the recording fails too, and says no more than that
            logger.warning("training without a CUDA graph, and slower: %s", str(cause).strip().splitlines()[0])
        else:
            self._graph = graph
