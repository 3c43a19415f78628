"""Reports as documents: made from what was measured, written, read again, merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deploy.errors import Missing, UsageError
from deploy.loadtest.environment import now
from deploy.loadtest.orders import Mode
from deploy.loadtest.results import SCHEMA_VERSION, Goal, Report, Subject
from deploy.loadtest.session import Plan, best_level, meets
from export.contracts import codec


def make_report(subjects: Sequence[Subject], plan: Plan, environment: dict[str, str]) -> Report:
    """The report of one run."""
    stability = plan.stability
    settings = {
        "load": "closed loop: callers without a pause"
        if plan.mode is Mode.CONCURRENCY
        else f"open loop: {plan.arrivals} arrivals, latency from the intended send time",
        "rows of a request": str(plan.batch),
        "inputs": plan.input_data.name if plan.input_data else f"made up ({plan.fill})",
        "window": f"{plan.window_s:g} s after {plan.warm_up_s:g} s of warm-up",
        "stable": f"3 windows in a row within {stability.share:.0%} of their mean, in throughput and in "
        f"p{stability.percentile:g}; at most {stability.most}",
    }
    return Report(
        created_at=now(),
        settings=settings,
        environment=environment,
        goal=plan.goal,
        subjects=tuple(subjects),
    )


def read_report(path: Path) -> Report:
    """A report that `--json` wrote.

    Raises:
        Missing: no such file.
        UsageError: it is something else.
    """
    try:
        report = codec.loads(Report, path.read_bytes())
    except FileNotFoundError:
        raise Missing(f"--compare: there is no file '{path}'") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"--compare {path}: not a report of `hardcase bench`: {error}") from None
    if report.schema_version != SCHEMA_VERSION:
        raise UsageError(f"--compare {path}: schema version {report.schema_version}, expected {SCHEMA_VERSION}")
    return report


def write_json(report: Report, path: Path) -> None:
    """Write a report so that `read_report` reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(codec.dumps(report) + b"\n")


def merge(report: Report, others: Sequence[Report]) -> Report:
    """One report of several runs: the first's settings and goal, everybody's subjects, each with a name of its own.

    A run on another machine, or with other settings, says so in its name's column of the page: `differs`.
    """
    subjects: list[Subject] = []
    for number, one in enumerate((report, *others)):
        for subject in one.subjects:
            taken = {s.name for s in subjects}
            name = subject.name
            if name in taken:
                name = f"{subject.name} ({one.created_at[:10]})" if number else f"{subject.name} (2)"
            while name in taken:
                name += "'"
            best = best_level(subject.levels, report.goal)
            subjects.append(replace(subject, name=name, best=best))
    return replace(report, subjects=tuple(subjects))


def differs(report: Report, others: Sequence[Report]) -> list[str]:
    """Sentences about what makes runs hard to compare."""
    found = []
    for other in others:
        for what, mine, theirs in (
            ("machine", report.environment.get("processor"), other.environment.get("processor")),
            ("cores", report.environment.get("cores"), other.environment.get("cores")),
            *((key, value, other.settings.get(key)) for key, value in report.settings.items()),
        ):
            if mine != theirs:
                found.append(f"the run of {other.created_at} has another {what}: {theirs}, not {mine}")
    return found


def failures(report: Report, goal: Goal) -> list[str]:
    """Levels that pass a goal, in words; empty when all keep it."""
    return [
        f"{subject.name}, {level.label}"
        for subject in report.subjects
        for level in subject.levels
        if not meets(level, goal)
    ]
