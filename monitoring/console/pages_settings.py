"""Routes of the pages *Settings* and *Audit*. The forms do what the operations under /api do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse, RedirectResponse

from export.contracts.codec import to_plain
from export.contracts.errors import HardcaseError, InvalidRequest
from monitoring.api import notify_models
from monitoring.api import people_models as m
from monitoring.api.cookies import browser_of, set_session
from monitoring.api.fields import checked
from monitoring.api.notify_views import NoticeDesk
from monitoring.api.options import ConsoleOptions
from monitoring.api.people_routes import link_of
from monitoring.api.who import Admin, Operator, Viewer
from monitoring.console.build import Builder
from monitoring.console.build_people import audit_page, settings_page
from monitoring.console.pages import form_of, render
from monitoring.console.parts import Fact
from monitoring.integrations.options import IntegrationOptions
from monitoring.people.contracts import Principal
from monitoring.people.office import Office

NOTICES_SHOWN = 8
UserPath = Annotated[m.UserName, Path()]
KeyPath = Annotated[m.KeyName, Path()]


def settings_router(
    builder: Builder,
    options: ConsoleOptions,
    office: Office,
    integrations: IntegrationOptions,
    effective: tuple[Fact, ...],
    notices: NoticeDesk,
) -> APIRouter:
    """Settings and audit."""
    router = APIRouter(include_in_schema=False)
    show = Show(builder=builder, office=office, integrations=integrations, effective=effective, notices=notices)
    own_forms(router, show, options)
    people_forms(router, show, options)
    key_forms(router, show)
    notice_forms(router, show)

    @router.get("/settings")
    def settings(request: Request, who: Viewer) -> Response:
        return show.page(request, who)

    @router.get("/audit")
    def audit(request: Request, who: Viewer) -> Response:
        given = {k: v for k, v in request.query_params.items() if v and k != "format"}
        return render(request, "audit.html", audit_page(builder, office, who, given))

    return router


class NoticeDoing(StrEnum):
    """What a form does about a channel."""

    TEST = "test"  # a notice that says only that it arrived
    RETRY = "retry"  # what was given up is sent again


@dataclass(frozen=True, kw_only=True, slots=True)
class Show:
    """Draws the page, and does what a form asks for."""

    builder: Builder
    office: Office
    integrations: IntegrationOptions
    effective: tuple[Fact, ...]
    notices: NoticeDesk

    def page(
        self, request: Request, who: Principal, error: HardcaseError | None = None, shown: Fact | None = None
    ) -> Response:
        """The page, with what went wrong, or with what is shown this once."""
        problem = "" if error is None else error.message
        told = self.notices.notices(NOTICES_SHOWN)
        made = settings_page(
            self.builder, self.office, who, self.integrations, self.effective, told, problem=problem, shown=shown
        )
        status = 200 if error is None else error.http_status
        if request.query_params.get("format") == "json":
            return JSONResponse(jsonable_encoder(to_plain(made)), status)  # it holds answers of the API as they are
        return render(request, "settings.html", made, status)

    async def done(
        self, request: Request, who: Principal, work: Callable[[], Fact | None], place: str = ""
    ) -> Response:
        """Do it off the loop; show what is shown once, or why it did not work, or the page afresh at a place of it."""

        def try_it() -> Response:
            try:
                shown = work()
            except HardcaseError as error:
                return self.page(request, who, error)
            if shown:
                return self.page(request, who, shown=shown)
            return RedirectResponse(f"/settings{place}", status_code=303)

        return await run_in_threadpool(try_it)


def own_forms(router: APIRouter, show: Show, options: ConsoleOptions) -> None:
    """One's own password and sessions."""
    office, page = show.office, show.page

    @router.post("/settings/password")
    async def password(request: Request, who: Viewer) -> Response:
        form = await form_of(request)

        def work() -> Response:
            try:
                if form.get("new", "") != form.get("again", ""):
                    raise InvalidRequest("again: the two passwords are not the same")
                value = office.own_password(who, form.get("current", ""), form.get("new", ""), browser_of(request))
            except HardcaseError as error:
                return page(request, who, error)
            response = RedirectResponse("/settings", status_code=303)
            set_session(response, value, options)
            return response

        return await run_in_threadpool(work)

    @router.post("/settings/sessions/{session}/end")
    async def end_session(request: Request, session: Annotated[int, Path(ge=1, le=2**62)], who: Viewer) -> Response:
        by = office.roster.origin(who, request.state.address)
        return await show.done(request, who, lambda: office.end_session(session, who, by))


def people_forms(router: APIRouter, show: Show, options: ConsoleOptions) -> None:
    """People."""
    office = show.office

    @router.post("/settings/users")
    async def add_user(request: Request, who: Admin) -> Response:
        form = await form_of(request)

        def work() -> Fact:
            asked = checked(m.UserStart, form)
            user, token = office.add(asked.name, asked.role, office.roster.origin(who, request.state.address))
            return Fact(
                name=f"Link for {user.name}, holds once and for a week", value=link_of(options, request, token) or ""
            )

        return await show.done(request, who, work)

    @router.post("/settings/users/{name}")
    async def change_user(request: Request, name: UserPath, who: Admin) -> Response:
        form = await form_of(request)

        def work() -> None:
            asked = checked(m.UserChange, form)
            office.change_user(
                name, office.roster.origin(who, request.state.address), role=asked.role, disabled=asked.disabled
            )

        return await show.done(request, who, work)

    @router.post("/settings/users/{name}/invite")
    async def invite(request: Request, name: UserPath, who: Admin) -> Response:
        def work() -> Fact:
            token = office.invite(name, office.roster.origin(who, request.state.address))
            return Fact(
                name=f"Link for {name}, holds once and for a week", value=link_of(options, request, token) or ""
            )

        return await show.done(request, who, work)


def key_forms(router: APIRouter, show: Show) -> None:
    """API keys."""
    office = show.office

    @router.post("/settings/keys")
    async def make_key(request: Request, who: Admin) -> Response:
        form = await form_of(request)

        def work() -> Fact:
            models = [part for part in form.get("models", "").replace(",", " ").split() if part]
            asked = checked(m.KeyStart, {"name": form.get("name", ""), "role": form.get("role", "")})
            by = office.roster.origin(who, request.state.address)
            key, text = office.make_key(asked.name, asked.role, by, models=tuple(models))
            return Fact(name=f"The key {key.name}", value=text)

        return await show.done(request, who, work)

    @router.post("/settings/keys/{name}/revoke")
    async def revoke_key(request: Request, name: KeyPath, who: Admin) -> Response:
        by = office.roster.origin(who, request.state.address)

        def work() -> None:
            office.revoke_key(name, by)

        return await show.done(request, who, work)


def notice_forms(router: APIRouter, show: Show) -> None:
    """A test notice, and another try of what was given up."""

    @router.post("/settings/notices/{doing}")
    async def notice(request: Request, doing: NoticeDoing, who: Operator) -> Response:
        form = await form_of(request)

        def work() -> None:
            asked = checked(notify_models.ChannelAsk, {k: v for k, v in form.items() if v})
            if doing is NoticeDoing.TEST:
                show.notices.test(who, asked.channel)
            else:
                show.notices.retry(asked.channel)

        return await show.done(request, who, work, "#notices")
