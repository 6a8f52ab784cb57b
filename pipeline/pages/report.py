"""The report of a version: one page that says how good it is, where it fails, and where it came from."""

from collections import defaultdict
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.dataset import Dataset
from pipeline.data.split import load_split
from pipeline.gates.verdict import ruling
from pipeline.pages import tables
from pipeline.pages.page import Block, Gallery, Link, Page, Picture, Section, Table, write_page
from pipeline.train import TrainingResult
from pipeline.training.checkpoint import load_checkpoint
from pipeline.verify import LOGITS_TOLERANCE, PROBABILITIES_TOLERANCE, Verification
from pipeline.versions.repository import REPORT
from protos.artifact.v1.manifest_pb2 import Manifest

MISTAKE_COUNT = 25  # pictures, at most
PROBABILITY_COUNT = 3  # below each of them
PLANE_COUNT = 64  # of a further layer's filters, at most: more pictures than that nobody reads
READ_ONCE = (
    "Of the images, only those that validate, which never train, had a say in what is published. The test images were "
    "evaluated once, when that was decided."
)


def report(
    candidate: Path,
    description: Manifest,
    dataset: Dataset,
    training: TrainingResult,
    verification: Verification,
    *,
    answers: Path,
    parent_version: int,
    champion: Manifest | None,
) -> Path:
    """Write the report of a candidate into its folder and return the path of its page.

    `answers` is what `evaluate` kept of the test images. The number of the version is not known yet, so the page speaks
    of "this version". `parent_version` is the one that is current now, 0 for none; `champion` is its manifest, where
    that can be read.
    """
    with np.load(answers, allow_pickle=False) as kept:
        probabilities, labels = kept["probabilities"], kept["labels"]
    sections = [
        Section("Quality", [READ_ONCE, tables.quality(description)]),
        _comparison(description, parent_version, champion),
        _confusion(description),
        Section("Worst mistakes", [_mistakes(dataset, description, probabilities, labels)]),
        _calibration(description, probabilities, labels),
        _training(training),
        Section("Parity of ONNX and PyTorch", [_parity(verification)]),
        _provenance(description, parent_version),
    ]
    page = Page(f"{description.model_name}: report of a version", *_verdict(description), sections)
    return write_page(page, candidate / REPORT)


def _verdict(description: Manifest) -> tuple[str, bool]:
    evaluation = description.evaluation
    found = f"{100 * evaluation.accuracy:.2f} % of {evaluation.image_count:,} test images are answered rightly"
    gates: defaultdict[str, list[str]] = defaultdict(list)
    for verdict in description.verdicts:
        gates[ruling(verdict)].append(verdict.gate)
    if gates["rejected"]:
        return f"{found}; published by a person's decision although rejected by: {', '.join(gates['rejected'])}.", False
    skipped = f"; skipped: {', '.join(gates['skipped'])}" if gates["skipped"] else ""
    return f"{found}; no gate rejected it. Passed: {', '.join(gates['passed'])}{skipped}.", True


def _comparison(description: Manifest, parent_version: int, champion: Manifest | None) -> Section:
    who = f"version {parent_version}, current when this was written" if parent_version else "none, this is the first"
    blocks: list[Block] = [f"Champion: {who}.", tables.verdicts(description)]
    if champion is None:
        pass
    elif tables.have_same_test(description, champion):
        blocks.append(tables.beside(description, champion))
    else:
        blocks.append("The champion was tested on other images, so its figures do not stand here.")
    return Section("Gates, and the champion", blocks)


def _confusion(description: Manifest) -> Section:
    from pipeline.pages.figures import confusion_matrix  # matplotlib takes half a second: only who draws pays

    pairs = tables.confusions(description)
    most = [Table(pairs.header, pairs.rows, "Confused most often")] if pairs.rows else []
    figure = confusion_matrix(tables.confusion_of(description), description.labels)
    return Section("Classes", [tables.classes(description), figure, *most])


def _calibration(description: Manifest, probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> Section:
    from pipeline.pages.figures import calibration

    fitted = (
        f"The logits are divided by {description.temperature:.3f}, the temperature that was fitted on the validation "
        "images; the figure shows the test images."
    )
    return Section(
        "Calibration", [fitted, calibration(probabilities, labels, description.evaluation.calibration_error)]
    )


def _training(training: TrainingResult) -> Section:
    from pipeline.pages.figures import filters, training_curve

    blocks: list[Block] = [
        f"Trained in {training.duration_s:.1f} s on {training.device}.",
        training_curve(training.step_losses, training.epoch_losses),
    ]
    for layer, weights in enumerate(_convolutions(training.checkpoint), start=1):
        if layer == 1 or weights.shape[0] * weights.shape[1] <= PLANE_COUNT:
            blocks.append(filters(weights, layer))
    return Section("Training", blocks)


def _convolutions(checkpoint: Path) -> list[NDArray[np.float32]]:
    """The weights of each convolution (filter, input, row, column), none for a network without them."""
    parameters = load_checkpoint(checkpoint, torch.device("cpu")).parameters()
    return [weights.detach().numpy() for weights in parameters if weights.ndim == 4]


def _mistakes(
    dataset: Dataset, description: Manifest, probabilities: NDArray[np.float32], labels: NDArray[np.int64]
) -> Block:
    """The images whose wrong answer had the highest probability."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    worst = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:MISTAKE_COUNT]
    if not len(worst):
        return "None: every test image is answered rightly."
    images = load_split(dataset, "test", torch.device("cpu")).images
    pictures = [
        Picture(_png(images[index].numpy()), _told(description.labels, probabilities[index], int(labels[index]), index))
        for index in worst.tolist()
    ]
    order = "the most confident first, each with its number among the test images, counted from 0"
    return Gallery(pictures, f"{len(worst)} of {len(wrong)} mistakes, {order}.")


def _told(names: Sequence[str], probabilities: NDArray[np.float32], label: int, index: int) -> list[str]:
    """The lines below a mistake: what it is, what was answered, what else was likely, and where to find it."""
    answer, *others = (number for number in np.argsort(-probabilities, kind="stable").tolist() if number != label)
    shown = [("label", label), ("answer", answer), *(("then", other) for other in others[: PROBABILITY_COUNT - 2])]
    return [*(f"{word} {names[of]}: {100 * probabilities[of]:.2f} %" for word, of in shown), f"image {index}"]


def _png(image: NDArray[np.uint8]) -> bytes:
    """An image (row, column), or (row, column, 3) in colour, as a PNG file."""
    file = BytesIO()
    Image.fromarray(image).save(file, format="PNG", optimize=True)
    return file.getvalue()


def _parity(verification: Verification) -> Table:
    rows = [
        (
            parity.who,
            f"{parity.image_count:,}",
            f"{parity.distance.logits:.1e}",
            f"{parity.distance.probabilities:.1e}",
            ", ".join(map(str, parity.batch_sizes)),
            "the same" if parity.is_batch_invariant else "not the same",
        )
        for parity in (verification.reference, *verification.parities)
    ]
    caption = (
        f"How far the ONNX file's answers are from PyTorch's at most: logits relative to the largest one (allowed "
        f"{LOGITS_TOLERANCE:.0e}), probabilities absolute (allowed {PROBABILITIES_TOLERANCE:.0e})."
    )
    return Table(("provider", "images", "logits", "probabilities", "batches of", "bits in every batch"), rows, caption)


def _provenance(description: Manifest, parent_version: int) -> Section:
    link = Link(
        "manifest.json: number, parent and time of this version, and the hash of every file", "../manifest.json"
    )
    parent = f"Made to follow {f'version {parent_version}' if parent_version else 'no other version'}."
    return Section(
        "Provenance",
        [parent, tables.code(description), tables.data(description), tables.configuration(description), link],
    )
