"""The pages of slices and batches: what they show, and that their forms work without a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.console.slice_words import told
from monitoring.slices.acts import Acts, Doing
from monitoring.slices.issues import SliceAct
from tests.support.slice_world import BLURRED, DARK, EIGHTS, SliceWorld, slice_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SliceWorld]:
    with slice_world(tmp_path_factory.mktemp("pages")) as made:
        yield made


def posted(world: SliceWorld, path: str, **form: str) -> str:
    response = world.client.post(path, data=form)
    assert response.status_code == 303, response.text
    return response.headers["location"]


def test_the_list_shows_issues_by_state_and_the_worst_first(world: SliceWorld) -> None:
    page = world.get("/slices", format="json")
    assert [s["id"] for s in page["current"]] == [EIGHTS, DARK]
    assert [s["id"] for s in page["earlier"]] == [BLURRED]
    first = page["current"][0]
    assert first["waiting"] > 3
    assert len(first["examples"]) == 5
    assert first["low"] < first["rate"] < first["high"]
    assert {tab["value"]: tab["label"].rsplit(" ", 1)[1] for tab in page["tabs"]}["open"] == "3"
    assert world.get("/slices", format="json", tab="fixed")["current"] == []
    world.get("/slices", status=400, tab="nothing")


def test_every_form_of_a_slice_does_what_it_says(world: SliceWorld) -> None:
    page = f"/slices/{DARK}"
    assert posted(world, f"{page}/acts", act="acknowledge", edition="0", key="k:0") == page
    assert posted(world, f"{page}/acts", act="own", owner="bea") == page
    assert posted(world, f"{page}/acts", act="watch", percent="40") == page
    assert posted(world, f"{page}/acts", act="comment", text="a <b>bold</b> remark") == page
    assert posted(world, f"{page}/test-set", name="dark ones") == page
    batch = posted(world, f"{page}/batch", name="", limit="9")
    shown = world.get(batch, format="json")
    assert shown["batch"]["name"] == "X brightness is low"
    assert shown["slice_words"] == "x brightness is low"
    assert posted(world, f"{batch}/close") == batch
    assert world.get(batch, format="json")["batch"]["state"] == "closed"
    now = world.get(page, format="json")
    assert (now["card"]["state"], now["card"]["owner"], now["card"]["watch"]) == ("batched", "bea", "40 %")
    assert [line["name"] for line in now["sets"]] == ["dark ones"]
    assert len(now["batches"]) == 1
    assert [line["actor"] for line in now["story"]] == ["local"] * 6
    html = world.client.get(page).text
    assert "a &lt;b&gt;bold&lt;/b&gt; remark" in html
    assert posted(world, f"{page}/acts", act="own", owner="") == page
    assert world.get(page, format="json")["card"]["owner"] is None
    answer = world.client.post(f"{page}/acts", data={"act": "fix", "edition": "0", "version": "2"})
    assert answer.status_code == 409
    lists = world.get("/batches", format="json")
    assert len(lists["batches"]) == len(lists["sets"]) == 1


def test_every_act_can_be_told(world: SliceWorld) -> None:
    acts, ann = Acts(world.store), Doing(actor="ann", now_ns=1)
    acts.ignore(BLURRED, ann)
    acts.merge(BLURRED, ann, EIGHTS)
    acts.unmerge(BLURRED, ann)
    acts.fix(BLURRED, ann, "2")
    acts.reopen(BLURRED, ann)
    acts.watch(BLURRED, ann, 0.3)
    acts.unwatch(BLURRED, ann)
    for identity in (BLURRED, EIGHTS):
        story = world.get(f"/slices/{identity}", format="json")["story"]
        assert all(line["text"] for line in story)
    found = {"failure_rate": 0.3, "rows": 10, "fixed_in": "2", "limit": 0.2}
    for act in (SliceAct.REGRESS, SliceAct.WAKE, SliceAct.FIRE, SliceAct.CALM):
        assert told(act.value, found)[0]
    assert told(SliceAct.SPLIT.value, {"by": "camera", "into": []})[0] == "split it by camera"


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    hostile = "\"'><script>window.pwned=1</script><img src=x onerror=window.pwned=1>"
    with slice_world(tmp_path, texts=(hostile,)) as bad:
        path = f"/slices/{EIGHTS}"
        batch = posted(bad, f"{path}/batch", name=hostile)
        for form in ({"act": "comment", "text": hostile}, {"act": "own", "owner": hostile[:60]}):
            posted(bad, f"{path}/acts", **form)
        posted(bad, f"{path}/test-set", name=hostile)
        for page in ("/", "/slices", path, "/batches", batch):
            html = bad.client.get(page).text
            assert "window.pwned" in html, page
            assert "<script>window" not in html, page
            assert "<img src=x" not in html, page
