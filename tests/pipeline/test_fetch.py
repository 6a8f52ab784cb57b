"""Every file of a data set is what it should be, wherever it came from; mirrors are real servers here."""

import itertools
import shutil
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from pipeline.data.dataset import FILE_NAMES, Dataset
from pipeline.errors import DataError, FetchError
from pipeline.fetch import DIGITS, EMBEDDED, MNIST_SHA256, Patience, fetch
from tests.pipeline.mirror import run_mirror

LACKING = "t10k-images-idx3-ubyte"
HASTY = Patience(rounds=2, backoff_s=0.01, silence_s=0.3, attempt_s=1.0)

Download = partial[Dataset]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache that lacks one file."""
    folder = tmp_path / "cache"
    folder.mkdir()
    for name in set(FILE_NAMES) - {LACKING}:
        shutil.copy(EMBEDDED / f"{name}.gz", folder)
    return folder


@pytest.fixture
def download(cache: Path) -> Download:
    """The function `fetch`, told to download into the cache and not to wait long."""
    return partial(fetch, None, download=True, cache=cache, patience=HASTY)


def test_the_embedded_copy_is_mnist(tmp_path: Path) -> None:
    """Without a wish the embedded copy is taken, verified and named, and nothing is written."""
    said: list[str] = []
    dataset = fetch(None, download=False, cache=tmp_path / "cache", report=said.append)
    assert dataset == Dataset("mnist", "embedded copy", EMBEDDED, MNIST_SHA256, DIGITS)
    assert said == [f"data set mnist: embedded copy in {EMBEDDED}"]
    assert not (tmp_path / "cache").exists()


def test_a_damaged_embedded_copy_is_refused(cache: Path, tmp_path: Path) -> None:
    """An embedded file with other bytes than MNIST's stops the flow by name."""
    shutil.copy(cache / "t10k-labels-idx1-ubyte.gz", cache / f"{LACKING}.gz")
    with pytest.raises(DataError, match=rf"{LACKING}\.gz: its uncompressed sha256 is ff7b.*expected 0fa7"):
        fetch(None, download=False, cache=tmp_path, embedded=cache)


def test_a_download_fills_an_empty_cache(tmp_path: Path) -> None:
    """All four files come from a mirror, and a second download finds them without asking it."""
    with run_mirror() as mirror:
        download = partial(fetch, None, download=True, cache=tmp_path, mirrors=[mirror.url], patience=HASTY)
        assert download() == Dataset("mnist", f"download from {mirror.url}", tmp_path, MNIST_SHA256, DIGITS)
        assert download() == Dataset("mnist", "earlier download", tmp_path, MNIST_SHA256, DIGITS)
    assert sorted(mirror.requested) == sorted(f"{name}.gz" for name in FILE_NAMES)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(mirror.requested)


def test_only_what_the_cache_lacks_is_downloaded(download: Download, cache: Path) -> None:
    """Three good files stay as they are, the missing one is asked for, and no part of a download stays behind."""
    with run_mirror() as mirror:
        download(mirrors=[mirror.url])
    assert mirror.requested == [f"{LACKING}.gz"]
    assert len(list(cache.iterdir())) == len(FILE_NAMES)


def test_a_damaged_file_in_the_cache_is_replaced(download: Download, cache: Path) -> None:
    """A file in the cache that is cut short is downloaded again."""
    (cache / f"{LACKING}.gz").write_bytes((EMBEDDED / f"{LACKING}.gz").read_bytes()[:1000])
    with run_mirror() as mirror:
        assert download(mirrors=[mirror.url]).source == f"download from {mirror.url}"


@pytest.mark.parametrize(
    "fault",
    [
        *("busy", "cut", "short", "corrupt", "another file", "silent", "drip", "drip header"),
        *("bomb", "overflow", "endless"),
    ],
    ids="a mirror: {}".format,
)
@pytest.mark.timeout(30)  # HASTY ends it within 2 s; without a limit a mirror that drips takes hours
def test_a_faulty_answer_is_tried_again(download: Download, fault: str) -> None:
    """After one faulty answer of any kind the next one is taken."""
    said: list[str] = []
    with run_mirror([fault]) as mirror:
        dataset = download(mirrors=[mirror.url], report=said.append)
    assert dataset.source == f"download from {mirror.url}"
    assert len(mirror.requested) == 2
    assert said[0].startswith(f"{mirror.url}{LACKING}.gz: ")
    assert said[0].endswith("(round 1 of 2)")


@pytest.mark.parametrize("fault", ["drip", "drip header"])
@pytest.mark.timeout(30)
def test_a_mirror_that_drips_for_ever_gives_way(download: Download, fault: str) -> None:
    """The next mirror is taken, else the embedded copy, and no download goes on meanwhile."""
    with run_mirror(itertools.repeat(fault)) as bad, run_mirror() as good:
        assert download(mirrors=[bad.url, good.url]).source == f"download from {good.url}"
    with run_mirror(itertools.repeat(fault)) as bad:
        (download.keywords["cache"] / f"{LACKING}.gz").unlink()
        said: list[str] = []
        assert download(mirrors=[bad.url], report=said.append).source == "embedded copy, as the download failed"
    assert "not complete after 1 s (round 1 of 2)" in said[0]


@pytest.mark.timeout(30)
def test_a_download_that_was_given_up_ends(download: Download) -> None:
    """Its thread closes the connection at the next byte."""
    with run_mirror(["drip"]) as mirror:
        download(mirrors=[mirror.url])
        while any(thread.name.startswith("download ") for thread in threading.enumerate()):
            time.sleep(0.01)


def test_the_next_mirror_is_asked_at_once(download: Download) -> None:
    """Where the first mirror fails, the second is asked in the same round, and it is the one that is named."""
    with run_mirror(itertools.repeat("busy")) as bad, run_mirror() as good:
        dataset = download(mirrors=[bad.url, good.url])
    assert dataset.source == f"download from {good.url}"
    assert len(bad.requested) == 1


def test_the_embedded_copy_helps_out(download: Download) -> None:
    """When every mirror fails in every round, the embedded copy is taken, and the source says why."""
    said: list[str] = []
    with run_mirror(itertools.repeat("busy")) as mirror:
        dataset = download(mirrors=[mirror.url], report=said.append)
    assert dataset == Dataset("mnist", "embedded copy, as the download failed", EMBEDDED, MNIST_SHA256, DIGITS)
    assert len(mirror.requested) == HASTY.rounds
    assert "no mirror gave it in 2 rounds" in said[-2]


def test_without_an_embedded_copy_the_mirrors_are_asked(cache: Path, tmp_path: Path) -> None:
    """Where there is no copy, the network is tried without being asked for."""
    with run_mirror() as mirror:
        dataset = fetch(None, download=False, cache=cache, mirrors=[mirror.url], embedded=tmp_path / "absent")
    assert dataset.source == f"download from {mirror.url}"


def test_with_neither_mirror_nor_copy_it_gives_up(download: Download, tmp_path: Path) -> None:
    """When there is nothing left, the message says what was tried and what to do."""
    with (
        run_mirror(itertools.repeat("busy")) as mirror,
        pytest.raises(FetchError, match=f"{LACKING}.*2 rounds.*{mirror.url}.*check the network"),
    ):
        download(mirrors=[mirror.url], embedded=tmp_path / "absent")


def test_later_rounds_wait(download: Download) -> None:
    """Between two rounds lies at least half the back-off, whatever the jitter."""
    patience = Patience(rounds=2, backoff_s=0.4)
    with run_mirror(["busy"]) as mirror:
        start = time.monotonic()
        download(mirrors=[mirror.url], patience=patience)
        assert time.monotonic() - start > 0.2


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A cache below a file is a FetchError where there is no copy to fall back on."""
    (tmp_path / "file").touch()
    with pytest.raises(FetchError, match="file/cache: cannot be made: Not a directory"):
        fetch(
            None, download=True, cache=tmp_path / "file" / "cache", mirrors=["http://[::1]/"], embedded=tmp_path / "no"
        )


def test_a_folder_is_a_data_set_of_its_own(small_folder: Path) -> None:
    """A folder with the four names is taken as it is, and its digests are those of its own bytes."""
    dataset = fetch(small_folder, download=False, cache=small_folder)
    assert (dataset.source, dataset.folder) == ("folder", small_folder)
    assert set(dataset.sha256) == set(FILE_NAMES)
    assert not set(dataset.sha256.values()) & set(MNIST_SHA256.values())


def test_a_folder_of_compressed_files_has_the_same_digests(cache: Path) -> None:
    """Digests are those of the uncompressed bytes, so a copy of MNIST is recognised as MNIST."""
    shutil.copy(EMBEDDED / f"{LACKING}.gz", cache)
    assert fetch(cache, download=False, cache=cache).sha256 == MNIST_SHA256


@pytest.mark.parametrize(
    ("folder", "error", "message"),
    [
        pytest.param("absent", DataError, "absent: is no folder; expected one that holds train-images", id="absent"),
        pytest.param("cache", DataError, f"cache: has no {LACKING}; expected it there", id="a file is missing"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused(
    cache: Path, folder: str, error: type[Exception], message: str
) -> None:
    """A folder that is not there, or lacks a file, is refused by name."""
    with pytest.raises(error, match=message):
        fetch(cache.parent / folder, download=False, cache=cache)
