"""Where trainings that run elsewhere send what they have to say: letters signed with the trainer's own secret."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from export.contracts.errors import Unauthenticated
from monitoring.api import models
from monitoring.api.fields import Answer
from monitoring.api.security import JOB_HOOK
from monitoring.loop.contracts import Inbox, Letter

JobId = Annotated[str, Path(description="Id of the job.", max_length=128)]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": models.ErrorBody, "description": "No such job, a wrong signature, or too old a letter."},
    409: {"model": models.ErrorBody, "description": "This letter was taken before, or the job has ended."},
    413: {"model": models.ErrorBody, "description": "The body has no stated length, or is too large."},
}


class Taken(Answer):
    """What was taken."""

    events: int = Field(description="Lines that the letter held.")


def jobs_router(inbox: Inbox | None) -> APIRouter:
    """The inbox of jobs that run elsewhere; without one every letter is refused."""
    router = APIRouter(tags=["the loop"])

    @router.post(JOB_HOOK, status_code=202, responses=PROBLEMS)
    async def take_letter(request: Request, job: JobId) -> Taken:
        """A training that runs elsewhere tells how it goes: a CloudEvent, signed as Standard Webhooks say.

        The type is `io.hardcase.job.events`, `.done` or `.failed`. A letter is taken once: one that comes again is
        answered 409 and changes nothing.
        """
        body = await request.body()
        letter = Letter(
            id=request.headers.get("webhook-id", ""),
            timestamp=request.headers.get("webhook-timestamp", ""),
            signature=request.headers.get("webhook-signature", ""),
            body=body,
        )
        if inbox is None:
            raise Unauthenticated("this is no letter of a job of ours")
        return Taken(events=await run_in_threadpool(inbox.take, job, letter))

    return router
