"""What a load test shows on a terminal: how it goes, the levels as a table, what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deploy.loadtest.control import ServerFacts
from deploy.loadtest.results import Goal, Level, Report, Subject, WindowResult, gathered_notes, level_label
from deploy.loadtest.session import at_percentile
from deploy.loadtest.workers import Load

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status
    from rich.table import Table

_COLUMNS = ("load", "req/s", "rows/s", "p50", "p90", "p99", "p99.9", "max", "failed", "batch", "queue", "infer", "")


class Terminal:
    """Shows progress on standard error: a line that changes on a terminal, a line a level elsewhere.

    Args:
        console: Where to.
        most: Windows of a level at most.
    """

    def __init__(self, console: Console, most: int) -> None:
        self._console = console
        self._most = most
        self._status: Status | None = None
        self._prefix = ""
        self._label = ""

    def __enter__(self) -> Terminal:
        """Begin."""
        if self._console.is_terminal:
            self._status = self._console.status("asking the server ...", spinner="dots")
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End."""
        if self._status is not None:
            self._status.stop()

    def subject(self, subject: Subject, facts: ServerFacts) -> None:
        """See `session.Watcher`."""
        self._prefix = subject.name
        inputs = ", ".join(f"{i.name} {i.datatype} {list(i.shape)}" for i in facts.inputs)
        self._console.print(
            f"{subject.name}: {subject.server}, model {subject.model} {subject.version}: {inputs}"
            f" over {subject.protocol}, {subject.encoding}"
        )

    def level(self, load: Load) -> None:
        """See `session.Watcher`."""
        self._label = level_label(load.mode, load.value)
        if self._status is not None:
            self._status.update(f"{self._prefix}  {self._label}  warm-up")

    def window(self, number: int, window: WindowResult) -> None:
        """See `session.Watcher`."""
        if self._status is not None:
            bar = "█" * number + "░" * (self._most - number)
            self._status.update(
                f"{self._prefix}  {self._label}  {bar}  {window.throughput:,.0f} req/s  {duration(window.at_us)}"
            )

    def measured(self, level: Level) -> None:
        """See `session.Watcher`."""
        latency = level.latency
        self._console.print(
            f"  {self._label:>14}  {level.throughput:>10,.0f} req/s   p50 {duration(latency.p50_us):>9}"
            f"   p99 {duration(latency.p99_us):>9}   {'' if level.stable else 'not stable'}"
        )


def show(report: Report, console: Console) -> None:
    """The tables, and what one must know to read them."""
    for subject in report.subjects:
        console.print()
        console.print(f"{subject.name}   {subject.server}   {subject.model} {subject.version}   {subject.address}")
        console.print(_table(subject, report.goal))
        for labels, note in gathered_notes(subject.levels):
            console.print(f"  {labels}: {note}")
        console.print(verdict(subject, report.goal))


def verdict(subject: Subject, goal: Goal | None) -> str:
    """The best level in one sentence."""
    if not subject.levels:
        return "Nothing was measured."
    wanted = f"p{goal.percentile:g} within {duration(goal.limit_us)}" if goal else "few failures"
    if subject.best is None:
        return f"No level has {wanted}."
    level = subject.levels[subject.best]
    at = f", p{goal.percentile:g} {duration(at_percentile(level, goal.percentile))}" if goal else (
        f", p99 {duration(level.latency.p99_us)}"
    )  # fmt: skip
    most = f"Most with {wanted}" if goal else "Most"
    return f"{most}: {level.throughput:,.0f} requests/s at {level.label}{at}."


def duration(us: float | None) -> str:
    """Microseconds with the unit that fits, three digits.

    Example:
        >>> duration(83.89), duration(1234.5), duration(2_500_000), duration(None)
        ('83.9 µs', '1.23 ms', '2.5 s', '-')
    """
    if us is None:
        return "-"
    value, unit = (us, "µs") if us < 999.5 else (us / 1e3, "ms") if us < 999_500 else (us / 1e6, "s")
    return f"{value:.3g} {unit}" if value < 999.5 else f"{value:,.0f} {unit}"


def _table(subject: Subject, goal: Goal | None) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    columns = [c for c in _COLUMNS if c not in _empty_columns(subject.levels)]
    for column in columns:
        table.add_column(column, justify="left" if column in ("load", "") else "right", no_wrap=True)
    for number, level in enumerate(subject.levels):
        cells = _cells(level, best=number == subject.best)
        style = "bold green" if number == subject.best else "yellow" if not level.stable else ""
        table.add_row(*(Text(cells[c], style=style) for c in columns))
    return table


def _cells(level: Level, *, best: bool) -> dict[str, str]:
    latency, server = level.latency, level.server
    rows = server.mean_batch_rows if server else None
    marks = [m for m, on in (("best", best), ("not stable", not level.stable), ("!", bool(level.notes))) if on]
    return {
        "load": level.label,
        "req/s": f"{level.throughput:,.0f}",
        "rows/s": f"{level.rows_per_s:,.0f}",
        "p50": duration(latency.p50_us),
        "p90": duration(latency.p90_us),
        "p99": duration(latency.p99_us),
        "p99.9": duration(latency.p999_us),
        "max": duration(latency.max_us),
        "failed": f"{level.failed:,}" if level.failed else "-",
        "batch": f"{rows:.1f}" if rows is not None else "-",
        "queue": duration(server.queue_us if server else None),
        "infer": duration(server.infer_us if server else None),
        "": " ".join(marks[:2]),
    }


def _empty_columns(levels: Sequence[Level]) -> set[str]:
    """Columns that would say nothing."""
    empty = set()
    if all(level.server is None for level in levels):
        empty |= {"batch", "queue", "infer"}
    if all(level.rows_per_s == level.throughput for level in levels):
        empty.add("rows/s")
    if not any(level.failed for level in levels):
        empty.add("failed")
    return empty
