"""The figures as Markdown: medians over rounds, ratios, the machine."""

import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import grpc
import onnxruntime

from tests.benchmarks.h2load import LATE_MS, Load, Measured, Paced

NONE = "–"
Results = Mapping[str, Mapping[Load, Sequence[Measured]]]
"""Rounds, by server and load; a server that could not run has none."""


def rate(rounds: Sequence[Measured]) -> float:
    """The median of calls a second."""
    return statistics.median(one.calls_per_s for one in rounds)


def closed_loop(results: Results, alone: Mapping[Load, float], loads: Sequence[Load]) -> str:
    """A row a server: medians of calls a second, and of latencies."""
    rows = [[name, *(_cell(rounds.get(load)) for load in loads)] for name, rounds in results.items()]
    rows.append(["onnxruntime alone, one thread", *(f"{alone[load]:,.0f}" for load in loads)])
    return markdown(["calls/s (p50, p99 ms)", *map(str, loads)], rows)


def ratios(results: Results, ours: str, loads: Sequence[Load]) -> str:
    """A row a server: calls a second of ours, divided by the server's."""
    rows = [
        [
            name,
            *(f"{rate(results[ours][load]) / rate(rounds[load]):.2f}" if load in rounds else NONE for load in loads),
        ]
        for name, rounds in results.items()
        if name != ours
    ]
    return markdown([f"{ours} : other", *map(str, loads)], rows)


def open_loop(paced: Iterable[tuple[str, float, Paced]]) -> str:
    """A row a server and share of its capacity."""
    head = ["server", "share of its capacity", "calls/s", "p50 ms", "p99 ms", "p99.9 ms", "calls", "refused"]
    head += [f"sent more than {LATE_MS:g} ms late", "latest, ms"]
    rows = [
        [
            *(name, f"{share:.0%}", f"{one.calls_per_s:,.0f}"),
            *(f"{one.p50_ms:.2f}", f"{one.p99_ms:.2f}", f"{one.p999_ms:.2f}"),
            *(f"{one.call_count:,}", f"{one.refused_count:,}"),
            *(f"{one.late_count:,} ({one.late_count / one.call_count:.1%})", f"{one.worst_late_ms:.1f}"),
        ]
        for name, share, one in paced
    ]
    return markdown(head, rows)


def machine() -> str:
    """What it was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())
    versions = f"Python {platform.python_version()}, grpcio {grpc.__version__}, onnxruntime {onnxruntime.__version__}"
    return f"{os.cpu_count()} cores ({cpu}) shared with the client; {versions}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(rounds: Sequence[Measured] | None) -> str:
    if not rounds:
        return NONE
    p50, p99 = (statistics.median(getattr(one, name) for one in rounds) for name in ("p50_ms", "p99_ms"))
    return f"{rate(rounds):,.0f} ({p50:.2f}, {p99:.2f})"
