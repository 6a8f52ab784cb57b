"""The figures as Markdown, and the plot of images a second by size of batch."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.gpu.inference import overtakes
from tests.benchmarks.table import markdown

LARGE = "1024"
Figures = Mapping[str, Any]


def to_markdown(figures: Figures) -> str:
    """Every section that was measured, under a line that says when, on what and with what."""
    where = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    lines = [f"{figures['date']}, {figures['card']}, {figures['host']}; {where}.", ""]
    if "training" in figures:
        lines += [*_training(figures["training"]), ""]
    if "inference" in figures:
        lines += [*_inference(figures["inference"], figures.get("distances", {})), ""]
        ratios = ", ".join(f"{network} {ratio:.2f}" for network, ratio in figures["alternating"].items())
        lines += [f"Batches of 8 and 32 images in turns take, of the time of each alone: {ratios}.", ""]
    if "serving" in figures:
        lines += [*_serving(figures["serving"], figures.get("inference", {})), ""]
    if "swaps" in figures:
        lines += [_swaps(figures["swaps"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def plot(figures: Figures, path: Path) -> None:
    """Images a second over the size of the batch, a panel a network."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    networks: Mapping[str, Mapping[str, Mapping[str, float]]] = figures["inference"]
    canvas = Figure(figsize=(5 * len(networks), 4), layout="constrained")
    panels = canvas.subplots(1, len(networks), squeeze=False)[0]
    for axes, (network, ways) in zip(panels, networks.items(), strict=True):
        for way, rates in ways.items():
            axes.loglog([int(size) for size in rates], list(rates.values()), label=way, linewidth=1.5)
        axes.set(title=network, xlabel="images in a batch", ylabel="images a second")
        axes.grid(visible=True, alpha=0.3)
    panels[0].legend(frameon=False, fontsize="small")
    FigureCanvasSVG(canvas).print_svg(path, metadata={"Date": None})  # type: ignore[no-untyped-call]


def advice(network: str, rates: Mapping[str, Mapping[str, float]]) -> str:
    """From which size of batch the card is ahead, in a sentence."""
    said = []
    for cpu in (way for way in rates if way.startswith("CPU")):
        size = overtakes(rates, cpu)
        best = max(rates[cpu].values())
        said.append(
            f"never ahead of {cpu} ({best:,.0f} images/s at best)"
            if size is None
            else f"ahead of {cpu} ({best:,.0f} images/s at best) from {size} images a batch"
        )
    return f"{network}: the card is {', and '.join(said)}."


def _training(found: Figures) -> Iterator[str]:
    yield "### Training"
    yield ""
    rows = [[name, *_trained(rounds)] for name, rounds in found["presets"].items()]
    rows.append(["default, on the CPU of the same machine", *_trained(found["default on the CPU"])])
    yield markdown(
        ["preset, precision", "seconds (max)", "of which setting up", "s an epoch", "test accuracy % (sd, least)"], rows
    )
    yield ""
    yield from _paired(found["presets"])
    yield ""
    rows = [[way, *_way(one)] for way, one in found["repeating"].items()]
    yield markdown(["default, its steps repeated by", "seconds", "of which setting up", "s an epoch"], rows)
    yield ""
    theirs, ours = found["notebook"]["notebook_epoch_s"], found["notebook"]["our_epoch_s"]
    yield (
        f"Loading the images onto the device: {found['loading_s']:.2f} s. The notebook's own loop on the same card "
        f"takes {theirs:.2f} s an epoch, ours with its recipe {ours:.3f} s: {theirs / ours:.0f} times as fast."
    )


def _trained(rounds: Sequence[Figures]) -> list[str]:
    duration_s = [one["duration_s"] for one in rounds]
    accuracy = [one["accuracy"] for one in rounds]
    spread = statistics.stdev(accuracy) if len(accuracy) > 1 else 0.0
    return [
        f"{statistics.median(duration_s):.2f} ({max(duration_s):.2f})",
        f"{statistics.median(one['setting_up_s'] for one in rounds):.2f}",
        f"{statistics.median(one['epoch_s'] for one in rounds):.3f}",
        f"{statistics.mean(accuracy):.2f} ({spread:.2f}, {min(accuracy):.2f})",
    ]


def _way(one: Figures | str) -> list[str]:
    if isinstance(one, str):  # why it failed
        return [one, "", ""]
    return [f"{one['duration_s']:.2f}", f"{one['setting_up_s']:.2f}", f"{one['epoch_s']:.3f}"]


def _paired(presets: Figures) -> Iterator[str]:
    """By how much shorter numbers change the accuracy of the same seeds."""
    for name, rounds in presets.items():
        preset, _, precision = name.partition(", ")
        full = presets[f"{preset}, float32"]
        if precision != "float32" and len(rounds) > 1:
            changes = [a["accuracy"] - b["accuracy"] for a, b in zip(rounds, full, strict=True)]
            error = statistics.stdev(changes) / len(changes) ** 0.5
            yield (
                f"- {preset}, {precision} against float32, {len(changes)} seeds in pairs: "
                f"{statistics.mean(changes):+.3f} points of accuracy (standard error {error:.3f})"
            )


def _inference(found: Figures, distances: Figures) -> Iterator[str]:
    yield "### Bare sessions, images a second"
    for network, ways in found.items():
        sizes = list(next(iter(ways.values())))
        yield ""
        rows = [[way, *(f"{rates[size]:,.0f}" for size in sizes)] for way, rates in ways.items()]
        yield markdown([f"{network}, batch of", *sizes], rows)
        yield ""
        yield advice(network, ways)
        if network in distances:
            strict, short = distances[network]["strict"], distances[network]["TF32"]
            yield f"Logits on CUDA are within {strict:.1e} of the CPU's largest one, with TF32 within {short:.1e}."


def _serving(found: Figures, inference: Figures) -> Iterator[str]:
    yield "### Through gRPC"
    yield ""
    loads = list(next(iter(found.values())))
    rows = []
    for title, answered in found.items():
        network, provider, _ = title.split(", ")
        bare = (
            inference.get(network, {}).get("CUDA, plain run" if provider == "cuda" else "CPU, 1 thread", {}).get(LARGE)
        )
        cells = []
        for load in loads:
            one = answered[load]
            share = f", {one['images_per_s'] / bare:.0%} of bare" if bare and LARGE in load.replace(",", "") else ""
            lost = f", {one['failed']} failed" if one["failed"] else ""
            cells.append(f"{one['images_per_s']:,.0f} ({one['p50_ms']:.2f}, {one['p99_ms']:.2f}{share}{lost})")
        rows.append([title, *cells])
    yield markdown(["images/s (p50, p99 ms)", *loads], rows)
    yield ""
    yield "Bare is a session's plain run of 1,024 images in a loop: on CUDA, or on one thread of the CPU."


def _swaps(found: Figures) -> str:
    used = found["used_mib"]
    return (
        f"{found['swaps']} swaps under {found['answered']:,} calls: {found['failed']} failed; memory taken of the card "
        f"{used[min(3, len(used) - 1)]:,} MiB after the fourth swap, {used[-1]:,} MiB after the last."
    )
