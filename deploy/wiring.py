"""Settings to the options that serving and monitoring take, and the registry as monitoring's catalogue."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_type_hints

from deploy.paths import StatePaths
from deploy.settings import Settings
from deploy.settings_base import Section
from deploy.settings_notify import ChannelSettings
from deploy.settings_ray import AutoscalingSettings, PoolSettings
from deploy.settings_rollout import rollout_options
from deploy.wiring_loop import loop_options
from export.contracts.errors import HardcaseError
from export.contracts.manifest import Manifest
from export.contracts.privacy import PrivacyPolicy
from export.contracts.traffic import TrafficPlan
from export.registry import Registry
from monitoring.gate.options import GateOptions, OwnSet
from monitoring.inference_options import InferenceOptions
from monitoring.integrations.mlflow.options import ExperimentOptions
from monitoring.integrations.options import IntegrationOptions
from monitoring.notify.options import ChannelOptions
from monitoring.options import MonitorOptions
from monitoring.records.record import CaptureOptions
from serving.autoscaling import Autoscaling
from serving.options import AccessLogOptions, ServingOptions
from serving.pools import ClusterOptions, PoolSpec

T = TypeVar("T")


def serving_options(settings: Settings, paths: StatePaths) -> ServingOptions:
    """What a replica needs to know."""
    capture = None
    if settings.capture.enabled:
        capture = _fill(CaptureOptions, settings.capture, leave_out=("enabled",))
    access_log = None
    if settings.serving.access_log.enabled:
        folder = str(paths.logs / "access")
        access_log = _fill(AccessLogOptions, settings.serving.access_log, leave_out=("enabled",), folder=folder)
    options = _fill(
        ServingOptions,
        settings.serving,
        leave_out=("host", "port", "grpc_port", "replicas", "standalone", "autoscaling", "pools"),
        registry=str(paths.registry),
        records=str(paths.records),
        capture=capture,
        access_log=access_log,
        privacy=privacy_policies(settings),
    )
    if options.runtime.engine_cache or not options.runtime.providers:
        return options
    return replace(options, runtime=replace(options.runtime, engine_cache=str(paths.engines)))


def pools(settings: Settings, paths: StatePaths) -> tuple[PoolSpec, ...]:
    """The default pool and the models' own."""
    options, serving = serving_options(settings, paths), settings.serving
    registry = Registry(paths.registry)
    elsewhere = {pool.model for pool in serving.pools}
    own = [m for m in serving.models or registry.models() if m not in elsewhere]
    first = PoolSpec(
        options=replace(options, elsewhere=tuple(pool.model for pool in serving.pools)),
        replicas=serving.replicas or tuned_replicas(registry, own),
        autoscaling=_autoscaling(serving.autoscaling),
        cpus=settings.ray.replica_cpus,
        gpus=settings.ray.replica_gpus,
    )
    return (first, *(_pool(pool, options, registry) for pool in serving.pools))


def tuned_replicas(registry: Registry, models: Iterable[str]) -> int:
    """The most instances that `hardcase tune` found best for one of the models' champions; 1 when none was tuned."""
    found = [1]
    for model in models:
        try:
            plan = registry.plan(model)
            if plan is not None and plan.champion is not None:
                execution = registry.package(model, plan.champion).manifest.execution
                found.append((execution.instances if execution else None) or 1)
        except HardcaseError:
            continue  # a model that cannot be read decides nothing here; its replicas say why
    return max(found)


def _pool(pool: PoolSettings, options: ServingOptions, registry: Registry) -> PoolSpec:
    runtime = options.runtime
    if pool.cpu_threads:
        runtime = replace(runtime, intra_op_threads=pool.cpu_threads)
    return PoolSpec(
        options=replace(options, models=(pool.model,), runtime=runtime),
        model=pool.model,
        replicas=pool.replicas or tuned_replicas(registry, (pool.model,)),
        autoscaling=_autoscaling(pool.autoscaling),
        cpus=pool.cpus,
        gpus=pool.gpus,
        threads=pool.cpu_threads,
    )


def _autoscaling(settings: AutoscalingSettings) -> Autoscaling | None:
    return _fill(Autoscaling, settings) if settings.max_replicas else None


def cluster_options(settings: Settings, folder: Path) -> ClusterOptions:
    """Where Ray and HAProxy are; `folder` is the temporary one of this run."""
    return ClusterOptions(
        host=settings.serving.host,
        port=settings.serving.port,
        grpc_port=settings.serving.grpc_port or None,
        drain_s=settings.ray.drain_s,
        health_timeout_s=settings.ray.health_timeout_s,
        address=settings.ray.address,
        folder=folder / "ray",
        start_timeout_s=settings.ray.start_timeout_s,
    )


def monitor_options(settings: Settings, paths: StatePaths) -> MonitorOptions:
    """What the monitor needs to know."""
    url = settings.monitor.database_url or f"sqlite:///{paths.monitor / 'monitor.db'}"
    return _fill(
        MonitorOptions,
        settings.monitor,
        records_root=paths.received if settings.storage.url else paths.records,
        state_dir=paths.monitor,
        database_url=url,
        integrations=_fill(IntegrationOptions, settings.integrations),
        inference=_inference(settings),
        loop=loop_options(settings.retrain),
        privacy=privacy_policies(settings),
        notify=tuple(_channel(channel) for channel in settings.notify),
        gate=gate_options(settings),
        rollout=rollout_options(settings.rollout),
        experiments=_fill(ExperimentOptions, settings.experiments),
    )


def gate_options(settings: Settings) -> GateOptions:
    """How candidates are judged."""
    options = _fill(GateOptions, settings.gate, leave_out=("sets", "ray"), ray=settings.gate.ray or None)
    return replace(options, own=tuple(_fill(OwnSet, one) for one in settings.gate.sets))


def _channel(channel: ChannelSettings) -> ChannelOptions:
    return _fill(ChannelOptions, channel, sender=channel.sender or "")


def _inference(settings: Settings) -> InferenceOptions:
    """Where the console asks models: this installation's own service, where no other is set."""
    made = _fill(InferenceOptions, settings.monitor.inference)
    host = settings.serving.host
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return made if made.url else replace(made, url=f"http://{host}:{settings.serving.port}")


def privacy_policies(settings: Settings) -> tuple[PrivacyPolicy, ...]:
    """What is kept of each model's requests."""
    return tuple(_fill(PrivacyPolicy, policy) for policy in settings.privacy)


def _fill(options: type[T], section: Section, *, leave_out: tuple[str, ...] = (), **given: Any) -> T:
    """An options record from the section whose keys have the fields' names."""
    hints = get_type_hints(options)
    values: dict[str, Any] = {}
    for name in type(section).model_fields:
        if name in leave_out or name in given:
            continue
        values[name] = _convert(hints[name], getattr(section, name))
    return options(**values, **given)


def _convert(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(hint, UnionType):  # "... | None"
        (hint,) = [part for part in get_args(hint) if part is not NoneType]
    if isinstance(value, Section):
        return _fill(hint, value)
    if isinstance(value, tuple):
        item: Any = next((a for a in getattr(hint, "__args__", ()) if dataclasses.is_dataclass(a)), None)
        return tuple(_fill(item, v) if item and isinstance(v, Section) else v for v in value)
    return hint(value) if isinstance(hint, type) and not isinstance(value, hint) else value


class RegistryCatalogue:
    """`monitoring.catalogue.Catalogue` on a registry folder. What cannot be read counts as absent."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def models(self) -> tuple[str, ...]:
        """Names of all registered models, sorted."""
        return self._registry.models()

    def versions(self, model: str) -> tuple[str, ...]:
        """Versions of a model, oldest first; empty for an unknown model."""
        try:
            return self._registry.versions(model)
        except HardcaseError:
            return ()

    def manifest(self, model: str, version: str) -> Manifest | None:
        """The manifest of a version, or None when there is no such version."""
        try:
            return self._registry.package(model, version).manifest
        except HardcaseError:
            return None

    def reference_dir(self, model: str, version: str) -> Path | None:
        """Folder of the reference profile, or None."""
        try:
            return self._registry.package(model, version).reference_dir()
        except HardcaseError:
            return None

    def plan(self, model: str) -> TrafficPlan | None:
        """The current traffic plan."""
        try:
            return self._registry.plan(model)
        except HardcaseError:
            return None
