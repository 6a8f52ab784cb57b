"""Gets the files of a data set: from a folder, from MNIST's mirrors, or from the copy in this repository."""

import http.client
import logging
import random
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from pipeline.data.dataset import FILE_NAMES, Dataset, locate
from pipeline.data.folder import read_folder
from pipeline.data.idx import read_idx
from pipeline.errors import DataError, FetchError

EMBEDDED = Path(__file__).parents[1] / "data" / "mnist"

MNIST_SHA256: Mapping[str, str] = MappingProxyType(
    {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }
)

DIGITS = tuple("0123456789")

MAX_DOWNLOAD_BYTES = 64 * 2**20  # six times the largest file
MAX_MNIST_BYTES = 60_000 * 28 * 28  # of the largest file, uncompressed
CHUNK_BYTES = 2**16

Report = Callable[[str], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """How long a download is tried: rounds over all mirrors, and the limits of one attempt."""

    rounds: int = 3
    backoff_s: float = 1.0  # after the first round, doubled after each further one, times a jitter in [0.5, 1.5]
    silence_s: float = 10.0  # without a byte
    attempt_s: float = 120.0  # for a whole file, its headers included


PATIENCE = Patience()


def fetch(
    dataset: Path | None,
    *,
    validation_fraction: float = 0.0,
    test_fraction: float = 0.0,
    download: bool,
    cache: Path,
    report: Report = logger.info,
    mirrors: Sequence[str] | None = None,
    embedded: Path = EMBEDDED,
    patience: Patience = PATIENCE,
) -> Dataset:
    """Find the files of `dataset`, a folder, or of MNIST when it is None, and say which source was used.

    Pictures become IDX files in `cache`; `test_fraction` of them are the test images where the folder names none.
    MNIST is the embedded copy, unless `download` asks for the mirrors (torchvision's, if none are given) or there is no
    copy. A download fills `cache`, where a later one finds it; when all mirrors fail, the embedded copy is taken.
    """
    if dataset is not None:
        found = read_folder(dataset, cache, test_fraction=test_fraction, report=report)
    else:
        found = _find_mnist(download, cache, report, mirrors, embedded, patience)
    report(f"data set {found.name}: {found.source} in {found.folder}")
    return replace(found, validation_fraction=validation_fraction)


def _find_mnist(
    download: bool,
    cache: Path,
    report: Report,
    mirrors: Sequence[str] | None,
    embedded: Path,
    patience: Patience,
) -> Dataset:
    has_copy = all((embedded / f"{name}.gz").is_file() for name in FILE_NAMES)
    if has_copy and not download:
        return _embedded_copy(embedded, "embedded copy")
    try:
        used = _download_missing(mirrors or _torchvision_mirrors(), cache, patience, report)
    except FetchError as error:
        if not has_copy:
            raise
        report(f"{error}; taking the embedded copy instead")
        return _embedded_copy(embedded, "embedded copy, as the download failed")
    source = f"download from {', '.join(used)}" if used else "earlier download"
    return _mnist(cache, source)


def _embedded_copy(folder: Path, source: str) -> Dataset:
    for name, expected in MNIST_SHA256.items():
        _verify(locate(folder, name), expected)
    return _mnist(folder, source)


def _mnist(folder: Path, source: str) -> Dataset:
    return Dataset(name="mnist", source=source, folder=folder, sha256=dict(MNIST_SHA256), labels=DIGITS)


def _verify(path: Path, expected: str) -> None:
    sha256 = read_idx(path, max_bytes=MAX_MNIST_BYTES).sha256
    if sha256 != expected:
        raise DataError(f"{path}: its uncompressed sha256 is {sha256}; expected {expected}, MNIST's: replace the file")


def _torchvision_mirrors() -> Sequence[str]:
    from torchvision.datasets import MNIST  # costs a second, and most runs do not download

    return tuple(MNIST.mirrors)


def _download_missing(mirrors: Sequence[str], cache: Path, patience: Patience, report: Report) -> list[str]:
    """Download the files that the cache lacks, and return the mirrors that gave them."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FetchError(f"{cache}: cannot be made: {error.strerror}; expected a folder to download into") from error
    used: list[str] = []
    for name, sha256 in MNIST_SHA256.items():
        path = cache / f"{name}.gz"
        try:
            _verify(path, sha256)
        except DataError:  # not there, or not whole
            used.append(_download(path, sha256, mirrors, patience, report))
    return sorted(set(used))


def _download(path: Path, sha256: str, mirrors: Sequence[str], patience: Patience, report: Report) -> str:
    """Download one file from the first mirror that gives it, and return that mirror."""
    for round_index in range(patience.rounds):
        if round_index:
            jitter = random.uniform(0.5, 1.5)  # noqa: S311 - spreads retries, guards nothing
            time.sleep(patience.backoff_s * 2 ** (round_index - 1) * jitter)
        for mirror in mirrors:
            url = f"{mirror.rstrip('/')}/{path.name}"
            try:
                _download_once(url, path, sha256, patience)
            except (OSError, http.client.HTTPException, DataError) as error:
                report(f"{url}: {error} (round {round_index + 1} of {patience.rounds})")
            else:
                return mirror
    raise FetchError(
        f"{path.name}: no mirror gave it in {patience.rounds} rounds ({', '.join(mirrors)}); "
        "check the network, or put the files into a folder and name it: --dataset FOLDER"
    )


def _download_once(url: str, path: Path, sha256: str, patience: Patience) -> None:
    """Download beside the place where the file belongs; it gets its name only when its digest is right."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
        unfinished = Path(folder) / path.name
        _receive(url, unfinished, patience)
        _verify(unfinished, sha256)
        unfinished.replace(path)


def _receive(url: str, path: Path, patience: Patience) -> None:
    """Download in a thread: a server that sends a byte now and then never exceeds the timeout of a socket."""
    faults: list[Exception] = []
    given_up = threading.Event()

    def receive() -> None:
        try:
            _copy(url, path, patience.silence_s, given_up)
        except Exception as error:
            faults.append(error)

    thread = threading.Thread(target=receive, name=f"download {path.name}", daemon=True)
    thread.start()
    try:
        thread.join(patience.attempt_s)
    finally:
        given_up.set()
    if faults:
        raise faults.pop()  # or the error would hold itself, and its connection open
    if thread.is_alive():
        raise TimeoutError(f"not complete after {patience.attempt_s:g} s")


def _copy(url: str, path: Path, silence_s: float, given_up: threading.Event) -> None:
    received_bytes = 0
    with urllib.request.urlopen(url, timeout=silence_s) as response, path.open("wb") as file:  # noqa: S310 - the digest is checked
        while not given_up.is_set() and (chunk := response.read1(CHUNK_BYTES)):
            received_bytes += file.write(chunk)
            if received_bytes > MAX_DOWNLOAD_BYTES:
                raise DataError(f"sent more than {MAX_DOWNLOAD_BYTES} bytes")
