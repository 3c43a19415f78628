"""What a list can be asked for: one term a condition, all of which must hold.

Terms come from the search box (`language`), from the filters of an address (`asked`), or from both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from export.contracts.cases import CaseState, FlagReason
from monitoring.case_pools import AUDIT_BIT, DISAGREEMENT_BIT, FEEDBACK_BIT, RULE_BITS, SCORE_BITS
from monitoring.flags import FLAG_BITS
from monitoring.listing.columns import STATES, TAG_SEPARATOR, Columns
from monitoring.listing.words import Bools


class Field(StrEnum):
    """What a term speaks of; the names are those of the search box."""

    MODEL = "model"
    VERSION = "version"
    VARIANT = "variant"  # champion, canary, shadow
    IS = "is"  # a state, or what is known: see `IS_WORDS`
    REASON = "reason"  # why it was flagged
    PICKED = "picked"  # how it came to be a case: see `Picked`
    CLASS = "class"  # what was predicted, by name or index
    LABEL = "label"  # the truth
    SCORE = "score"  # P(wrong)
    CONFIDENCE = "confidence"
    TAG = "tag"  # a reviewer's tag, or one that the client sent
    ASSIGNEE = "assignee"  # who shall look
    BY = "by"  # who decided
    VERDICT = "verdict"
    PRIORITY = "priority"
    SLICE = "slice"  # id of a slice
    RECORD = "record"  # how the record id starts
    CASE = "case"  # id of a case
    OUTCOME = "outcome"
    AFTER = "after"  # a time
    BEFORE = "before"
    TEXT = "text"  # anywhere in record id, answer, label, tags or comment


class Is(StrEnum):
    """Words after `is:` that are no states."""

    RIGHT = "right"  # the answer is known to be right
    WRONG = "wrong"
    UNKNOWN = "unknown"  # nobody knows
    DECIDED = "decided"
    ASSIGNED = "assigned"
    TAGGED = "tagged"
    LEADING = "leading"  # no other case stands for it
    FAILED = "failed"  # the request got no answer


class Picked(StrEnum):
    """Words after `picked:`. A case may have come in several ways; `RANDOM` has come in no other."""

    AUDIT = "audit"  # drawn by lot, with the chance that the case names: the unbiased sample
    RANDOM = "random"  # drawn by lot, and nothing was odd about it
    SCORE = "score"  # its P(wrong), or how novel its input is; of these a window keeps different ones
    RULE = "rule"  # it failed, was not finite, or came too late
    PEOPLE = "people"  # somebody contradicted its answer
    DISAGREEMENT = "disagreement"  # another version answers otherwise


PICKED_BITS: Mapping[Picked, int] = {
    Picked.AUDIT: AUDIT_BIT,
    Picked.SCORE: SCORE_BITS,
    Picked.RULE: RULE_BITS,
    Picked.PEOPLE: FEEDBACK_BIT,
    Picked.DISAGREEMENT: DISAGREEMENT_BIT,
}
IS_WORDS = (*(state.value for state in CaseState), *(word.value for word in Is))


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Values from `low` to `high`, the ends among them unless `open_low` or `open_high`."""

    low: float = -np.inf
    high: float = np.inf
    open_low: bool = False
    open_high: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One condition.

    Attributes:
        value: A text; a `Span` for score, confidence and priority; nanoseconds for times.
        excluded: It must not hold.
        others: Texts that mean the same, as a class's index and its name do.
    """

    field: Field
    value: str | Span | int
    excluded: bool = False
    others: tuple[str, ...] = ()


Members = Callable[[str], "tuple[Any, Any]"]  # id of a slice → (id_hash, time_ns) of its records


def mask_of(columns: Columns, term: Term, members: Members) -> Bools:
    """Which slots a term holds for."""
    fits = _HOW[term.field](columns, term, members)
    return ~fits if term.excluded else fits


def _word(name: str) -> Callable[[Columns, Term, Members], Bools]:
    def fits(columns: Columns, term: Term, members: Members) -> Bools:
        words, codes = columns.words[name], columns[name]
        made = np.zeros(len(codes), np.bool_)
        for text in (str(term.value), *term.others):
            code = words.code(text)
            if code >= 0:
                made |= codes == code
        return made

    return fits


def _folded_word(name: str) -> Callable[[Columns, Term, Members], Bools]:
    def fits(columns: Columns, term: Term, members: Members) -> Bools:
        wanted = {str(text).casefold() for text in (term.value, *term.others)}
        return np.asarray(columns.words[name].table(wanted.__contains__)[columns[name]], dtype=np.bool_)

    return fits


def _span(name: str) -> Callable[[Columns, Term, Members], Bools]:
    def fits(columns: Columns, term: Term, members: Members) -> Bools:
        assert isinstance(term.value, Span)
        values, span = columns[name], term.value
        low = values > span.low if span.open_low else values >= span.low
        high = values < span.high if span.open_high else values <= span.high
        return np.asarray(low & high, dtype=np.bool_)

    return fits


def _is(columns: Columns, term: Term, members: Members) -> Bools:
    word = str(term.value)
    if word in {state.value for state in STATES}:
        return np.asarray(columns.states() == STATES.index(CaseState(word)), dtype=np.bool_)
    known: Mapping[Is, Callable[[], Any]] = {
        Is.RIGHT: lambda: columns["correct"] == 1,
        Is.WRONG: lambda: columns["correct"] == 0,
        Is.UNKNOWN: lambda: columns["correct"] < 0,
        Is.DECIDED: lambda: columns["verdict"] != 0,
        Is.ASSIGNED: lambda: columns["assignee"] != 0,
        Is.TAGGED: lambda: columns["tags"] != 0,
        Is.LEADING: columns["leads"].copy,
        Is.FAILED: lambda: columns["outcome"] != columns.words["outcome"].code("ok"),
    }
    return np.asarray(known[Is(word)](), dtype=np.bool_)


def _reason(columns: Columns, term: Term, members: Members) -> Bools:
    bit = FLAG_BITS[FlagReason(str(term.value))]
    return np.asarray(columns["flags"] & np.uint16(bit), dtype=np.bool_)


def _picked(columns: Columns, term: Term, members: Members) -> Bools:
    word, flags = Picked(str(term.value)), columns["flags"]
    if word is Picked.RANDOM:
        return np.asarray(flags == AUDIT_BIT, dtype=np.bool_)
    return np.asarray(flags & np.uint16(PICKED_BITS[word]), dtype=np.bool_)


def _tag(columns: Columns, term: Term, members: Members) -> Bools:
    wanted = str(term.value).casefold()

    def has(text: str) -> bool:
        return any(wanted in (part, part.partition("=")[2] or part) for part in text.split(TAG_SEPARATOR))

    found = columns.words["tags"].table(has)[columns["tags"]]
    return np.asarray(found | columns.words["client"].table(has)[columns["client"]], dtype=np.bool_)


def _slice(columns: Columns, term: Term, members: Members) -> Bools:
    hashes, times = members(str(term.value))
    made = np.zeros(columns.count, np.bool_)
    slots, places = columns.slots("id_hash", hashes)
    made[slots[columns["time_ns"][slots] == np.asarray(times, np.int64)[places]]] = True
    return made


def _case(columns: Columns, term: Term, members: Members) -> Bools:
    made = np.zeros(columns.count, np.bool_)
    made[columns.slots("id", [int(str(term.value), 16)])[0]] = True
    return made


def _record(columns: Columns, term: Term, members: Members) -> Bools:
    made = np.zeros(columns.count, np.bool_)
    made[columns.names.having(str(term.value), at_start=True)] = True
    return made


def _time(columns: Columns, term: Term, members: Members) -> Bools:
    times = columns["time_ns"]
    fits = times >= term.value if term.field is Field.AFTER else times < term.value
    return np.asarray(fits, dtype=np.bool_)


def _text(columns: Columns, term: Term, members: Members) -> Bools:
    wanted = str(term.value).casefold()
    made = np.zeros(columns.count, np.bool_)
    made[columns.names.having(wanted)] = True
    for name in ("answer", "label", "client", "tags", "comment"):
        table = columns.words[name].table(lambda text: wanted in text)
        if table.any():
            made |= table[columns[name]]
    return made


_HOW: Mapping[Field, Callable[[Columns, Term, Members], Bools]] = {
    Field.MODEL: _word("model"),
    Field.VERSION: _word("version"),
    Field.VARIANT: _word("variant"),
    Field.IS: _is,
    Field.REASON: _reason,
    Field.PICKED: _picked,
    Field.CLASS: _folded_word("answer"),
    Field.LABEL: _folded_word("label"),
    Field.SCORE: _span("p_wrong"),
    Field.CONFIDENCE: _span("confidence"),
    Field.PRIORITY: _span("priority"),
    Field.TAG: _tag,
    Field.ASSIGNEE: _folded_word("assignee"),
    Field.BY: _folded_word("decided_by"),
    Field.VERDICT: _word("verdict"),
    Field.SLICE: _slice,
    Field.RECORD: _record,
    Field.CASE: _case,
    Field.OUTCOME: _word("outcome"),
    Field.AFTER: _time,
    Field.BEFORE: _time,
    Field.TEXT: _text,
}
