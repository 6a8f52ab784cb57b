"""What a manifest says, as tables of text: for the report, the model card and the command line."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from google.protobuf import json_format
from numpy.typing import NDArray

from pipeline.data.dataset import IMAGES, LABELS
from pipeline.gates.verdict import ruling
from pipeline.pages.page import Table
from protos.artifact.v1.manifest_pb2 import Evaluation, Manifest, Tensor

NORMAL_95 = 1.96  # standard deviations on either side


def quality(manifest: Manifest) -> Table:
    """The figures of the test images beside those of the validation images."""
    splits = (manifest.evaluation, manifest.validation)
    rows = [
        ("accuracy", *(_percent(split, split.accuracy) for split in splits)),
        ("its 95 % interval", *(_interval(split) for split in splits)),
        ("error rate", *(_percent(split, split.error_rate) for split in splits)),
        ("calibration error", *(_percent(split, split.calibration_error) for split in splits)),
        ("loss, nats", *(_known(split, f"{split.test_loss:.4f}") for split in splits)),
        ("loss on the training images, nats", *(_known(split, f"{split.train_loss:.4f}") for split in splits)),
        ("images", *(_known(split, f"{split.image_count:,}") for split in splits)),
    ]
    return Table(("", "test images", "validation images"), rows)


def classes(manifest: Manifest) -> Table:
    """How each class fares on the test images."""
    confusion = confusion_of(manifest)
    rows = []
    for index, label in enumerate(manifest.labels if len(confusion) else ()):
        images, answers, right = confusion[index].sum(), confusion[:, index].sum(), confusion[index, index]
        rows.append((label, str(images), _share(right, images), _share(right, answers), _mostly(manifest, index)))
    header = ("label", "images", "recall", "precision", "mostly taken for")
    return Table(header, rows)


def confusions(manifest: Manifest, count: int = 10) -> Table:
    """The pairs of classes that are confused most often on the test images, at most `count` of them."""
    confusion = confusion_of(manifest)
    wrong = confusion - np.diag(confusion.diagonal()) if len(confusion) else confusion
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [divmod(int(place), len(wrong)) for place in order if wrong.flat[place]]
    rows = [(manifest.labels[label], manifest.labels[answer], str(wrong[label, answer])) for label, answer in pairs]
    return Table(("label", "answer", "images"), rows)


def beside(manifest: Manifest, champion: Manifest) -> Table:
    """The figures of the test images beside the champion's on the same images: shares, and each class's recall."""
    names = ("accuracy", "calibration error", *(f"recall of {label}" for label in manifest.labels))
    rows = [
        (name, f"{100 * ours:.2f} %", f"{100 * theirs:.2f} %", f"{100 * (ours - theirs):+.2f}")
        for name, ours, theirs in zip(names, _shares(manifest), _shares(champion), strict=True)
    ]
    header = ("", "this version", f"version {champion.version}", "difference, points")
    return Table(header, rows, "On the test images. They decided nothing; what decided stands above.")


def have_same_test(manifest: Manifest, other: Manifest) -> bool:
    """Whether two versions were tested on the same images, with the same labels."""
    shares = (len(manifest.evaluation.class_accuracies), len(other.evaluation.class_accuracies))
    if list(manifest.labels) != list(other.labels) or shares[0] != shares[1]:
        return False
    digests = (manifest.data.payload_sha256, other.data.payload_sha256)
    return all(digests[0][name] == digests[1][name] for name in (IMAGES["test"], LABELS["test"]))


def verdicts(manifest: Manifest) -> Table:
    """What every gate said."""
    rows = [(verdict.gate, ruling(verdict), verdict.detail) for verdict in manifest.verdicts]
    return Table(("gate", "", "what it measured"), rows)


def data(manifest: Manifest) -> Table:
    """Which images, and the digests that prove them."""
    of = manifest.data
    rows = [
        ("name", of.name),
        ("source", of.source),
        ("images", f"{of.train_count:,} train, {of.validation_count:,} validate, {of.test_count:,} test"),
        ("mean pixel, standard deviation", f"{_numbers(of.means, of.mean)}, {_numbers(of.stds, of.std)}"),
        *((f"sha256 of {name}", digest) for name, digest in sorted(of.payload_sha256.items())),
    ]
    return Table(("data", ""), rows)


def configuration(manifest: Manifest) -> Table:
    """Every value of the preset, by its dotted name."""
    config = json_format.MessageToDict(manifest.config)
    return Table(("preset", ""), [(name, plain(value)) for name, value in flatten(config)])


def code(manifest: Manifest) -> Table:
    """What made the model, and where."""
    rows = [
        ("code revision", manifest.code_revision),
        ("device", manifest.device),
        ("seed", str(manifest.seed)),
        ("temperature", f"{manifest.temperature or 1:.4g}"),
        ("ONNX", f"opset {manifest.opset}, IR version {manifest.ir_version}"),
        *((name, version) for name, version in sorted(manifest.packages.items())),
    ]
    if manifest.fingerprint:
        rows.append(("fingerprint of data, config and code", manifest.fingerprint))
    if manifest.sources_sha256:
        rows.append(("sha256 of the sources", manifest.sources_sha256))
    return Table(("code", ""), rows)


def tensors(described: Iterable[Tensor]) -> str:
    """Names, types and shapes, as `images uint8[batch, 28, 28]`."""
    return "; ".join(
        f"{tensor.name} {tensor.dtype}[{', '.join('batch' if size < 0 else str(size) for size in tensor.shape)}]"
        for tensor in described
    )


def confusion_of(manifest: Manifest) -> NDArray[np.int64]:
    """The confusion matrix of the test images (label, answer); (0, 0) where there is none."""
    counts = np.array(manifest.evaluation.confusion, dtype=np.int64)
    side = math.isqrt(len(counts))
    return counts.reshape(side, side)


def flatten(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf of nested dictionaries with its dotted name, in the order of names; lists are leaves."""
    for name, inner in sorted(value.items()):
        if isinstance(inner, dict):
            yield from flatten(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner


def _mostly(manifest: Manifest, label: int) -> str:
    """The wrong answer that a class got most often, and how often."""
    wrong = confusion_of(manifest)[label].copy()
    wrong[label] = 0
    answer = int(wrong.argmax())
    return f"{manifest.labels[answer]} ({wrong[answer]})" if wrong[answer] else "–"


def _shares(manifest: Manifest) -> list[float]:
    """Of the test images: accuracy, calibration error, the recall of each class."""
    evaluation = manifest.evaluation
    return [evaluation.accuracy, evaluation.calibration_error, *evaluation.class_accuracies]


def _known(split: Evaluation, text: str) -> str:
    return text if split.image_count else "–"


def _percent(split: Evaluation, share: float) -> str:
    return _known(split, f"{100 * share:.2f} %")


def _interval(split: Evaluation) -> str:
    low, high = wilson(split.accuracy, max(1, split.image_count))
    return _known(split, f"{100 * low:.2f} to {100 * high:.2f} %")


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share [0, 1] that was seen in `count` >= 1 images (Wilson, 1927)."""
    square = NORMAL_95**2 / count
    centre = (share + square / 2) / (1 + square)
    half = NORMAL_95 * math.sqrt(share * (1 - share) / count + square / count / 4) / (1 + square)
    return max(0.0, centre - half), min(1.0, centre + half)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "–"


def _numbers(several: Any, one: float) -> str:
    return " / ".join(f"{number:.4f}" for number in several or [one])


def plain(value: Any) -> str:
    """A value of the manifest as a person reads it."""
    if isinstance(value, list):
        return ", ".join(map(plain, value))
    if isinstance(value, float):
        return f"{value:g}"  # the manifest keeps every number as a float
    return "–" if value is None else str(value)
