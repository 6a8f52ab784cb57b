"""The figures of the report: how the training went, what is confused with what, whether probabilities are true."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Canvas
from numpy.typing import NDArray

from pipeline.evaluate import CALIBRATION_BINS
from pipeline.pages.drawing import draw
from pipeline.pages.page import Figure
from pipeline.pages.tables import wilson

WIDTH = 5.0  # inches: as wide as a phone's screen its letters can still be read
BLUE, ORANGE = "#3b82d6", "#e0733a"  # seen on white and on black
NUMBERED_CLASSES = 20  # at most, for a number to fit into its cell
NAMED_CLASSES = 40  # at most, for names to fit beside one another
NAME_LENGTH = 12
FILTERS_IN_A_ROW = 8

Floats = NDArray[np.floating]


def training_curve(step_losses: Sequence[tuple[int, float]], epoch_losses: Sequence[float]) -> Figure:
    """The loss of single batches, and the mean of each epoch."""

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        steps, losses = np.array(step_losses).T
        axes.plot(steps / steps[-1] * len(epoch_losses), losses, color=BLUE, alpha=0.6, linewidth=1, label="one batch")
        ends = np.arange(len(epoch_losses))
        axes.hlines(epoch_losses, ends, ends + 1, color=ORANGE, linewidth=2, label="mean of the epoch")
        if min(losses) > 0:
            axes.set_yscale("log")
        axes.set(xlabel="epoch", ylabel="loss, nats", xlim=(0, len(epoch_losses)))
        _tidy(axes)
        axes.legend(frameon=False)

    caption = f"Training: the loss of batches, and the mean of each of the {len(epoch_losses)} epochs."
    return draw("training", caption, paint, width=WIDTH, height=3.2)


def confusion_matrix(confusion: NDArray[np.int64], labels: Sequence[str]) -> Figure:
    """Images by label and answer; the darker, the larger the share of its row (right) or of all mistakes (wrong)."""

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        axes.imshow(_shades(confusion), interpolation="nearest")
        if len(labels) <= NUMBERED_CLASSES:
            size = min(8.0, 90 / len(labels))
            for (row, column), count in np.ndenumerate(confusion):
                if count:
                    axes.text(column, row, str(count), ha="center", va="center", fontsize=size)
        axes.set(xlabel="answer", ylabel="label")
        _name_classes(axes, labels)

    caption = "Confusion: how many test images of each label got which answer; blue is right, orange wrong."
    return draw("confusion", caption, paint, width=WIDTH, height=4.8)


def calibration(probabilities: Floats, labels: NDArray[np.int64], calibration_error: float) -> Figure:
    """The share of right answers against the confidence that the classifier claimed, and how often it claimed it."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)

    def paint(canvas: Canvas) -> None:
        upper, lower = canvas.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        for place in np.flatnonzero(counts):
            chosen = bins == place
            share = float(right[chosen].mean())
            upper.vlines(confidence[chosen].mean(), *wilson(share, int(counts[place])), color=BLUE, linewidth=1.5)
            upper.plot(confidence[chosen].mean(), share, "o", color=BLUE, markersize=5)
        upper.plot((0, 1), (0, 1), color=ORANGE, linewidth=1, linestyle="--")
        upper.set(ylabel="answered rightly", xlim=(0, 1), ylim=(0, 1.03))
        lower.bar((np.arange(CALIBRATION_BINS) + 0.5) / CALIBRATION_BINS, counts, 0.9 / CALIBRATION_BINS, color=BLUE)
        lower.set(xlabel="highest probability", ylabel="images", yscale="log", ylim=(0.7, None))
        _tidy(upper)
        _tidy(lower)

    caption = (
        f"Calibration: on the dashed line a probability is what it says. Expected calibration error "
        f"{100 * calibration_error:.2f} %, {CALIBRATION_BINS} bins; bars are 95 % intervals."
    )
    return draw("calibration", caption, paint, width=WIDTH, height=4.4)


def filters(weights: Floats, layer: int) -> Figure:
    """The filters of a layer (filter, input, row, column), every input of a filter below the one before."""

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots()
        limit = float(np.abs(weights).max()) or 1.0
        image = axes.imshow(_mosaic(weights), cmap="RdBu", vmin=-limit, vmax=limit, interpolation="nearest")
        axes.set_axis_off()
        canvas.colorbar(image, ax=axes, shrink=0.9, label="weight")

    count, inputs, rows, columns = weights.shape
    deep = "" if inputs == 1 else f", {inputs} inputs each, one below the other"
    caption = f"Layer {layer}: {count} filters of {rows} × {columns} weights{deep}."
    high = -(-count // FILTERS_IN_A_ROW) * inputs * (rows + 1) / (min(count, FILTERS_IN_A_ROW) * (columns + 1))
    return draw(f"filters-{layer}", caption, paint, width=WIDTH, height=min(8.0, max(1.4, 4.2 * high)))


def _mosaic(weights: Floats) -> Floats:
    """All filters in one picture, with a line of nothing between them."""
    count, inputs, rows, columns = weights.shape
    wide = min(count, FILTERS_IN_A_ROW)
    high = -(-count // wide)
    picture = np.full((high * inputs * (rows + 1) - 1, wide * (columns + 1) - 1), np.nan)
    for index, one in enumerate(weights):
        for depth, plane in enumerate(one):
            top, left = ((index // wide) * inputs + depth) * (rows + 1), (index % wide) * (columns + 1)
            picture[top : top + rows, left : left + columns] = plane
    return picture


def _shades(confusion: NDArray[np.int64]) -> Floats:
    """Colours (label, answer, RGBA) that are read on a light ground and on a dark one."""
    is_right = np.eye(len(confusion), dtype=bool)
    wrong = np.where(is_right, 0, confusion)
    shades = np.empty((*confusion.shape, 4))
    shades[..., :3] = np.where(is_right[..., None], to_rgb(BLUE), to_rgb(ORANGE))
    of_label = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    shades[..., 3] = np.where(is_right, 0.7 * of_label, 0.9 * np.sqrt(wrong / max(1, wrong.max())))
    return shades


def _name_classes(axes: Axes, labels: Sequence[str]) -> None:
    stride = -(-len(labels) // NAMED_CLASSES)
    places = range(0, len(labels), stride)
    names = [_short(labels[place]) for place in places]
    turn = 90 if max(map(len, names), default=0) > 2 else 0
    size = min(9.0, 180 / max(1, len(names)))
    axes.set_xticks(places, names, rotation=turn, fontsize=size)
    axes.set_yticks(places, names, fontsize=size)


def _short(label: str) -> str:
    """A name that fits; a dollar sign would begin a formula."""
    cut = label if len(label) <= NAME_LENGTH else f"{label[: NAME_LENGTH - 1]}…"
    return cut.replace("$", r"\$")


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
