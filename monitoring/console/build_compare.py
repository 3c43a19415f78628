"""Two versions beside each other: the words, the matrix, the filters."""

from __future__ import annotations

from urllib.parse import urlencode

from export.contracts.errors import InvalidRequest, NotFound
from monitoring.api import compare_models as m
from monitoring.api.compare_views import Comparer, replay
from monitoring.console import explore_parts as x
from monitoring.console import parts
from monitoring.console.build import Builder
from monitoring.console.words import points
from monitoring.review.test_sets import all_sets

SETS = {
    m.CompareSet.ALL: "everything that both answered",
    m.CompareSet.REQUEST: "the same requests (shadow)",
    m.CompareSet.CONTENT: "other requests, same input",
    m.CompareSet.CASE: "stored cases sent again",
}
SHOWN = {
    m.Show.DIFFERENT: "different answers",
    m.Show.NEGATIVE: "broken by the right one",
    m.Show.POSITIVE: "repaired by the right one",
    m.Show.BOTH_WRONG: "both wrong",
    m.Show.ALL: "all",
}
_FROM = {"request": "in the same request", "content": "in two requests", "case": "stored cases sent again"}


def compare_page(builder: Builder, comparer: Comparer, model: str, query: m.CompareQuery) -> x.ComparePage:
    """The whole page."""
    comparer.explorer.view.known(model)
    found, problem, left, right = None, "", "", ""
    try:
        left, right = comparer.sides(model, query)
        found = comparer.compare(model, query)
    except (InvalidRequest, NotFound) as error:
        if query.left or query.right:
            raise
        problem = error.message.removeprefix("right: ")
    asked = {"left": left, "right": right, "set": query.set.value, "show": query.show.value}
    asked |= {k: v for k, v in (("test_set", query.test_set), ("selection", query.selection)) if v is not None}
    more = {"left_class": query.left_class, "right_class": query.right_class, "slice": query.slice}
    given = {name: value for name, value in more.items() if value is not None}
    base = f"/models/{model}/compare?{urlencode(asked)}"
    here = f"/models/{model}/compare?{urlencode(asked | given)}"
    after = query.offset + query.limit
    loaded = comparer.explorer.serving.loaded(model) if found is not None else ()
    return x.ComparePage(
        shell=builder.shell("overview"),
        model=model,
        left=left,
        right=right,
        filters=() if found is None else _filters(comparer, model, left, right, query),
        problem=problem,
        sentence="" if found is None else sentence(found),
        caveat="" if found is None else caveat(found),
        sources=""
        if found is None
        else ", ".join(f"{n:,} {v}" for k, v in _FROM.items() if (n := found.counts.get(k))),
        listed="" if found is None else f"{found.listed:,} inputs: {SHOWN[query.show]}",
        within="" if found is None else found.within or "",
        test_set=query.test_set or "",
        selection=query.selection or "",
        loaded=f"Loaded now: {', '.join(loaded)}." if loaded else "The service does not say what is loaded.",
        filtered=bool(given),
        base=base,
        query=urlencode(asked | given),
        next_href=f"{here}&offset={after}" if found is not None and after < found.listed else None,
        matrix=() if found is None or found.matrix is None else _rows(found.matrix, model, asked),
        runs=() if found is None else tuple(replay(row) for row in comparer.replays.newest(model, 5)),
        found=found,
    )


def sentence(found: m.Comparison) -> str:
    """What the labels say, with as much certainty as they give."""
    o = found.overall
    if o.difference is None or o.low is None or o.high is None:
        if not found.pairs:
            return "No input was answered by both"
        share = f"{found.different / found.pairs:.1%}"
        return f"Version {found.right} answers {share} of the inputs differently; no truth is known"
    sure = o.p_value is not None and o.p_value < 0.05  # the level that is said in the text
    if sure and o.difference != 0:
        word = "more" if o.difference > 0 else "less"
        return (
            f"Version {found.right} is {word} often right than {found.left}: {points(o.difference)} over {o.n:,} inputs"
        )
    return f"No difference is shown: {points(o.difference)}, 95 % from {points(o.low)} to {points(o.high)}"


def caveat(found: m.Comparison) -> str:
    """What could not be compared, and what the inputs stand for."""
    c = found.counts
    words = [f"{c['in_set']:,} cases in the set"] if "in_set" in c else []
    unknown = c["without_truth"]
    known = (
        f"{unknown:,} of {found.pairs:,} inputs have no known truth" if unknown else "the truth of all inputs is known"
    )
    words += [known]
    if c.get("cases_without_both"):
        words.append(f"{c['cases_without_both']:,} cases lack the answer of one of them")
    if c.get("several_rows"):
        words.append(f"{c['several_rows']:,} requests of several rows count as one input each")
    words.append(
        f"on record are {c['left_requests']:,} requests of {found.left} and {c['right_requests']:,} of {found.right}"
    )
    if "in_set" in c:
        return (
            "; ".join(words)
            + "."
            + " The set's cases are failures that somebody chose, so no share is that of traffic."
        )
    tail = " Cases were picked because they looked wrong, so their shares are not those of traffic."
    return "; ".join(words) + "." + (tail if c.get("case") or c.get("content") else "")


def _rows(matrix: m.Matrix, model: str, asked: dict[str, str]) -> tuple[x.MatrixRow, ...]:
    counts = {(cell.left, cell.right): cell.count for cell in matrix.cells}

    def cell(left: int, right: int, name: str) -> x.MatrixCell:
        query = asked | {"show": "all", "left_class": str(left), "right_class": str(right)}
        href = f"/models/{model}/compare?{urlencode(query)}#pairs"
        return x.MatrixCell(name=name, count=counts.get((left, right), 0), same=left == right, href=href)

    return tuple(
        x.MatrixRow(
            name=row,
            cells=tuple(cell(left, right, name) for right, name in zip(matrix.classes, matrix.names, strict=True)),
        )
        for left, row in zip(matrix.classes, matrix.names, strict=True)
    )


def _filters(comparer: Comparer, model: str, left: str, right: str, query: m.CompareQuery) -> tuple[parts.Filter, ...]:
    versions = [(v, v) for v in comparer.versions(model)]
    sets = [("", "all inputs"), *((row.id, row.name[:60]) for row in all_sets(comparer.explorer.view.store, model))]
    lists = (
        ("left", "Left", versions, left),
        ("right", "Right", versions, right),
        ("set", "On", [(k.value, v) for k, v in SETS.items()], query.set.value),
        ("test_set", "Test set", sets, query.test_set or ""),
        ("show", "Show", [(k.value, v) for k, v in SHOWN.items()], query.show.value),
    )
    return tuple(
        parts.Filter(
            name=name,
            label=label,
            choices=tuple(parts.Choice(value=v, label=text, chosen=v == chosen) for v, text in options),
        )
        for name, label, options, chosen in lists
        if name != "test_set" or len(options) > 1
    )
