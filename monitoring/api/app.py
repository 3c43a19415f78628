"""The monitor's FastAPI application: JSON API, console pages, metrics and service discovery."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import Depends, FastAPI

from export.contracts.privacy import PrivacyPolicy
from monitoring.api import errors, files, routes
from monitoring.api.alarm_routes import alarm_router
from monitoring.api.alarm_views import AlarmView
from monitoring.api.batch_routes import batch_router
from monitoring.api.compare_views import Comparer
from monitoring.api.dataset_routes import dataset_router
from monitoring.api.dataset_views import DatasetDesk
from monitoring.api.drift_routes import drift_router
from monitoring.api.exchange_routes import exchange_router
from monitoring.api.explore_routes import explore_router
from monitoring.api.explore_views import Explorer
from monitoring.api.feedback_routes import feedback_router
from monitoring.api.finding_routes import finding_router
from monitoring.api.finding_views import Findings
from monitoring.api.gate_routes import gate_router
from monitoring.api.gate_views import GateDesk
from monitoring.api.heat_routes import heat_router
from monitoring.api.jobs_routes import jobs_router
from monitoring.api.limits import Limits
from monitoring.api.list_routes import list_router
from monitoring.api.list_views import CaseLists
from monitoring.api.loop_routes import loop_router
from monitoring.api.loop_views import LoopDesk
from monitoring.api.mlflow_routes import mlflow_router
from monitoring.api.notify_routes import notify_router
from monitoring.api.notify_views import NoticeDesk
from monitoring.api.options import ConsoleOptions, MonitorView, Targets
from monitoring.api.people_routes import people_router
from monitoring.api.review_routes import ledger_router
from monitoring.api.review_views import ReviewView
from monitoring.api.roles import nameless_changes
from monitoring.api.rollout_routes import rollout_router
from monitoring.api.rollout_views import RolloutDesk
from monitoring.api.security import Guard
from monitoring.api.slice_routes import slice_router
from monitoring.api.slice_views import SliceDesk
from monitoring.api.tool_routes import tool_router
from monitoring.api.upkeep_routes import upkeep_router
from monitoring.api.views import View
from monitoring.baselines import Baselines
from monitoring.catalogue import Catalogue
from monitoring.console.build import Builder
from monitoring.console.pages import error_page, page_router
from monitoring.console.pages_cases import cases_router
from monitoring.console.pages_datasets import datasets_router
from monitoring.console.pages_explore import explore_pages
from monitoring.console.pages_gates import gates_router
from monitoring.console.pages_loop import loop_pages
from monitoring.console.pages_overview import overview_router
from monitoring.console.pages_people import people_pages
from monitoring.console.pages_review import review_router
from monitoring.console.pages_rollouts import rollouts_router
from monitoring.console.pages_settings import settings_router
from monitoring.console.pages_slices import slices_router
from monitoring.console.pages_static import static_router
from monitoring.console.parts import Fact
from monitoring.datasets.build import SnapshotSource
from monitoring.explore.replays import ReplayService
from monitoring.explore.serving_client import ServingClient
from monitoring.gate.options import GateOptions
from monitoring.inference_options import InferenceOptions
from monitoring.integrations.mlflow.options import ExperimentOptions
from monitoring.integrations.options import IntegrationOptions
from monitoring.loop.contracts import Workshop
from monitoring.loop.options import LoopOptions
from monitoring.loop.trigger import Trigger
from monitoring.neighbours import Neighbours
from monitoring.notify.options import ChannelOptions
from monitoring.options import AlarmOptions, DriftOptions, MonitorOptions
from monitoring.people.office import Office
from monitoring.people.roster import Roster
from monitoring.refetch import Refetch
from monitoring.reports import ReportService
from monitoring.review.ledger import Ledger
from monitoring.rollout.options import RolloutOptions
from monitoring.store import Store

DESCRIPTION = """What Hardcase's monitor knows: models, windows, drift signals, failure cases, alarms, records,
reports.

Errors are `{"error": text}`. Times are RFC 3339 in UTC. Undefined values are null, never zero."""


class Application(FastAPI):
    """Ours, whose document is written when somebody asks for it: writing it takes as long as all the rest."""

    def openapi(self) -> dict[str, Any]:
        """The document. FastAPI adds a 422 of its own shape to every operation; ours is 400 with an `ErrorBody`."""
        document = super().openapi()
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        return document


def build_console(
    store: Store,
    catalogue: Catalogue,
    monitor: MonitorView,
    targets: Targets,
    options: ConsoleOptions,
    *,
    reports: ReportService,
    metrics: Any = None,
    drift: DriftOptions | None = None,
    alarms: AlarmOptions | None = None,
    privacy: Sequence[PrivacyPolicy] = (),
    keys: Sequence[str] = (),
    channels: Sequence[ChannelOptions] = (),
    effective: tuple[Fact, ...] = (),
    inference: InferenceOptions | None = None,
    refetch: Refetch | None = None,
    searching: MonitorOptions | None = None,
    ledger: Ledger | None = None,
    integrations: IntegrationOptions | None = None,
    experiments: ExperimentOptions | None = None,
    loop: LoopOptions | None = None,
    workshop: Workshop | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> FastAPI:
    """Put the application together.

    Args:
        store: The monitor's database; written only where somebody asks for something.
        catalogue: Packages and plans.
        monitor: How the loop is doing.
        targets: What Prometheus scrapes.
        options: Where it is bound and who may ask.
        reports: The report service; its life is the caller's affair.
        alarms: When alarms fire and end; the defaults where None.
        drift: Floors and chances by which the pages rank what moved; the defaults where None.
        metrics: A `prometheus_client.CollectorRegistry` for `/metrics`; None exposes an empty one.
        privacy: What is kept of each model's requests.
        channels: Of notifications.
        keys: Request parameters and tags by which feedback may name records.
        effective: Settings in effect, for the page of an admin.
        ledger: Of the review queue; one of its own where None.
        inference: Where models are asked, to try an input and to compare versions; nowhere where None.
        refetch: Reads records again, for pictures of those that are no cases; None shows none.
        searching: Options of the monitor, by which slices are split; None splits none.
        integrations: Labelling tools; none where None.
        experiments: MLflow; none where None.
        workshop: What the loop acts through; None: there is no loop, and there are no data sets.
        loop: When and how models are trained again; the defaults where None.
        clock: For "5 minutes ago" on the pages.

    Raises:
        ValueError: the options would open the console to a network without any credential; or an operation changes
            something and names no role.
    """
    from prometheus_client import CollectorRegistry

    options.check()
    view = View(store=store, catalogue=catalogue, drift_options=drift or DriftOptions(), privacy=tuple(privacy))
    alarm_view = AlarmView(view=view, options=alarms or AlarmOptions(), clock=clock)
    neighbours = Neighbours(store)
    ledger = ledger or Ledger(store, neighbours=neighbours)
    findings = Findings(view=view, baselines=Baselines(catalogue), neighbours=neighbours, refetch=refetch)
    explorer = Explorer(view=view, findings=findings, serving=ServingClient(inference or InferenceOptions()))
    comparer = Comparer(
        explorer=explorer,
        replays=ReplayService(store, catalogue, findings.baselines, explorer.serving, explorer.cases),
    )
    made_from = SnapshotSource(store=store, catalogue=catalogue, refetch=refetch, privacy=tuple(privacy))
    tracking = experiments or ExperimentOptions()
    datasets = DatasetDesk(
        source=made_from,
        root=None if workshop is None else workshop.datasets,
        clock=clock,
        mlflow=tracking.url,
    )
    desk = SliceDesk(findings=findings, searching=searching, clock=clock)
    roster = Roster(store, options.roster)
    office = Office(roster)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        explorer.serving.close()

    app = Application(
        lifespan=lifespan,
        title="Hardcase monitor",
        version="1",
        description=DESCRIPTION,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
        dependencies=[Depends(routes.KnownQueries()), Depends(Limits(store, reports.model_of))],
        responses=routes.PROBLEMS,
        generate_unique_id_function=lambda route: route.name,
    )
    app.include_router(routes.health_router(monitor, targets, options))
    app.include_router(routes.model_router(view))
    app.include_router(drift_router(view))
    app.include_router(alarm_router(alarm_view, office))
    app.include_router(files.file_router(view, reports, metrics or CollectorRegistry()))
    for found in (heat_router(view), finding_router(findings), batch_router(store, clock), slice_router(desk)):
        app.include_router(found)
    rolling = RolloutDesk(
        store=store,
        catalogue=catalogue,
        clock=clock,
        options=RolloutOptions() if searching is None else searching.rollout,
    )
    gates = GateDesk(
        store=store,
        folder=None if workshop is None else workshop.folder,
        options=GateOptions() if searching is None else searching.gate,
    )
    notices = NoticeDesk(store=store, channels=channels, clock=clock)
    for routers in (
        rollout_router(rolling),
        gate_router(gates, catalogue),
        dataset_router(datasets),
        notify_router(notices),
    ):
        app.include_router(routers)
    app.include_router(ledger_router(ReviewView(view=view, ledger=ledger)))
    app.include_router(explore_router(explorer, comparer))
    lists = CaseLists(view=view, clock=clock)
    app.include_router(list_router(lists))  # before the cases: /api/cases/ids is none
    app.include_router(routes.case_router(view))
    app.include_router(routes.report_router(view, reports))
    app.include_router(exchange_router(view, ledger))
    app.include_router(feedback_router(view, keys))
    app.include_router(upkeep_router(view, office))
    loop_desk = LoopDesk(
        view=view,
        trigger=Trigger(
            store=store,
            catalogue=catalogue,
            options=loop or LoopOptions(),
            trainers={} if workshop is None else workshop.trainers,
        ),
        workshop=workshop,
        clock=clock,
    )
    app.include_router(jobs_router(workshop.inbox if workshop is not None else None))
    app.include_router(page_router(view, monitor, reports, options, clock, alarm_view, findings, office))
    builder = Builder(view=view, monitor=monitor, options=options)
    for pages in (
        overview_router(builder, clock),
        cases_router(builder, lists),
        review_router(builder, findings),
        slices_router(builder, desk),
        datasets_router(builder, datasets),
        rollouts_router(builder, rolling),
        gates_router(builder, gates),
        explore_pages(builder, comparer),
        tool_router(store, integrations or IntegrationOptions(), clock),
        mlflow_router(store, catalogue, tracking, clock),
        loop_router(loop_desk),
        loop_pages(builder, loop_desk),
        static_router(),
    ):
        app.include_router(pages)
    app.include_router(people_router(office, options))
    app.include_router(people_pages(options, office))
    app.include_router(
        settings_router(builder, options, office, integrations or IntegrationOptions(), effective, notices)
    )
    _require_roles(app)
    errors.install(app, error_page)
    app.add_middleware(Guard, options=options, roster=roster)
    return app


def _require_roles(app: FastAPI) -> None:
    """Nobody puts together an application in which anybody may change something."""
    open_changes = nameless_changes(app.routes)
    if open_changes:
        raise ValueError(f"these change something and name no role (monitoring.api.who): {', '.join(open_changes)}")
