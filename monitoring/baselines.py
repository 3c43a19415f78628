"""Baselines of the versions that turn up in the log, fetched from the catalogue and kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from export.contracts.reference import ReferenceProfile
from monitoring.baseline import Baseline, compile_baseline
from monitoring.catalogue import Catalogue

logger = logging.getLogger(__name__)

RETRY_S = 30.0


class Baselines:
    """One baseline per (model, version). A version without a readable reference is asked for again every 30 s.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, catalogue: Catalogue, clock: Callable[[], float] = time.monotonic) -> None:
        self._catalogue = catalogue
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[float, Baseline]] = {}

    def get(self, model: str, version: str) -> Baseline:
        """The baseline; its `problem` says what is missing, and why."""
        found = self._known.get((model, version))
        if found is not None and (not found[1].problem or self._clock() - found[0] < RETRY_S):
            return found[1]
        baseline = self._load(model, version)
        if found is not None and found[1].layout == baseline.layout and found[1].problem == baseline.problem:
            baseline = found[1]
        self._known[model, version] = (self._clock(), baseline)
        return baseline

    def _load(self, model: str, version: str) -> Baseline:
        if not model or not version:
            return compile_baseline(None, None)
        manifest = self._catalogue.manifest(model, version)
        if manifest is None:
            return compile_baseline(None, None, "the registry does not know this version")
        folder = self._catalogue.reference_dir(model, version)
        if folder is None:
            return compile_baseline(manifest, None, "the package has no reference profile")
        try:
            return compile_baseline(manifest, ReferenceProfile.load(folder))
        except (ValueError, OSError) as error:
            logger.error("reference profile of %s version %s cannot be read: %s", model, version, error)
            return compile_baseline(manifest, None, "the reference profile cannot be read")
