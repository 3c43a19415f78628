"""Addresses of MLflow's own pages."""

from __future__ import annotations

from urllib.parse import quote


def version_link(base: str, name: str, number: str) -> str:
    """A registered version's page."""
    return f"{base.rstrip('/')}/#/models/{quote(name, safe='')}/versions/{quote(number, safe='')}"


def run_link(base: str, experiment: str, run: str) -> str:
    """A run's page."""
    return f"{base.rstrip('/')}/#/experiments/{quote(experiment, safe='')}/runs/{quote(run, safe='')}"
