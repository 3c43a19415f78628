"""What monitoring needs to know of the registry, as a protocol: monitoring never imports the registry itself."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from export.contracts.manifest import Manifest
from export.contracts.traffic import TrafficPlan


class Catalogue(Protocol):
    """Read access to packages and plans. `deploy` hands in one that is backed by the registry."""

    def models(self) -> tuple[str, ...]:
        """Names of all registered models, sorted."""
        ...

    def versions(self, model: str) -> tuple[str, ...]:
        """Versions of a model, oldest first; empty for an unknown model."""
        ...

    def manifest(self, model: str, version: str) -> Manifest | None:
        """The manifest of a version, or None when there is no such version."""
        ...

    def reference_dir(self, model: str, version: str) -> Path | None:
        """Folder that holds `manifest.reference` (see `export.contracts.reference`), or None."""
        ...

    def plan(self, model: str) -> TrafficPlan | None:
        """The current traffic plan."""
        ...
