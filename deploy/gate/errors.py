"""Errors of running a gate."""

from __future__ import annotations

from export.contracts.errors import HardcaseError


class GateError(HardcaseError):
    """The gate could not be held: nothing is said about the candidate. The text says what to repair."""
