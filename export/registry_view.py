"""Reading the registry's folder: without locks, in any number of processes, never outside the folder."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from export import plan_log
from export.contracts import codec
from export.contracts.errors import NotFound, PackageError, RegistryError
from export.contracts.manifest import MANIFEST_FILE, NAME_PATTERN
from export.contracts.traffic import TrafficPlan
from export.package import Package, read_package

_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Aliases:
    """Content of `aliases.json`."""

    aliases: dict[str, str]
    schema_version: int = 1


class NotRegistered(NotFound, RegistryError):
    """The registry has no such model, version or alias (404 where a client asks for it)."""


class RegistryView:
    """What can be asked of a registry folder. Creates nothing.

    Args:
        root: The registry's folder.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self._packages: dict[Path, tuple[tuple[int, int, int], Package]] = {}

    def generation(self) -> str:
        """A token that changes whenever a plan, a version or an alias changes. Cheap: lists folders, opens nothing."""
        digest = hashlib.blake2b(digest_size=16)
        for model in self.models():
            folder = self.folder_of(model)
            revisions = plan_log.revisions(folder / "plans")
            versions = sorted((e.name, e.inode()) for e in entries(folder / "versions"))
            aliases = [(s.st_ino, s.st_mtime_ns, s.st_size) for s in stat_of(folder / "aliases.json")]
            digest.update(repr((model, len(revisions), revisions[-1:], versions, aliases)).encode())
        return digest.hexdigest()

    def models(self) -> tuple[str, ...]:
        """Names of all models, sorted."""
        found = entries(self.root / "models")
        return tuple(sorted(e.name for e in found if Path(e.path, "versions").is_dir()))

    def versions(self, model: str) -> tuple[str, ...]:
        """Versions of a model, oldest first (by the manifest's creation time); empty for an unknown model."""
        found = []
        for entry in entries(self.folder_of(model) / "versions"):
            try:
                found.append((self.package(model, entry.name).manifest.provenance.created_at, entry.name))
            except PackageError:
                found.append(("", entry.name))  # damaged: listed, so that it can be seen and removed
        return tuple(name for _, name in sorted(found, key=lambda f: (f[0], _natural(f[1]))))

    def package(self, model: str, version: str) -> Package:
        """A version's package.

        Raises:
            NotRegistered: no such model or version.
            PackageError: its manifest cannot be read.
        """
        folder = self.folder_of(model) / "versions" / checked("version", version)
        stamps = stat_of(folder / MANIFEST_FILE)
        if not stamps:
            raise NotRegistered(f"model '{model}' has no version '{version}' in the registry")
        stamp = (stamps[0].st_ino, stamps[0].st_mtime_ns, stamps[0].st_size)
        known = self._packages.get(folder)
        if known is not None and known[0] == stamp:
            return known[1]
        package = read_package(folder)
        if (package.manifest.name, package.manifest.version) != (model, version):
            raise PackageError(f"the package at '{model}/{version}' calls itself otherwise in its manifest")
        self._packages[folder] = (stamp, package)
        return package

    def plan(self, model: str) -> TrafficPlan | None:
        """The plan in force, or None when the model has never had one."""
        folder = self.folder_of(model) / "plans"
        revisions = plan_log.revisions(folder)
        return plan_log.read(folder, revisions[-1]) if revisions else None

    def history(self, model: str) -> tuple[TrafficPlan, ...]:
        """All plans, oldest first."""
        folder = self.folder_of(model) / "plans"
        return tuple(plan_log.read(folder, revision) for revision in plan_log.revisions(folder))

    def aliases(self, model: str) -> dict[str, str]:
        """Alias → version."""
        try:
            data = (self.folder_of(model) / "aliases.json").read_bytes()
        except FileNotFoundError:
            return {}
        try:
            return codec.loads(Aliases, data).aliases
        except ValueError as error:
            raise RegistryError(f"aliases of '{model}': {error}") from None

    def resolve(self, model: str, version_or_alias: str) -> str:
        """The version that a version, or an alias, names.

        Raises:
            NotRegistered: neither.
        """
        name = checked("version", version_or_alias)
        if stat_of(self.folder_of(model) / "versions" / name / MANIFEST_FILE):
            return name
        target = self.aliases(model).get(name)
        if target is None:
            raise NotRegistered(f"model '{model}' has no version or alias '{name}'")
        return target

    def folder_of(self, model: str) -> Path:
        """The folder of a model; refuses names that are no plain folder name."""
        return self.root / "models" / checked("model", model)


def checked(label: str, name: str) -> str:
    """`name`, if it can be a folder below the registry and nothing else."""
    if not NAME_PATTERN.fullmatch(name) or ".." in name:
        raise NotRegistered(f"{label} name is not valid: 1-64 of letters, digits, '_', '-', '.'")
    return name


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Folders with valid names in `folder`; none when it is not there. Links are not followed."""
    try:
        with os.scandir(folder) as found:
            return [e for e in found if NAME_PATTERN.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def stat_of(path: Path) -> list[os.stat_result]:
    """The status of a file, not following a link; empty when there is none."""
    try:
        return [os.stat(path, follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which version 10 comes after version 9."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in _DIGITS.split(name) if part]
