"""Publishing: whole or not at all, once, under numbers that are never used twice."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline.errors import PublishError
from pipeline.publish import Publication, publish
from pipeline.versions.collect import collect
from pipeline.versions.promote import promote, rollback
from pipeline.versions.repository import ModelRepository
from protos.artifact.layout import MAX_VERSION, sha256_of
from protos.artifact.v1.manifest_pb2 import HistoryEntry, Manifest
from tests.programs import ROOT
from tests.unprivileged import unprivileged_folder


def candidate(folder: Path, content: str) -> Path:
    """A candidate whose model is this text: publishing looks at bytes only."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_text(content)
    (folder / "known_answers.npz").write_text(f"answers of {content}")
    (folder / "checkpoint.pt").write_text("is not published")
    (folder / "report").mkdir(exist_ok=True)
    for name in ("index.html", "confusion.png"):
        (folder / "report" / name).write_text(f"{name} of {content}")
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository that is not there yet."""
    return tmp_path / "deep" / "repository"


def publish_text(repository: Path, content: str, labels: Sequence[str] = ("a", "b")) -> Publication:
    """Publish a candidate with this content."""
    folder = candidate(repository.parent / "candidate", content)
    return publish(repository, folder, Manifest(model_name="digits", labels=labels))


def test_the_first_version_is_1_and_current(repository: Path) -> None:
    """The folder is made, CURRENT names the version and the hash of its manifest."""
    publication = publish_text(repository, "one")
    assert publication == Publication(1, repository / "digits" / "1", is_new=True, current_version=1)
    current = json.loads((repository / "digits" / "CURRENT").read_text())
    digest = sha256_of(publication.path / "manifest.json")
    assert current == {"version": 1, "sha256": digest, "previous": 0, "generation": 1}


def test_the_manifest_lists_every_other_file_with_hash_and_size(repository: Path) -> None:
    """So that a reader can prove every byte."""
    path = publish_text(repository, "one").path
    files = json.loads((path / "manifest.json").read_text())["files"]
    found = {entry.relative_to(path).as_posix() for entry in path.rglob("*") if entry.is_file()}
    assert {file["path"] for file in files} == found - {"manifest.json"}
    assert {"README.md", "report/index.html", "report/confusion.png"} < found
    for file in files:
        assert file["sha256"] == sha256_of(path / file["path"])
        assert file["size_bytes"] == (path / file["path"]).stat().st_size


def test_nothing_else_of_the_candidate_is_published(repository: Path) -> None:
    """Such as its checkpoint."""
    names = {path.name for path in publish_text(repository, "one").path.iterdir()}
    assert names == {"manifest.json", "model.onnx", "known_answers.npz", "README.md", "report"}


def test_a_changed_page_of_the_report_is_damage(repository: Path) -> None:
    """What is hashed is proved, in folders too."""
    publication = publish_text(repository, "one")
    page = publication.path / "report" / "index.html"
    page.chmod(0o644)
    page.write_text("better than it was")
    assert not ModelRepository(repository / "digits").is_whole(1)


def test_another_model_is_the_next_version_and_knows_its_parent(repository: Path) -> None:
    """Numbers rise, generations rise, the one before is named."""
    publish_text(repository, "one")
    second = publish_text(repository, "two")
    model = ModelRepository(repository / "digits")
    assert (second.version, second.is_new) == (2, True)
    assert model.manifest(2).parent_version == 1
    assert (model.current().previous, model.current().generation) == (1, 2)


def test_the_same_model_is_published_once(repository: Path) -> None:
    """Publishing it again names the version that is there, and writes nothing."""
    first = publish_text(repository, "one")
    before = (repository / "digits" / "CURRENT").read_bytes(), (repository / "digits" / "HISTORY.jsonl").read_bytes()
    again = publish_text(repository, "one")
    after = (repository / "digits" / "CURRENT").read_bytes(), (repository / "digits" / "HISTORY.jsonl").read_bytes()
    assert again == Publication(1, first.path, is_new=False, current_version=1)
    assert before == after


def test_the_same_model_with_other_labels_is_another_version(repository: Path) -> None:
    """Labels are part of what is served."""
    publish_text(repository, "one")
    assert publish_text(repository, "one", labels=["x", "y"]).version == 2


def test_publishing_again_does_not_undo_a_rollback(repository: Path) -> None:
    """A scheduled run that makes the same model again leaves CURRENT where a person put it."""
    publish_text(repository, "one")
    publish_text(repository, "two")
    model = ModelRepository(repository / "digits")
    with model.writing():
        model.point_at(1, "rollback")
    assert publish_text(repository, "two").current_version == 1


def publish_with_features(repository: Path, content: str, features: str) -> Publication:
    """Publish a candidate with this content and these feature maps."""
    folder = candidate(repository.parent / "with-features", content)
    (folder / "features.onnx").write_text(features)
    return publish(repository, folder, Manifest(model_name="digits", labels=("a", "b")))


def test_feature_maps_are_published_and_proved(repository: Path) -> None:
    """A file like any other: hashed, and missed."""
    path = publish_with_features(repository, "one", "maps").path
    files = {file.path: file.sha256 for file in ModelRepository(repository / "digits").manifest(1).files}
    assert files["features.onnx"] == sha256_of(path / "features.onnx")
    (path / "features.onnx").unlink()
    assert not ModelRepository(repository / "digits").is_whole(1)


def test_the_same_model_with_other_feature_maps_is_another_version(repository: Path) -> None:
    """So that what was published without them can be published with them, and is then found again."""
    assert publish_text(repository, "one").version == 1
    assert publish_with_features(repository, "one", "maps").version == 2
    assert publish_with_features(repository, "one", "maps") == Publication(
        2, repository / "digits" / "2", is_new=False, current_version=2
    )
    assert publish_with_features(repository, "one", "other maps").version == 3
    assert publish_text(repository, "one").version == 1


def test_a_damaged_version_is_not_taken_for_the_same(repository: Path) -> None:
    """The bytes on the disk decide, not what the manifest says of them."""
    path = publish_text(repository, "one").path / "model.onnx"
    path.chmod(0o644)
    path.write_text("rotten")
    assert publish_text(repository, "one").version == 2


def test_damage_to_any_file_makes_it_another(repository: Path) -> None:
    """What serving would refuse is published anew, not pointed at."""
    path = publish_text(repository, "one").path / "known_answers.npz"
    path.chmod(0o644)
    path.write_text("rotten")
    assert publish_text(repository, "one").version == 2


@pytest.mark.parametrize(
    "bad", [b"nonsense\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n"], ids=["text", "not-utf-8", "deep"]
)
def test_a_bad_line_of_the_history_is_set_aside(repository: Path, bad: bytes) -> None:
    """The next run publishes; the readable lines stay, and the damaged file is kept."""
    publish_text(repository, "one")
    history = repository / "digits" / "HISTORY.jsonl"
    history.write_bytes(bad + history.read_bytes())
    publish_text(repository, "two")
    assert [entry.version for entry in ModelRepository(repository / "digits").history.entries()] == [1, 2]
    assert bad in (repository / "digits" / "HISTORY.jsonl.bad-1").read_bytes()


@pytest.mark.parametrize(
    "name", ["2", "00000009", "\u0663", "999999999"], ids=["no-manifest", "zeros", "arabic", "largest"]
)
def test_a_stray_directory_stops_no_run(repository: Path, name: str) -> None:
    """It is skipped, and a number that it uses is not used."""
    publish_text(repository, "one")
    (repository / "digits" / name).mkdir()
    assert publish_text(repository, "two").version == (3 if name == "2" else 2)


@pytest.mark.parametrize("name", ["20261201", "999999999"])
def test_a_copy_of_a_version_raises_no_number(repository: Path, name: str) -> None:
    """Such as a backup named by a date: its manifest has the number of what it was copied from."""
    publish_text(repository, "model 1")
    model = ModelRepository(repository / "digits")
    shutil.copytree(model.path(1), model.path(int(name)))
    assert publish_text(repository, "model 2").version == 2


def test_a_run_stops_before_its_training_where_no_number_is_left(repository: Path) -> None:
    """A version above nine digits would be one that no command finds."""
    publish_text(repository, "model 1")
    model = ModelRepository(repository / "digits")
    model.history.append(HistoryEntry(event="publish", version=MAX_VERSION, generation=2, sha256="0" * 64))
    with pytest.raises(PublishError, match=f"no number is left above this version, at most {MAX_VERSION} is possible"):
        model.check()


def test_a_file_or_a_link_with_a_number_is_no_version(repository: Path) -> None:
    """Both are skipped, and their numbers are not used."""
    publish_text(repository, "one")
    (repository / "digits" / "2").write_text("")
    (repository / "digits" / "3").symlink_to("1")
    assert publish_text(repository, "two").version == 4
    assert ModelRepository(repository / "digits").versions() == [1, 4]


def test_a_damaged_manifest_stops_no_run(repository: Path) -> None:
    """Neither one cut short, nor a FIFO, nor a file of 3 GB."""
    for content in ("one", "two", "three"):
        publish_text(repository, content)
    manifests = [repository / "digits" / number / "manifest.json" for number in "123"]
    for manifest in manifests:
        manifest.unlink()
    manifests[0].write_text('{"version":')
    os.mkfifo(manifests[1])
    manifests[2].touch()
    os.truncate(manifests[2], 3 << 30)
    assert publish_text(repository, "four").version == 4


@pytest.mark.parametrize("umask", [0o077, 0o027, 0], ids=["077", "027", "000"])
def test_everybody_can_read_a_version_whatever_the_umask(repository: Path, umask: int) -> None:
    """Directories are 0755; files are 0444, HISTORY 0644."""
    code = "import os, sys, pathlib, tests.pipeline.test_publish as t; os.umask(int(sys.argv[2])); "
    code += "t.publish_text(pathlib.Path(sys.argv[1]), 'one')"
    subprocess.run([sys.executable, "-c", code, repository, str(umask)], cwd=ROOT, check=True, timeout=280)
    model = repository / "digits"
    directories = [repository, model, model / "1", model / "1" / "report"]
    assert {path.stat().st_mode & 0o777 for path in directories} == {0o755}
    assert (model / "CURRENT").stat().st_mode & 0o777 == 0o444
    assert (model / "HISTORY.jsonl").stat().st_mode & 0o777 == 0o644


def test_a_number_is_never_used_twice(repository: Path) -> None:
    """Even when its directory has been removed since."""
    publish_text(repository, "one")
    publish_text(repository, "two")
    shutil.rmtree(repository / "digits" / "2")
    assert publish_text(repository, "three").version == 3


def test_every_change_of_current_is_in_the_history(repository: Path) -> None:
    """One line each, in order."""
    for content in ("one", "two"):
        publish_text(repository, content)
    entries = ModelRepository(repository / "digits").history.entries()
    assert [(entry.event, entry.version, entry.generation) for entry in entries] == [
        ("publish", 1, 1),
        ("publish", 2, 2),
    ]


def test_the_history_has_the_hash_of_every_manifest(repository: Path) -> None:
    """CURRENT proves its own version only; these prove the others."""
    paths = [publish_text(repository, content).path for content in ("one", "two")]
    entries = ModelRepository(repository / "digits").history.entries()
    assert [entry.sha256 for entry in entries] == [sha256_of(path / "manifest.json") for path in paths]


def test_published_files_are_read_only(repository: Path) -> None:
    """Nobody edits what is published by accident, and every user may read it."""
    files = [path for path in publish_text(repository, "one").path.rglob("*") if path.is_file()]
    assert len(files) == 6
    for path in files:
        assert path.stat().st_mode & 0o777 == 0o444


def test_ten_runs_at_once_publish_ten_versions(repository: Path) -> None:
    """The lock orders them; no number is lost or doubled."""
    results = []

    def one_run(index: int) -> None:
        folder = candidate(repository.parent / f"candidate-{index}", f"model {index}")
        results.append(publish(repository, folder, Manifest(model_name="digits")).version)

    threads = [threading.Thread(target=one_run, args=(index,)) for index in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    model = ModelRepository(repository / "digits")
    assert sorted(results) == model.versions() == list(range(1, 11))
    assert [entry.generation for entry in model.history.entries()] == list(range(1, 11))


def test_a_repository_that_cannot_be_written_is_told_by_name(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "repository").write_text("")
    with pytest.raises(PublishError, match=r"repository.*: cannot be written"):
        publish_text(tmp_path / "repository", "one")


def test_a_torn_history_line_is_repaired(repository: Path) -> None:
    """A writer that was killed while it appended."""
    publish_text(repository, "one")
    with (repository / "digits" / "HISTORY.jsonl").open("a") as file:
        file.write('{"event": "publ')
    publish_text(repository, "two")
    assert [entry.version for entry in ModelRepository(repository / "digits").history.entries()] == [1, 2]


def test_kill_9_at_every_step_leaves_the_old_version_and_no_half_one(tmp_path: Path) -> None:
    """The writer is really killed before every line that it runs, with a reader that loads in a loop beside it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.pipeline.kill_publish", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["kills"] > 80
    assert report["loads"] > report["kills"]
    assert set(report["loaded_versions"]) == {1, 2}


CHANGES: dict[str, Callable[[ModelRepository], object]] = {
    "check": lambda model: model.check(),
    "promote": lambda model: promote(model, 1),
    "rollback": rollback,
    "gc": lambda model: collect(model, keep=1),
    "publish": lambda model: publish_text(model.directory.parent, "three"),
}


@pytest.mark.parametrize("name", ["CURRENT", "HISTORY.jsonl"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_what_must_not_be_read_is_not_missing(change: Callable[[ModelRepository], object], name: str) -> None:
    """The message says so, and nothing is changed."""
    with unprivileged_folder() as folder:
        for content in ("one", "two"):
            publish_text(folder / "repository", content)
        model = ModelRepository(folder / "repository" / "digits")
        (model.directory / name).chmod(0)
        with pytest.raises(PublishError, match=f"{name}: cannot be read: Permission denied; check its permissions"):
            change(model)
        (model.directory / name).chmod(0o644)
        assert (model.current().version, model.versions(), len(model.history.entries())) == (2, [1, 2], 2)


def test_an_old_version_that_must_not_be_read_stops_no_run(caplog: pytest.LogCaptureFixture) -> None:
    """It is skipped and named, though the candidate is the same; nobody is told to remove it."""
    with unprivileged_folder() as folder:
        repository = folder / "repository"
        for content in ("one", "two"):
            publish_text(repository, content)
        model = ModelRepository(repository / "digits")
        (model.path(1) / "model.onnx").chmod(0)
        assert publish_text(repository, "one").version == 3
        with pytest.raises(
            PublishError, match=r"model\.onnx: cannot be read: Permission denied; check its permissions"
        ):
            promote(model, 1)
        (model.path(1) / "manifest.json").chmod(0)
        assert publish_text(repository, "four").version == 4
    assert "version 1 is skipped: " in caplog.text
    assert "remove" not in caplog.text


def test_what_was_set_aside_is_never_overwritten(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though somebody removed an older one, and the file system has no hard links."""
    monkeypatch.delattr("os.link")
    publish_text(repository, "one")
    history = repository / "digits" / "HISTORY.jsonl"
    for number, removed in ((1, None), (2, None), (3, 1)):
        if removed:
            history.with_name(f"{history.name}.bad-{removed}").unlink()
        history.write_bytes(history.read_bytes() + f"garbage {number}\n".encode())
        publish_text(repository, f"another {number}")
    aside = {path.name: path.read_text().splitlines()[-1] for path in history.parent.glob("*.bad-*")}
    assert aside == {"HISTORY.jsonl.bad-2": "garbage 2", "HISTORY.jsonl.bad-3": "garbage 3"}


def test_the_mode_of_a_history_is_its_owners_to_choose(repository: Path) -> None:
    """A group that may write to the repository still may after the next line."""
    publish_text(repository, "one")
    history = repository / "digits" / "HISTORY.jsonl"
    assert history.stat().st_mode & 0o777 == 0o644
    history.chmod(0o664)
    publish_text(repository, "two")
    assert history.stat().st_mode & 0o777 == 0o664


@pytest.mark.parametrize("damage", ["lines cut short", "not text"])
def test_a_number_that_only_a_damaged_history_names_is_not_used_again(repository: Path, damage: str) -> None:
    """Its version was removed by hand, and an older one is current."""
    for content in ("one", "two", "three"):
        publish_text(repository, content)
    model = ModelRepository(repository / "digits")
    promote(model, 1)
    for version in (2, 3):
        shutil.rmtree(model.path(version))
    history = model.directory / "HISTORY.jsonl"
    broken = b"\xff" + history.read_bytes().replace(b"\n", b"\n\xff")
    history.write_bytes(broken if damage == "not text" else history.read_bytes().replace(b"}\n", b"\n"))
    assert publish_text(repository, "four").version == 4
    assert publish_text(repository, "five").version == 5
