"""The lab's page, in pictures: sample digits, the filters of Task 2, the pooling of Task 3."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from pipeline.check import DataSummary
from pipeline.lab.pictures import Filtered, Pixels, Pooled, Samples
from pipeline.pages.drawing import draw
from pipeline.pages.page import Figure, Section

WIDTH = 4.6
"""Inches: letters of 9 points are then legible where a phone shows the picture at half its size."""
ALIKE = 0.01
"""Of full ink: grey values this close look the same. Also far above what rounding leaves of a 0."""


def data_section(samples: Samples, summary: DataSummary) -> Section:
    """What the images are."""
    ink = samples.ink
    return Section(
        "The data",
        (
            (
                f"{summary.train_count:,} training images and {summary.test_count:,} test images of {summary.height} "
                f"× {summary.width} pixels, {min(summary.label_counts):,} to {max(summary.label_counts):,} training "
                "images of a class. As in the notebook, every pixel is divided by 255, less the mean "
                f"({summary.mean:.4f}), divided by the standard deviation ({summary.std:.4f})."
            ),
            draw(
                "samples",
                f"The first training images of each class, a column a class. Of all classes the {ink.index(max(ink))} "
                f"carries most ink, {100 * max(ink):.1f} % of what a white image would have, and "
                f"the {ink.index(min(ink))} least, {100 * min(ink):.1f} %.",
                lambda canvas: _paint_samples(canvas, samples),
                width=WIDTH,
                height=WIDTH * len(samples.images[0]) / len(samples.images) + 0.4,
            ),
        ),
    )


def filters_section(filtered: Filtered) -> Section:
    """Task 2: the three filters of equation (6)."""
    indices = ", ".join(map(str, filtered.indices))
    return Section(
        "Task 2: three fixed filters, equation (6)",
        (
            (
                "A CNN of one layer with K = 1 and the three filters of equation (6), each on "
                f"{len(filtered.images)} images of the digit {filtered.digit} (training images {indices}, counted "
                "from 0). H^{f1} is all ones, H^{f2} has the rows [−1 0 1], H^{f3} is H^{f2} on its side. "
                "H^{f2} is the text's: the notebook's code loads its negative."
            ),
            _responses(filtered),
            _features(filtered),
            _sign(filtered),
        ),
    )


def pooling_section(pooled: Sequence[Pooled]) -> Section:
    """Task 3: average and max pooling side by side."""
    return Section(
        "Task 3: average and max pooling, equations (7) and (8)",
        (
            (
                "Pooling takes one number from each window of Δ × Δ pixels: their mean, or the largest of them. "
                "Where all pixels of a window are alike, both give the same."
            ),
            _pooled(pooled),
        ),
    )


def _responses(filtered: Filtered) -> Figure:
    low, high = (extreme(filtered.responses, axis=(0, 2, 3)) for extreme in (np.min, np.max))
    return _grid(
        "task-2-responses",
        "The images and H ⋆ X (equation 3), before σ: red is positive, blue negative, white 0. H^{f1} adds up "
        f"nine pixels and blurs, from {_signed(low[0])} (nine empty pixels of {_signed(filtered.ground, 2)}) to "
        f"{high[0]:.1f}. H^{{f2}}, from {_signed(low[1])} to {high[1]:.1f}, colours the two sides of upright "
        f"strokes, H^{{f3}}, from {_signed(low[2])} to {high[2]:.1f}, those of level ones: red where it gets "
        "brighter to the right, or downwards.",
        filtered.images,
        filtered.responses,
        is_signed=True,
    )


def _features(filtered: Filtered) -> Figure:
    zero = 100 * (filtered.features <= ALIKE).mean(axis=(0, 2, 3))
    border = filtered.features[:, 1, 1:-1, -1].mean()
    return _grid(
        "task-2-features",
        "The same after σ = ReLU, the output of the CNN (equation 5). σ leaves one side of every stroke: "
        f"{zero[1]:.0f} % of H^{{f2}}'s map and {zero[2]:.0f} % of H^{{f3}}'s are 0. H^{{f1}} keeps the whole digit, "
        f"thicker: {100 - zero[0]:.0f} % of its map is not 0, of the images "
        f"{100 * (filtered.images > filtered.ground + ALIKE).mean():.0f} % is ink. The faint line along the right "
        f"border of H^{{f2}}'s map ({border:.2f} on average) and the lower one of H^{{f3}}'s are no strokes: an "
        f"empty pixel is {_signed(filtered.ground, 2)} after the normalisation, and 0 is beyond the border.",
        filtered.images,
        filtered.features,
        is_signed=False,
    )


def _sign(filtered: Filtered) -> Figure:
    text, code = filtered.features[:1, 1], filtered.code_feature[:1]
    both = int(((text > ALIKE) & (code > ALIKE)).sum())
    shared = "No pixel is" if both == 0 else f"{both} pixels are"
    return _grid(
        "task-2-sign",
        "The first image again. After σ the text's H^{f2}, [−1 0 1], keeps the left side of every stroke, the "
        f"code's, [1 0 −1], the right side. {shared} bright in both maps. Before σ one is the other's negative, so a "
        "network that learns its filters loses nothing by either.",
        filtered.images[:1],
        np.stack([text, code], axis=1),
        is_signed=False,
        titles=("digit", "text's $H^{f2}$", "code's $H^{f2}$"),
    )


def _pooled(pooled: Sequence[Pooled]) -> Figure:
    images = pooled[0].images
    columns = [(f"{_size(images)}\nimage", images)]
    for pool in pooled:
        columns += [(f"{_size(pool.average)}\naverage", pool.average), (f"{_size(pool.largest)}\nmax", pool.largest)]
    told = "; ".join(
        f"Δ = {pool.window}: {pool.average.mean():.3f} and {pool.largest.mean():.3f}, alike (within {ALIKE:g}) in "
        f"{100 * (abs(pool.average - pool.largest) <= ALIKE).mean():.0f} % of the windows"
        for pool in pooled
    )
    return draw(
        "task-3-pooling",
        f"Average pooling keeps the mean grey of the images, {images.mean():.3f} of 1, and fades thin strokes; max "
        f"pooling keeps strokes at full ink and thickens them. Mean grey after average and max: {told}.",
        lambda canvas: _paint_columns(canvas, columns),
        width=WIDTH,
        height=WIDTH * len(images) / len(columns) + 0.6,
    )


def _grid(
    name: str, caption: str, images: Pixels, maps: Pixels, *, is_signed: bool, titles: Sequence[str] | None = None
) -> Figure:
    """Originals in the first column, a column for each filter; maps (image, filter, row, column)."""
    filters = range(maps.shape[1])
    titles = titles or ("digit", *(f"$H^{{f{index + 1}}}$" for index in filters))

    def paint(canvas: Canvas) -> None:
        axes = canvas.subplots(len(images), 1 + maps.shape[1], squeeze=False)
        for row, image in enumerate(images):
            _show(axes[row, 0], image, cmap="gray")
            for index in filters:
                bound = abs(maps[:, index]).max()
                cmap, low = ("RdBu_r", -bound) if is_signed else ("gray", 0)
                _show(axes[row, 1 + index], maps[row, index], cmap=cmap, low=low, high=bound)
        for axis, title in zip(axes[0], titles, strict=True):
            axis.set_title(title, fontsize=10)

    return draw(name, caption, paint, width=WIDTH, height=WIDTH * len(images) / len(titles) + 0.3)


def _paint_samples(canvas: Canvas, samples: Samples) -> None:
    axes = canvas.subplots()
    size = samples.images[0].shape[-1]
    mosaic = np.concatenate([np.concatenate(list(images)) for images in samples.images], axis=1)
    _show(axes, mosaic, cmap="gray")
    axes.set_xticks(
        [size * (label + 0.5) for label in range(len(samples.images))],
        list(map(str, range(len(samples.images)))),
        fontsize=10,
    )
    axes.xaxis.tick_top()
    axes.tick_params(length=0)


def _paint_columns(canvas: Canvas, columns: Sequence[tuple[str, Pixels]]) -> None:
    axes = canvas.subplots(len(columns[0][1]), len(columns), squeeze=False)
    for column, (title, images) in enumerate(columns):
        axes[0, column].set_title(title, fontsize=9)
        for row, image in enumerate(images):
            _show(axes[row, column], image, cmap="gray", low=0, high=1)


def _show(axes: Axes, image: Pixels, *, cmap: str, low: float | None = None, high: float | None = None) -> None:
    """An image with its border, without scales, every pixel a square."""
    axes.imshow(image, cmap=cmap, vmin=low, vmax=high, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def _signed(value: float, digits: int = 1) -> str:
    """With a minus as long as a plus."""
    return f"{value:.{digits}f}".replace("-", "−")


def _size(images: Pixels) -> str:
    return f"{images.shape[1]} × {images.shape[2]}"
