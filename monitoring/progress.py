"""How the monitor's loop is doing, as numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True, slots=True)
class Progress:
    """How the loop is doing; the loop writes it, metrics and health read it.

    Attributes:
        heartbeat: Monotonic time of the end of the last cycle, None before the first.
        lag_s: Age of the newest record consumed while there are more to consume, else 0.
        signals_due: Changed windows whose signals are not computed yet.
        estimates_due: ... whose accuracy estimates are not made yet.
    """

    heartbeat: float | None = None
    cycles: int = 0
    records: int = 0
    frames: int = 0
    dead_letters: int = 0
    errors: int = 0
    last_error: str | None = None
    lag_bytes: int = 0
    lag_s: float = 0.0
    cycle_s: float = 0.0
    signals_due: int = 0
    estimates_due: int = 0
    damages: int = 0
