"""Who asks, and whether they may: one dependency for every operation that changes something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request

from export.contracts.errors import Forbidden
from monitoring.people.contracts import Principal, Role


def needs(role: Role) -> Callable[[Request], Principal]:
    """A dependency that gives the `Principal` and refuses one whose role does not cover `role`.

    Raises:
        Forbidden: by the dependency; it names the role that is needed.
    """

    def who(request: Request) -> Principal:
        principal = request.state.principal
        assert isinstance(principal, Principal)
        if not principal.role.covers(role):
            raise Forbidden(f"this needs the role '{role}'; {principal.name} is '{principal.role}'")
        return principal

    return who


Viewer = Annotated[Principal, Depends(needs(Role.VIEWER))]
Reviewer = Annotated[Principal, Depends(needs(Role.REVIEWER))]
Operator = Annotated[Principal, Depends(needs(Role.OPERATOR))]
Admin = Annotated[Principal, Depends(needs(Role.ADMIN))]
