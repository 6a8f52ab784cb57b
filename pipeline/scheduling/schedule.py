"""When to run: a loop over the due times of a cron line, for one machine without a Prefect server.

A run that was missed, because the machine slept or the run before took too long, is skipped, never made up for.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Protocol
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from pipeline.errors import ScheduleError

LATE_S = 30.0  # a run that begins later than this was missed
LOOK_S = 30.0  # how often the time of day is looked at: a sleeping machine stops every other clock

logger = logging.getLogger(__name__)


class Clock(Protocol):
    """The time of day, and how to wait for it."""

    def now(self) -> datetime:
        """The time, with a time zone."""

    def wait(self, timeout_s: float) -> bool:
        """Wait, or less where something happened; True where it is time to stop for good."""


@dataclass(frozen=True)
class Plan:
    """A cron line in a time zone; raises ScheduleError where it makes no sense."""

    cron: str
    zone: tzinfo

    def __post_init__(self) -> None:
        self.next_after(datetime.now(self.zone))

    def next_after(self, time: datetime) -> datetime:
        """The first due time after `time`."""
        try:
            return next(CronSim(self.cron, time.astimezone(self.zone)))
        except CronSimError as error:
            raise ScheduleError(
                f"cron {self.cron!r}: {error}; expected minute, hour, day of month, month and day of week, "
                'such as "0 3 * * *" for 3 o\'clock every night'
            ) from error
        except StopIteration as error:
            raise ScheduleError(f"cron {self.cron!r}: is never due") from error


def find_zone(name: str) -> tzinfo:
    """A time zone by its IANA name; raises ScheduleError where there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # unknown, not a name, a folder of names
        raise ScheduleError(f"there is no time zone {name!r}; expected one such as Europe/Berlin or UTC") from error


def follow(plan: Plan, start: Callable[[datetime], object], clock: Clock) -> None:
    """Call `start` at every due time, one call at a time, until the clock says that it is time to stop."""
    due = plan.next_after(clock.now())
    logger.info("the next run is due at %s", due)
    while not clock.wait(_rest_s(due, clock)):
        if clock.now() < due:
            continue
        if clock.now() - due > timedelta(seconds=LATE_S):
            due = _skip(plan, due, clock.now())
        else:
            start(due)
            due = plan.next_after(due)
        logger.info("the next run is due at %s", due)


def _rest_s(due: datetime, clock: Clock) -> float:
    return min(LOOK_S, max(0.0, (due - clock.now()).total_seconds()))


def _skip(plan: Plan, due: datetime, now: datetime) -> datetime:
    """Pass over every due time that was missed; the first that was not."""
    late, count, first, last = timedelta(seconds=LATE_S), 0, due, due
    while now - due > late:
        count, last, due = count + 1, due, plan.next_after(due)
    logger.warning("skipped %d missed run(s), due from %s to %s", count, first, last)
    return due
