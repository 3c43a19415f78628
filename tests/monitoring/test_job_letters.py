"""The address where trainings that run elsewhere send their letters: open to nobody who cannot sign."""

from __future__ import annotations

import anyio
import httpx
import pytest
from fastapi import FastAPI

from export.contracts.errors import Conflict, Unauthenticated
from monitoring.api import errors
from monitoring.api.jobs_routes import jobs_router
from monitoring.loop.contracts import Letter


class Box:
    """Takes letters signed "right", each id once."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, Letter]] = []

    def take(self, job_id: str, letter: Letter) -> int:
        if letter.signature != "right":
            raise Unauthenticated("no")
        if letter.id in [known.id for _, known in self.taken]:
            raise Conflict("twice")
        self.taken.append((job_id, letter))
        return 3


@pytest.fixture
def box() -> Box:
    return Box()


def post(box: Box | None, **headers: str) -> httpx.Response:
    app = FastAPI()
    app.include_router(jobs_router(box))
    errors.install(app, lambda *_: None)
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.post("/api/loop/jobs/one/events", content=b"body", headers=named)

    return anyio.run(ask)


def test_a_letter_reaches_the_inbox_with_its_headers(box: Box) -> None:
    answer = post(box, webhook_id="a", webhook_timestamp="12", webhook_signature="right")
    assert (answer.status_code, answer.json()) == (202, {"events": 3})
    assert box.taken == [("one", Letter(id="a", timestamp="12", signature="right", body=b"body"))]
    assert post(box, webhook_id="a", webhook_timestamp="12", webhook_signature="right").status_code == 409


def test_without_a_signature_or_an_inbox_every_letter_is_refused(box: Box) -> None:
    assert post(box).status_code == 401
    assert post(None, webhook_id="a", webhook_timestamp="12", webhook_signature="right").status_code == 401
