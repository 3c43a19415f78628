"""Settings of what watches the service from outside: objectives, Prometheus, links."""

from __future__ import annotations

from pydantic import Field, model_validator

from deploy.observability.rules import Objectives
from deploy.settings_base import Port, Section


class ObjectiveSettings(Section):
    """What is promised to users. Alerts fire when a month's allowance of failures is being used up too fast."""

    availability: float = Field(default=0.999, ge=0.5, lt=1)
    """Share of requests that must not fail through our fault."""
    latency_s: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """Within this many seconds an answer counts as fast; a bound of the latency histogram, as 0.005, 0.01, 0.025 ..."""
    fast: float = Field(default=0.99, ge=0.5, lt=1)
    """Share of answers that must be fast."""

    @model_validator(mode="after")
    def _can_be_told(self) -> ObjectiveSettings:
        self.as_objectives()
        return self

    def as_objectives(self) -> Objectives:
        """For the rules.

        Raises:
            ValueError: the histogram cannot tell `latency_s`.
        """
        return Objectives(availability=self.availability, latency_s=self.latency_s, fast=self.fast)


class ObservabilitySettings(Section):
    """Prometheus beside `hardcase up`, and what rendered rules and dashboards say."""

    objectives: ObjectiveSettings = ObjectiveSettings()
    console_url: str = Field(default="", pattern=r"^(https?://[^\s/]+(/[^\s?#]*)?)?$")
    """Where people reach the console: links in alerts and dashboards begin with it. Empty: the monitor's address."""
    prometheus: bool = True
    """Start a Prometheus with `up` when one is installed: rules loaded, replicas found, data in the state folder."""
    prometheus_port: Port = 9090
    """Its port, on loopback."""
    scrape_s: float = Field(default=10.0, ge=0.2, allow_inf_nan=False)
    """How often it asks monitor and replicas, seconds; rules are evaluated every third time."""
    alertmanager: bool = False
    """Start an Alertmanager as well when one is installed. It tells `webhook` of alerts, or shows them only."""
    alertmanager_port: Port = 9093
    """Its port, on loopback."""
    webhook: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """URL that Alertmanager posts alerts to."""
    retention_days: int = Field(default=15, ge=1)
    """How long Prometheus keeps its data."""
