"""The lab's page, the classifier: its layers (Task 4), its training and how good it is (Task 5)."""

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from pipeline.config import Network, Preset
from pipeline.lab import notebook
from pipeline.lab.trials import Trial, spread
from pipeline.pages.drawing import draw
from pipeline.pages.lab_pictures import WIDTH
from pipeline.pages.page import Figure, Section, Table

Losses = NDArray[np.float64]

OURS, THEIRS = "#3b82d0", "#d9730d"
"""Legible on light and on dark ground."""

BESIDE = "\N{NO-BREAK SPACE}·\N{NO-BREAK SPACE}"


def network_section(preset: Preset) -> Section:
    """Task 4: the layers and their weights."""
    network = preset.network
    layers = zip(network.taps, pairwise(network.features), pairwise(network.sizes), strict=True)
    rows = [
        (
            f"layer {number}",
            (f"{before} → {after} features, filters {2 * taps + 1} × {2 * taps + 1}, ReLU, {network.pooling} pooling"),
            f"{size} → {smaller}",
            f"{before * after * (2 * taps + 1) ** 2:,}",
        )
        for number, (taps, (before, after), (size, smaller)) in enumerate(layers, start=1)
    ]
    readout = f"{_readout_inputs(network)} numbers → {network.classes} classes, a matrix without bias"
    rows.append(("readout", readout, "", f"{_readout_inputs(network) * network.classes:,}"))
    table = Table(("", "what", "pixels a side", "weights"), rows, f"{_weight_count(network):,} weights in all.")
    return Section("Task 4: a readout behind the pooled CNN", (table,))


def training_section(trials: Sequence[Trial], preset: Preset) -> Section:
    """Task 5: the losses, the error rate, and the notebook's figures beside them."""
    training = preset.training
    image_count, took_s = trials[0].evaluation.image_count, [trial.duration_s for trial in trials]
    return Section(
        "Task 5: training and evaluation",
        (
            (
                f"The notebook's recipe: {training.optimizer.upper()}, learning rate {training.learning_rate:g}, "
                f"batches of {training.batch_size}, {training.epochs} epochs, a readout drawn from N(0, 1), all "
                f"training images. One training says little: it is repeated here from {len(trials)} seeds, which "
                "draw the first weights and the order of the images. A training took "
                f"{statistics.median(took_s):.1f} s (median), all of them {sum(took_s):.0f} s."
            ),
            _trials_table(trials),
            (
                "The task asks for train loss and test loss; the notebook computes neither at the end. Losses are "
                f"cross entropies (a guess costs ln {preset.network.classes} = "
                f"{math.log(preset.network.classes):.2f}), the train loss over all training images; test loss, error "
                f"rate and accuracy are over {image_count:,} test images."
            ),
            _loss_figure(trials),
            _accuracy_figure(trials),
            (
                "Epoch by epoch: the mean of the losses that the notebook prints beside the mean of ours at the same "
                f"steps, and the accuracy on the test images. Ours are means over {len(trials)} seeds."
            ),
            _epochs_table(trials),
            (
                "Every training loss that the notebook prints, and ours at the same step (mean over the seeds). "
                "Each is that of one batch: the notebook's, of a single training, jump about."
            ),
            _losses_table(trials),
        ),
    )


def _weight_count(network: Network) -> int:
    """How many numbers learn."""
    layers = zip(network.taps, pairwise(network.features), strict=True)
    filters = sum(before * after * (2 * taps + 1) ** 2 for taps, (before, after) in layers)
    return filters + _readout_inputs(network) * network.classes


def _readout_inputs(network: Network) -> int:
    return network.features[-1] * network.sizes[-1] ** 2


def _trials_table(trials: Sequence[Trial]) -> Table:
    evaluations = [trial.evaluation for trial in trials]
    columns = [
        [evaluation.train_loss for evaluation in evaluations],
        [evaluation.loss for evaluation in evaluations],
        [100 * evaluation.error_rate for evaluation in evaluations],
        [100 * evaluation.accuracy for evaluation in evaluations],
    ]
    rows = [(str(trial.seed), *_cells(values)) for trial, *values in zip(trials, *columns, strict=True)]
    spreads = [spread(column) for column in columns]
    rows += [("mean", *_cells([each.mean for each in spreads])), ("sd", *_cells([each.sd for each in spreads]))]
    accuracy = 100 * notebook.FINAL_ACCURACY
    rows.append(("notebook", "–", "–", f"{100 - accuracy:.2f}", f"{accuracy:.2f}"))
    return Table(("seed", "train loss", "test loss", "error rate, %", "accuracy, %"), rows, "After the last epoch.")


def _cells(values: Sequence[float]) -> tuple[str, ...]:
    train_loss, test_loss, error_rate, accuracy = values
    return f"{train_loss:.3f}", f"{test_loss:.3f}", f"{error_rate:.2f}", f"{accuracy:.2f}"


def _epochs_table(trials: Sequence[Trial]) -> Table:
    rows = []
    for index, (theirs, ours) in enumerate(_printed(trials)):
        accuracy = statistics.mean(trial.epoch_accuracies[index] for trial in trials)
        losses = f"{statistics.mean(theirs):.3f}", f"{ours.mean():.3f}"
        rows.append((str(index + 1), *losses, f"{100 * notebook.ACCURACIES[index]:.2f}", f"{100 * accuracy:.2f}"))
    header = ("epoch", "loss, notebook", "loss, ours", "accuracy, notebook", "accuracy, ours")
    return Table(header, rows, "Epoch by epoch, accuracies in %.")


def _losses_table(trials: Sequence[Trial]) -> Table:
    """Every loss that the notebook prints; a row a step, a column an epoch."""
    printed = _printed(trials)
    steps = range(0, notebook.PRINT_EVERY_STEPS * len(printed[0][0]), notebook.PRINT_EVERY_STEPS)
    rows = [
        (str(step + 1), *(f"{theirs[index]:.3f}{BESIDE}{ours[index]:.3f}" for theirs, ours in printed))
        for index, step in enumerate(steps)
    ]
    header = ("step", *(f"epoch {index + 1}" for index in range(len(printed))))
    return Table(header, rows, "The notebook's loss · ours.")


def _printed(trials: Sequence[Trial]) -> list[tuple[tuple[float, ...], Losses]]:
    """For each epoch the notebook's losses, and the mean of ours at the same steps, as far as both go."""
    ours = np.array([trial.losses for trial in trials]).mean(axis=0)[:, :: notebook.PRINT_EVERY_STEPS]
    count = ours.shape[1]
    return [(theirs[:count], mine[: len(theirs)]) for theirs, mine in zip(notebook.LOSSES, ours, strict=False)]


def _loss_figure(trials: Sequence[Trial]) -> Figure:
    losses = np.array([trial.losses for trial in trials])  # (trial, epoch, step)
    first, last = losses[:, 0, 0], losses[:, -1].mean(axis=1)
    caption = (
        f"The training loss of every step. It starts at {first.mean():.1f} ({first.min():.1f} to {first.max():.1f}; "
        f"the notebook {notebook.LOSSES[0][0]:.1f}), far above the {math.log(10):.2f} of a guess, since the readout "
        f"is drawn too large; in epoch {losses.shape[1]} it is {last.mean():.2f} on average ({last.min():.2f} to "
        f"{last.max():.2f}; the notebook's printed ones {statistics.mean(notebook.LOSSES[losses.shape[1] - 1]):.2f})."
    )
    return draw("task-5-loss", caption, lambda canvas: _paint_losses(canvas, losses), width=WIDTH, height=3.2)


def _paint_losses(canvas: Canvas, losses: Losses) -> None:
    axes = canvas.subplots()
    _, epochs, steps = losses.shape
    flat = losses.reshape(len(losses), -1)
    epoch = np.arange(flat.shape[1]) / steps
    axes.fill_between(epoch, flat.min(axis=0), flat.max(axis=0), color=OURS, alpha=0.35, linewidth=0, label="range")
    axes.plot(epoch, flat.mean(axis=0), color=OURS, linewidth=0.8, label=f"mean of {len(losses)} seeds")
    theirs = [
        (index + notebook.PRINT_EVERY_STEPS * place / notebook.STEPS, loss)
        for index, row in enumerate(notebook.LOSSES[:epochs])
        for place, loss in enumerate(row)
    ]
    axes.plot(*zip(*theirs, strict=True), "o", color=THEIRS, markersize=3.5, label="notebook")
    axes.set(xlabel="epochs", ylabel="loss of the batch", yscale="log")
    axes.set_yticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.legend(frameon=False, fontsize=9)


def _accuracy_figure(trials: Sequence[Trial]) -> Figure:
    final = spread(100 * trial.evaluation.accuracy for trial in trials)
    rise = statistics.mean(100 * (trial.epoch_accuracies[-1] - trial.epoch_accuracies[-2:][0]) for trial in trials)
    falls = sum(after < before for trial in trials for before, after in pairwise(trial.epoch_accuracies))
    caption = (
        "Accuracy on the test images after each epoch, a line a seed. After the last, seeds lie "
        f"{final.most - final.least:.1f} points apart ({final.least:.2f} to {final.most:.2f} %); the notebook is at "
        f"{100 * notebook.FINAL_ACCURACY:.2f} %. In the last epoch it changed by {rise:+.1f} points on average. "
        f"Between epochs it fell in {falls} of {len(trials) * (len(trials[0].epoch_accuracies) - 1)} cases."
    )
    return draw("task-5-accuracy", caption, lambda canvas: _paint_accuracies(canvas, trials), width=WIDTH, height=3.0)


def _paint_accuracies(canvas: Canvas, trials: Sequence[Trial]) -> None:
    axes = canvas.subplots()
    epochs = range(1, len(trials[0].epoch_accuracies) + 1)
    for index, trial in enumerate(trials):
        label = "ours, a line a seed" if index == 0 else None
        accuracies = [100 * accuracy for accuracy in trial.epoch_accuracies]
        axes.plot(epochs, accuracies, color=OURS, linewidth=1, marker=".", label=label)
    theirs = [100 * accuracy for accuracy in notebook.ACCURACIES[: len(epochs)]]
    axes.plot(epochs[: len(theirs)], theirs, "o", color=THEIRS, markersize=5, label="notebook")
    axes.set(xlabel="epoch", ylabel="accuracy, %", xticks=epochs)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
