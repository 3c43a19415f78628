"""Requests without bodies, for tests of the queue alone, and a reply that takes what becomes of them."""

from __future__ import annotations

from typing import Any, cast

from export.contracts.errors import HardcaseError
from export.contracts.traffic import Variant
from serving.call import Call
from serving.entry import Entry
from serving.request_plan import RequestPlan, Shapes

CALL = Call(model="queued")
FOREVER_NS = 1 << 60


class Forgotten:
    """A reply that nobody reads."""

    def answer(self, entry: Entry, headers: bytes, body: bytes) -> None:
        """Nothing."""

    def fail(self, entry: Entry, error: HardcaseError) -> None:
        """Nothing."""


def waiting(
    rows: int = 1,
    *,
    priority: int = 2,
    caller: str = "anonymous",
    shapes: Shapes | None = None,
    received_ns: int = 0,
    deadline_ns: int = FOREVER_NS,
    name: str = "",
) -> Entry:
    """A request as the queue sees it."""
    plan = RequestPlan(
        id=name.encode(),
        rows=rows,
        queue=(priority, shapes),
        shapes=((rows, 1),),
        sizes=(rows,),
        order=(0,),
        answer=cast(Any, None),
        timeout_ns=0,
        params=None,
    )
    return Entry(
        plan,
        (memoryview(bytes(rows)),),
        Variant.CHAMPION,
        name.encode(),
        name.encode(),
        received_ns,
        received_ns,
        deadline_ns,
        Forgotten(),
        CALL,
        caller,
    )
