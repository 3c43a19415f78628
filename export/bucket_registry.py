"""The registry in a bucket, with a folder of each machine as its copy.

    blobs/sha256/<hex>                            files of packages, once each however many versions have them
    registry/models/<model>/versions/<version>    the manifest's bytes, written last: it makes the version exist
    registry/models/<model>/plans/00000001        traffic plans; each number is written by exactly one of all machines
    registry/models/<model>/aliases/00000001      all aliases; the highest number is in force
    registry/models/<model>/removed/<version>     the version is gone, and its name is used up
    registry/HEAD                                 another text after every change, so that looking is cheap

A change is made in the bucket first, with a conditional write that one of several machines wins, and then in the
folder. A copy takes files by digest, and takes a plan only when it has every version that the plan names: whoever
reads the folder (replicas, the console) needs to know nothing of buckets, and goes on when the bucket is away.
"""

from __future__ import annotations

import logging
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from export import plan_log
from export.contracts import codec
from export.contracts.errors import Conflict, HardcaseError, RegistryError
from export.contracts.manifest import MANIFEST_FILE, Manifest
from export.contracts.traffic import TrafficPlan
from export.package import Package, read_package
from export.package_files import check_files, is_safe_path, staged_folder
from export.registry import Registry, replace_file
from export.registry_view import Aliases, checked
from export.storage.objects import ObjectStore

HEAD = "registry/HEAD"
_KEY = re.compile(r"registry/models/([^/]+)/(versions|plans|aliases|removed)/([^/]+)")
_log = logging.getLogger("hardcase.registry")


@dataclass(kw_only=True)
class _Remote:
    """What the bucket has of one model."""

    versions: dict[str, str] = field(default_factory=dict)  # version to tag
    plans: list[int] = field(default_factory=list)
    aliases: list[int] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """What one look brought.

    Attributes:
        problems: What could not be taken over, in words; the rest was.
    """

    changed: bool = False
    versions: int = 0
    plans: int = 0
    problems: tuple[str, ...] = ()


class BucketRegistry(Registry):
    """A registry folder that is a copy of one in a bucket. Used like `Registry`; changes go to the bucket first.

    Args:
        root: The folder of the copy.
        store: The bucket.
        clock: Gives the time that is written into plans.
    """

    def __init__(
        self, root: Path | str, store: ObjectStore, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        super().__init__(root, clock=clock)
        self._store = store
        self._head = ""
        self._whole = False

    # ---- from the bucket

    def pull(self, *, unless_same: bool = False) -> Pulled:
        """Take over what the folder lacks.

        Args:
            unless_same: Only ask whether anything changed since the last pull that went well, which costs one request.

        Raises:
            StorageUnavailable: the bucket does not answer; the folder holds what it held, whole.
        """
        head = self._store.get_if_changed(HEAD, self._head if unless_same and self._whole else "")
        if head is None and unless_same and self._whole:
            return Pulled()
        before = self.generation()
        versions = plans = 0
        problems: list[str] = []
        for model, remote in self._listed("registry/models/").items():
            try:
                with super()._writing(checked("model", model), create=True):
                    new = self._take(model, remote, problems)
                versions, plans = versions + new[0], plans + new[1]
            except HardcaseError as error:
                problems.append(f"{model}: {error.message}")
        self._whole = not problems
        self._head = head.tag if head is not None else ""
        for problem in problems:
            _log.warning("registry in the bucket: %s", problem)
        return Pulled(changed=self.generation() != before, versions=versions, plans=plans, problems=tuple(problems))

    def _take(self, model: str, remote: _Remote, problems: list[str]) -> tuple[int, int]:
        folder, versions, plans = self.folder_of(model), 0, 0
        for version in remote.versions:
            try:
                versions += self._take_version(model, checked("version", version))
            except HardcaseError as error:
                problems.append(f"{model} {version}: {error.message}")
        known = plan_log.revisions(folder / "plans")
        foreign = bool(known) and known[-1] > max(remote.plans, default=0)
        if known and not foreign and not self._whole:  # once: the last plan that both have is the same one
            foreign = self._store.get(_plan_key(model, known[-1])).data != codec.dumps(
                plan_log.read(folder / "plans", known[-1])
            )
        if foreign:
            raise RegistryError("the folder has plans that the bucket has not: is it a copy of another registry?")
        for revision in remote.plans:
            data = self._store.get(_plan_key(model, revision)).data if revision not in known else b""
            if not data:
                continue
            plan = codec.loads(TrafficPlan, data)
            for version in plan.versions if revision == remote.plans[-1] else ():
                self.package(model, version)  # the plan in force must find what it names
            plan_log.append(folder / "plans", plan)
            plans += 1
        if remote.aliases:
            data = self._store.get(_aliases_key(model, remote.aliases[-1])).data
            if self.aliases(model) != codec.loads(Aliases, data).aliases:
                replace_file(folder / "aliases.json", data)
        for version in remote.removed:
            gone = folder / "versions" / checked("version", version)
            if gone.is_dir() and version not in remote.versions:
                shutil.rmtree(gone)
        return versions, plans

    def _take_version(self, model: str, version: str) -> int:
        dest = self.folder_of(model) / "versions" / version
        if dest.is_dir():
            return 0
        data = self._store.get(_version_key(model, version)).data
        with staged_folder(dest) as folder:
            (folder / MANIFEST_FILE).write_bytes(data)
            manifest = read_package(folder).manifest
            if (manifest.name, manifest.version) != (model, version):
                raise RegistryError("the manifest calls itself otherwise")
            self._take_files(manifest, folder)
            check_files(folder, manifest)
        return 1

    def _take_files(self, manifest: Manifest, folder: Path) -> None:
        for file in manifest.files:
            if not is_safe_path(file.path) or re.fullmatch(r"[0-9a-f]{64}", file.sha256) is None:
                raise RegistryError("the manifest names a file that cannot be one")
            target = folder.joinpath(*file.path.split("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            self._store.download(_blob_key(file.sha256), target)

    def _listed(self, prefix: str) -> dict[str, _Remote]:
        found: dict[str, _Remote] = {}
        for entry in self._store.list(prefix):
            match = _KEY.fullmatch(entry.key)
            if match is None:
                continue
            remote = found.setdefault(match[1], _Remote())
            if match[2] == "versions":
                remote.versions[match[3]] = entry.tag
            elif match[2] == "removed":
                remote.removed.append(match[3])
            elif match[3].isascii() and match[3].isdigit():
                (remote.plans if match[2] == "plans" else remote.aliases).append(int(match[3]))
        return found

    # ---- to the bucket

    def add(self, package_dir: Path | str) -> Package:
        """See `Registry.add`. Files go first and the manifest last, so that a version is there whole or not at all."""
        self._upload(read_package(Path(package_dir)))
        return super().add(package_dir)

    def _upload(self, source: Package) -> None:
        model, version = source.manifest.name, checked("version", source.manifest.version)
        check_files(source.dir, source.manifest)
        if self._store.exists(_removed_key(model, version)):
            raise RegistryError(f"version '{version}' of '{model}' was removed: choose another version")
        for file in source.manifest.files:
            if not self._store.exists(_blob_key(file.sha256)):
                self._store.put(_blob_key(file.sha256), source.file(file.path))
        data = (source.dir / MANIFEST_FILE).read_bytes()
        key = _version_key(model, version)
        if not self._store.create(key, data) and self._store.get(key).data != data:
            raise RegistryError(f"version '{version}' of '{model}' exists with another content: choose another version")
        self._touch()

    def adopt(self) -> int:
        """Bring what the folder has into an empty bucket: every version, plan and alias. Idempotent.

        Returns:
            Plans that were written.

        Raises:
            Conflict: the bucket has another history of a model.
        """
        written = 0
        for model in self.models():
            for version in self.versions(model):
                self._upload(self.package(model, version))
            for plan in self.history(model):
                data = codec.dumps(plan)
                if self._store.create(_plan_key(model, plan.revision), data):
                    written += 1
                elif self._store.get(_plan_key(model, plan.revision)).data != data:
                    raise Conflict(f"the bucket has another history of '{model}'")
            if aliases := self.aliases(model):
                self._store.create(_aliases_key(model, 1), codec.dumps(Aliases(aliases=aliases)))
        self._touch()
        return written

    def _publish_plan(self, plan: TrafficPlan) -> None:
        if not self._store.create(_plan_key(plan.model, plan.revision), codec.dumps(plan)):
            raise Conflict(
                f"revision {plan.revision} of the plan of '{plan.model}' was written by another machine: "
                "read it and decide again"
            )
        self._touch()

    def _publish_aliases(self, model: str, aliases: dict[str, str]) -> None:
        remote = self._listed(f"registry/models/{model}/aliases/").get(model, _Remote())
        data = codec.dumps(Aliases(aliases=aliases))
        if not self._store.create(_aliases_key(model, max(remote.aliases, default=0) + 1), data):
            raise Conflict(f"aliases of '{model}' were changed by another machine: read them and decide again")
        self._touch()

    def _publish_removal(self, model: str, version: str) -> None:
        self._store.put(_removed_key(model, version), b"{}")
        self._store.delete(_version_key(model, version))
        self._touch()

    def _touch(self) -> None:
        """Say that something changed. Lost with its process, it is made good by the next full look."""
        self._store.put(HEAD, secrets.token_hex(16).encode())

    @contextmanager
    def _writing(self, model: str, *, create: bool = False) -> Iterator[None]:
        """As in the folder; what is decided next is decided on what the bucket holds now."""
        with super()._writing(model, create=create or bool(self._listed(f"registry/models/{model}/"))):
            remote = self._listed(f"registry/models/{model}/").get(model)
            if remote is not None:
                problems: list[str] = []
                self._take(model, remote, problems)
            yield


def _version_key(model: str, version: str) -> str:
    return f"registry/models/{model}/versions/{version}"


def _plan_key(model: str, revision: int) -> str:
    return f"registry/models/{model}/plans/{revision:08d}"


def _aliases_key(model: str, number: int) -> str:
    return f"registry/models/{model}/aliases/{number:08d}"


def _removed_key(model: str, version: str) -> str:
    return f"registry/models/{model}/removed/{version}"


def _blob_key(sha256: str) -> str:
    return f"blobs/sha256/{sha256}"


__all__ = ["HEAD", "BucketRegistry", "Pulled"]
