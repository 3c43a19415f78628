"""Versions that somebody registered in MLflow for us: fetched, made packages of, admitted, and given to the loop.

The tag `hardcase: import` of a model version asks for it, or somebody here does (`hardcase mlflow pull`). Only an ONNX
file (with its external data) or a whole Hardcase package is fetched; pickles, scripts and whatever else lies with the
model stay where they are. What was fetched is opened in a child process only, by whoever is handed in as `bring_in`.
From then on it is a turn of the loop as any other: gate, roll-out, promotion or not.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from export.contracts.errors import Conflict, HardcaseError, Unavailable
from export.contracts.manifest import NAME_PATTERN
from monitoring import schema as t
from monitoring.catalogue import Catalogue
from monitoring.integrations.contracts import ToolError
from monitoring.integrations.egress import EgressFailed
from monitoring.integrations.mlflow import rows
from monitoring.integrations.mlflow.client import MlflowClient, Registered, RemoteFile
from monitoring.integrations.mlflow.names import ASKED, MARK, ImportState
from monitoring.integrations.mlflow.options import ExperimentOptions
from monitoring.integrations.mlflow.rows import ImportRow
from monitoring.integrations.mlflow.versions import VERSION_TAG
from monitoring.loop.contracts import BringIn, Candidates
from monitoring.loop.external import insert_external
from monitoring.store import Store

logger = logging.getLogger(__name__)

FILES = 64
ATTEMPTS = 5  # to fetch and to make a package of, before it is refused
MANIFEST = "manifest.json"
_DATA = (".data", ".onnx_data", ".onnx.data", ".bin", ".weights")


@dataclass(kw_only=True)
class Incoming:
    """Fetches what was registered for us.

    Attributes:
        work: Folder for what is being fetched.
        clock: Nanoseconds since the epoch.
    """

    client: MlflowClient
    store: Store
    catalogue: Catalogue
    candidates: Candidates
    bring_in: BringIn
    options: ExperimentOptions
    work: Path
    clock: Callable[[], int] = time.time_ns

    def look(self) -> None:
        """Note what is asked for over there, where the settings let that count."""
        if not self.options.imports:
            return
        names = {self.options.name_of(model): model for model in self.catalogue.models()}
        for found in self.client.versions(f"tag.`{MARK}` = '{ASKED}'"):
            model = names.get(found.name, found.name)
            rows.note_found(self.store, found.name, found.number, model[:64], self.clock())

    def turn(self) -> bool:
        """Take one in, or tell what became of one; returns whether there is more to do at once."""
        for row in rows.untold(self.store, limit=20):
            if row.state != ImportState.FOUND:
                self._tell(row)
                return True
        return any(self._take(row) for row in rows.imports(self.store, (ImportState.FOUND,), limit=20))

    def _take(self, row: ImportRow) -> bool:
        """Returns whether the version's state has changed."""
        try:
            if not self._begin(row):
                return False
        except (EgressFailed, Unavailable):
            raise  # the server is away: again later, and this is not the version's fault
        except ToolError as error:
            if not error.about_request:
                raise
            self._refuse(row, error.message)
        except Conflict:
            return False  # the model has a turn under way: after it
        except HardcaseError as error:
            self._refuse(row, error.message)
        return True

    def _begin(self, row: ImportRow) -> bool:
        plan = self.catalogue.plan(row.model) if NAME_PATTERN.fullmatch(row.model) else None
        if plan is None or plan.champion is None:
            raise Refused(f"no model '{row.model}' is served here, so there is nothing to hold it against")
        if self._busy(row.model):
            return False
        if row.attempts >= ATTEMPTS:
            raise Refused(f"{ATTEMPTS} attempts to take it in did not come to an end")
        rows.note_import(self.store, row.id, attempts=row.attempts + 1)
        version = row.version or self.candidates.next_version(row.model)
        rows.note_import(self.store, row.id, version=version)  # the same again after a crash
        folder = self.work / f"{row.id}"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            said = self._fetch(row, folder / "fetched")
            like = self.candidates.folder(row.model, plan.champion)
            note = f"mlflow:{row.name}/{row.number}"
            made = self.bring_in(
                folder / "fetched", folder / "made", model=row.model, version=version, like=like, note=note
            )
            digest = read_digest(made)
            self.candidates.admit(made)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._hand_over(row, version, plan.champion, said, digest)
        return True

    def _busy(self, model: str) -> bool:
        with self.store.read() as connection:
            return connection.scalar(sa.select(t.trainings.c.id).where(t.trainings.c.flight == model)) is not None

    def _fetch(self, row: ImportRow, folder: Path) -> Registered:
        found = [v for v in self.client.versions(f"name='{row.name}'") if v.number == row.number]
        if not found:
            raise Refused("there is no such version in MLflow")
        if found[0].tags.get(MARK) != ASKED and not row.asked_by:
            raise Refused("it was taken back before it was fetched")
        for own in rows.version_rows(self.store, row.model).values():
            if (own.name, own.number) == (row.name, row.number):
                raise Refused(f"it is version {own.version} here already")
        root = self.client.root(found[0])
        wanted = choose(self.client.files(root, most=FILES))
        total = sum(file.size_bytes for file in wanted)
        if total > self.options.file_bytes:
            raise Refused(f"its files have {total} bytes, more than experiments.file_bytes ({self.options.file_bytes})")
        for file in wanted:
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.client.fetch(root, file.path, max_bytes=max(file.size_bytes, 1)))
        return found[0]

    def _hand_over(self, row: ImportRow, version: str, champion: str, said: Registered, digest: str) -> None:
        manifest = self.catalogue.manifest(row.model, version)
        if manifest is None:
            raise Unavailable("the registry does not show the version yet")
        figures = {"name": row.name, "number": row.number, "run": said.run}
        with self.store.write() as connection:
            training = insert_external(
                connection,
                model=row.model,
                version=version,
                digest=digest,
                champion=champion,
                origin="mlflow",
                reason=_reason(row),
                snapshot_digest=manifest.provenance.dataset_snapshot or "",
                now_ns=self.clock(),
            )
            known = {"model": row.model, "version": version, "digest": "", **figures}
            rows.put_version_within(connection, known)
            rows.note_import_within(connection, row.id, state=ImportState.TAKEN.value, training_id=training, problem="")

    def _refuse(self, row: ImportRow, problem: str) -> None:
        logger.warning("version %s of '%s' in MLflow is refused: %s", row.number, row.name, problem)
        rows.note_import(self.store, row.id, state=ImportState.REFUSED.value, problem=problem)

    def _tell(self, row: ImportRow) -> None:
        tags = {MARK: row.state}
        if row.problem:
            tags["hardcase.problem"] = row.problem
        if row.training_id:
            tags |= {VERSION_TAG: row.version, "hardcase.training": row.training_id}
        try:
            self.client.tag_version(row.name, row.number, tags)
        except ToolError as error:
            if not error.about_request:
                raise  # else it is gone there: nobody to tell
        rows.note_import(self.store, row.id, told=row.state)


class Refused(HardcaseError):
    """What was registered cannot become a version here."""

    code = "import_refused"


def _reason(row: ImportRow) -> str:
    said = f"version {row.number} of '{row.name}' was registered in MLflow"
    return f"{said}, and {row.asked_by} asked for it" if row.asked_by else said


def read_digest(package: Path) -> str:
    """A package's digest: that of its manifest's bytes."""
    return "sha256:" + hashlib.sha256((package / MANIFEST).read_bytes()).hexdigest()


def choose(files: list[RemoteFile]) -> list[RemoteFile]:
    """Which files are fetched: a package's, or one ONNX file and the data beside it.

    Raises:
        Refused: there is neither.
    """
    if any(file.path == MANIFEST for file in files):
        return files  # admission holds them against the manifest, and refuses any other
    models = [file for file in files if file.path.endswith(".onnx")]
    if not models:
        raise Refused("it holds neither an ONNX file nor a Hardcase package; pickled models are not taken")
    if len(models) > 1:
        raise Refused(f"it holds {len(models)} ONNX files: which one is meant cannot be told")
    folder = models[0].path.rpartition("/")[0]
    beside = [file for file in files if file.path.rpartition("/")[0] == folder and file.path.endswith(_DATA)]
    return [models[0], *beside]
