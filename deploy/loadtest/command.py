"""`hardcase bench` from its options to its outputs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.cli.context import console, print_json
from deploy.errors import CommandError, UsageError
from deploy.loadtest.environment import environment_facts
from deploy.loadtest.parsing import Target
from deploy.loadtest.report import differs, failures, make_report, merge, read_report, write_json
from deploy.loadtest.results import Goal
from deploy.loadtest.session import Plan, run
from deploy.loadtest.table import Terminal, duration, show

TOKEN_VARIABLE = "HARDCASE_TOKEN"
_OVER = 4


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where results go. `json` may be "-", standard output; tables go there otherwise."""

    json: str | None = None
    html: Path | None = None
    compare: tuple[Path, ...] = ()
    fail_over: Goal | None = None


def run_bench(targets: Sequence[Target], plan: Plan, outputs: Outputs) -> int:
    """Measure, show, write; returns the exit status.

    Raises:
        CommandError: nothing could be measured.
    """
    names = [target.name for target in targets]
    if len(set(names)) != len(names):
        raise UsageError("two servers have the same name", "NAME=URL names them")
    earlier = [read_report(path) for path in outputs.compare]
    environment = environment_facts()
    with Terminal(console(stderr=True), plan.stability.most) as terminal:
        subjects, interrupted = asyncio.run(run(targets, plan, terminal))
    own = make_report(subjects, plan, environment)
    report = merge(own, earlier)
    if outputs.json == "-":
        print_json(report)
    else:
        show(report, console())
        for sentence in differs(own, earlier):
            console().print(f"note: {sentence}")
    if outputs.json not in (None, "-"):
        write_json(report, Path(str(outputs.json)))
    if outputs.html is not None:
        from deploy.loadtest.page import write_page

        write_page(report, outputs.html)
    if outputs.json != "-":
        for written in (outputs.json, outputs.html):
            if written is not None:
                console().print(f"→ {written}")
    if interrupted:
        return 130
    if not any(level.throughput for subject in subjects for level in subject.levels):
        raise CommandError("no request was answered")
    if outputs.fail_over is not None and (over := failures(own, outputs.fail_over)):
        goal = outputs.fail_over
        console(stderr=True).print(
            f"p{goal.percentile:g} is over {duration(goal.limit_us)}, requests failed, or the server did not keep up: "
            + "; ".join(over)
        )
        return _OVER
    return 0


def credential(headers: dict[str, str]) -> dict[str, str]:
    """The headers, with the token of the environment unless they hold one."""
    token = os.environ.get(TOKEN_VARIABLE)
    if token and not any(name.lower() == "authorization" for name in headers):
        return {**headers, "Authorization": f"Bearer {token}"}
    return headers
