"""The duty that keeps MLflow and the loop in step, where the settings name a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from monitoring.catalogue import Catalogue
from monitoring.duties import Duty
from monitoring.integrations.egress import Egress
from monitoring.integrations.mlflow.client import MlflowClient, basic
from monitoring.integrations.mlflow.incoming import Incoming
from monitoring.integrations.mlflow.options import ExperimentOptions
from monitoring.integrations.mlflow.runs import RunMirror
from monitoring.integrations.mlflow.versions import VersionMirror
from monitoring.integrations.mlflow.worker import MlflowWorker
from monitoring.integrations.secrets import read_token
from monitoring.loop.contracts import BringIn, Candidates, Workshop
from monitoring.options import MonitorOptions
from monitoring.store import Store

EVERY_S = 1.0  # a look into the database, unless something is due
TOTAL_S = 120.0  # of one call: packages are large


class Keeper(Protocol):
    """What this duty needs of the loop."""

    @property
    def store(self) -> Store: ...  # noqa: D102  # described where it is implemented
    @property
    def options(self) -> MonitorOptions: ...  # noqa: D102


def make_client(options: ExperimentOptions, allowed_hosts: tuple[str, ...] = ()) -> MlflowClient:
    """The client of the configured server."""

    def credentials() -> str:
        if options.token_file:
            return f"Bearer {read_token(options.token_file)}"
        return basic(options.username, read_token(options.password_file)) if options.username else ""

    egress = Egress.to(options.url, allowed_hosts, attempts=2, total_s=TOTAL_S)
    return MlflowClient(base=options.url, egress=egress, credentials=credentials)


def make_worker(
    options: ExperimentOptions,
    store: Store,
    catalogue: Catalogue,
    *,
    allowed_hosts: tuple[str, ...] = (),
    candidates: Candidates | None = None,
    loop_folder: Path | None = None,
    bring_in: BringIn | None = None,
) -> MlflowWorker:
    """Put a worker together.

    Args:
        options: Of the server.
        store: The monitor's database.
        catalogue: Packages and plans.
        allowed_hosts: That may be on this machine or in a private network.
        candidates: The registry, to fetch packages from and to add to; without it no package is sent or taken.
        loop_folder: State of the loop, where gates leave their reports.
        bring_in: Makes packages of what was fetched; without it nothing is taken in.
    """
    client = make_client(options, allowed_hosts)

    def package(model: str, version: str) -> Path | None:
        return None if candidates is None else candidates.folder(model, version)

    def gate_folder(training: str) -> Path | None:
        return None if loop_folder is None else loop_folder / "trainings" / training / "gate"

    incoming = None
    if candidates is not None and bring_in is not None and loop_folder is not None:
        incoming = Incoming(
            client=client,
            store=store,
            catalogue=catalogue,
            candidates=candidates,
            bring_in=bring_in,
            options=options,
            work=loop_folder / "imports",
        )
    return MlflowWorker(
        store=store,
        runs=RunMirror(
            client=client,
            store=store,
            options=options,
            package=package,
            gate_folder=gate_folder,
            manifest=catalogue.manifest,
        ),
        versions=VersionMirror(client=client, store=store, catalogue=catalogue, options=options, package=package),
        incoming=incoming,
        poll_s=options.poll_s,
    )


def mlflow_duty(
    options: MonitorOptions, catalogue: Catalogue, workshop: Workshop | None = None
) -> tuple[Duty[Any], ...]:
    """The duty; none where no server is set. Without a workshop no package is sent, and none is taken in."""
    if not options.experiments.url:
        return ()
    made: list[MlflowWorker] = []  # at its first turn, when there is a loop

    def run(loop: Keeper) -> bool:
        if not made:
            made.append(
                make_worker(
                    options.experiments,
                    loop.store,
                    catalogue,
                    allowed_hosts=options.integrations.allowed_hosts,
                    candidates=None if workshop is None else workshop.candidates,
                    loop_folder=None if workshop is None else workshop.folder,
                    bring_in=None if workshop is None else workshop.bring_in,
                )
            )
        return made[0].turn()

    return (Duty[Keeper](name="mlflow", interval_s=EVERY_S, run=run, aside=True, alone=True),)
