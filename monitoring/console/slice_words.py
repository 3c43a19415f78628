"""What was done about a slice, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monitoring.console import words
from monitoring.slices.found import SliceState
from monitoring.slices.issues import SliceAct

STATES = {
    SliceState.NEW: ("new", "chip-role"),
    SliceState.ACKNOWLEDGED: ("acknowledged", ""),
    SliceState.BATCHED: ("in a batch", "alarm-warn"),
    SliceState.FIXED: ("fixed", "alarm-good"),
    SliceState.REGRESSED: ("regressed", "alarm-bad"),
    SliceState.IGNORED: ("ignored", ""),
    SliceState.MERGED: ("merged", ""),
    SliceState.SPLIT: ("split", ""),
}
_PLAIN = {
    SliceAct.ACKNOWLEDGE: "acknowledged it",
    SliceAct.REOPEN: "opened it again",
    SliceAct.UNMERGE: "made it a slice of its own again",
    SliceAct.UNWATCH: "ended the alert",
    SliceAct.COMMENT: "said",
}


def state_words(state: str, fixed_in: str | None) -> tuple[str, str]:
    """A state's name and tone."""
    name, tone = STATES[SliceState(state)]
    known = fixed_in and state in (SliceState.FIXED.value, SliceState.REGRESSED.value)
    return (f"{name} in {fixed_in}" if known and state == SliceState.FIXED.value else name), tone


def told(kind: str, detail: Mapping[str, Any]) -> tuple[str, str]:
    """An event as a sentence without its subject, and its tone."""
    act = SliceAct(kind)
    match act:
        case SliceAct.OWN:
            return (f"gave it to {detail['owner']}" if detail["owner"] else "took it from its owner"), ""
        case SliceAct.FIX:
            return f"said that it is fixed in version {detail['version']}", "good"
        case SliceAct.IGNORE:
            return f"ignored it until it fails {detail['grows']:g} times as much", ""
        case SliceAct.BATCH:
            return f"made the labelling batch “{detail['name']}”", ""
        case SliceAct.TEST_SET:
            return f"made the protected test set “{detail['name']}”", ""
        case SliceAct.MERGE:
            return ("merged another one into it: " + str(detail["words"])) if "part" in detail else (
                f"merged it into {detail['into']}"
            ), ""
        case SliceAct.SPLIT:
            return ("split it off from " + str(detail["from"])) if "from" in detail else (
                f"split it by {detail['by']}"
            ), ""
        case SliceAct.WATCH:
            return f"asked to be told when surely more than {words.percent(detail['limit'], 0)} of it fail", ""
        case SliceAct.REGRESS | SliceAct.WAKE | SliceAct.FIRE | SliceAct.CALM:
            return _by_the_loop(act, detail)
        case _:
            return _PLAIN[act], ""


def _by_the_loop(act: SliceAct, detail: Mapping[str, Any]) -> tuple[str, str]:
    rate = words.percent(detail.get("failure_rate"))
    match act:
        case SliceAct.REGRESS:
            where = f"on version {detail['fixed_in']} or later"
            return f"found it again {where}: {rate} of {detail['rows']:,} requests fail", "bad"
        case SliceAct.FIRE:
            return f"raised the alert: {rate} fail, surely above {words.percent(detail['limit'])}", "bad"
        case SliceAct.CALM:
            return f"ended the alert: {rate} fail, below {words.percent(detail['limit'])}", "good"
        case _:
            return "woke it: it fails as much as it was ignored up to", "warn"
