"""The duty that erases: database and files at once, the open segments of living replicas as soon as they are sealed.

An erasure is finished when every segment that existed when it was asked for is sealed, consumed and clean, and only
then: what the monitor had not read yet would bring the record back.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from monitoring.archive.catalogue import replace_file
from monitoring.archive.files import archived
from monitoring.datasets.erasing import replace_marked
from monitoring.datasets.rows import adopt
from monitoring.erasure.files import Wanted, erase_reports, erase_rescored, rewrite_archive_file
from monitoring.erasure.requests import Erasure, finish, ids_of, list_erasures, note_progress
from monitoring.erasure.rows import Hit, erase_rows
from monitoring.gate.erasing import erase_from_gates
from monitoring.options import MonitorOptions
from monitoring.records.folders import acknowledged, is_locked, list_sources
from monitoring.records.frames import segment_numbers
from monitoring.records.rewrite import rewrite_segment
from monitoring.records.sealed import segment_facts
from monitoring.store import Store

logger = logging.getLogger(__name__)


class Eraser:
    """Works on all pending erasures.

    Args:
        store: The database.
        options: Where everything is.
        wall_ns: Nanoseconds since the epoch.
    """

    def __init__(self, store: Store, options: MonitorOptions, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._store = store
        self._options = options
        self._wall_ns = wall_ns
        self._clean: set[tuple[str, str, int]] = set()  # erasure, source, segment: looked through

    def turn(self) -> bool:
        """Do what can be done now; what has to wait is looked at again next turn."""
        with self._store.read() as connection:
            pending = list_erasures(connection, pending=True)
        for erasure in pending:
            self._erase(erasure)
        return False

    def _erase(self, erasure: Erasure) -> None:
        with self._store.read() as connection:
            ids = ids_of(connection, erasure)
        wanted = Wanted(ids, erasure.model)
        counts: Counter[str] = Counter()
        root = self._options.records_root.with_name("datasets")
        adopt(self._store, root, now_ns=self._wall_ns())  # what somebody laid there may hold it
        with self._store.write() as connection:  # first, because it is what people see
            found, hits = erase_rows(connection, ids, erasure.model)
        counts += found
        waits = self._log(erasure, wanted, counts)
        self._archive(wanted, counts)
        counts["data_sets"] += replace_marked(self._store, root, self._wall_ns())
        counts["gates"] += erase_from_gates(self._store, self._options.loop_root, ids)
        counts["rescored"] += erase_rescored(self._options.records_root.with_name("rescored"), wanted)
        with self._store.write() as connection:  # again, for what was consumed meanwhile
            found, more = erase_rows(connection, ids, erasure.model)
            counts += found
            everything: list[Hit] = [*hits, *more]
            counts["reports"] += erase_reports(self._options.state_dir / "reports", everything, wanted.hits)
            note_progress(connection, erasure, {k: n for k, n in counts.items() if n}, waits)
            if waits is None:
                finish(connection, erasure, self._wall_ns())
        self._store.scrub()
        if waits is None:
            logger.info("erasure %s is done: %s", erasure.id, dict(counts))

    def _log(self, erasure: Erasure, wanted: Wanted, counts: Counter[str]) -> str | None:
        """Erase from all segments that may be changed; says what has to wait."""
        root, waits = self._options.records_root, None
        for source in list_sources(root):
            alive, done = is_locked(root / source), acknowledged(root / source)
            for number in segment_numbers(root / source):
                key = (erasure.id, source, number)
                if key in self._clean:
                    continue
                facts = segment_facts(root, source, number)
                if facts is None or facts.created_ns > erasure.requested_ns:
                    continue
                if alive and not facts.sealed:
                    waits = "a replica still writes a segment that may hold it: wait up to capture.segment_age_s"
                    continue
                if done is None or number > done.segment or (number == done.segment and done.offset < facts.data_end):
                    waits = "the monitor has not consumed the log up to the request yet"
                    continue
                counts["log_frames"] += rewrite_segment(root, source, number, wanted.without, wanted.feedback_stays)
                self._clean.add(key)
        return waits

    def _archive(self, wanted: Wanted, counts: Counter[str]) -> None:
        root: Path = self._options.archive_root
        for file in archived(root):
            new = rewrite_archive_file(root, file, wanted)
            if new is None:
                continue
            with self._store.write() as connection:
                replace_file(connection, file.path, new)
            (root / file.path).unlink(missing_ok=True)
            counts["archive_files"] += 1
