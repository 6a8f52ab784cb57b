"""How many calls come together, so that a batch waits for those that are known to come, and for nobody else.

grpcio hands over one call in about 100 µs, however many have arrived. A free worker that took the first would answer
each alone while the rest stand in line inside grpcio. How many there are cannot be asked, but it can be learnt: the
batches before tell.
"""

IDLE_S = 0.01
"""Who has answered nobody for so long is idle: the next call is alone."""

LONGEST_S = 0.002
"""No call waits longer for others."""

GAPS = 3
"""When nobody came for so many times the usual interval between two calls, nobody does."""

TURNS = 8
"""Nor before so many turns of the event loop: grpcio needs four to hand over a call, and a turn may take long."""

FIRST_INTERVAL_S = 0.0001
"""What grpcio needs from one call to the next, until it is measured."""

SMALLEST = 4
"""Fewer calls are not waited for: together they are answered no sooner than one after the other."""

LARGEST = 32
"""Calls that are waited for at most; more gain nothing."""

LONGEST_PAUSE = 256
"""Batches between two looks whether more would come, at most."""

KEEP = 0.9  # of the interval known so far, per batch


class Crowd:
    """As many calls are expected as came last time; now and then twice as many, less often when nobody more came."""

    def __init__(self) -> None:
        self._expected = 1
        self._pause = self._until_look = 1
        self._interval_s = FIRST_INTERVAL_S
        self._answered_at = float("-inf")

    def expected(self, now: float) -> int:
        """The calls to wait for, the first one included, when a batch begins at `now`."""
        if now - self._answered_at > IDLE_S:
            return 1
        if self._until_look <= 0:
            return min(max(2 * self._expected, SMALLEST), LARGEST)
        return self._expected

    def is_over(self, *, since_first_s: float, since_last_s: float, turns: int) -> bool:
        """Whether nobody comes any more: since the last one, `turns` of the event loop have passed."""
        is_quiet = since_last_s > GAPS * self._interval_s and turns >= TURNS
        return is_quiet or since_first_s > LONGEST_S

    def came(self, calls: int, expected: int, within_s: float) -> None:
        """Learn that so many came, from the first to the last in `within_s`, where `expected` were waited for."""
        if calls > 1:
            self._interval_s = KEEP * self._interval_s + (1 - KEEP) * within_s / (calls - 1)
        has_looked = expected > self._expected
        crowd = min(calls, LARGEST) if calls >= SMALLEST else 1
        if crowd > self._expected:
            self._expected, self._pause, self._until_look = crowd, 1, 1
        elif crowd < self._expected or has_looked:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._expected, self._until_look = crowd, self._pause
        else:
            self._until_look -= 1

    def answered(self, now: float) -> None:
        """A call was answered: the server was not idle at `now`."""
        self._answered_at = now
