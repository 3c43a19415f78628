"""The session's cookie, as OWASP ASVS 3.4 asks for it, and what is noted of the browser that gets it.

`SameSite=Lax`: a link in an alert or a chat opens the page that it names. Changes do not depend on it: the guard
refuses every one whose Origin or Sec-Fetch-Site is not the console's own (docs/decisions/0154).
"""

from __future__ import annotations

from fastapi import Request, Response

from monitoring.api.options import ConsoleOptions
from monitoring.api.security import cookie_name
from monitoring.people.sessions import Browser


def browser_of(request: Request) -> Browser:
    """Who signs in with what."""
    agent = request.headers.get("user-agent", "")
    return Browser(agent="".join(c for c in agent if c.isprintable())[:200], address=request.state.address)


def set_session(response: Response, value: str, options: ConsoleOptions) -> None:
    """Give the browser its session; it forgets it when it closes."""
    response.set_cookie(cookie_name(options), value, httponly=True, samesite="lax", secure=options.secure, path="/")


def drop_session(response: Response, options: ConsoleOptions) -> None:
    """Take it away."""
    response.delete_cookie(cookie_name(options), httponly=True, samesite="lax", secure=options.secure, path="/")
