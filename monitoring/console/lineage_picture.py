"""A lineage as a picture: answers, who said what is right, data sets, versions; bands as wide as the rows they hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import quote

from monitoring.console.dataset_parts import Link, Node, Picture
from monitoring.datasets.lineage import Lineage

HEADS = ("Answers", "Who said what is right", "Data sets", "Versions")
MOST = 8
BOX, GAP, TOP, HEIGHT = 200.0, 80.0, 34.0, 46.0


@dataclass(kw_only=True)
class _Box:
    column: int
    title: str
    text: str
    href: str = ""
    tone: str = ""
    rows: int = 0


@dataclass(kw_only=True)
class _Graph:
    boxes: dict[str, _Box] = field(default_factory=dict)
    bands: Counter[tuple[str, str]] = field(default_factory=Counter)

    def join(self, a: str, b: str, rows: int = 1) -> None:
        if a in self.boxes and b in self.boxes and a != b:
            self.bands[a, b] += rows


def picture_of(found: Lineage) -> Picture:
    """The picture. More than `MOST` answers are drawn by version, more people as one."""
    graph = _Graph()
    answer_of = _answers(graph, found)
    author_of = _authors(graph, found)
    for node in reversed(found.snapshots):  # the oldest on top, as of the versions
        row = node.snapshot
        text = f"{row.rows:,} rows" if node.rows == row.rows else f"{node.rows} of {row.rows:,} rows"
        graph.boxes[row.id] = _Box(
            column=2, title=row.name or row.id, text=text, href=f"/datasets/{row.id}", tone="set"
        )
    for item in found.items:
        answer, author = answer_of[item.case_id], author_of[item.author]
        graph.join(answer, author)
        graph.join(author, item.snapshot_id)
    if not found.items:  # nothing of it is in a data set yet
        for said in found.said:
            graph.join(answer_of.get(said.case, ""), author_of.get(said.actor, ""))
    for node in found.snapshots:
        row = node.snapshot
        if row.base is not None:
            graph.join(row.base.removeprefix("sha256:")[:16], row.id, row.rows)
    for version in found.versions:
        key = f"v:{version.model}:{version.version}"
        text = "champion" if version.champion else f"from version {version.parent}" if version.parent else "trained"
        graph.boxes[key] = _Box(
            column=3,
            title=f"{version.model} {version.version}",
            text=text,
            href=f"/lineage/version/{quote(version.model)}?version={quote(version.version)}",
            tone="champion" if version.champion else "version",
        )
        graph.join(version.snapshot, key)
    return _drawn(graph)


def _answers(graph: _Graph, found: Lineage) -> dict[str, str]:
    """Boxes of answers; the box of each case."""
    box_of: dict[str, str] = {}
    many = len(found.records) > MOST
    for record in found.records:
        case = record.case or ""
        key = f"a:{record.version}" if many else f"a:{record.record_id}:{record.time_ns}"
        box = graph.boxes.setdefault(
            key,
            _Box(
                column=0,
                title=f"version {record.version}" if many else record.record_id,
                text="",
                href="" if many or not case else f"/cases/{case}",
                tone="answer",
            ),
        )
        box.rows += 1
        box.text = f"{box.rows} answers" if many else f"{record.version} said {record.predicted or 'nothing'}"
        if case:
            box_of[case] = key
    for item in found.items:
        if item.case_id not in box_of:
            near = f"a:{item.version}" if many else f"a:{item.record_id}:{item.time_ns}"
            if near not in graph.boxes:
                text = "no longer kept"
                graph.boxes[near] = _Box(column=0, title=item.record_id[:40], text=text, tone="answer")
            box_of[item.case_id] = near
    return box_of


def _authors(graph: _Graph, found: Lineage) -> dict[str, str]:
    said = Counter(item.author for item in found.items)
    said.update({node.actor: 0 for node in found.said})
    box_of: dict[str, str] = {}
    shown = {name for name, _ in sorted(said.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST]}
    labels = Counter(item.author for item in {item.row_id: item for item in found.items}.values())
    for name in sorted(said):
        key = f"p:{name}" if name in shown else "p:"
        box = graph.boxes.setdefault(
            key, _Box(column=1, title=name if name in shown else "others", text="", tone="said")
        )
        box.rows += labels[name]
        box.text = f"{box.rows} label{'' if box.rows == 1 else 's'}" if box.rows else "said so"
        box_of[name] = key
    return box_of


def _drawn(graph: _Graph) -> Picture:
    columns: list[list[str]] = [[key for key, box in graph.boxes.items() if box.column == c] for c in range(4)]
    tallest = max((len(keys) for keys in columns), default=1) or 1
    step = HEIGHT + 16.0
    height = TOP + tallest * step
    nodes: dict[str, Node] = {}
    for c, keys in enumerate(columns):
        start = TOP + (tallest - len(keys)) * step / 2
        for i, key in enumerate(keys):
            box = graph.boxes[key]
            nodes[key] = Node(
                x=c * (BOX + GAP),
                y=round(start + i * step, 1),
                width=BOX,
                height=HEIGHT,
                title=_cut(box.title, 25),
                text=_cut(box.text, 30),
                href=box.href,
                tone=box.tone,
            )
    most = max(graph.bands.values(), default=1)
    links = tuple(_link(nodes[a], nodes[b], rows, most) for (a, b), rows in sorted(graph.bands.items()))
    heads = tuple((c * (BOX + GAP), name) for c, name in enumerate(HEADS) if columns[c])
    return Picture(width=4 * BOX + 3 * GAP, height=height, heads=heads, nodes=tuple(nodes.values()), links=links)


def _link(a: Node, b: Node, rows: int, most: int) -> Link:
    width = round(2.0 + 14.0 * (rows / most) ** 0.5, 1)
    title = f"{rows:,} row{'' if rows == 1 else 's'}"
    if a.x == b.x:  # a data set that carries another one on: around the left side
        x, y1, y2 = a.x, a.y + a.height / 2, b.y + b.height / 2
        return Link(path=f"M{x} {y1} C{x - 44} {y1} {x - 44} {y2} {x} {y2}", width=min(width, 6.0), title=title)
    x1, y1, x2, y2 = a.x + a.width, a.y + a.height / 2, b.x, b.y + b.height / 2
    middle = (x1 + x2) / 2
    return Link(path=f"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}", width=width, title=title)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
