"""Exemplars: from a bucket of the latency histogram, or a count of failures, to one record that is in it.

Nobody looks for them until a scraper asks for OpenMetrics, the format that can carry them. From then on a version has
one observer more, which notes the slowest request of each batch and the last one of each failure; it leaves when nobody
has asked for `KEEP_NS`. A replica that is not scraped, or in the older format, does nothing of this.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Protocol

from prometheus_client.samples import Exemplar

from export.contracts.traffic import Variant
from monitoring.records.record import Outcome
from serving.entry import Entry
from serving.latency_bounds import LATENCY_BOUNDS_NS
from serving.observers import Ended, Observer, Turned

KEEP_NS = 300 * 1_000_000_000
MOST_CHARACTERS = 128  # of names and values of an exemplar's labels together (OpenMetrics 1.0, "Exemplars")


class Watched(Protocol):
    """What is observed: a loaded version. Assigning `observers` takes effect with its next batch."""

    observers: tuple[Observer, ...]


class Exemplars:
    """Remembers one record for each bucket and each way to fail. Memory: bounded by the table of buckets and outcomes.

    Attributes:
        until_ns: Wall clock until which it stays.
    """

    name = "exemplars"
    dropped = 0

    def __init__(self, version: Watched, until_ns: int) -> None:
        self._version = version
        self.until_ns = until_ns
        self._slow: list[Exemplar | None] = [None] * (len(LATENCY_BOUNDS_NS) + 1)
        self._refused: dict[tuple[Variant, Outcome], Exemplar | None] = {}

    def ended(self, ended: Ended) -> None:
        """Note the slowest request of a batch that was answered, or the last one of a batch that was not."""
        if ended.time_ns > self.until_ns:
            self._version.observers = tuple(o for o in self._version.observers if o is not self)
        elif ended.outcome is Outcome.OK:
            longest = max(ended.total_ns)
            entry = ended.entries[ended.total_ns.index(longest)]
            self._slow[bisect_left(LATENCY_BOUNDS_NS, longest)] = _exemplar(entry, longest / 1e9, ended.time_ns)
        else:
            entry = ended.entries[-1]
            self._refused[entry.variant, ended.outcome] = _exemplar(entry, 1.0, ended.time_ns)

    def turned(self, turned: Turned) -> None:
        """It never was a request of a version: there is nothing to point at."""

    @property
    def buckets(self) -> tuple[Exemplar | None, ...]:
        """For each bucket of `LATENCY_BOUNDS_NS`, and the one beyond."""
        return tuple(self._slow)

    def refused(self, variant: Variant, outcome: Outcome) -> Exemplar | None:
        """The last request of a variant that ended in this way."""
        return self._refused.get((variant, outcome))


def watch(version: Watched, now_ns: int) -> Exemplars:
    """The version's exemplars; from now on there are some.

    Args:
        version: A loaded version.
        now_ns: Wall clock.
    """
    found = next((o for o in version.observers if isinstance(o, Exemplars)), None)
    if found is None:
        found = Exemplars(version, now_ns + KEEP_NS)
        version.observers = (*version.observers, found)
    found.until_ns = now_ns + KEEP_NS
    return found


def _exemplar(entry: Entry, value: float, time_ns: int) -> Exemplar | None:
    """None when the client's id is longer than an exemplar may be."""
    labels = {"record_id": entry.id.decode("utf-8", "replace")}
    if entry.trace_id:
        labels["trace_id"] = entry.trace_id.decode("ascii", "replace")
    if sum(len(name) + len(text) for name, text in labels.items()) > MOST_CHARACTERS:
        return None
    return Exemplar(labels, value, time_ns / 1e9)
