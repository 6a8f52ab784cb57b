"""`python -m pipeline schedule`: runs of the flow by a cron line, each in a process of its own."""

import argparse
import logging
import os
import signal
import sys

from pipeline.commands import run
from pipeline.logs import LineFormatter
from pipeline.scheduling.child import Ending, SystemClock, run_child
from pipeline.scheduling.lock import read_note
from pipeline.scheduling.notify import NOTIFY_URL, Notice, notify
from pipeline.scheduling.schedule import Clock, Plan, find_zone, follow

LIMIT_MINUTES = 12 * 60.0

logger = logging.getLogger(__name__)


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `schedule` to the command line."""
    parser = commands.add_parser(
        "schedule",
        help="run the flow by a cron line",
        description="Run the flow at the times of a cron line until Ctrl-C or SIGTERM, one run at a time, each in a "
        "process of its own. A run that was missed is skipped. The options of `run` hold for every run.",
    )
    parser.add_argument("--cron", required=True, metavar="LINE", help='such as "0 3 * * *": every night at 3')
    parser.add_argument("--timezone", default="UTC", metavar="NAME", help="of the cron line (default: %(default)s)")
    parser.add_argument(
        "--limit-minutes",
        type=_positive,
        default=LIMIT_MINUTES,
        metavar="N",
        help="a run that takes longer is ended (default: %(default)g)",
    )
    run.add_options(parser)
    parser.set_defaults(run=_schedule)


def _schedule(options: argparse.Namespace) -> None:
    plan = Plan(options.cron, find_zone(options.timezone))
    from pipeline.config import load_preset  # brings torch

    load_preset(run.as_request(options).preset)  # what makes no sense is told now, not at the first run
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    with SystemClock() as clock:
        follow(plan, lambda _due: run_once(options, clock), clock)
    logger.info("the schedule has ended")


def run_once(options: argparse.Namespace, clock: Clock) -> Ending:
    """One run in a process of its own; whoever is to be told is told of a death that the run could not tell of."""
    command = [sys.executable, "-m", "pipeline", "run", *run.as_arguments(options)]
    environment = dict(os.environ)
    if options.notify_url:
        environment[NOTIFY_URL] = options.notify_url  # not in the command, where every user of the machine sees it
    logger.info("a run begins: %s", " ".join(command[1:]))
    ending = run_child(command, environment, 60 * options.limit_minutes, clock)
    told = _told(ending)
    logger.log(logging.INFO if ending.exit_code in (0, run.SKIPPED) else logging.ERROR, "the run ended: %s", told)
    if not _tells_itself(options, ending):
        # By a signal or at its limit; else it ended before it could tell, as where Prefect does not start.
        is_killed = ending.is_over_limit or ending.exit_code < 0
        notify(options.notify_url, Notice("killed" if is_killed else "failed", options.model, told))
    return ending


def _tells_itself(options: argparse.Namespace, ending: Ending) -> bool:
    """Whether there is nothing to tell, or the run came to an end at which it told of itself."""
    if ending.is_stopped or ending.exit_code in (0, run.SKIPPED):
        return True
    note = read_note(options.repository / options.model)
    return not ending.is_over_limit and note is not None and note.pid == ending.pid and note.is_told


def _told(ending: Ending) -> str:
    after = f"after {ending.duration_s:.0f} s"
    if ending.is_stopped:
        return f"ended with the schedule {after}"
    if ending.is_over_limit:
        return f"it took longer than the limit, and was ended {after}"
    if ending.exit_code < 0:
        return f"{_signal_name(-ending.exit_code)} {after}"
    return f"exit code {ending.exit_code} {after}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has none
        return f"signal {number}"


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of minutes above 0, came {text!r}")
    return value
