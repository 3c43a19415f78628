r"""The language of the search box: words with fields, all of which must hold.

    model:digits class:7 score:>0.8 tag:night is:open by:anna after:2026-01-01 free text
    -tag:done  score:0.2..0.5  label:"traffic light"  after:24h

A field that is unknown, or a value that it does not take, is an error that says what would be right.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from export.contracts.cases import FlagReason
from export.contracts.errors import InvalidRequest
from monitoring.listing.terms import IS_WORDS, Field, Picked, Span, Term
from monitoring.review.contracts import Verdict

MAX_LENGTH, MAX_TERMS = 500, 24

_TOKEN = re.compile(r'\s*(-?)(?:([A-Za-z_]+):)?(?:"([^"]*)"|(\S+))')
_NUMBER = r"\d+(?:\.\d+)?|\.\d+"
_SPAN = re.compile(
    rf"(?P<sign><=|>=|<|>|=)?(?P<one>{_NUMBER})(?P<percent>%)?|(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})"
)
_AGO = re.compile(r"(\d{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_OTHER_NAMES = {"state": Field.IS, "predicted": Field.CLASS, "p": Field.SCORE, "truth": Field.LABEL,
                "since": Field.AFTER, "until": Field.BEFORE, "id": Field.RECORD, "for": Field.ASSIGNEE,
                "selection": Field.PICKED}  # fmt: skip

Alike = Callable[[str], Sequence[str]]  # a class's name or index → what else means the same


def parse(text: str, now: datetime, alike: Alike = lambda text: ()) -> tuple[Term, ...]:
    """The terms of a search.

    Args:
        text: As typed.
        now: For `after:24h`.
        alike: Other words for a class.

    Raises:
        InvalidRequest: says which word is wrong, and what would be right.

    Example:
        >>> [str(t.field) for t in parse("class:7 -tag:done night", datetime(2026, 1, 1, tzinfo=UTC))]
        ['class', 'tag', 'text']
    """
    if len(text) > MAX_LENGTH:
        raise InvalidRequest(f"search: at most {MAX_LENGTH} characters")
    if text.count('"') % 2:
        raise InvalidRequest("search: a quotation mark is left open")
    made: list[Term] = []
    at = 0
    while (match := _TOKEN.match(text, at)) is not None:
        at = match.end()
        minus, name, quoted, plain = match.groups()
        value = quoted if quoted is not None else plain
        made.append(term(name or Field.TEXT.value, value, now, alike, excluded=bool(minus)))
        if len(made) > MAX_TERMS:
            raise InvalidRequest(f"search: at most {MAX_TERMS} words")
    return tuple(made)


def term(name: str, value: str, now: datetime, alike: Alike, *, excluded: bool = False) -> Term:
    """One term from its two halves.

    Raises:
        InvalidRequest: as `parse`.
    """
    field = _OTHER_NAMES.get(name.casefold()) or next((f for f in Field if f.value == name.casefold()), None)
    if field is None:
        near = difflib.get_close_matches(name.casefold(), [f.value for f in Field], 1, 0.5)
        hint = f": did you mean '{near[0]}:'?" if near else f"; there are {', '.join(f.value for f in Field)}"
        raise InvalidRequest(f"search: there is no field '{name[:40]}'{hint}")
    if not value:
        raise InvalidRequest(f"search: '{field}:' needs a value")
    made = _VALUES[field](field, value, now) if field in _VALUES else value
    others = tuple(alike(value)) if field in (Field.CLASS, Field.LABEL) else ()
    return Term(field=field, value=made, excluded=excluded, others=others)


def _one_of(words: Sequence[str]) -> Callable[[Field, str, datetime], str]:
    def check(field: Field, value: str, now: datetime) -> str:
        wanted = value.casefold().replace("-", "_")
        if wanted not in words:
            near = difflib.get_close_matches(wanted, words, 1, 0.5)
            hint = f"did you mean '{field}:{near[0]}'?" if near else f"it takes {', '.join(words)}"
            raise InvalidRequest(f"search: '{field}:{value[:40]}': {hint}")
        return wanted

    return check


def _span(field: Field, value: str, now: datetime) -> Span:
    match = _SPAN.fullmatch(value)
    if match is None:
        raise InvalidRequest(f"search: '{field}:{value[:40]}': write {field}:>0.8, {field}:<=0.5 or {field}:0.2..0.8")
    if match["low"] is not None:
        return Span(low=float(match["low"]), high=float(match["high"]))
    number = float(match["one"]) / (100.0 if match["percent"] else 1.0)
    sign = match["sign"] or (">=" if field is Field.SCORE else "=")
    if sign in (">", ">="):
        return Span(low=number, open_low=sign == ">")
    if sign in ("<", "<="):
        return Span(high=number, open_high=sign == "<")
    return Span(low=number, high=number)


def _time(field: Field, value: str, now: datetime) -> int:
    ago = _AGO.fullmatch(value)
    try:
        moment = (
            now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else datetime.fromisoformat(value.replace(" ", "T"))
        )
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"search: '{field}:{value[:40]}': a day (2026-01-31), a time (2026-01-31T12:00) or an age (24h, 7d)"
        ) from None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    if not 1970 <= moment.year < 2262:
        raise InvalidRequest(f"search: '{field}:{value[:40]}': a year from 1970 to 2261")
    return round(moment.timestamp() * 1e6) * 1000


def _identity(pattern: str, what: str) -> Callable[[Field, str, datetime], str]:
    def check(field: Field, value: str, now: datetime) -> str:
        if re.fullmatch(pattern, value.casefold()) is None:
            raise InvalidRequest(f"search: '{field}:{value[:40]}': {what}")
        return value.casefold()

    return check


_VALUES: dict[Field, Callable[[Field, str, datetime], str | Span | int]] = {
    Field.IS: _one_of(IS_WORDS),
    Field.REASON: _one_of([reason.value for reason in FlagReason]),
    Field.PICKED: _one_of([way.value for way in Picked]),
    Field.VERDICT: _one_of([verdict.value for verdict in Verdict]),
    Field.SCORE: _span,
    Field.CONFIDENCE: _span,
    Field.PRIORITY: _span,
    Field.AFTER: _time,
    Field.BEFORE: _time,
    Field.CASE: _identity("[0-9a-f]{16}", "the id of a case has 16 hex digits"),
    Field.SLICE: _identity("[0-9a-f]{12}", "the id of a slice has 12 hex digits"),
}
