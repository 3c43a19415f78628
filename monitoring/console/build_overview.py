"""The first page: what needs somebody now, ranked, and everything at a glance."""

from __future__ import annotations

from dataclasses import dataclass

from export.contracts.cases import CaseState, FlagReason
from monitoring.alarms.queries import list_alarms
from monitoring.alarms.watch import AlarmState
from monitoring.console import contexts as c
from monitoring.console import parts, words
from monitoring.console.build import Builder
from monitoring.flags import FLAG_BITS
from monitoring.review.batches import BatchRow, BatchState, batches
from monitoring.review.trail import Pace, pace
from monitoring.slice_queries import SliceRow, slices
from monitoring.slices.found import SliceState
from monitoring.slices.issues import OPEN

MOST_NEEDS = 7
MOST_OF_A_KIND = 3
MINUTES_A_DAY = 1440
LABELS = 50  # without so many their share says little
WRONG_BELOW = 0.8  # of labelled answers right: below it somebody should look, whatever the promise


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What the needs and tiles are made of, read once."""

    shell: parts.Shell
    balance: parts.Balance
    slices: list[SliceRow]
    batches: list[BatchRow]
    pace: Pace
    audits: int


def overview_page(builder: Builder, now_ns: int) -> c.OverviewPage:
    """Read everything once; then what needs somebody, the figures, the models."""
    store = builder.view.store
    cards = tuple(builder.model_card(name) for name in builder.view.models())
    counts = store.case_counts()
    audit = FLAG_BITS[FlagReason.AUDIT]
    facts = _Facts(
        shell=builder.shell("overview"),
        balance=builder.balance(),
        slices=slices(store, states=[s.value for s in OPEN]),
        batches=batches(store, state=BatchState.OPEN),
        pace=pace(store, now_ns),
        audits=sum(n for _, _, state, flags, n in counts if state == CaseState.OPEN and flags & audit),
    )
    return c.OverviewPage(
        shell=facts.shell,
        needs=_needs(builder, facts, cards)[:MOST_NEEDS],
        tiles=_tiles(facts, cards),
        models=cards,
        balance=facts.balance,
        events=builder.events(None, 8),
    )


def _needs(builder: Builder, facts: _Facts, cards: tuple[parts.ModelCard, ...]) -> tuple[parts.Need, ...]:
    """In the order in which they matter: what is broken, what got worse, what is new, what waits."""
    made = [*_broken(builder, facts)]
    back = [s for s in facts.slices if s.state == SliceState.REGRESSED.value]
    made += [_slice(s, "bad", "Came back after it was fixed", "Look at it") for s in back[:MOST_OF_A_KIND]]
    firing = [s for s in facts.slices if s.watch_firing and s not in back]
    made += [_slice(s, "bad", "Over the limit of its alert", "Look at it") for s in firing[:MOST_OF_A_KIND]]
    new = [s for s in facts.slices if s.state == SliceState.NEW.value and s.current and s not in firing]
    made += [_slice(s, "warn", "New slice", "Look at it") for s in new[:1]]
    if len(new) > 1:
        text = f"{len(new) - 1:,} more new {'slices' if len(new) > 2 else 'slice'}"  # plural
        made.append(parts.Need(tone="warn", text=text, detail=new[1].words, href="/slices", action="See them"))
    made += [need for card in cards for need in _worse(card)]
    return (*made, *_waiting(facts, cards))


def _broken(builder: Builder, facts: _Facts) -> list[parts.Need]:
    made = []
    if not facts.shell.ready:
        made.append(
            parts.Need(
                tone="bad",
                text="The monitor is not ready",
                detail=facts.shell.health,
                href="/api/health",
                action="Health",
            )
        )
    fired = list_alarms(builder.view.store, state=AlarmState.FIRING.value, limit=MOST_OF_A_KIND)
    for alarm in fired:
        rate = "" if alarm.estimate is None else f"about {words.percent(alarm.estimate)} of the answers are wrong, "
        made.append(
            parts.Need(
                tone="bad",
                text=f"{alarm.model} {alarm.version} is surely worse than promised",
                detail=f"{rate}the limit is {words.percent(alarm.limit)}; {alarm.labels:,} audited labels",
                href=f"/alarms/{alarm.id}",
                action="See the evidence",
            )
        )
    if facts.balance.dead_letters:
        text = f"{facts.balance.dead_letters:,} records could not be read"
        made.append(parts.Need(tone="warn", text=text, detail="", href="/api/accounting", action="By source"))
    return made


def _slice(row: SliceRow, tone: str, what: str, action: str) -> parts.Need:
    detail = f"{words.percent(row.failure_rate, 0)} of {row.rows:,} requests fail, "
    detail += f"{words.percent(row.overall_rate)} overall · {row.model}"
    return parts.Need(tone=tone, text=f"{what}: {row.words}", detail=detail, href=f"/slices/{row.id}", action=action)


def _worse(card: parts.ModelCard) -> list[parts.Need]:
    """What is no alarm, and yet looks wrong: labels that say so, signals that moved."""
    made = []
    for line in card.versions:
        where = f"/models/{card.name}?version={line.version}"
        if line.accuracy is not None and line.labelled >= LABELS and line.accuracy < WRONG_BELOW:
            text = f"{card.name} {line.version} was right in {words.percent(line.accuracy)} of {line.labelled:,} labels"
            detail = "labels that applications and people sent; they may be about the worse requests"
            made.append(parts.Need(tone="warn", text=text, detail=detail, href=where, action="Accuracy"))
        if line.signals_exceeded:
            text = f"{line.signals_exceeded:,} of {line.signals:,} drift signals of {card.name} {line.version} moved"
            detail = "the traffic is unlike the data that the version was compiled with; that alone costs nothing"
            place = f"/models/{card.name}/drift?version={line.version}"
            made.append(parts.Need(tone="", text=text, detail=detail, href=place, action="What moved"))
    return made


def _waiting(facts: _Facts, cards: tuple[parts.ModelCard, ...]) -> list[parts.Need]:
    made = []
    blind = [card.name for card in cards if card.accuracy is not None and card.accuracy.value is None]
    if facts.audits and blind:
        made.append(
            parts.Need(
                tone="",
                text=f"{facts.audits:,} random audits wait for a label",
                detail=f"nobody can say how accurate {', '.join(blind[:2])} is before some are labelled",
                href="/cases?state=open&reason=audit",
                action="See them",
            )
        )
    waiting = [b for b in facts.batches if b.waiting]
    for one in waiting[:2]:
        text = f"The batch “{one.name}” has {one.waiting:,} cases to label"
        detail = f"{one.decided:,} of {one.waiting + one.decided:,} are decided"
        made.append(parts.Need(tone="", text=text, detail=detail, href=f"/review?batch={one.id}", action="Review"))
    if facts.shell.open_cases:
        made.append(
            parts.Need(
                tone="",
                text=f"{facts.shell.open_cases:,} cases wait for a decision",
                detail=_at_this_pace(facts.pace.per_minute, facts.shell.open_cases),
                href="/review",
                action="Review",
            )
        )
    return made


def _at_this_pace(per_minute: float, waiting: int) -> str:
    if per_minute <= 0.0:
        return "what tells most comes first"
    minutes = waiting / per_minute
    how_long = f"{minutes:,.0f} minutes" if minutes < MINUTES_A_DAY else f"{minutes / MINUTES_A_DAY:,.0f} days"
    return f"{per_minute:.1f} decisions a minute just now: {how_long} at that pace"


def _tiles(facts: _Facts, cards: tuple[parts.ModelCard, ...]) -> tuple[parts.Tile, ...]:
    lines = [v for card in cards for v in card.versions]
    failed, requests = sum(v.failed for v in lines), sum(v.requests for v in lines)
    lost = facts.balance.dropped + facts.balance.lost + facts.balance.corrupt
    new = sum(s.state == SliceState.NEW.value and s.current for s in facts.slices)
    back = sum(s.state == SliceState.REGRESSED.value for s in facts.slices)
    firing, exceeded = facts.shell.firing, sum(v.signals_exceeded for v in lines)
    return (
        parts.Tile(
            label="Requests",
            value=f"{requests:,}",
            note="all answered" if not failed else f"{failed:,} without an answer",
            tone="warn" if failed > requests / 100 else "",
        ),
        _accuracy(cards),
        parts.Tile(
            label="Alarms",
            value=f"{firing:,}",
            note=f"{exceeded:,} drift signals over their thresholds"
            if exceeded
            else "no drift signal over its threshold",
            tone="bad" if firing else "good",
            href="/alarms",
        ),
        parts.Tile(
            label="Slices",
            value=f"{new:,} new",
            note=f"{back:,} came back, {len(facts.slices):,} open" if back else f"{len(facts.slices):,} open",
            tone="bad" if back else "warn" if new else "",
            href="/slices",
        ),
        parts.Tile(
            label="Cases waiting",
            value=f"{facts.shell.open_cases:,}",
            note=f"{facts.pace.decided:,} decided today, {facts.pace.per_minute:.1f} a minute now",
            href="/review",
        ),
        parts.Tile(
            label="Requests accounted for",
            value="all" if facts.balance.balanced else f"all but {facts.balance.unexplained:,}",
            note=f"{lost:,} dropped or lost, all counted" if lost else f"{facts.balance.ingested:,} records read",
            tone="good" if facts.balance.balanced else "warn",
        ),
    )


def _accuracy(cards: tuple[parts.ModelCard, ...]) -> parts.Tile:
    """Of the least accurate model whose accuracy is known."""
    known = [
        (card.accuracy.value, card) for card in cards if card.accuracy is not None and card.accuracy.value is not None
    ]
    if not known:
        return parts.Tile(label="Accuracy", value="–", note="not enough data yet")  # noqa: RUF001  # as wide as a digit
    value, card = min(known, key=lambda pair: pair[0])
    block = card.accuracy
    note = card.name
    if block is not None and block.low is not None and block.high is not None:
        note = f"{words.percent(block.low)} to {words.percent(block.high)}, {card.name} {card.accuracy_of}"
    tone = "" if block is None or block.trusted else "warn"
    return parts.Tile(label="Accuracy", value=words.percent(value), note=note, tone=tone, href=f"/models/{card.name}")
