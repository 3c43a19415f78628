"""`hardcase review`: what people decide about cases."""

from __future__ import annotations

import typer

from deploy.cli import exchange_commands, queue_commands, tool_commands

review_app = typer.Typer(no_args_is_help=True, help="Review of failure cases; needs a running monitor.")

for commands in (queue_commands, exchange_commands, tool_commands):
    commands.add_to(review_app)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(review_app, name="review", rich_help_panel="Data")
