"""Two versions beside each other as the API's answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from export.contracts.errors import InvalidRequest
from monitoring.api import compare_models as m
from monitoring.api import fields
from monitoring.api.explore_views import Explorer
from monitoring.explore.pair import Pair, Source
from monitoring.explore.paired import Paired, holm, mean_difference, paired
from monitoring.explore.pairs import Found, find_pairs
from monitoring.explore.points import slice_places
from monitoring.explore.replays import Replay, ReplayService
from monitoring.explore.within import Within, within_selection, within_test_set

CLASSES_SHOWN = 16
SETS: dict[m.CompareSet, tuple[Source, ...]] = {
    m.CompareSet.ALL: tuple(Source),
    m.CompareSet.REQUEST: (Source.REQUEST,),
    m.CompareSet.CONTENT: (Source.CONTENT,),
    m.CompareSet.CASE: (Source.CASE,),
}


@dataclass(frozen=True, kw_only=True)
class Comparer:
    """What the answers about two versions are made of."""

    explorer: Explorer
    replays: ReplayService

    def sides(self, model: str, query: m.CompareQuery) -> tuple[str, str]:
        """The two versions.

        Raises:
            NotFound: the model is not known, or one of the versions.
            InvalidRequest: there are not two.
        """
        view = self.explorer.view
        left = self.explorer.version(model, query.left)
        right = query.right
        if right is None:
            plan = view.catalogue.plan(model)
            others = [v for v in self.versions(model) if v != left]
            asked = None if plan is None else plan.challenger
            right = asked if asked is not None and asked != left else others[-1] if others else left
        view.known(model, right)
        return left, right

    def versions(self, model: str) -> list[str]:
        """Versions that are registered or were seen, oldest first."""
        view = self.explorer.view
        seen = [row.version for row in view.store.versions(model) if row.version]
        return list(dict.fromkeys((*view.catalogue.versions(model), *seen)))

    def compare(self, model: str, query: m.CompareQuery) -> m.Comparison:
        """The whole comparison, and a page of its pairs."""
        left, right = self.sides(model, query)
        if left == right:
            raise InvalidRequest("right: this model has one version only; there is nothing to compare it with")
        baselines = self.explorer.findings.baselines
        one, other = baselines.get(model, left), baselines.get(model, right)
        factor = self.explorer.cases.value_error_factor
        store, inside = self.explorer.view.store, self.within(model, query.test_set, query.selection)
        found = find_pairs(store, one, other, (model, left, right), SETS[query.set], factor, inside)
        members = slice_places(store, model)
        listed = [
            p for p in found.pairs if _fits(p, query, members.get(query.slice or "", (query.slice or "", set()))[1])
        ]
        listed.sort(key=_interest)
        names = one.class_names or other.class_names
        page = listed[query.offset : query.offset + query.limit]
        return m.Comparison(
            model=model,
            left=left,
            right=right,
            set=query.set,
            within=None if inside is None else inside.name,
            pairs=len(found.pairs),
            different=sum(p.differs for p in found.pairs),
            negative=sum(p.flip < 0 for p in found.pairs),
            positive=sum(p.flip > 0 for p in found.pairs),
            counts=dict(found.counts),
            overall=_line("all", None, _paired(found.pairs)),
            p_wrong=_expected(found.pairs),
            by_class=_by_class(found.pairs, names),
            by_slice=_corrected(
                [
                    _line(words, identity, _paired([p for p in found.pairs if p.place in places]))
                    for identity, (words, places) in members.items()
                ]
            ),
            matrix=_matrix(found, names),
            listed=len(listed),
            items=[self._pair(p, model, left, names) for p in page],
        )

    def _pair(self, pair: Pair, model: str, left: str, names: Sequence[str]) -> m.Pair:
        drawable = self.explorer.view.picture_of(model, left) is not None
        picture = f"/api/cases/{pair.shown}/input.png" if pair.shown else f"/api/inputs/{pair.seq}.png"
        return m.Pair(
            source=m.CompareSet(pair.source.value),
            record_id=pair.record_id,
            time=fields.from_ns(pair.time_ns),
            case=pair.case_id,
            picture=picture if drawable and (pair.shown or pair.seq) else None,
            truth=_name(pair.label, names),
            differs=pair.differs,
            flip=pair.flip,
            left=_side(pair.left, names),
            right=_side(pair.right, names),
        )

    def within(self, model: str, test_set: str | None, selection: str | None) -> Within | None:
        """The set of cases that is asked for, if one is.

        Raises:
            InvalidRequest: both are.
            NotFound: the model has none of this id.
        """
        if test_set is not None and selection is not None:
            raise InvalidRequest("test_set: name a test set or a selection, not both")
        store = self.explorer.view.store
        if test_set is not None:
            return within_test_set(store, model, test_set)
        return None if selection is None else within_selection(store, model, selection)

    def start(self, model: str, asked: m.ReplayStart, actor: str) -> m.Replay:
        """Send cases to versions."""
        view = self.explorer.view
        for version in asked.versions:
            view.known(model, version)
        inside = self.within(model, asked.test_set, asked.selection)
        cases: Sequence[str] | None = asked.cases if inside is None else inside.cases
        return replay(self.replays.start(view.known(model), asked.versions, cases, actor))


def replay(row: Replay) -> m.Replay:
    """A replay as an answer."""
    same = {n: getattr(row, n) for n in ("id", "model", "versions", "actor", "state", "total", "done", "failed")}
    finished = None if row.finished_ns is None else fields.from_ns(row.finished_ns)
    times = {"created_at": fields.from_ns(row.created_ns), "finished_at": finished}
    return m.Replay.model_validate(same | times | {"share": row.done / row.total if row.total else 0.0})


def _fits(pair: Pair, query: m.CompareQuery, places: set[tuple[int, int]]) -> bool:
    shown = {
        m.Show.ALL: True,
        m.Show.DIFFERENT: pair.differs,
        m.Show.NEGATIVE: pair.flip < 0,
        m.Show.POSITIVE: pair.flip > 0,
        m.Show.BOTH_WRONG: pair.left.correct is False and pair.right.correct is False,
    }[query.show]
    classes = query.left_class in (None, _class(pair.left.predicted)) and query.right_class in (
        None,
        _class(pair.right.predicted),
    )
    return shown and classes and (query.slice is None or pair.place in places)


def _class(predicted: int | None) -> int:
    return -1 if predicted is None else predicted


def _interest(pair: Pair) -> tuple[float, ...]:
    """What to look at first: what the right version breaks, what it repairs, then how sure both are of saying else."""
    kind = 0 if pair.flip < 0 else 1 if pair.flip > 0 else 2 if pair.differs else 3
    sure = (pair.left.confidence or 0.0) + (pair.right.confidence or 0.0)
    apart = abs((pair.left.confidence or 0.0) - (pair.right.confidence or 0.0))
    if pair.left.value is not None and pair.right.value is not None:
        sure = apart = abs(pair.left.value - pair.right.value)
    return kind, -(sure if pair.differs else apart), -pair.time_ns


def _paired(pairs: Sequence[Pair]) -> Paired:
    known = [
        (p.left.correct, p.right.correct) for p in pairs if p.left.correct is not None and p.right.correct is not None
    ]
    return paired([bool(a) for a, _ in known], [bool(b) for _, b in known])


def _line(name: str, identity: str | None, made: Paired) -> m.Compared:
    same = {n: getattr(made, n) for n in m.Compared.model_fields if n not in ("name", "id")}
    return m.Compared.model_validate(same | {"name": name, "id": identity})


def _corrected(lines: list[m.Compared]) -> list[m.Compared]:
    """P-values corrected for the length of the list, the largest loss first; groups without labels are left out."""
    known = [line for line in lines if line.n]
    corrected = holm([line.p_value for line in known])
    made = [line.model_copy(update={"p_value": p}) for line, p in zip(known, corrected, strict=True)]
    return sorted(made, key=lambda line: (line.difference or 0.0, -line.n))


def _by_class(pairs: Sequence[Pair], names: Sequence[str]) -> list[m.Compared]:
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        truth = _name(pair.label, names)
        if truth is not None and not pair.left.rows:
            groups.setdefault(truth, []).append(pair)
    lines = [
        _line(name, str(names.index(name)) if name in names else None, _paired(some)) for name, some in groups.items()
    ]
    return _corrected(lines) if len(lines) <= len(names) or len(lines) <= CLASSES_SHOWN else []


def _expected(pairs: Sequence[Pair]) -> m.Change | None:
    both = [
        (p.left.p_wrong, p.right.p_wrong) for p in pairs if p.left.p_wrong is not None and p.right.p_wrong is not None
    ]
    made = mean_difference([a for a, _ in both], [b for _, b in both])
    return None if made is None else m.Change(mean=made[0], low=made[1], high=made[2])


def _matrix(found: Found, names: Sequence[str]) -> m.Matrix | None:
    single = [
        p for p in found.pairs if not p.left.rows and p.left.predicted is not None and p.right.predicted is not None
    ]
    if not single:
        return None
    cells = Counter((int(p.left.predicted or 0), int(p.right.predicted or 0)) for p in single)
    moved: Counter[int] = Counter()
    for (a, b), count in cells.items():
        moved.update({a: count * (10 if a != b else 1), b: count * (10 if a != b else 1)})
    classes = sorted(c for c, _ in moved.most_common(CLASSES_SHOWN))
    shown = {k: n for k, n in cells.items() if k[0] in classes and k[1] in classes}
    return m.Matrix(
        classes=classes,
        names=[_name(c, names) or str(c) for c in classes],
        cells=[m.Cell(left=a, right=b, count=n) for (a, b), n in sorted(shown.items())],
        others=len(single) - sum(shown.values()),
    )


def _name(label: Any, names: Sequence[str]) -> str | None:
    if label is None:
        return None
    if isinstance(label, list) and len(label) == 1:
        label = label[0]
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(names) and str(label) not in names:
        return names[label]
    return str(label)[:200]


def _side(side: Any, names: Sequence[str]) -> m.Side:
    same = {n: getattr(side, n) for n in ("predicted", "confidence", "p_wrong", "value", "answer", "correct")}
    shown = replace(side).predicted
    label = names[shown] if shown is not None and 0 <= shown < len(names) else None if shown is None else str(shown)
    return m.Side.model_validate(same | {"label": label})
