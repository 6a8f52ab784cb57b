"""Times the server beside plain grpcio servers, beside other model servers and beside onnxruntime alone.

    python -m tests.benchmarks.bench_serving --help

Everything runs on one machine, the client too. Rounds go from server to server, so that a busy machine slows all of
them. All have the same model, and must give the same digits before anything is timed.
"""

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import numpy as np

from serving.idx import read_images
from serving.pixels import Images
from tests.benchmarks import model, table
from tests.benchmarks.h2load import CONNECTIONS, Load, Measured, Paced, measure, measure_paced
from tests.benchmarks.servers import ENVOY, MODEL, OURS, PLAIN, SERVERS, PeerError, Running, Server, check, version
from tests.serving.conftest import MNIST

LOADS = (Load(1, 1), Load(64, 1), Load(8, 32), Load(4, 256))
CAPACITY = Load(64, 1)
SHARES = (0.5, 0.8)


def start(stack: ExitStack, servers: Sequence[Server], loads: Sequence[Load], images: Images) -> dict[Server, Running]:
    """Start the servers and check what they answer; a peer that cannot run is left out, with a line that says why."""
    digits = model.load(MODEL)(images).argmax(axis=1).tolist()
    running = {}
    for server in servers:
        try:
            running[server] = stack.enter_context(server.start())
        except PeerError as error:
            print(f"{server.name} is left out: {error}", file=sys.stderr, flush=True)
            continue
        with running[server].awake():
            for count in {load.image_count for load in loads}:
                check(server, running[server], images[:count], digits[:count])
    return running


def measure_all(
    running: Mapping[Server, Running], load: Load, images: Images, *, rounds: int, seconds: int
) -> dict[str, list[Measured]]:
    """Measure one load on every server, round after round."""
    results: dict[str, list[Measured]] = {server.name: [] for server in running}
    for _ in range(rounds):
        for server, at in running.items():
            with at.awake():
                results[server.name].append(measure(at.port, server.protocol, load, images, duration_s=seconds))
    return results


def model_alone(load: Load, images: Images, *, rounds: int, seconds: int) -> float:
    """Calls a second of onnxruntime in this process, one thread, nothing around it: the median of rounds."""
    run, batch, rates = model.load(MODEL), images[: load.image_count], []
    for _ in range(rounds):
        began, calls = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - began) < seconds:
            run(batch)
            calls += 1
        rates.append(calls / elapsed)
    return statistics.median(rates)


def pace(
    running: Mapping[Server, Running], results: table.Results, images: Images, *, seconds: int
) -> Iterator[tuple[str, float, Paced]]:
    """An open loop at shares of the capacity just measured: on ours, and on the better plain server."""
    capacities = {server: table.rate(results[server.name][CAPACITY]) for server in running}
    plain = sorted((server for server in running if server.name in PLAIN), key=capacities.__getitem__)
    for server in [*(server for server in running if server.name in (OURS, ENVOY)), *plain[-1:]]:
        for share in SHARES:
            rate = share * capacities[server]
            one = measure_paced(running[server].port, server.protocol, images[:1], calls_per_s=rate, duration_s=seconds)
            yield server.name, share, one


def print_all(options: argparse.Namespace) -> None:
    """Measure what the options name, and print it as Markdown."""
    images = np.ascontiguousarray(read_images(MNIST / "t10k-images-idx3-ubyte.gz")[:1024])
    rounds, seconds, loads = options.rounds, options.seconds, options.loads
    results: dict[str, dict[Load, list[Measured]]] = {server.name: {} for server in options.servers}
    alone = {}
    with ExitStack() as stack:
        running = start(stack, options.servers, loads, images)
        for load in loads:
            print(f"measuring {load}", file=sys.stderr, flush=True)
            for name, measured in measure_all(running, load, images, rounds=rounds, seconds=seconds).items():
                results[name][load] = measured
            alone[load] = model_alone(load, images, rounds=rounds, seconds=seconds)
        print(table.closed_loop(results, alone, loads))
        for ours in (name for name in (OURS, ENVOY) if name in results):
            print(f"\n{table.ratios(results, ours, loads)}")
        if options.open_loop:
            print("measuring the open loop", file=sys.stderr, flush=True)
            print(f"\n{table.open_loop(pace(running, results, images, seconds=rounds * seconds))}")
    print(f"\n{rounds} rounds of {seconds} s, medians; callers x images a call; {table.machine()}")
    for server in options.servers:
        peer = f", {server.peer} {version(server.peer, server.peer)}" if server.peer else ""
        print(f"- {server.name}{peer}: {server.about}{'' if server in running else ' (left out)'}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Time the server beside plain grpcio servers, other model servers and onnxruntime alone. "
        "Peers get environments of their own under .bench, made on first use.",
        epilog="servers:\n" + "\n".join(f"  {server.name:24}{server.about}" for server in SERVERS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = {server.name: server for server in SERVERS}
    parser.add_argument("--rounds", type=int, default=5, help="rounds a server and load (default: 5)")
    parser.add_argument("--seconds", type=int, default=3, help="seconds a round (default: 3)")
    parser.add_argument("--loads", type=_load, nargs="+", default=LOADS, metavar="CALLERSxIMAGES", help=_loads_help())
    parser.add_argument(
        "--servers",
        nargs="+",
        choices=names,
        default=list(names),
        metavar="SERVER",
        help="some of those below (default: all)",
    )
    parser.add_argument(
        "--open-loop",
        action=argparse.BooleanOptionalAction,
        default=True,
        help=f"also send single images by the clock, at {' and '.join(f'{share:.0%}' for share in SHARES)} of the "
        f"rate at {CAPACITY}, to ours and the better plain server".replace("%", "%%"),
    )
    options = parser.parse_args(arguments)
    options.servers = [names[name] for name in options.servers]
    if options.open_loop and CAPACITY not in options.loads:
        parser.error(f"--loads lacks {CAPACITY}, whose rate the open loop needs: add it, or say --no-open-loop")
    return options


def _loads_help() -> str:
    return f"callers and images a call (default: {' '.join(str(load).replace(' ', '') for load in LOADS)})"


def _load(text: str) -> Load:
    try:
        load = Load(*map(int, text.split("x")))
    except (ValueError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"expected CALLERSxIMAGES such as 64x1, came {text!r}") from error
    if load.callers < 1 or not 1 <= load.image_count <= 1024 or load.callers % load.connections:
        raise argparse.ArgumentTypeError(
            f"expected up to {CONNECTIONS} callers or a multiple of it, and 1 to 1024 images, came {text!r}"
        )
    return load


if __name__ == "__main__":
    if shutil.which("h2load") is None:
        sys.exit("h2load is not installed: apt-get install nghttp2-client")
    print_all(parse())
