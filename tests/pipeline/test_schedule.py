"""When runs are due, and what becomes of those that were missed: decided by a clock that the test moves."""

import logging
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from pipeline.errors import ScheduleError
from pipeline.scheduling.schedule import Plan, find_zone, follow

NIGHTLY = Plan("0 3 * * *", UTC)
HOUR = timedelta(hours=1)


class FakeClock:
    """A clock that jumps to the end of every wait, until `end`; `asleep` is added to one wait."""

    def __init__(self, begin: datetime, end: datetime) -> None:
        self.time, self.end = begin, end
        self.asleep_at, self.asleep = end, timedelta()

    def now(self) -> datetime:
        """The time that the test has come to."""
        return self.time

    def wait(self, timeout_s: float) -> bool:
        """Let the time pass."""
        self.time += timedelta(seconds=timeout_s)
        if self.time >= self.asleep_at:
            self.time, self.asleep_at = self.time + self.asleep, self.end
        return self.time >= self.end


def at(day: int, hour: int, minute: int = 0) -> datetime:
    """A time in January 2026, UTC."""
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)


def test_every_due_time_has_one_run() -> None:
    """Three nights, three runs, each at its time."""
    clock, began = FakeClock(at(1, 12), at(4, 12)), []
    follow(NIGHTLY, lambda _due: began.append(clock.now()), clock)
    assert began == [at(2, 3), at(3, 3), at(4, 3)]


def test_a_run_that_a_sleeping_machine_missed_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    """Asleep from midnight over two nights: no run is made up for, and one line says so."""
    clock, began = FakeClock(at(1, 12), at(5, 12)), []
    clock.asleep_at, clock.asleep = at(2, 0), 33 * HOUR
    with caplog.at_level(logging.WARNING):
        follow(NIGHTLY, lambda _due: began.append(clock.now()), clock)
    assert began == [at(4, 3), at(5, 3)]
    assert "skipped 2 missed run(s)" in caplog.text


def test_a_run_that_takes_too_long_costs_those_that_came_due_meanwhile(caplog: pytest.LogCaptureFixture) -> None:
    """They are skipped, not stacked."""
    hourly, clock, began = Plan("0 * * * *", UTC), FakeClock(at(1, 0, 30), at(1, 5, 30)), []

    def run(due: datetime) -> None:
        began.append(due)
        clock.time += timedelta(minutes=150) if due == at(1, 1) else timedelta(minutes=1)

    with caplog.at_level(logging.WARNING):
        follow(hourly, run, clock)
    assert began == [at(1, 1), at(1, 4), at(1, 5)]
    assert "due from 2026-01-01 02:00:00+00:00 to 2026-01-01 03:00:00+00:00" in caplog.text


def test_the_schedule_ends_when_it_is_told_to() -> None:
    """Without a run before."""
    began: list[datetime] = []
    follow(NIGHTLY, began.append, FakeClock(at(1, 12), at(1, 12)))
    assert not began


def test_a_cron_line_is_read_in_its_time_zone() -> None:
    """3 o'clock in Berlin is 2 o'clock UTC in winter."""
    plan = Plan("0 3 * * *", ZoneInfo("Europe/Berlin"))
    assert plan.next_after(at(1, 12)) == at(2, 2)


def test_an_hour_that_is_skipped_or_repeated_by_the_clocks_has_one_run() -> None:
    """Half past two on both Sundays on which Berlin changes its clocks."""
    plan = Plan("30 2 * * *", ZoneInfo("Europe/Berlin"))
    for change in (datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)):
        due = [plan.next_after(change - 24 * HOUR)]
        while due[-1] < change + 72 * HOUR:
            due.append(plan.next_after(due[-1]))
        dates = [time.date() for time in due]
        assert len(dates) == len(set(dates)) == (dates[-1] - dates[0]).days + 1


@pytest.mark.parametrize("cron", ["", "3", "61 3 * * *", "0 3 * * * * *", "0 3 31 2 *", "every night"])
def test_a_cron_line_that_makes_no_sense_is_refused(cron: str) -> None:
    """At once, in a sentence."""
    with pytest.raises(ScheduleError, match=r"^cron '.*': .*; expected minute, hour"):
        Plan(cron, UTC)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "Europe"])
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    """At once, with an example."""
    with pytest.raises(ScheduleError, match="expected one such as Europe/Berlin"):
        find_zone(name)
