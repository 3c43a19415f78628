"""What a search may try: values of parameters, and sets of them by a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Value: TypeAlias = str | int | float | bool
Parameters: TypeAlias = dict[str, Value]


class Axis(Protocol):
    """Values that one parameter may take."""

    def draw(self, source: random.Random) -> Value:
        """One of them."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One of these, each as likely as the others."""

    values: tuple[Value, ...]

    def draw(self, source: random.Random) -> Value:
        """One of them."""
        return self.values[source.randrange(len(self.values))]


@dataclass(frozen=True, kw_only=True, slots=True)
class Uniform:
    """A number in [low, high]."""

    low: float
    high: float

    def draw(self, source: random.Random) -> Value:
        """One of them."""
        return source.uniform(self.low, self.high)


@dataclass(frozen=True, kw_only=True, slots=True)
class LogUniform:
    """A positive number in [low, high], whose logarithm is uniform: for learning rates."""

    low: float
    high: float

    def draw(self, source: random.Random) -> Value:
        """One of them."""
        return math.exp(source.uniform(math.log(self.low), math.log(self.high)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Integers:
    """A whole number in [low, high]."""

    low: int
    high: int

    def draw(self, source: random.Random) -> Value:
        """One of them."""
        return source.randint(self.low, self.high)


def draw(space: Mapping[str, Axis], trials: int, seed: int) -> list[Parameters]:
    """Sets of parameters, none twice where the space allows it. The same seed, the same sets.

    Example:
        >>> draw({"width": Choice(values=(16, 32)), "lr": LogUniform(low=0.1, high=0.1)}, 2, seed=1)
        [{'lr': 0.10000000000000002, 'width': 16}, {'lr': 0.10000000000000002, 'width': 32}]
    """
    source = random.Random(seed)
    found: list[Parameters] = []
    for _ in range(trials * 20):
        made = {name: space[name].draw(source) for name in sorted(space)}
        if made not in found:
            found.append(made)
        if len(found) == trials:
            break
    return found
