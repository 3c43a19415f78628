"""What an API key that is limited to some models may reach: nothing but those models, whatever the operation.

One dependency in front of every operation. It resolves everything that a request names (in its path, its query, its
body) to models, and lets it pass when it names something and all of it is the key's. What it cannot resolve is
refused, so an operation that is new is closed to such keys until it names a model or one of the things below.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from export.contracts.errors import Forbidden, NotFound
from monitoring.people.contracts import Principal
from monitoring.people.owners import KINDS
from monitoring.store import Store

# Operations that name no model and tell nothing of one that the key does not see.
NAMELESS = ("/api/me", "/api/models", "/api/health", "/api/health/live", "/api/health/ready")
LOOSE = ("filter",)  # parts of a body that mean "everything" where they name no model


@dataclass(slots=True)
class Named:
    """What a request names."""

    models: set[str] = field(default_factory=set)
    things: dict[str, set[str]] = field(default_factory=dict)
    loose: bool = False  # something that means "everything"
    unknown: bool = False  # something that nobody here can resolve

    def add(self, kind: str, value: object) -> None:
        """Take a name in. Lists are taken in one by one."""
        if isinstance(value, list):
            for item in value:
                self.add(kind, item)
        elif kind == "model":
            self.models.add(str(value))
        elif kind in KINDS and isinstance(value, str | int) and not isinstance(value, bool):
            self.things.setdefault(kind, set()).add(str(value))

    def read(self, body: object) -> None:
        """Everything that a JSON body names, however deep."""
        if isinstance(body, list):
            for item in body:
                self.read(item)
        elif isinstance(body, dict):
            for key, value in body.items():
                if key in LOOSE and not (isinstance(value, dict) and value.get("model")):
                    self.loose = True
                if value is not None and not isinstance(value, dict):
                    self.add(key, value)
                self.read(value)


class Limits:
    """The dependency.

    Args:
        store: Where names are looked up.
        report_model: The model of a report's id, or None.
    """

    def __init__(self, store: Store, report_model: Callable[[str], str | None]) -> None:
        self._store = store
        self._report_model = report_model

    async def __call__(self, request: Request) -> None:
        """Let a limited key reach its own models only.

        Raises:
            Forbidden: the request is not about models of the key, as far as can be told.
            NotFound: it names something that is not there, or is another model's: which of the two is not said.
        """
        principal = getattr(request.state, "principal", None)
        if not isinstance(principal, Principal) or not principal.models or principal.models == ("",):
            return
        path = request.url.path
        if path in NAMELESS and request.method in ("GET", "HEAD"):
            return
        if not path.startswith("/api/"):
            raise Forbidden("this key is limited to some models; pages and metrics are about all of them")
        named = Named()
        for kind, value in request.path_params.items():
            named.unknown |= kind not in (*KINDS, "model", "report", "record_id")
            named.add(kind, value)
        for kind, value in request.query_params.multi_items():
            named.add(kind, value)
        body = await request.body()
        if body:
            try:
                named.read(json.loads(body))
            except ValueError:
                named.unknown = True
        await run_in_threadpool(self._check, principal, named, request.path_params.get("report"))

    def _check(self, principal: Principal, named: Named, report: str | None) -> None:
        found = set(named.models)
        if report is not None:
            found.add(self._report_model(report) or "")
        with self._store.read() as connection:
            for kind, names in named.things.items():
                rows = list(KINDS[kind](connection, sorted(names)))
                if {identity for identity, _ in rows} != names:
                    raise NotFound("what this names is not there")
                found.update(model for _, model in rows)
        if named.unknown or named.loose or not found:
            shown = ", ".join(principal.models)
            raise Forbidden(f"this key is limited to {shown}: name one of these, or something of it")
        if not found <= set(principal.models):
            raise NotFound("what this names is not there")
