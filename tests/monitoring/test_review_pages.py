"""The review page's parts without a browser: sheets, keys, inputs of every kind, heat maps, what versions said."""

from __future__ import annotations

import io
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from PIL import Image

from export.contracts.task import BoxFormat
from monitoring import schema as t
from monitoring.case_facts import said_of_case
from monitoring.console.build_inputs import visible
from monitoring.console.build_pads import KEYS, PAGE_KEYS, VERDICT_KEYS, as_given, keys_for
from monitoring.heat import flat, heat_png
from tests.support.console_store import complete
from tests.support.review_console import ReviewConsole, review_console


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReviewConsole]:
    with review_console(tmp_path_factory.mktemp("sheets"), cases=20) as made:
        yield made


@pytest.fixture(scope="module")
def client(console: ReviewConsole) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=console.address, trust_env=False, timeout=30) as made:
        yield made


def test_no_key_of_a_class_is_one_of_the_page() -> None:
    assert not set(KEYS) & set(VERDICT_KEYS + PAGE_KEYS)
    assert len(set(KEYS)) == len(KEYS)


def test_classes_that_are_called_by_a_key_have_it_and_the_others_the_next_free_one() -> None:
    assert keys_for(tuple("0123456789")) == list("0123456789")
    assert keys_for(("c", "1", "cat")) == ["2", "1", "3"]  # c says "correct"
    assert keys_for(("zero", "one", "Two", "cat", "2")) == ["0", "1", "2", "3", "4"]  # the word of a digit is its key
    many = keys_for(tuple(f"class {i}" for i in range(len(KEYS))))
    assert len(set(many)) == len(KEYS)


@pytest.mark.parametrize("form", list(BoxFormat))
def test_a_box_that_is_kept_is_sent_as_feedback_has_it(form: BoxFormat) -> None:
    from export.contracts.answers.truth import box_truth
    from export.contracts.task import BoxRules

    corners, _ = box_truth([{"box": as_given([1.0, 2.0, 5.0, 9.0], form)}], BoxRules(format=form), ())
    assert corners.tolist() == [[1.0, 2.0, 5.0, 9.0]]


@pytest.mark.parametrize(
    ("model", "mode", "keys", "kinds"),
    [
        ("labels", "toggle", ["1", "2", "3"], ["picture"]),
        ("price", "number", [], ["table"]),
        ("find", "toggle", ["1", "2"], ["picture"]),
        ("mood", "pick", ["1", "2", "3"], ["text"]),
        ("many", "pick", list("1234567890"), ["heat"]),
        ("scene", "pick", ["1", "2"], ["picture", "picture"]),
    ],
)
def test_a_sheet_says_how_its_case_is_shown_and_decided(
    console: ReviewConsole, client: httpx.Client, model: str, mode: str, keys: list[str], kinds: list[str]
) -> None:
    page = client.get(f"/review/sheets/{console.kinds[model]}?format=json").json()
    assert page["pad"]["mode"] == mode
    assert [c["key"] for c in page["pad"]["choices"]] == keys
    assert [v["kind"] for v in page["inputs"]["views"]] == kinds
    assert page["standing"]["edition"] == 0
    for view in page["inputs"]["views"]:
        if view["src"]:
            picture = Image.open(io.BytesIO(client.get(view["src"]).content))
            assert min(picture.size) > 0


def test_each_of_several_pictures_is_its_own(console: ReviewConsole, client: httpx.Client) -> None:
    base = f"/api/cases/{console.kinds['scene']}/input.png"
    rgb, depth = (Image.open(io.BytesIO(client.get(base, params={"name": n}).content)) for n in ("rgb", "depth"))
    assert (rgb.mode, depth.mode) == ("RGB", "L")
    assert client.get(base, params={"name": "nothing"}).status_code == 404


def test_the_page_refuses_filters_that_it_does_not_know(client: httpx.Client) -> None:
    assert client.get("/review?state=open").status_code == 400
    assert client.get("/review?model=nothing").status_code == 404
    assert client.get("/review?case=0000000000000000").status_code == 404
    assert client.get("/review/classes/many?version=2").status_code == 404
    assert len(client.get("/review/classes/many?version=1").json()["classes"]) == 120
    page = client.get("/review?model=digits&back=https://evil.example/&format=json").json()
    assert (page["filters"], page["back"]) == ({"model": "digits"}, "/")


def test_text_shows_what_cannot_be_seen() -> None:
    assert visible("a\u202eb\u0000\n") == "a⟨U+202E⟩b⟨U+0000⟩\n"


def test_a_heat_map_gives_each_element_a_square_of_its_own_colour() -> None:
    pixels = np.array(Image.open(io.BytesIO(heat_png(np.array([[0.0, 1.0], [np.nan, 4.0]]), 8))))
    assert pixels.shape == (8, 8, 3)
    assert pixels[0, 0].tolist() == [68, 1, 84]
    assert pixels[-1, -1].tolist() == [253, 231, 37]
    assert pixels[-1, 0].tolist() == [255, 0, 255]  # not a number
    signed = np.array(Image.open(io.BytesIO(heat_png(np.array([[-2.0, 0.0, 1.0]]), 3))))
    assert signed[0, 1].tolist() == [247, 247, 247]  # zero is white


@pytest.mark.parametrize("shape", [(), (1,), (65,), (3, 4), (2, 3, 4), (40, 3, 4), (2, 2, 3, 4)])
def test_every_element_has_a_place_on_the_plane(shape: tuple[int, ...]) -> None:
    values = np.arange(1.0, 1.0 + np.prod(shape, dtype=int)).reshape(shape)
    plane, known = flat(values)
    assert sorted(plane[known].tolist()) == values.reshape(-1).tolist()


def test_what_a_shadow_and_an_earlier_version_said_is_found(console: ReviewConsole) -> None:
    case = console.day.case_ids[1]
    with console.store.write() as connection:
        row = connection.execute(t.cases.select().where(t.cases.c.id == case)).mappings().one()
        versions = {
            r.version: r.id for r in connection.execute(t.versions.select().where(t.versions.c.model == "digits"))
        }
        shared = {"outcome": "ok", "rows": 1, "probability": 1.0, "predicted": 3, "source": "r-1"}
        shadow = shared | {"id_hash": row["id_hash"], "record_id": row["record_id"], "time_ns": row["time_ns"]}
        again = shared | {"id_hash": 77, "record_id": "again", "time_ns": row["time_ns"] - 10**9, "content_hash": 4711}
        connection.execute(t.cases.update().where(t.cases.c.id == case).values(content_hash=4711))
        for values, version, variant in ((shadow, "1", "shadow"), (again, "1", "champion")):
            whole = values | {"version_id": versions[version], "variant": variant}
            connection.execute(t.records.insert().values(**complete(t.records, whole)))
    said = said_of_case(console.store, case)
    assert [(x.version, x.variant, x.same_request) for x in said] == [
        ("1", "shadow", True),
        ("2", "champion", True),
        ("1", "champion", False),
    ]
    assert [x.case_id for x in said] == [None, case, None]
    page = httpx.get(f"{console.address}/cases/{case}?format=json", trust_env=False).json()
    assert [x["how"] for x in page["said"]] == [
        "this request, another answer",
        "this case",
        "the same input, sent another time",
    ]
