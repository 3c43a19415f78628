"""What moved, as a sentence: "brightness rose: median 0.31 → 0.55"."""

from __future__ import annotations

from export.contracts.signature import InputKind, Signature
from monitoring.moves import Move, MoveKind
from monitoring.sides import Spread

SCORES = {
    "msp": "confidence",
    "margin": "the margin between the two best classes",
    "entropy": "the spread of the probabilities (entropy)",
    "gen": "generalised entropy (GEN)",
    "rmds": "the distance from every class (RMDS)",
    "knn": "the distance from the nearest reference inputs",
    "trust": "the distance from the predicted class beside the others (trust)",
    "energy": "energy",
    "pnorm": "the normed maximum logit",
}
DESCRIPTORS = {
    "mean": "the mean",
    "std": "the standard deviation",
    "min": "the smallest value",
    "max": "the largest value",
    "saturated": "the share of values at the end of the range",
    "zeros": "the share of zeros",
    "not_finite": "the share of values that are not finite",
    "sharpness": "sharpness",
    "elements": "the number of elements",
    "length": "length in bytes",
    "words": "the number of words",
    "not_ascii": "the share of characters beyond ASCII",
    "digits": "the share of digits",
    "pixels": "the size in pixels",
    "aspect": "the aspect ratio",
}
PICTURES = {"mean": "brightness", "std": "contrast", "min": "the darkest pixel", "max": "the brightest pixel",
            "saturated": "the share of black or blown-out pixels", "length": "the size of the file"}  # fmt: skip
_STEP = 0.1  # of the middle half's width: a median that moves by less is not what happened


def name_of(subject: str, kind: MoveKind, signature: Signature | None) -> str:
    """A quantity in words.

    Example:
        >>> name_of("x:mean", MoveKind.INPUT, None)
        'the mean of x'
    """
    if kind is MoveKind.SCORE:
        return SCORES.get(subject, subject)
    if kind is MoveKind.PREDICTION:
        return f"class '{subject}'"
    if kind is MoveKind.EMBEDDING:
        return "the embeddings"
    if kind is MoveKind.ANSWER:
        return f"the answer ({subject.replace('_', ' ')})"
    inputs = () if signature is None else signature.inputs
    owner, _, descriptor = subject.rpartition(":")
    spec = next((s for s in inputs if s.name == owner), None)
    if not owner or descriptor not in DESCRIPTORS:
        only = inputs[0].name + "." if len(inputs) == 1 else ""
        return subject.removeprefix(only) if only and subject.startswith(only) else subject
    picture = spec is not None and (spec.display.kind is InputKind.IMAGE or spec.preprocess is not None)
    words = PICTURES.get(descriptor, DESCRIPTORS[descriptor]) if picture else DESCRIPTORS[descriptor]
    if picture and len(inputs) == 1:
        return words
    return f"{words} of {owner}"


def sentence(move: Move, signature: Signature | None = None) -> str:
    """What happened, in one line. Says which way only where there is one."""
    name = name_of(move.subject, move.kind, signature)
    if move.moved_of is not None and move.farthest is not None:
        moved, total = move.moved_of
        inner = _spread_sentence(move, name_of(move.farthest, move.kind, signature))
        return f"{moved} of {total} elements of {move.subject.removesuffix('[*]')} moved; most: {inner}"
    match move.kind:
        case MoveKind.PREDICTION | MoveKind.MISSING:
            return _share_sentence(move, name)
        case MoveKind.EMBEDDING:
            return _embedding_sentence(move, name)
        case _:
            return _spread_sentence(move, name)


def figure(value: float | None) -> str:
    """A measure as people read it, three significant digits."""
    if value is None:
        return "unknown"
    if abs(value) < 1e-12:
        return "0"
    if abs(value) < 0.001:
        return f"{value:.1e}"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "0" if text == "-0" else text


def share(value: float | None) -> str:
    """A share as per cent."""
    if value is None:
        return "unknown"
    percent = value * 100
    if 0 < percent < 0.1:
        return "under 0.1 %"
    return f"{percent:.1f} %" if 0 < percent < 10 and percent != round(percent) else f"{percent:.0f} %"


def _share_sentence(move: Move, name: str) -> str:
    before, after = move.share_before or 0.0, move.share_after or 0.0
    verb = "rose" if after > before else "fell" if after < before else "stayed"
    way = f"from {share(before)} to {share(after)}" if after != before else f"at {share(after)}"
    if move.kind is MoveKind.MISSING:
        return f"missing values of {name} {verb} {way}"
    return f"{name} {verb} {way}"


def _embedding_sentence(move: Move, name: str) -> str:
    if not move.moved:
        return f"{name} stayed where they were"
    where = [f"towards class '{move.towards}'" if move.towards else "", f"away from '{move.away}'" if move.away else ""]
    told = ", ".join(w for w in where if w)
    return f"{name} moved {told}" if told else f"{name} moved"


def _spread_sentence(move: Move, name: str) -> str:
    a, b = move.spread_before, move.spread_after
    if a is None or b is None or a.median is None or b.median is None:
        return f"{name} changed"
    width = max(_width(a), _width(b), 1e-12)
    if abs(b.median - a.median) > _STEP * width:
        verb = "rose" if b.median > a.median else "fell"
        return f"{name} {verb}: median {figure(a.median)} → {figure(b.median)}"
    for label, low, high in (("middle half", "quarter", "three_quarters"), ("middle 90 %", "low", "high")):
        old, new = (_between(s, low, high) for s in (a, b))
        if old is not None and new is not None and abs(new - old) > _STEP * max(old, new, 1e-12):
            verb = "spread out" if new > old else "narrowed"
            ends = [f"{figure(getattr(s, low))} to {figure(getattr(s, high))}" for s in (a, b)]
            return f"{name} {verb}: {label} {ends[0]} → {ends[1]}"
    if not move.moved:
        return f"{name} stayed: median {figure(b.median)}"
    return f"{name} changed its shape around the same median, {figure(b.median)}"


def _between(spread: Spread, low: str, high: str) -> float | None:
    bottom, top = getattr(spread, low), getattr(spread, high)
    return None if bottom is None or top is None else float(top - bottom)


def _width(spread: Spread) -> float:
    middle = _between(spread, "quarter", "three_quarters") or 0.0
    return middle or (_between(spread, "low", "high") or 0.0) / 2
