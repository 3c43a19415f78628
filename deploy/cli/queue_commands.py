"""Commands about reviewing: take cases, decide, decide in bulk, undo, look at the trail."""

from __future__ import annotations

import json
import uuid
from typing import Annotated, Any

import typer

from deploy.cli.context import JsonFlag, console, invocation_of, print_json, print_table
from deploy.errors import Missing, Refused, UsageError

ModelOption = Annotated[str | None, typer.Option("--model", help="Only of this model.")]
KeyOption = Annotated[
    str | None, typer.Option("--key", help="Names this act: given again, nothing is done twice. Default: a new one.")
]
CaseArgument = Annotated[str, typer.Argument(help="Id of the case: 16 hex digits.")]
VerdictArgument = Annotated[str, typer.Argument(help="correct, label, wrong, unclear or dismiss.")]
LabelOption = Annotated[
    str | None, typer.Option("--label", help="With the verdict label: what is right. JSON, or a plain word.")
]
CommentOption = Annotated[str | None, typer.Option("--comment", help="Why; stays on record.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of the queue to `hardcase review`."""
    app.command("next")(review_next)
    app.command("decide")(review_decide)
    app.command("bulk")(review_bulk)
    app.command("undo")(review_undo)
    app.command("history")(review_history)
    app.command("pace")(review_pace)


def review_next(
    ctx: typer.Context,
    model: ModelOption = None,
    slice_id: Annotated[str | None, typer.Option("--slice", help="Only of this slice.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only with this tag.")] = None,
    batch: Annotated[str | None, typer.Option("--batch", help="Only of this labelling batch.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=50, help="With --json: so many cases.")] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Go through the queue in the terminal: one case, one key. With --json: take the next cases and print them.

    Example: hardcase review next --model digits
    """
    which = {"model": model, "slice": slice_id, "tag": tag, "batch": batch}
    client = _client(ctx)
    if as_json:
        print_json(client.post("/api/review/lease", which | {"count": count}))
        return
    from deploy.cli.review_session import ReviewSession

    ReviewSession(client, which, console()).run()


def review_decide(
    ctx: typer.Context,
    case: CaseArgument,
    verdict: VerdictArgument,
    label: LabelOption = None,
    comment: CommentOption = None,
    edition: Annotated[
        int | None, typer.Option("--edition", help="Of the case as you read it; default: as it stands now.")
    ] = None,
    key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Decide about one case. Exit code 4 when somebody was first.

    Example: hardcase review decide 0a1b2c3d4e5f6071 label --label seven
    """
    client = _client(ctx)
    known = client.get(f"/api/cases/{case}")["standing"]["edition"] if edition is None else edition
    said = {"case": case, "edition": known, "verdict": verdict, "label": label_of(label), "comment": comment}
    done = client.post("/api/review/decisions", {"key": key or new_key(), "decisions": [said]})
    result = done["results"][0]
    if as_json:
        print_json(done)
        raise typer.Exit(0 if result["ok"] else Refused.exit_code)
    if not result["ok"]:
        raise Refused(f"{case}: {result['conflict']}")
    console().print(f"{case}: {result['standing']['state']} (act {done['act']})")


def review_bulk(
    ctx: typer.Context,
    verdict: VerdictArgument,
    label: LabelOption = None,
    comment: CommentOption = None,
    model: ModelOption = None,
    state: Annotated[str | None, typer.Option("--state", help="Only open, second_opinion, ... ones.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only with this tag.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Only flagged for this reason.")] = None,
    slice_id: Annotated[str | None, typer.Option("--slice", help="The cases of this slice.")] = None,
    like: Annotated[str | None, typer.Option("--like", help="This case and those whose embedding is like its.")] = None,
    likeness: Annotated[float, typer.Option("--likeness", min=0.0, max=1.0, help="Least cosine to it.")] = 0.9,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Decide about everything in a selection: shown first, then one act with one undo.

    Example: hardcase review bulk dismiss --model digits --tag blank --yes
    """
    client = _client(ctx)
    asked: dict[str, Any] = {"model": model, "state": state, "tag": tag, "reason": reason}
    selection: dict[str, Any] = {"filter": {name: value for name, value in asked.items() if value is not None}}
    if slice_id is not None or like is not None:
        if (slice_id is not None and like is not None) or selection["filter"]:
            raise UsageError("a selection is a filter, or --slice, or --like")
        selection = {"slice": slice_id} if slice_id is not None else {"like": like, "likeness": likeness}
    elif not selection["filter"]:
        raise UsageError("say which cases: --model, --tag, --state, --reason, --slice or --like")
    body = {"selection": selection, "verdict": verdict, "label": label_of(label), "comment": comment}
    seen = client.post("/api/review/bulk/preview", body)
    if not as_json:
        print_table(("answered", "cases"), list(seen["by"].items()), empty="No case would change.")
    if not seen["count"]:
        raise Missing("no case would change")
    if not yes and not as_json and not typer.confirm(f"{verdict} for {seen['count']} cases?"):
        raise typer.Abort
    done = client.post("/api/review/bulk", body | {"key": key or new_key(), "expect": seen["count"]})
    _say(done, as_json)


def review_undo(
    ctx: typer.Context,
    act: Annotated[int, typer.Argument(help="Number of the act.")],
    key: KeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Take an act back, as far as nobody has changed its cases since. An undo can be undone too.

    Example: hardcase review undo 42
    """
    _say(_client(ctx).post(f"/api/review/acts/{act}/undo", {"key": key or new_key()}), as_json)


def review_history(
    ctx: typer.Context,
    case: Annotated[str | None, typer.Argument(help="Id of a case; default: the newest acts of all.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500, help="Newest so many acts.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """Who did what, when, from where to where.

    Example: hardcase review history 0a1b2c3d4e5f6071
    """
    client = _client(ctx)
    if case is None:
        found = client.get("/api/review/acts", limit=limit)
        if as_json:
            print_json(found)
            return
        acts = [
            (
                a["id"],
                a["time"],
                a["actor"],
                a["kind"],
                a["cases"],
                f"undone by {a['undone_by']}" * bool(a["undone_by"]),
            )
            for a in found["acts"]
        ]
        print_table(("act", "time", "who", "what", "cases", ""), acts, empty="Nobody has done anything yet.")
        return
    found = client.get(f"/api/cases/{case}/history")
    if as_json:
        print_json(found)
        return
    steps = [
        (s["act"]["id"], s["act"]["time"], s["act"]["actor"], s["act"]["kind"], s["verdict"] or "", _moved(s))
        for s in found["steps"]
    ]
    columns = ("act", "time", "who", "what", "verdict", "from → to")
    print_table(columns, steps, empty="Nobody has done anything to this case yet.")


def review_pace(
    ctx: typer.Context,
    actor: Annotated[str | None, typer.Option("--actor", help="Only of this person.")] = None,
    model: ModelOption = None,
    as_json: JsonFlag = False,
) -> None:
    """How many were decided today, how fast it goes, what waits, how well reviewers agree.

    Example: hardcase review pace --actor ann
    """
    found = _client(ctx).get("/api/review/pace", actor=actor, model=model)
    if as_json:
        print_json(found)
        return
    agreed = found["agreement"]
    share = "not enough data" if agreed["share"] is None else f"{agreed['share']:.0%} of {agreed['pairs']} pairs"
    for name, value in (
        ("decided today", f"{found['decided']}, {found['single']} of them one by one"),
        ("a minute", f"{found['per_minute']:.1f} over the last ten"),
        ("waiting", found["waiting"]),
        ("agreement", share),
    ):
        console().print(f"{name:<14} {value}")


def new_key() -> str:
    """A key that nobody else uses."""
    return uuid.uuid4().hex


def label_of(text: str | None) -> Any:
    """A label as somebody types it: JSON, or the word itself.

    Example:
        >>> label_of("seven"), label_of("7"), label_of('["a"]')
        ('seven', 7, ['a'])
    """
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _client(ctx: typer.Context) -> Any:
    from deploy.monitor_client import MonitorClient

    client = MonitorClient.of(invocation_of(ctx).settings)
    ctx.call_on_close(client.close)
    return client


def _say(done: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    left = "".join(f", {n} {why}" for why, n in done["skipped"].items())
    console().print(f"{done['changed']} changed{left} (act {done['act']})")


def _moved(step: dict[str, Any]) -> str:
    names = [n for n in step["after"] if n in ("state", "label", "assignee", "priority", "opinions", "tags")]
    text: str = ", ".join(f"{n} {step['before'].get(n)} → {step['after'][n]}" for n in names)
    undone, comment = " (undone)" if step["withdrawn"] else "", step["comment"]
    return text + undone + (f" “{comment}”" if comment else "")
