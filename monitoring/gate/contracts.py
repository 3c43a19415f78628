"""What the gate is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Goodness = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class SetKind(StrEnum):
    """Where labelled inputs come from, and so what is asked on them."""

    AUDITED = "audited"  # drawn at random from recent traffic: here the candidate must be better
    GOLDEN = "golden"  # fixed, of the model's owner: here it must not be worse
    FAILURES = "failures"  # of a slice that was fixed once: it must stay fixed
    OWN = "own"  # any other set somebody supplied: it must not be worse


class Outcome(StrEnum):
    """How a check, or the gate, came out."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"  # the labels there are cannot tell


class CheckKind(StrEnum):
    """What a check asks."""

    CONTRACT = "contract"  # can it take the champion's place at all: it loads, takes and gives the same, is finite
    BETTER = "better"
    NOT_WORSE = "not_worse"
    SLICE = "slice"
    BUDGET = "budget"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EvaluatedSet:
    """Labelled inputs that both versions answered.

    Attributes:
        name: Unique among the sets of a gate.
        ids: One an input.
        champion: How good the champion's answer is, [n], in [0, 1]: 1 right, 0 wrong; or between, such as a box F1.
        candidate: The same of the candidate, [n].
        slices: {name: [n] which inputs lie in it}.
        used: How many gates have looked at this set before.
    """

    name: str
    kind: SetKind
    ids: tuple[str, ...]
    champion: Goodness
    candidate: Goodness
    slices: Mapping[str, Mask] = field(default_factory=dict)
    used: int = 0

    def __post_init__(self) -> None:
        """Refuse what does not fit together.

        Raises:
            ValueError: names the set and what is wrong.
        """
        n = len(self.ids)
        for name, values in (("champion", self.champion), ("candidate", self.candidate)):
            if values.shape != (n,) or not np.all((values >= 0) & (values <= 1)):
                raise ValueError(f"set '{self.name}': {name} must be {n} numbers in [0, 1]")
        for name, mask in self.slices.items():
            if mask.shape != (n,) or mask.dtype != np.bool_:
                raise ValueError(f"set '{self.name}': slice '{name}' must be {n} booleans")

    @property
    def binary(self) -> bool:
        """Whether every answer is right or wrong and nothing between."""
        both = np.concatenate([self.champion, self.candidate])
        return bool(np.all((both == 0) | (both == 1)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A cost of both versions, measured in one run.

    Attributes:
        name: "latency_p95_ms", "memory_mib", "size_mib" …
        limit: Largest allowed ratio candidate / champion.
        allowance: A difference of so much is never too much, in the cost's unit.
    """

    name: str
    champion: float
    candidate: float
    limit: float
    allowance: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class GatePolicy:
    """What is promised, and what is asked.

    Attributes:
        alpha: Chance that a candidate which is not better passes "better".
        effect: The gain (of accuracy) that the gate shall be able to see.
        power: ... with this chance.
        margin: On golden, failure and own sets: the loss that is still allowed.
        margin_alpha: Chance that a candidate which is worse by `margin` passes "not worse".
        slice_alpha: Chance that a candidate which is worse on no slice is stopped by any of them.
        smallest_slice: Slices with fewer inputs are shown and not tested.
        uses: How often a fixed set may be looked at; `alpha` of it is shared out among the uses.
        ask_better: Whether audited sets are asked "better". Without it they are asked "not worse" like all others:
            for changes that shall not lose anything, such as a new export of the same weights.
    """

    alpha: float = 0.01
    effect: float = 0.02
    power: float = 0.9
    margin: float = 0.05
    margin_alpha: float = 0.05
    slice_alpha: float = 0.01
    smallest_slice: int = 20
    uses: int = 20
    ask_better: bool = True

    def __post_init__(self) -> None:
        """Refuse values that promise nothing.

        Raises:
            ValueError: names the field.
        """
        for name in ("alpha", "effect", "power", "margin", "margin_alpha", "slice_alpha"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must lie between 0 and 1")
        if self.uses < 1 or self.smallest_slice < 1:
            raise ValueError("uses and smallest_slice must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One question of the gate, answered.

    Attributes:
        subject: The set; of a slice "set: slice"; of a budget its name.
        n: Inputs behind it.
        gains: Inputs on which the candidate is better.
        losses: ... worse: the negative flips.
        champion: Mean goodness, or the measured cost.
        candidate: The same.
        low: Of the difference candidate - champion, 95 % interval; None where there is none.
        high: The other end.
        p_value: After correction for the number of slices; None for budgets.
        alpha: What it was compared with.
        power: Chance to see a gain of the policy's effect with these labels; None where that is not asked.
        needed: Labelled inputs that would be enough; None where these are, or where no number is.
        words: The outcome and why, in one sentence.
    """

    kind: CheckKind
    subject: str
    outcome: Outcome
    n: int
    champion: float
    candidate: float
    words: str
    gains: int = 0
    losses: int = 0
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    alpha: float | None = None
    power: float | None = None
    needed: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Flip:
    """An input whose answer changed for the worse or the better."""

    set: str
    id: str
    champion: float
    candidate: float
    slices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class GateVerdict:
    """What the gate says of a candidate.

    Attributes:
        checks: In the order in which they are read: contract, better, not worse, slices, budgets.
        negative_flips: Every input on which the candidate is worse, the worst first.
        words: One sentence for people.
    """

    outcome: Outcome
    checks: tuple[Check, ...]
    negative_flips: tuple[Flip, ...]
    positive_flips: tuple[Flip, ...]
    policy: GatePolicy
    words: str
