"""The names of the classes: labels.txt beside the IDX files, UTF-8, one name a line, the first for label 0."""

from collections import Counter
from pathlib import Path

from pipeline.errors import DataError

LABEL_NAMES = "labels.txt"
MIN_CLASSES = 2
MAX_CLASSES = 256  # a label is a byte


def read_labels(folder: Path) -> tuple[str, ...] | None:
    """The names in the folder's labels.txt, None where there is no such file; raises DataError naming its fault."""
    path = folder / LABEL_NAMES
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}; expected UTF-8, one name a line") from error
    labels = tuple(text.splitlines())
    check_labels(path, labels)
    return labels


def write_labels(path: Path, labels: tuple[str, ...]) -> None:
    """Write one name a line."""
    path.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")


def check_labels(path: Path, labels: tuple[str, ...]) -> None:
    """Demand 2 to 256 names, each once, each of one line that can be printed; raises DataError that begins with `path`.

    A name that is not UTF-8 comes from the file system with surrogates, which cannot be printed.
    """
    if not MIN_CLASSES <= len(labels) <= MAX_CLASSES:
        raise DataError(
            f"{path}: names {len(labels)} classes; expected {MIN_CLASSES} to {MAX_CLASSES} (a label is a byte): "
            f"{'add another' if len(labels) < MIN_CLASSES else 'join some, or leave some out'}"
        )
    for label, count in Counter(labels).items():
        if not label or not label.isprintable() or label != label.strip():
            raise DataError(
                f"{path}: the class name {label!r} is empty, no UTF-8, or has control characters or blanks at its "
                "ends; expected a name that can be printed: rename it"
            )
        if count > 1:
            raise DataError(f"{path}: names the class {label!r} {count} times; expected each once")
