"""Commands about people: users, API keys, the link of the first start."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy.cli.context import JsonFlag, author, console, invocation_of, print_json, print_table

if TYPE_CHECKING:
    from deploy.people_desk import Desk

users_app = typer.Typer(
    no_args_is_help=True,
    help="People who may use the console: with the running monitor, or in its database while it is down.",
)
keys_app = typer.Typer(no_args_is_help=True, help="API keys: credentials of programs, shown once.")

Name = Annotated[str, typer.Argument(help="Name of the user.")]
KeyName = Annotated[str, typer.Argument(help="Name of the key.")]
RoleOption = Annotated[str, typer.Option("--role", help="viewer, reviewer, operator or admin.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(keys_app, name="keys", rich_help_panel="Running")
    app.add_typer(users_app, name="users", rich_help_panel="Running")


@contextmanager
def _desk(ctx: typer.Context) -> Iterator[Desk]:
    from deploy.people_desk import desk_of

    invocation = invocation_of(ctx)
    with desk_of(invocation.settings, invocation.paths, author()) as desk:
        yield desk


@users_app.command("list")
def users_list(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Everybody, with role and last sign-in.

    Example: hardcase users list
    """
    with _desk(ctx) as desk:
        found = desk.users()
    if as_json:
        print_json(found)
        return
    rows = [(u["name"], u["role"], _state(u), u["signed_in_at"], u["created_by"]) for u in found]
    empty = "No users. `hardcase users add NAME --role admin` adds one."
    print_table(("name", "role", "state", "last sign-in", "added by"), rows, empty=empty)


@users_app.command("add")
def users_add(
    ctx: typer.Context,
    name: Name,
    role: RoleOption,
    stdin: Annotated[bool, typer.Option("--password-stdin", help="Read a password instead of making a link.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Add somebody; prints a link with which they set their password within a week. From then on everybody signs in.

    Example: hardcase users add ann --role reviewer
    """
    with _desk(ctx) as desk:
        _tell(desk.add(name, role, _password() if stdin else None), as_json)


@users_app.command("role")
def users_role(
    ctx: typer.Context,
    name: Name,
    role: Annotated[str, typer.Argument(help="The new role.")],
    as_json: JsonFlag = False,
) -> None:
    """Give somebody another role; it holds at once.

    Example: hardcase users role ann operator
    """
    with _desk(ctx) as desk:
        _tell({"user": desk.change(name, role=role)}, as_json)


@users_app.command("disable")
def users_disable(ctx: typer.Context, name: Name, as_json: JsonFlag = False) -> None:
    """Keep somebody out; their sessions end at once.

    Example: hardcase users disable ann
    """
    with _desk(ctx) as desk:
        _tell({"user": desk.change(name, disabled=True)}, as_json)


@users_app.command("enable")
def users_enable(ctx: typer.Context, name: Name, as_json: JsonFlag = False) -> None:
    """Let somebody in again.

    Example: hardcase users enable ann
    """
    with _desk(ctx) as desk:
        _tell({"user": desk.change(name, disabled=False)}, as_json)


@users_app.command("password")
def users_password(
    ctx: typer.Context,
    name: Name,
    stdin: Annotated[bool, typer.Option("--stdin", help="Read the new password instead of making a link.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """A new password: prints a link with which they set it themselves.

    Example: hardcase users password ann
    """
    with _desk(ctx) as desk:
        _tell({"user": desk.change(name, password=_password())} if stdin else desk.invite(name), as_json)


@users_app.command("link")
def users_link(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """A new one-time link of the first start, with which the first admin is made. It holds for a day.

    Example: hardcase users link
    """
    import time

    from deploy.people_desk import console_address
    from monitoring.people.first_start import make_link

    invocation = invocation_of(ctx)
    link = make_link(invocation.paths.make().monitor, console_address(invocation.settings), time.time_ns())
    if as_json:
        print_json({"link": link})
    else:
        console().print(link)


@keys_app.command("list")
def keys_list(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """All keys, with their last use.

    Example: hardcase keys list
    """
    with _desk(ctx) as desk:
        found = desk.keys()
    if as_json:
        print_json(found)
        return
    rows = [
        (
            *(k["name"], k["hint"] + "…", k["role"], ", ".join(k["models"]) or "all"),
            *("holds" if k["holds"] else "ended", k["expires_at"], k["used_at"]),
        )
        for k in found
    ]
    columns = ("name", "key", "role", "models", "state", "expires", "last use")
    print_table(columns, rows, empty="No keys. `hardcase keys make NAME --role viewer` makes one.")


@keys_app.command("make")
def keys_make(
    ctx: typer.Context,
    name: KeyName,
    role: RoleOption,
    model: Annotated[list[str] | None, typer.Option("--model", help="Only for this model; may be given again.")] = None,
    days: Annotated[float | None, typer.Option("--days", min=0.01, help="It ends after so many days.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key and print it: once, and never again.

    Example: hardcase keys make prometheus --role viewer
    """
    with _desk(ctx) as desk:
        made = desk.make_key(name, role, model or [], days)
    if as_json:
        print_json(made)
    else:
        console().print(made["text"])


@keys_app.command("revoke")
def keys_revoke(ctx: typer.Context, name: KeyName, as_json: JsonFlag = False) -> None:
    """End a key at once.

    Example: hardcase keys revoke prometheus
    """
    with _desk(ctx) as desk:
        ended = desk.revoke_key(name)
    if as_json:
        print_json(ended)
    else:
        console().print(f"{ended['name']} has ended")


def _password() -> str:
    """One line of standard input, or what somebody types unseen."""
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("Password: ")
    return sys.stdin.readline().rstrip("\n")


def _state(user: dict[str, Any]) -> str:
    if user["disabled"]:
        return "disabled"
    return "active" if user["has_password"] else "invited"


def _tell(made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    user = made["user"]
    console().print(f"{user['name']}  {user['role']}  {_state(user)}")
    if made.get("link"):
        console().print(f"{made['link']}\nholds once, for a week; the token is not shown again")
