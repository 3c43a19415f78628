"""Routes of the pages on which people sign in and out."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from export.contracts.errors import HardcaseError, InvalidRequest, Unauthenticated
from monitoring.api.cookies import browser_of, drop_session, set_session
from monitoring.api.options import ConsoleOptions
from monitoring.console.pages import NO_SHELL, form_of, local, render
from monitoring.console.people_parts import SignInPage, WelcomePage
from monitoring.people.office import Office
from monitoring.people.passwords import SHORTEST
from monitoring.people.roster import TooSoon


def people_pages(options: ConsoleOptions, office: Office) -> APIRouter:
    """Signing in and out, the first start, invitations."""
    router = APIRouter(include_in_schema=False)
    roster = office.roster

    def sign_in_page(request: Request, after: str, name: str, problem: HardcaseError | None = None) -> Response:
        nobody = roster.look_if_open()
        page = SignInPage(
            shell=NO_SHELL,
            after=after,
            name=name,
            by_name=not nobody,
            by_token=bool(options.token_sha256),
            first_start=nobody and not options.token_sha256,
            problem="" if problem is None else problem.message,
        )
        return _with_wait(
            render(request, "sign_in.html", page, 200 if problem is None else problem.http_status), problem
        )

    def welcome_page(
        request: Request, first: bool, name: str = "", token: str = "", problem: HardcaseError | None = None
    ) -> Response:
        page = WelcomePage(
            shell=NO_SHELL,
            first=first,
            open=office.first_start_open() if first else True,
            name=name,
            token=token,
            problem="" if problem is None else problem.message,
            shortest=SHORTEST,
        )
        status = 200 if page.open else 404
        return _with_wait(
            render(request, "welcome.html", page, status if problem is None else problem.http_status), problem
        )

    def admitted(value: str, after: str) -> Response:
        response = RedirectResponse(after, status_code=303)
        set_session(response, value, options)
        return response

    @router.get("/sign-in")
    def sign_in(request: Request) -> Response:
        return sign_in_page(request, local(request.query_params.get("next", "/")), "")

    @router.post("/sign-in")
    async def signed_in(request: Request) -> Response:
        form = await form_of(request)
        return await run_in_threadpool(sign_in_with, request, form)

    def sign_in_with(request: Request, form: dict[str, str]) -> Response:
        after, name = local(form.get("next", "/")), form.get("name", "")
        browser = browser_of(request)
        try:
            if form.get("token"):
                value = roster.sign_in_by_token(form["token"], browser)
            else:
                value = roster.sign_in(name, form.get("password", ""), browser)
        except Unauthenticated as error:
            return sign_in_page(request, after, name, error)
        return admitted(value, after)

    @router.post("/sign-out")
    def sign_out(request: Request) -> Response:
        roster.sign_out(request.state.principal, request.state.address)
        response = RedirectResponse("/sign-in", status_code=303)
        drop_session(response, options)
        return response

    @router.get("/first-start")
    def first_start(request: Request) -> Response:
        return welcome_page(request, first=True)

    @router.post("/first-start")
    async def first_admin(request: Request) -> Response:
        form = await form_of(request)
        return await run_in_threadpool(welcome_with, request, form, first=True)

    @router.get("/invitation")
    def invitation(request: Request) -> Response:
        return welcome_page(request, first=False)

    @router.post("/invitation")
    async def redeemed(request: Request) -> Response:
        form = await form_of(request)
        return await run_in_threadpool(welcome_with, request, form, first=False)

    def welcome_with(request: Request, form: dict[str, str], *, first: bool) -> Response:
        token, name, password = form.get("token", ""), form.get("name", ""), form.get("password", "")
        browser = browser_of(request)
        try:
            if password != form.get("again", password):
                raise InvalidRequest("again: the two passwords are not the same")
            if first:
                value = office.first_admin(token, name, password, browser)
            else:
                value = office.redeem(token, password, browser)
        except (Unauthenticated, InvalidRequest) as error:
            return welcome_page(request, first, name, token, error)
        return admitted(value, "/")

    return router


def _with_wait(response: Response, problem: HardcaseError | None) -> Response:
    if isinstance(problem, TooSoon):
        response.headers["retry-after"] = str(problem.retry_after_s)
    return response
