"""Lists of cases as answers: from a query to terms, from terms to ids, from ids to cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from monitoring.api import asks
from monitoring.api import list_models as m
from monitoring.api.views import View
from monitoring.listing.asked import terms_of
from monitoring.listing.export import export_cases
from monitoring.listing.reading import read_cases, read_tags
from monitoring.listing.terms import Term
from monitoring.rows import CaseRow


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseLists:
    """What is asked of lists of cases."""

    view: View
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _names: dict[tuple[tuple[str, str], ...], dict[str, tuple[str, ...]]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        """Let bulk decisions by filter know the same names of classes."""
        self.view.store.index.alike = self.alike

    def terms(self, asked: asks.CaseFilter) -> tuple[Term, ...]:
        """The conditions of a query.

        Raises:
            InvalidRequest: the search is not readable; says where.
        """
        return terms_of(asked.terms(), self.clock(), self.alike)

    def alike(self, text: str) -> Sequence[str]:
        """Indexes of the classes with this name, names of those with this index, in any version of the log."""
        seen = tuple((v.model, v.version) for v in self.view.store.versions())
        if seen not in self._names:
            made: dict[str, set[str]] = {}
            for model, version in seen:
                manifest = self.view.manifest(model, version)
                for index, name in enumerate(manifest.task.class_names if manifest is not None else ()):
                    made.setdefault(name.casefold(), set()).add(str(index))
                    made.setdefault(str(index), set()).add(name)
            self._names.clear()
            self._names[seen] = {word: tuple(sorted(others)) for word, others in made.items()}
        return self._names[seen].get(text.casefold(), ())

    def page(self, query: asks.CaseQuery) -> m.CaseList:
        """A page of cases."""
        page = self.view.store.index.page(self.terms(query), query.order, query.cursor, query.limit)
        return m.CaseList(cases=self.cases(page.ids), next=page.cursor)

    def cases(self, ids: Sequence[str]) -> list[m.ListedCase]:
        """Cases by id, in that order; one that is gone is left out."""
        rows, tags = read_cases(self.view.store, ids), read_tags(self.view.store, ids)
        return [self._listed(row, tags.get(row.id, ())) for row in rows]

    def ids(self, query: asks.IdQuery) -> m.CaseIds:
        """Ids only."""
        page = self.view.store.index.page(self.terms(query), query.order, query.cursor, query.limit)
        return m.CaseIds(ids=list(page.ids), next=page.cursor)

    def count(self, asked: asks.CaseFilter) -> int:
        """How many."""
        return self.view.store.index.count(self.terms(asked))

    def facets(self, query: asks.FacetQuery) -> m.Facets:
        """Counts by field."""
        terms = self.terms(query)
        found = self.view.store.index.facets(terms, query.limit)
        facets = {
            field.value: [m.FacetValue(value=text, count=n) for text, n in values] for field, values in found.items()
        }
        return m.Facets(count=self.view.store.index.count(terms), facets=facets)

    def export(self, query: asks.ExportQuery) -> Iterator[bytes]:
        """The file, in pieces. What it names is settled now; the pieces are read as they are sent."""
        page = self.view.store.index.page(self.terms(query), query.order, None, query.limit)
        return export_cases(self.view.store, page.ids, query.kind, inputs=query.inputs)

    def _listed(self, row: CaseRow, tags: Sequence[str]) -> m.ListedCase:
        return m.ListedCase.model_validate(self.view.case(row).model_dump() | {"case_tags": list(tags)})
