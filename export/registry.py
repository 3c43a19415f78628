"""The registry: a folder of models and versions, aliases, and each model's traffic plan with its history.

    <root>/models/<model>/versions/<version>/manifest.json ...   packages, each written once and never changed
    <root>/models/<model>/plans/00000001.json ...                traffic plans, append-only; the highest is in force
    <root>/models/<model>/aliases.json                           names for versions
    <root>/models/<model>/.lock                                  taken (flock) by whoever writes below the model

Any number of processes read without locks; writers of one model take turns, and a crash at any point leaves either the
old state or the new one. Names that could leave the folder do not pass `checked`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from export import plan_log
from export.contracts import codec
from export.contracts.errors import Conflict, RegistryError
from export.contracts.manifest import MANIFEST_FILE
from export.contracts.traffic import ChallengerMode, TrafficPlan
from export.package import Package, copy_package, read_package
from export.package_files import check_files, staged_folder, sync_folder
from export.registry_view import Aliases, NotRegistered, RegistryView, checked, stat_of

__all__ = ["NotRegistered", "Registry"]


class Registry(RegistryView):
    """Read and change a registry folder. Cheap to construct; creates nothing before the first write.

    Args:
        root: The registry's folder.
        clock: Gives the time that is written into plans.
    """

    def __init__(self, root: Path | str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__(root)
        self._clock = clock

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
        dest = self.folder_of(name) / "versions" / checked("version", version)
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
        folder = self.folder_of(model) / "versions" / checked("version", version)
        with self._writing(model):
            if not folder.is_dir():
                raise NotRegistered(f"model '{model}' has no version '{version}' in the registry")
            plan = self.plan(model)
            if plan is not None and version in plan.versions:
                raise RegistryError(f"the traffic plan of '{model}' names version '{version}': change the plan first")
            named = [alias for alias, target in self.aliases(model).items() if target == version]
            if named:
                raise RegistryError(f"alias '{named[0]}' names version '{version}' of '{model}': move it first")
            self._publish_removal(model, version)
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
        checked("alias", alias)
        with self._writing(model):
            if stat_of(self.folder_of(model) / "versions" / alias / MANIFEST_FILE):
                raise RegistryError(f"'{alias}' is a version of '{model}' and cannot be an alias")
            aliases = self.aliases(model)
            if version is None:
                aliases.pop(alias, None)
            else:
                self.package(model, version)
                aliases[alias] = version
            self._publish_aliases(model, aliases)
            replace_file(self.folder_of(model) / "aliases.json", codec.dumps(Aliases(aliases=aliases)))

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
        self._publish_plan(written)
        plan_log.append(self.folder_of(plan.model) / "plans", written)
        return written

    # Whoever keeps the registry elsewhere too writes there first, and raises when somebody else was quicker.

    def _publish_plan(self, plan: TrafficPlan) -> None: ...

    def _publish_aliases(self, model: str, aliases: dict[str, str]) -> None: ...

    def _publish_removal(self, model: str, version: str) -> None: ...

    def _same(self, name: str, version: str, source: Package) -> Package:
        present = self.package(name, version)
        if present.digest != source.digest:
            raise RegistryError(f"version '{version}' of '{name}' exists with another content: choose another version")
        check_files(present.dir, present.manifest)
        return present

    @contextmanager
    def _writing(self, model: str, *, create: bool = False) -> Iterator[None]:
        folder = self.folder_of(model)
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


def _without_challenger(plan: TrafficPlan) -> TrafficPlan:
    return replace(plan, challenger=None, mode=ChallengerMode.NONE, canary_percent=0.0)


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file whole, and make it survive a power loss."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
    Path(temporary).replace(path)
    sync_folder(path.parent)
