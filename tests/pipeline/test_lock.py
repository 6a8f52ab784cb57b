"""One run of a model at a time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import BusyError, PublishError
from pipeline.scheduling.lock import only_run, read_note
from tests.programs import ROOT

HOLDS = (
    "import pathlib, sys, time; from pipeline.scheduling.lock import only_run\n"
    "with only_run(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
)


def test_a_second_run_is_told_who_runs(tmp_path: Path) -> None:
    """By process and time; another model does not mind."""
    told = f"another run of digits is in progress: process {os.getpid()} on"
    with only_run(tmp_path / "digits"):
        with pytest.raises(BusyError, match=told), only_run(tmp_path / "digits"):
            pass
        with only_run(tmp_path / "letters"):
            pass


def test_the_lock_is_free_after_a_run_however_it_ended(tmp_path: Path) -> None:
    """After a failure; the note says that the run came to an end."""
    with pytest.raises(ZeroDivisionError), only_run(tmp_path):
        raise ZeroDivisionError
    with only_run(tmp_path):
        note = read_note(tmp_path)
        assert note is not None
        assert not note.is_ended
    note = read_note(tmp_path)
    assert note is not None
    assert note.is_ended


def test_the_lock_is_free_after_a_run_was_killed(tmp_path: Path) -> None:
    """At once; and the note still says that it never came to an end."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, tmp_path], cwd=ROOT, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BusyError), only_run(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    note = read_note(tmp_path)
    assert note is not None
    assert (note.pid, note.is_ended) == (holder.pid, False)
    with only_run(tmp_path):
        pass


def test_the_note_of_a_run_that_was_told_to_end_says_that_it_came_to_no_end_of_its_own(tmp_path: Path) -> None:
    """SIGTERM becomes SystemExit in the pipeline; whoever watches is to tell of it."""
    with pytest.raises(SystemExit), only_run(tmp_path):
        sys.exit(143)
    note = read_note(tmp_path)
    assert note is not None
    assert not note.is_ended


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    """A file where the repository should be."""
    (tmp_path / "file").touch()
    with pytest.raises(PublishError, match="file"), only_run(tmp_path / "file" / "digits"):
        pass


def test_a_note_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    """Cut short by a full disk, say."""
    assert read_note(tmp_path) is None
    (tmp_path / ".run.lock").write_text('{"pid": ')
    assert read_note(tmp_path) is None
