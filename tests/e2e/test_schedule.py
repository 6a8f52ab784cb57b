"""`python -m pipeline schedule`: a schedule of seconds, with real runs in processes of their own."""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from pipeline.commands.run import NOT_ARGUMENTS, SKIPPED, add_options, as_arguments
from pipeline.request import Request
from pipeline.scheduling.lock import only_run, read_note
from tests.pipeline.presets import write_preset
from tests.pipeline.receiver import receiving
from tests.programs import ROOT, run_program

EVERY_SECOND = "* * * * * *"
WAIT_S = 60.0
PREFECT_WAIT_S = 400.0  # twice the two minutes that a run gives Prefect's own server to start, and its work


@dataclass(frozen=True)
class Schedule:
    """A schedule that is followed, and what it says."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def wait_for(self, pattern: str, within_s: float = WAIT_S) -> str:
        """The first match in the log."""
        give_up = time.monotonic() + within_s
        while time.monotonic() < give_up and self.process.poll() is None:
            if found := re.search(pattern, self.log.read_text()):
                return found[0]
            time.sleep(0.05)
        raise AssertionError(f"no {pattern!r} in: {self.log.read_text()}")

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def schedule(log: Path, *arguments: str | Path, no_prefect: bool = True, **environment: str) -> Iterator[Schedule]:
    """Follow a schedule; killed at the end if the test has not stopped it."""
    without = ["--no-prefect"] if no_prefect else []
    command = [sys.executable, "-m", "pipeline", "schedule", "--cron", EVERY_SECOND, *without, *map(str, arguments)]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, stdout=output, stderr=output
        )
    try:
        yield Schedule(process, log)
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def asked(small_folder: Path, tmp_path: Path) -> list[str | Path]:
    """A run that trains for longer than any test."""
    preset = write_preset(tmp_path / "long.toml", epochs="10000")
    return ["--repository", tmp_path / "repository", "--dataset", small_folder, "--device", "cpu", "--preset", preset]


def running(tmp_path: Path) -> int:
    """The process of the run, as soon as there is one."""
    give_up = time.monotonic() + WAIT_S
    while time.monotonic() < give_up:
        note = read_note(tmp_path / "repository" / "digits")
        if note and not note.is_ended and Path(f"/proc/{note.pid}").exists():
            return note.pid
        time.sleep(0.05)
    raise AssertionError("no run began")


def test_a_run_that_was_killed_is_told_of_and_the_schedule_goes_on(asked: list[str | Path], tmp_path: Path) -> None:
    """The receiver learns what the run itself could not tell; the next run begins."""
    with receiving() as receiver, schedule(tmp_path / "log", *asked, PIPELINE_NOTIFY_URL=receiver.url) as followed:
        first = running(tmp_path)
        os.kill(first, signal.SIGKILL)
        followed.wait_for("the run ended: SIGKILL")
        followed.wait_for("(?s)the run ended: SIGKILL.*a run begins")
        assert followed.stop() == 0
    (told,) = receiver.notices
    assert (told["event"], told["model"]) == ("killed", "digits")
    assert told["reason"].startswith("SIGKILL after ")


def test_sigterm_ends_the_run_and_the_schedule(asked: list[str | Path], tmp_path: Path) -> None:
    """Cleanly: exit code 0, no process left, nobody told."""
    with receiving() as receiver, schedule(tmp_path / "log", *asked, "--notify", receiver.url) as followed:
        run = running(tmp_path)
        assert followed.stop() == 0
        assert not Path(f"/proc/{run}").exists()
        assert "the schedule has ended" in followed.log.read_text()
    assert not receiver.notices


def test_a_run_over_its_limit_is_ended_and_told_of(asked: list[str | Path], tmp_path: Path) -> None:
    """A receiver's address is not in the command that every user of the machine can see."""
    with (
        receiving() as receiver,
        schedule(tmp_path / "log", *asked, "--limit-minutes", "0.05", "--notify", receiver.url) as followed,
    ):
        followed.wait_for("it took longer than the limit")
        while not receiver.notices:
            time.sleep(0.05)
        assert receiver.url not in followed.wait_for("a run begins: .*")
    assert receiver.notices[0]["event"] == "killed"


@pytest.mark.parametrize(
    ("no_prefect", "within_s"),
    [
        pytest.param(True, WAIT_S, id="plain"),
        pytest.param(
            False, PREFECT_WAIT_S, id="Prefect", marks=[pytest.mark.slow, pytest.mark.timeout(PREFECT_WAIT_S + 60)]
        ),
    ],
)
def test_a_failure_is_told_of_once_and_the_schedule_goes_on(tmp_path: Path, no_prefect: bool, within_s: float) -> None:
    """By the run, which knows why; also where each run is a flow of Prefect's, with a server of its own."""
    (tmp_path / "empty").mkdir()
    asked: list[str | Path] = ["--repository", tmp_path / "repository", "--dataset", tmp_path / "empty"]
    home = {"PREFECT_HOME": str(tmp_path / "prefect")}
    with (
        receiving() as receiver,
        schedule(tmp_path / "log", *asked, "--notify", receiver.url, no_prefect=no_prefect, **home) as followed,
    ):
        followed.wait_for("(?s)exit code 1.*exit code 1", within_s)
        followed.stop()
    assert {told["event"] for told in receiver.notices} == {"failed"}
    assert "train-images-idx3-ubyte" in receiver.notices[0]["reason"]
    assert len(receiver.notices) == followed.log.read_text().count("exit code 1")


def test_a_run_that_ends_before_it_can_tell_is_a_failure_too(tmp_path: Path) -> None:
    """The schedule tells of it, as nobody else does: of Prefect's server, say, that does not start."""
    asked: list[str | Path] = ["--repository", tmp_path / "repository"]
    broken = {"PREFECT_API_URL": "nonsense", "PREFECT_HOME": str(tmp_path / "prefect")}
    with (
        receiving() as receiver,
        schedule(tmp_path / "log", *asked, "--notify", receiver.url, no_prefect=False, **broken) as followed,
    ):
        followed.wait_for("the run ended: exit code 1")
        while not receiver.notices:
            time.sleep(0.05)
    told = receiver.notices[0]
    assert told["event"] == "failed"
    assert told["reason"].startswith("exit code 1 after ")


def test_a_run_beside_another_has_an_exit_code_of_its_own(tmp_path: Path) -> None:
    """75, and says whose turn it is."""
    with only_run(tmp_path / "digits"):
        done = run_program("pipeline", "run", "--no-prefect", "--repository", tmp_path)
    assert done.returncode == SKIPPED
    assert done.stdout.startswith("skipped: another run of digits is in progress: process")


def test_the_command_of_a_run_asks_for_the_same() -> None:
    """Every field of the request that is no secret survives the way through a command line."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    line = ["--repository", "a b", "--model", "m", "--preset", "lab", "--device", "cpu", "--dataset", "d", "--download"]
    options = parser.parse_args([*line, "--cache=-c", "--again", "--force", "--confirm=h:1", "--no-prefect", "--json"])
    again = parser.parse_args(as_arguments(options))
    assert again == options
    defaults = Request()
    untouched = {
        field.name for field in fields(Request) if getattr(options, field.name) == getattr(defaults, field.name)
    }
    assert untouched == set(NOT_ARGUMENTS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--cron", "every night"], "expected minute, hour"),
        (["--cron", "0 3 * * *", "--timezone", "Mars"], "there is no time zone 'Mars'"),
        (["--cron", "0 3 * * *", "--preset", "defualt"], "defualt"),
    ],
    ids=["a cron line", "a time zone", "a preset"],
)
def test_what_makes_no_sense_is_told_at_the_start(wrong: list[str], message: str) -> None:
    """Not at 3 o'clock at night."""
    done = run_program("pipeline", "schedule", *wrong)
    assert done.returncode == 1
    assert message in done.stderr
