"""What goes out in a format comes back in it, whatever the labels are spelled like, and wrong files say where."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.contracts.task import TaskKind
from monitoring.exchange.contracts import Box, ExchangeError, Format, Header, Item, Labelled, Problem, Truth
from monitoring.exchange.fit import fit
from monitoring.exchange.formats import FORMATS
from monitoring.exchange.shared import without_repetitions
from monitoring.exchange.tables import DANGEROUS, guard, unguard

# Any character but what no text of ours can hold: surrogates, and NUL (the monitor spells both out).
ANY = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "'", "''=")
_QUOTES = ('"', '"a","b"', "a\nb", "a\r\nb", "\r", "a,b;c", "<b>&amp;</b>", "]]>", " a ", "0")
_PATHS = ("../x", "..", ".", "unlabelled", "Unlabelled", "CON", "nul.txt", "50%", "%41", "猫", "e\u0301", "🙈")
NASTY = st.sampled_from(_FORMULAS + _QUOTES + _PATHS)
NAMES = NASTY | st.text(ANY, min_size=1, max_size=12)
XML_SAFE = NASTY | st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=12)
NUMBERS = st.integers(0, 40_000_000).map(lambda n: n / 10_000)
CASES = st.integers(0, (1 << 64) - 1).map(lambda n: f"{n:016x}")


def header(task: TaskKind, names: Iterable[str]) -> Header:
    return Header(task=task, classes=tuple(dict.fromkeys(names)))


@st.composite
def boxes(draw: Any, names: list[str]) -> Truth:
    made = []
    for _ in range(draw(st.integers(0, 4))):
        x, y, w, h = (draw(NUMBERS) for _ in range(4))
        made.append(Box(x0=x, y0=y, x1=round(x + w, 4), y1=round(y + h, 4), label=draw(st.sampled_from(names))))
    return Truth(boxes=tuple(made))


@st.composite
def exports(draw: Any, task: TaskKind, texts: Any) -> tuple[Header, list[Item]]:
    names = draw(st.lists(texts, min_size=1, max_size=5, unique=True))
    truths = {
        TaskKind.CLASSIFICATION: st.sampled_from(names).map(lambda x: Truth(label=x)),
        TaskKind.MULTI_LABEL: st.lists(st.sampled_from(names), unique=True).map(lambda x: Truth(labels=tuple(x))),
        TaskKind.DETECTION: boxes(names),
        TaskKind.REGRESSION: st.floats(allow_nan=False, allow_infinity=False).map(lambda x: Truth(label=x)),
    }[task]
    items = [
        Item(
            case=case,
            model="m",
            version="1",
            time="2026-11-21T12:00:00Z",
            predicted=draw(st.none() | truths),
            truth=draw(st.none() | truths),
            comment=draw(st.just("") | texts),
            width=draw(st.integers(1, 4000)),
            height=draw(st.integers(1, 4000)),
        )
        for case in draw(st.lists(CASES, unique=True, min_size=1, max_size=6))
    ]
    return header(task, names), items


def said(truth: Truth, task: TaskKind) -> Any:
    """Sets of labels have no order."""
    made = fit(truth, task, ())
    return (made.label, None if made.labels is None else frozenset(made.labels), made.boxes)


def trip(form: Format, head: Header, items: list[Item], folder: Path) -> dict[str, Any]:
    assert form.write(head, items, folder, lambda n: None) == len(items)
    labels, problems = without_repetitions(form.read(folder))
    assert not problems, problems
    return {one.case: said(one.truth, head.task) for one in labels}


ROUND = [
    (form.name, task)
    for form in FORMATS.values()
    for task in TaskKind
    if task in form.tasks and task is not TaskKind.OTHER and form.name not in ("toloka", "mturk")
]


@pytest.mark.parametrize(("name", "task"), ROUND)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_label_comes_back_to_its_case(
    name: str, task: TaskKind, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Quotes, newlines, formulas, wide characters, boxes with fractions; unlabelled cases stay unlabelled."""
    head, items = data.draw(exports(task, XML_SAFE if name == "cvat" else NAMES))
    found = trip(FORMATS[name], head, items, tmp_path_factory.mktemp("out"))
    known = {item.case: said(item.truth, task) for item in items if item.truth is not None}
    if name == "cvat":  # it has no word for "looked at, and nothing there"
        known = {case: truth for case, truth in known.items() if truth[0] is not None or truth[1] or truth[2]}
    assert found == known


@given(text=st.text(ANY) | NASTY)
def test_the_guard_of_cells_is_undone_and_lets_no_formula_begin(text: str) -> None:
    assert unguard(guard(text)) == text
    assert guard(text)[:1] not in set(DANGEROUS)


def test_a_spreadsheet_finds_no_formula_in_any_cell(tmp_path: Path) -> None:
    """S18: every cell of text, in every table that we write, read by somebody else's parser."""
    evil = ["=cmd|' /C calc'!A0", "+1", "-2+3", "@SUM(1)", "\t=1", "\uff1d1"]
    items = [
        Item(case=f"{i:016x}", model=x, version=x, time=x, truth=Truth(label=x), comment=x, text=x, tags=(x,))
        for i, x in enumerate(evil)
    ]
    for name, delimiter in (("csv", ","), ("toloka", "\t"), ("mturk", ",")):
        FORMATS[name].write(header(TaskKind.CLASSIFICATION, evil), items, tmp_path / name, lambda n: None)
        (file,) = [*(tmp_path / name).glob("*.csv"), *(tmp_path / name).glob("*.tsv")]
        with file.open(encoding="utf-8", newline="") as lines:
            cells = [cell for row in csv.reader(lines, delimiter=delimiter) for cell in row]
        assert len(cells) > len(evil)
        assert not [cell for cell in cells if cell[:1] and cell[0] in DANGEROUS]


@pytest.mark.parametrize("name", ["toloka", "mturk"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_workers_answers_come_back(name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The task table filled in as the platform gives it back: its columns, two workers for each task."""
    head, items = data.draw(exports(TaskKind.CLASSIFICATION, NAMES))
    folder = tmp_path_factory.mktemp("out")
    FORMATS[name].write(head, items, folder, lambda n: None)
    delimiter, file = ("\t", folder / "tasks.tsv") if name == "toloka" else (",", folder / "tasks.csv")
    with file.open(encoding="utf-8", newline="") as lines:
        tasks = list(csv.DictReader(lines, delimiter=delimiter))
    answers = {item.case: data.draw(st.sampled_from(head.classes)) for item in items}
    rows = []
    for task in tasks:
        case = task["INPUT:case"] if name == "toloka" else task["case"]
        for worker, status in (("a", ""), ("b", ""), ("c", "Rejected")):
            answer = guard(answers[case]) if status == "" else "nonsense"
            if name == "toloka":
                rows.append(task | {"OUTPUT:label": answer, "ASSIGNMENT:status": status, "ASSIGNMENT:worker": worker})
            else:
                given_back = {f"Input.{column}": value for column, value in task.items()}
                rows.append(
                    given_back | {"Answer.category.label": answer, "AssignmentStatus": status, "WorkerId": worker}
                )
    results = folder / ("results.tsv" if name == "toloka" else "batch_results.csv")
    with results.open("w", encoding="utf-8", newline="") as out:
        table = csv.DictWriter(out, rows[0] if rows else ["INPUT:case", "Input.case"], delimiter=delimiter)
        table.writeheader()
        table.writerows(rows)
    labels, problems = without_repetitions(FORMATS[name].read(results))
    assert not problems
    assert {one.case: one.truth.label for one in labels} == answers


def test_workers_who_disagree_are_a_problem_and_no_label(tmp_path: Path) -> None:
    case = "0" * 15 + "1"
    rows = "".join(f"{case}\t{label}\t\n" for label in ("cat", "dog", "cat"))
    file = tmp_path / "r.tsv"
    file.write_text("INPUT:case\tOUTPUT:label\tASSIGNMENT:status\n" + rows)
    labels, problems = without_repetitions(FORMATS["toloka"].read(file))
    assert not labels
    assert "cat" in problems[0].text
    assert "(2)" in problems[0].text


BROKEN = [
    (
        "jsonl",
        "x.jsonl",
        '{"case": "zz", "label": "a"}\nnot json\n{"case": "' + "0" * 16 + '", "label": "a"}\n',
        [1, 2],
    ),
    ("csv", "x.csv", "case,label\nzz,a\n" + "0" * 16 + ",a,b\n" + "1" * 16 + ",a\n", [2, 3]),
    ("csv", "x.csv", 'case,label\n0000000000000000,a\n1111111111111111,"a\n', [3]),
]


@pytest.mark.parametrize(("name", "file", "text", "lines"), BROKEN)
def test_a_problem_names_its_line(name: str, file: str, text: str, lines: list[int], tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    found = list(FORMATS[name].read(tmp_path))
    assert [one.where for one in found if isinstance(one, Problem)] == [f"{file}:{line}" for line in lines]
    assert sum(isinstance(one, Labelled) for one in found) == 1


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_folder_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[1, 2]")
    (tmp_path / "x.xml").write_text("<html/>")
    for other in ("x.csv", "x.tsv"):
        (tmp_path / other).write_text("a,b\n1,2\n")
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n')
    if name == "folders":
        (tmp_path / "cat").mkdir()
        (tmp_path / "cat" / "holiday.png").write_bytes(b"")
    try:
        found = list(FORMATS[name].read(tmp_path))
    except ExchangeError:
        return
    assert found
    assert all(isinstance(one, Problem) for one in found)


def test_two_labels_of_one_case_are_a_problem_and_one_label_twice_is_none() -> None:
    cat, dog = Truth(label="cat"), Truth(label="dog")
    read = [Labelled(case="a", truth=x, where=str(i)) for i, x in enumerate((cat, cat, dog))]
    labels, problems = without_repetitions(read)
    assert [one.where for one in labels] == ["0"]
    assert [one.where for one in problems] == ["2"]


def test_an_entity_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><annotations><image name="&b;"/></annotations>'
    (tmp_path / "annotations.xml").write_text(bomb)
    with pytest.raises(ExchangeError, match="document type"):
        list(FORMATS["cvat"].read(tmp_path))


def test_an_empty_annotation_of_another_tool_is_no_label(tmp_path: Path) -> None:
    """CVAT and COCO do not say whether anybody looked: nothing is made of nothing."""
    image = {"id": 1, "file_name": "0123456789abcdef.png", "width": 5, "height": 5}
    (tmp_path / "a.json").write_text(json.dumps({"images": [image], "annotations": [], "categories": []}))
    assert list(FORMATS["coco"].read(tmp_path)) == []


def test_cocos_own_library_reads_what_we_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from pycocotools.coco import COCO

    truth = Truth(boxes=(Box(x0=1.5, y0=2, x1=4, y1=6.25, label="bee"), Box(x0=0, y0=0, x1=8, y1=8, label="ant")))
    guess = Truth(boxes=(Box(x0=1, y0=2, x1=4, y1=6, label="bee", score=0.75),))
    one = {"model": "m", "version": "1", "time": "2026-11-21T12:00:00Z", "width": 8, "height": 8}
    items = [Item(case="0123456789abcdef", truth=truth, predicted=guess, **one), Item(case="f" * 16, **one)]
    FORMATS["coco"].write(header(TaskKind.DETECTION, ["ant", "bee"]), items, tmp_path, lambda n: None)
    known = COCO(str(tmp_path / "annotations" / "instances_default.json"))
    assert [image["file_name"] for image in known.loadImgs(known.getImgIds())] == [item.file for item in items]
    assert {c["id"]: c["name"] for c in known.loadCats(known.getCatIds())} == {1: "ant", 2: "bee"}
    found = known.loadAnns(known.getAnnIds(imgIds=[1], catIds=[2]))
    assert [(a["bbox"], a["area"]) for a in found] == [([1.5, 2.0, 2.5, 4.25], 10.625)]
    predicted = known.loadRes(str(tmp_path / "predictions.json"))
    assert [a["score"] for a in predicted.loadAnns(predicted.getAnnIds())] == [0.75]
    capsys.readouterr()  # it prints
