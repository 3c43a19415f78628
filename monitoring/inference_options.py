"""Settings of asking models from the console."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class InferenceOptions:
    """Where the console sends what people try, and the stored inputs that two versions are compared on.

    Attributes:
        url: Address of the service, `http://host:port`; empty: there is none, and nothing can be tried.
        token_file: File with a bearer token for it.
        body_bytes: Largest input that can be tried.
        replay_cases: Stored cases that one comparison may send to a version at most.
        replay_rows_per_s: How fast it sends them.
    """

    url: str = ""
    token_file: str | None = None
    timeout_s: float = 20.0
    body_bytes: int = 16 << 20
    replay_cases: int = 2000
    replay_rows_per_s: float = 50.0
