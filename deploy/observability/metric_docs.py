"""`python -m deploy.observability.metric_docs`: writes the tables of metrics in docs/monitoring.md."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from monitoring.metrics import FAMILIES
from serving.metric_table import METRICS

DOCS_FILE = "docs/monitoring.md"
BEGIN = "<!-- written by python -m deploy.observability.metric_docs -->"
END = "<!-- end of what is written -->"


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposed:
    """A metric as Prometheus sees it. `kind` is counter, gauge or histogram; a counter's name ends in `_total`."""

    name: str
    kind: str
    text: str
    labels: tuple[str, ...]


def exposed() -> tuple[tuple[Exposed, ...], tuple[Exposed, ...]]:
    """The metrics of the monitor, and those of a replica."""
    monitor = tuple(
        Exposed(name=f.name + ("_total" if f.kind == "counter" else ""), kind=str(f.kind), text=f.text, labels=f.labels)
        for f in FAMILIES
    )
    replica = tuple(Exposed(name=m.name, kind=m.kind.value, text=m.help, labels=m.labels) for m in METRICS.values())
    return monitor, replica


def markdown() -> str:
    """What stands between the marks."""
    monitor, replica = exposed()
    parts = [
        BEGIN,
        "",
        "### Of the monitor",
        "",
        *_table(monitor),
        "",
        "### Of a replica",
        "",
        *_table(replica),
        "",
        END,
    ]
    return "\n".join(parts)


def _table(metrics: Iterable[Exposed]) -> Iterable[str]:
    yield "| metric | kind | labels | what |"
    yield "|---|---|---|---|"
    for m in metrics:
        labels = ", ".join(f"`{name}`" for name in m.labels)
        yield f"| `{m.name}` | {m.kind} | {labels} | {m.text.replace('|', chr(92) + '|')} |"


def updated(page: str) -> str:
    """The page with today's tables.

    Raises:
        ValueError: the page lacks the marks.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCS_FILE} lacks the marks between which the tables of metrics stand")
    return head + markdown() + tail


def main() -> None:
    """Write the page, or with an argument the page of another checkout."""
    page = Path(sys.argv[1] if len(sys.argv) > 1 else ".") / DOCS_FILE
    page.write_text(updated(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
