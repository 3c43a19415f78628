"""Intervals and bars as numbers of a drawing. All coordinates are in units of the drawing's own box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monitoring.gate.contracts import Check, Outcome

WIDTH = 200.0  # of an interval's box
LEAST_SCALE = 0.02  # two points: a scale that shows less would make noise look large
MOST_BARS = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """The difference of two versions with its interval, on a scale with zero in the middle.

    Attributes:
        low: Left end, 0 to `WIDTH`.
        mark: The difference itself.
        high: Right end.
        margin: The line that the interval's left end is to stay right of; None where there is none.
        words: In points.
    """

    low: float
    mark: float
    high: float
    margin: float | None
    words: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A slice: both versions' goodness as lengths of 0 to 100."""

    check: Check
    set: str
    name: str
    champion: float
    candidate: float

    @property
    def points(self) -> float:
        """How much better the candidate is, in points."""
        return self.candidate - self.champion


def scale_of(checks: Sequence[Check], margin: float) -> float:
    """What the edge of the box stands for: all differences fit; intervals may reach beyond and are cut."""
    found = [abs(c.candidate - c.champion) for c in checks if c.low is not None]
    ends = [min(abs(x), 0.25) for c in checks for x in (c.low, c.high) if x is not None]
    return 1.1 * max([*found, *ends, margin, LEAST_SCALE])


def interval_of(check: Check, scale: float, margin: float | None) -> Interval | None:
    """The drawing of a check; None where it has no interval.

    Example:
        >>> c = Check(kind="better", subject="s", outcome="passed", n=1, champion=0.5, candidate=0.6, words="",
        ...           low=0.0, high=0.2)
        >>> x = interval_of(c, 0.2, None)
        >>> x.low, x.mark, x.high, x.words
        (100.0, 150.0, 200.0, '+10.0 points (+0.0 to +20.0)')
    """
    if check.low is None or check.high is None:
        return None
    difference = check.candidate - check.champion
    low, mark, high = (_place(x, scale) for x in (check.low, difference, check.high))
    words = f"{100 * difference:+.1f} points ({100 * check.low:+.1f} to {100 * check.high:+.1f})"
    line = None if margin is None else _place(-margin, scale)
    return Interval(low=low, mark=mark, high=high, margin=line, words=words)


def bars_of(checks: Sequence[Check]) -> list[Bar]:
    """Slices, failed ones first, then the greatest losses; at most `MOST_BARS`."""
    order = sorted(checks, key=lambda c: (c.outcome is not Outcome.FAILED, c.candidate - c.champion, c.subject))
    made = []
    for check in order[:MOST_BARS]:
        of, _, name = check.subject.partition(": ")
        bar = Bar(check=check, set=of, name=name, champion=100 * check.champion, candidate=100 * check.candidate)
        made.append(bar)
    return made


def _place(value: float, scale: float) -> float:
    return round(WIDTH * (0.5 + 0.5 * max(-1.0, min(1.0, value / scale))), 2)
