"""Filters of an address as terms; what is not given asks for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any

from monitoring.listing.language import Alike, parse
from monitoring.listing.terms import Field, Is, Span, Term

_WORDS = {
    "model": Field.MODEL,
    "version": Field.VERSION,
    "reason": Field.REASON,
    "picked": Field.PICKED,
    "state": Field.IS,
    "predicted": Field.CLASS,
    "label": Field.LABEL,
    "tag": Field.TAG,
    "assignee": Field.ASSIGNEE,
    "decided_by": Field.BY,
    "verdict": Field.VERDICT,
    "slice": Field.SLICE,
    "record": Field.RECORD,
}


def terms_of(given: Mapping[str, Any], now: datetime, alike: Alike = lambda text: ()) -> tuple[Term, ...]:
    """The conditions of a list.

    Args:
        given: Keys as in `_WORDS`, and q, correct, min_p_wrong, max_p_wrong, from_ns, to_ns, grouped.
        now: For ages in the search.
        alike: Other words for a class.

    Raises:
        InvalidRequest: the search is not readable; says where.

    Example:
        >>> [(t.field.value, t.value) for t in terms_of({"model": "digits", "correct": False}, datetime(2026, 1, 1))]
        [('model', 'digits'), ('is', 'wrong')]
    """
    made = list(parse(given.get("q") or "", now, alike))
    for name, field in _WORDS.items():
        value = given.get(name)
        if value is not None:
            text = str(value.value) if isinstance(value, Enum) else str(value)
            others = tuple(alike(text)) if field in (Field.CLASS, Field.LABEL) else ()
            made.append(Term(field=field, value=text, others=others))
    if given.get("correct") is not None:
        made.append(Term(field=Field.IS, value=(Is.RIGHT if given["correct"] else Is.WRONG).value))
    if given.get("min_p_wrong") is not None:
        made.append(Term(field=Field.SCORE, value=Span(low=given["min_p_wrong"])))
    if given.get("max_p_wrong") is not None:
        made.append(Term(field=Field.SCORE, value=Span(high=given["max_p_wrong"])))
    if given.get("grouped"):
        made.append(Term(field=Field.IS, value=Is.LEADING.value))
    for name, field in (("from_ns", Field.AFTER), ("to_ns", Field.BEFORE)):
        if given.get(name) is not None:
            made.append(Term(field=field, value=int(given[name])))
    return tuple(dict.fromkeys(made))
