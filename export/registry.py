"""The registry: a folder of models and versions, aliases, and each model's traffic plan with its history.

    <root>/models/<model>/versions/<version>/manifest.json ...   packages, each written once and never changed
    <root>/models/<model>/plans/00000001.json ...                traffic plans, append-only; the highest is in force
    <root>/models/<model>/aliases.json                           names for versions
    <root>/models/<model>/.lock                                  taken (flock) by whoever writes below the model

Any number of processes read without locks; writers of one model take turns, and a crash at any point leaves either the
old state or the new one. Names that could leave the folder do not pass `_checked`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from export import plan_log
from export.contracts import codec
from export.contracts.errors import Conflict, NotFound, PackageError, RegistryError
from export.contracts.manifest import MANIFEST_FILE, NAME_PATTERN
from export.contracts.traffic import ChallengerMode, TrafficPlan
from export.package import Package, check_files, copy_package, read_package, staged_folder, sync_folder

_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Aliases:
    """Content of `aliases.json`."""

    aliases: dict[str, str]
    schema_version: int = 1


class NotRegistered(NotFound, RegistryError):
    """The registry has no such model, version or alias (404 where a client asks for it)."""


class Registry:
    """Read and change a registry folder. Cheap to construct; creates nothing before the first write.

    Args:
        root: The registry's folder.
        clock: Gives the time that is written into plans.
    """

    def __init__(self, root: Path | str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.root = Path(root)
        self._clock = clock
        self._packages: dict[Path, tuple[tuple[int, int, int], Package]] = {}

    # ---- reading

    def generation(self) -> str:
        """A token that changes whenever a plan, a version or an alias changes. Cheap: lists folders, opens nothing."""
        digest = hashlib.blake2b(digest_size=16)
        for model in self.models():
            folder = self._model(model)
            revisions = plan_log.revisions(folder / "plans")
            versions = sorted((e.name, e.inode()) for e in _entries(folder / "versions"))
            aliases = [(s.st_ino, s.st_mtime_ns, s.st_size) for s in _stat(folder / "aliases.json")]
            digest.update(repr((model, len(revisions), revisions[-1:], versions, aliases)).encode())
        return digest.hexdigest()

    def models(self) -> tuple[str, ...]:
        """Names of all models, sorted."""
        found = _entries(self.root / "models")
        return tuple(sorted(e.name for e in found if Path(e.path, "versions").is_dir()))

    def versions(self, model: str) -> tuple[str, ...]:
        """Versions of a model, oldest first (by the manifest's creation time); empty for an unknown model."""
        found = []
        for entry in _entries(self._model(model) / "versions"):
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
        folder = self._model(model) / "versions" / _checked("version", version)
        stamps = _stat(folder / MANIFEST_FILE)
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
        folder = self._model(model) / "plans"
        revisions = plan_log.revisions(folder)
        return plan_log.read(folder, revisions[-1]) if revisions else None

    def history(self, model: str) -> tuple[TrafficPlan, ...]:
        """All plans, oldest first."""
        folder = self._model(model) / "plans"
        return tuple(plan_log.read(folder, revision) for revision in plan_log.revisions(folder))

    def aliases(self, model: str) -> dict[str, str]:
        """Alias → version."""
        try:
            data = (self._model(model) / "aliases.json").read_bytes()
        except FileNotFoundError:
            return {}
        try:
            return codec.loads(_Aliases, data).aliases
        except ValueError as error:
            raise RegistryError(f"aliases of '{model}': {error}") from None

    def resolve(self, model: str, version_or_alias: str) -> str:
        """The version that a version, or an alias, names.

        Raises:
            NotRegistered: neither.
        """
        name = _checked("version", version_or_alias)
        if _stat(self._model(model) / "versions" / name / MANIFEST_FILE):
            return name
        target = self.aliases(model).get(name)
        if target is None:
            raise NotRegistered(f"model '{model}' has no version or alias '{name}'")
        return target

    # ---- packages

    def add(self, package_dir: Path | str) -> Package:
        """Copy a package into the registry, atomically, checking every digest before and after.

        Adding the same package again changes nothing.

        Raises:
            AdmissionRefused: a file does not fit the manifest.
            RegistryError: the version exists with another content.
        """
        source = read_package(Path(package_dir))
        name, version = source.manifest.name, source.manifest.version
        dest = self._model(name) / "versions" / _checked("version", version)
        with self._writing(name, create=True):
            if dest.exists():
                return self._same(name, version, source)
            check_files(source.dir, source.manifest)
            with staged_folder(dest) as folder:
                copy_package(source, folder)
                check_files(folder, source.manifest)
        return self.package(name, version)

    def remove_version(self, model: str, version: str) -> None:
        """Delete a version.

        Raises:
            NotRegistered: no such version.
            RegistryError: the plan or an alias names it.
        """
        folder = self._model(model) / "versions" / _checked("version", version)
        with self._writing(model):
            if not folder.is_dir():
                raise NotRegistered(f"model '{model}' has no version '{version}' in the registry")
            plan = self.plan(model)
            if plan is not None and version in plan.versions:
                raise RegistryError(f"the traffic plan of '{model}' names version '{version}': change the plan first")
            named = [alias for alias, target in self.aliases(model).items() if target == version]
            if named:
                raise RegistryError(f"alias '{named[0]}' names version '{version}' of '{model}': move it first")
            trash = Path(tempfile.mkdtemp(prefix=".removed.", dir=folder.parent.parent))
            folder.rename(trash / "package")
            sync_folder(folder.parent)
            self._packages.pop(folder, None)
        shutil.rmtree(trash, ignore_errors=True)

    # ---- plans

    def set_plan(self, plan: TrafficPlan, *, expected_revision: int) -> TrafficPlan:
        """Write a plan as the next revision. Its `revision` and `changed_at` are set here.

        Args:
            plan: What is to hold.
            expected_revision: The revision that the caller has seen; 0 when there was none.

        Raises:
            Conflict: the plan has another revision by now.
            NotRegistered: the plan names a model or version that is not registered.
            RegistryError: the plan contradicts itself.
        """
        with self._writing(plan.model):
            current = self.plan(plan.model)
            revision = current.revision if current else 0
            if revision != expected_revision:
                raise Conflict(
                    f"the plan of '{plan.model}' is at revision {revision}, not {expected_revision}: "
                    "read it and decide again"
                )
            return self._append(plan, revision + 1)

    def promote(
        self, model: str, version: str, *, author: str, reason: str = "", expected_revision: int | None = None
    ) -> TrafficPlan:
        """Make a version the champion. A challenger that is promoted stops being one. Idempotent."""

        def change(plan: TrafficPlan) -> TrafficPlan:
            if plan.champion == version and plan.challenger != version:
                return plan
            kept = plan if plan.challenger != version else _without_challenger(plan)
            return replace(kept, champion=version)

        return self._change(model, change, author, reason, expected_revision)

    def rollback(self, model: str, *, author: str, reason: str = "") -> TrafficPlan:
        """Return to the champion before the present one, and withdraw any challenger.

        Roll-backs undo promotions one by one: a second one goes back one promotion further.

        Raises:
            RegistryError: there is no earlier champion that is still in the registry.
        """

        def change(plan: TrafficPlan) -> TrafficPlan:
            registered = set(self.versions(model))
            earlier = [v for v in plan_log.previous_champions(self.history(model)) if v in registered]
            if not earlier:
                raise RegistryError(f"model '{model}' has no earlier champion to go back to")
            return replace(_without_challenger(plan), champion=earlier[-1], rolled_back=plan.revision)

        return self._change(model, change, author, reason, None)

    def challenge(
        self,
        model: str,
        version: str,
        mode: ChallengerMode,
        percent: float = 0.0,
        *,
        author: str,
        reason: str = "",
        expected_revision: int | None = None,
    ) -> TrafficPlan:
        """Run a version beside the champion: in the shadow, or as a canary for `percent` of the requests."""
        if mode is ChallengerMode.NONE:
            return self.withdraw(model, author=author, reason=reason, expected_revision=expected_revision)

        def change(plan: TrafficPlan) -> TrafficPlan:
            return replace(plan, challenger=version, mode=mode, canary_percent=percent)

        return self._change(model, change, author, reason, expected_revision)

    def withdraw(
        self, model: str, *, author: str, reason: str = "", expected_revision: int | None = None
    ) -> TrafficPlan:
        """Take the challenger out; the champion stays."""
        return self._change(model, _without_challenger, author, reason, expected_revision)

    def pin(self, model: str, version: str, *, author: str, reason: str = "") -> TrafficPlan:
        """Keep a version loaded for requests that name it."""

        def change(plan: TrafficPlan) -> TrafficPlan:
            return replace(plan, pinned=tuple(dict.fromkeys((*plan.pinned, version))))

        return self._change(model, change, author, reason, None)

    def unpin(self, model: str, version: str, *, author: str, reason: str = "") -> TrafficPlan:
        """No longer keep a version loaded."""

        def change(plan: TrafficPlan) -> TrafficPlan:
            return replace(plan, pinned=tuple(v for v in plan.pinned if v != version))

        return self._change(model, change, author, reason, None)

    # ---- aliases

    def set_alias(self, model: str, alias: str, version: str | None) -> None:
        """Let `alias` name a version, or nothing any more (None).

        Raises:
            NotRegistered: no such version.
            RegistryError: a version has this name.
        """
        _checked("alias", alias)
        with self._writing(model):
            if _stat(self._model(model) / "versions" / alias / MANIFEST_FILE):
                raise RegistryError(f"'{alias}' is a version of '{model}' and cannot be an alias")
            aliases = self.aliases(model)
            if version is None:
                aliases.pop(alias, None)
            else:
                self.package(model, version)
                aliases[alias] = version
            _replace_file(self._model(model) / "aliases.json", codec.dumps(_Aliases(aliases=aliases)))

    # ---- inside

    def _change(
        self,
        model: str,
        change: Callable[[TrafficPlan], TrafficPlan],
        author: str,
        reason: str,
        expected_revision: int | None,
    ) -> TrafficPlan:
        with self._writing(model):
            current = self.plan(model)
            base = current or TrafficPlan(model=model, revision=0, champion=None)
            if expected_revision is not None and base.revision != expected_revision:
                raise Conflict(f"the plan of '{model}' is at revision {base.revision}, not {expected_revision}")
            try:
                wanted = change(replace(base, rolled_back=None))
            except ValueError as error:
                raise RegistryError(f"plan of '{model}': {error}") from None
            if current is not None and wanted == replace(base, rolled_back=None):
                return current
            return self._append(replace(wanted, author=author, reason=reason), base.revision + 1)

    def _append(self, plan: TrafficPlan, revision: int) -> TrafficPlan:
        if plan.challenger is not None and plan.challenger == plan.champion:
            raise RegistryError(f"version '{plan.champion}' cannot be champion and challenger at once")
        for version in plan.versions:
            self.package(plan.model, version)
        now = self._clock().astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        written = replace(plan, revision=revision, changed_at=now)
        plan_log.append(self._model(plan.model) / "plans", written)
        return written

    def _same(self, name: str, version: str, source: Package) -> Package:
        present = self.package(name, version)
        if present.digest != source.digest:
            raise RegistryError(f"version '{version}' of '{name}' exists with another content: choose another version")
        check_files(present.dir, present.manifest)
        return present

    def _model(self, model: str) -> Path:
        return self.root / "models" / _checked("model", model)

    @contextmanager
    def _writing(self, model: str, *, create: bool = False) -> Iterator[None]:
        folder = self._model(model)
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:
            raise NotRegistered(f"model '{model}' is not in the registry") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _checked(label: str, name: str) -> str:
    """`name`, if it can be a folder below the registry and nothing else."""
    if not NAME_PATTERN.fullmatch(name) or ".." in name:
        raise NotRegistered(f"{label} name is not valid: 1-64 of letters, digits, '_', '-', '.'")
    return name


def _without_challenger(plan: TrafficPlan) -> TrafficPlan:
    return replace(plan, challenger=None, mode=ChallengerMode.NONE, canary_percent=0.0)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Folders with valid names in `folder`; none when it is not there. Links are not followed."""
    try:
        with os.scandir(folder) as found:
            return [e for e in found if NAME_PATTERN.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _stat(path: Path) -> list[os.stat_result]:
    try:
        return [os.stat(path, follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which version 10 comes after version 9."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in _DIGITS.split(name) if part]


def _replace_file(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
    Path(temporary).replace(path)
    sync_folder(path.parent)
