"""`hardcase records`: the log for people and for other tools."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.cli.context import console, print_json
from deploy.errors import Missing, UsageError

if TYPE_CHECKING:
    from monitoring.records.counters import Accounting
    from monitoring.records.verify import SourceReport


def tail_records(root: Path, *, count: int, follow: bool, as_json: bool) -> None:
    """Print the newest records, oldest of them first."""
    from monitoring.records.export import tail

    _need(root)
    out = console()
    for record in tail(root, follow=follow, last=count):
        if as_json:
            print(json.dumps(record, default=str), flush=True)
        else:
            out.print(_line(record))


def export_records(root: Path, out: Path) -> dict[str, int]:
    """Write all records; returns rows by file.

    Raises:
        UsageError: `out` is neither a .jsonl file nor a folder for Parquet files.
    """
    from monitoring.records.export import export_jsonl, export_parquet

    _need(root)
    if out.suffix in (".jsonl", ".ndjson"):
        return {str(out): export_jsonl(root, out)}
    if out.suffix or out.is_file():
        raise UsageError(f"'{out.name}' is neither a .jsonl file nor a folder for Parquet files")
    return {str(out / name): rows for name, rows in export_parquet(root, out).items()}


def verify_records(root: Path, *, as_json: bool) -> bool:
    """Check the log and print what was found; True when all is well."""
    from monitoring.records.verify import verify

    _need(root)
    report = verify(root)
    if as_json:
        print_json(
            {"ok": report.ok, "sources": [{"ok": s.ok, **plain(s)} for s in report.sources]},
        )
        return report.ok
    out = console()
    for source in report.sources:
        state = "being written" if source.alive else "closed" if source.clean else "its writer was killed"
        out.print(f"{'ok ' if source.ok else 'BAD'} {source.source}  {state}")
        out.print(
            f"    {source.segments} segments, {source.frames} frames: {source.records} records, "
            f"{source.feedback} feedback, {source.events} events"
        )
        for (model, version), account in sorted(source.accounting.items()):
            out.print(f"    {model or '(no model)'} {version}: {_account(account)}")
        for problem in source.problems:
            out.print(f"    {problem}")
    out.print("every frame verifies" if report.ok else "the log is damaged; see above")
    return report.ok


def plain(source: SourceReport) -> dict[str, Any]:
    """A report as JSON-compatible values; the accounting's keys become `model/version`."""
    fields = {f.name: getattr(source, f.name) for f in dataclasses.fields(source)}
    fields["accounting"] = {
        f"{model}/{version}": dataclasses.asdict(account) for (model, version), account in source.accounting.items()
    }
    fields["damages"] = [str(d) for d in source.damages]
    return fields


def _account(account: Accounting) -> str:
    dropped = sum(account.dropped.values())
    return (
        f"{account.requests} requests = {account.captured} captured + {account.sampled_out} sampled out + "
        f"{dropped} dropped + {account.lost_crash + account.lost_corrupt} lost"
        + (f" + {account.in_flight} under way" if account.in_flight else "")
    )


def _line(entry: dict[str, Any]) -> str:
    keys: tuple[str, ...]
    if entry["kind"] == "record":
        keys = ("time", "model", "version", "outcome", "total_us", "id")
    elif entry["kind"] == "feedback":
        keys = ("time", "model", "record_id", "label", "score", "comment")
    else:
        keys = ("time", "event", "model", "version", "detail")
    return f"{entry['kind']:<8} " + "  ".join(str(entry[k]) for k in keys if entry.get(k) not in (None, "", {}))


def _need(root: Path) -> None:
    if not root.is_dir():
        raise Missing(f"no record log at {root}", "serving makes one with its first start")
