"""Settings of what leaves the monitor and of the tools it works with. Nothing here reads a file."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelStudioOptions:
    """One Label Studio.

    Attributes:
        url: Where it answers, as the monitor reaches it; empty: there is none.
        token_file: File that holds the access token: a legacy token or a personal one. Read at every call, so that it
            may be exchanged while the monitor runs.
        callback_url: The console as Label Studio reaches it, for its webhooks; empty: changes are only polled for.
        poll_s: Time between two looks at what was annotated.
        show_predictions: Annotators see the model's answer before they give theirs.
        annotators: Annotations that a task needs before its case is settled.
    """

    url: str = ""
    token_file: str = ""
    callback_url: str = ""
    poll_s: float = 30.0
    show_predictions: bool = False
    annotators: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class CvatOptions:
    """One CVAT.

    Attributes:
        url: Where it answers; empty: there is none.
        token_file: File that holds a personal access token.
        poll_s: Time between two looks at what was completed.
    """

    url: str = ""
    token_file: str = ""
    poll_s: float = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class IntegrationOptions:
    """Everything beyond this machine that the monitor calls.

    Attributes:
        allowed_hosts: `host` or `host:port` that calls may reach though their address is private. The hosts of `url`s
            below are allowed without being named again.
    """

    allowed_hosts: tuple[str, ...] = ()
    label_studio: LabelStudioOptions = field(default_factory=LabelStudioOptions)
    cvat: CvatOptions = field(default_factory=CvatOptions)
