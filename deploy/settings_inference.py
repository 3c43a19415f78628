"""Settings of how the console asks the models: to try an input, and to compare versions."""

from __future__ import annotations

from pydantic import Field

from deploy.settings_base import Seconds, Section, Size


class InferenceSettings(Section):
    """Where the console sends what people try, and the stored inputs that two versions are compared on."""

    url: str = Field(default="", pattern=r"^(https?://[^\s/?#]+)?$")
    """Address of the service, such as `http://10.0.0.5:8000`; empty is this installation's own."""
    token_file: str | None = None
    """File with a bearer token that `serving.auth.keys` knows; needed only where there are keys."""
    timeout_s: Seconds = 20.0
    """Longest time that one answer may take."""
    body_bytes: Size = 16 << 20
    """Largest input that can be tried."""
    replay_cases: int = Field(default=2000, ge=1, le=50_000)
    """Stored cases that one comparison may send to a version at most."""
    replay_rows_per_s: float = Field(default=50.0, gt=0, allow_inf_nan=False)
    """How fast a comparison sends them, so that clients are not slowed down."""
