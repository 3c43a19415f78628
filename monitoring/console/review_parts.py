"""What the review page shows, and what every page on which one can decide has in common. See `contexts`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from monitoring.console.answer_parts import AnswerPart
from monitoring.console.case_parts import Bar
from monitoring.console.input_parts import InputsBlock
from monitoring.console.parts import CaseCard, Fact, Shell


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Something that one key says.

    Attributes:
        key: The key; "" where there are more choices than keys.
        text: What it says.
        value: What is sent: a class's index, or a box as feedback has it.
        chosen: Holds before anybody has touched it: labels and boxes that were predicted.
        note: A word beside it: the probability, or how sure.
    """

    key: str
    text: str
    value: Any
    chosen: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pad:
    """How this case is decided.

    Attributes:
        mode: "pick" one choice, "toggle" choices and send them, "number" is typed, or "plain": only the verdicts.
        more: There are classes that have no key: they are found by typing.
        values: How many numbers are wanted.
        given: What was predicted, as text, where it is not one of the choices.
    """

    mode: str
    choices: tuple[Choice, ...] = ()
    more: int = 0
    values: int = 0
    given: str = ""
    noun: str = "class"


@dataclass(frozen=True, kw_only=True, slots=True)
class StandingLine:
    """Where the case stands with its reviewers."""

    edition: int
    state: str
    leased_by: str
    leased_until_ns: int
    assignee: str
    priority: int
    opinions: int
    verdict: str
    label: str
    decided_by: str
    decided_at: str | None
    sentence: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SaidLine:
    """What a version said to the same request, or to another one with the same input."""

    version: str
    variant: str
    said: str
    p_wrong: float | None
    correct: bool | None
    at: str
    how: str
    href: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ActLine:
    """What somebody did to this case."""

    act: int
    at: str
    actor: str
    what: str
    comment: str | None
    undone: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """One case on the review page."""

    card: CaseCard
    task: str
    verdict: str
    verdict_tone: str
    standing: StandingLine
    inputs: InputsBlock
    answer: AnswerPart
    bars: tuple[Bar, ...]
    hidden_classes: int
    pad: Pad
    why: tuple[Fact, ...]
    facts: tuple[Fact, ...]
    slices: tuple[Fact, ...]
    stands_for: int
    leader: str
    error: str | None
    comments: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Classes:
    """The classes of a version, for finding one by typing."""

    model: str
    version: str
    task: str
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewPage:
    """The review page. What it shows comes to it case by case."""

    shell: Shell
    actor: str
    role: str
    may_decide: bool
    title: str
    filters: dict[str, str]
    models: tuple[str, ...]
    first: str | None
    waiting: int
    lease_s: int
    back: str
