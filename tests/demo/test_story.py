"""The whole story in its short form, as people start it: one command, a system of its own, a report whose claims hold.

About a minute on two quiet cores. The full form is `make demo`; its report is committed in `docs/examples/story/`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from deploy.probes import answers
from deploy.run_state import current_run
from tests.support.hardcase_process import Place, Running

pytestmark = [pytest.mark.fault, pytest.mark.timeout(1800)]


def test_a_shift_is_noticed_labelled_learned_and_rolled_out_unattended(tmp_path: Path):
    place = Place.make(tmp_path / "s", serving={"standalone": True})
    done = place.run("demo", "--quick", "--json", timeout=1700)
    report = json.loads(done.stdout or "{}")
    assert "events" in report, done.stdout + done.stderr
    for event in report["events"]:
        print(event["at_s"], event["kind"], event["text"])
    assert [claim for claim in report["claims"] if not claim["holds"]] == [], done.stderr
    assert done.returncode == 0
    assert report["failed"] == 0
    assert [turn["stage"] for turn in report["turns"]] == ["promoted"]
    kinds = list(dict.fromkeys(event["kind"] for event in report["events"]))
    order = ["world", "alarm", "trigger", "training", "gate", "rollout"]
    assert [kind for kind in kinds if kind in order] == order, report["events"]
    plans = [event["text"] for event in report["events"] if event["kind"] == "plan"]
    for step in ("runs in its shadow", "is canary for 1 %", ": 2 answers"):
        assert any(step in plan for plan in plans), plans
    assert sum(chapter["typed"] for chapter in report["labels"]) >= 60
    page = (place.paths.demo / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "http-equiv" not in page
    story = place.paths.demo / "story"
    assert (story / "registry").is_dir(), "it worked in a folder of its own"
    assert current_run(place.paths) is None


def await_line(system: Running) -> str:
    """The run's last line: it comes a moment after everything is ready."""
    deadline = time.monotonic() + 30
    while "Ctrl-C stops everything" not in system.log and time.monotonic() < deadline:
        time.sleep(0.1)
    return system.log


@pytest.mark.slow
def test_beside_a_running_up_it_is_told_in_the_console_that_is_open_and_once(tmp_path: Path):
    system = Place.make(tmp_path / "s", for_demo=True, serving={"standalone": True}).start()
    place = system.place
    try:
        assert "`make demo` in another terminal tells the whole story" in await_line(system)
        done = place.run("demo", "--quick", "--json", timeout=1500)
        report = json.loads(done.stdout)
        assert [claim for claim in report["claims"] if not claim["holds"]] == [], done.stderr
        assert report["console"] == place.console
        assert all(answers(turn["pages"]["loop"], 60.0) for turn in report["turns"])
        assert place.json("registry", "history", "digits")[0]["champion"] == "2"
        again = place.run("demo", "--quick", "--json", timeout=1500)
        report = json.loads(again.stdout)
        assert again.returncode == 0, again.stderr
        assert report["console"] != place.console, "what has learned of the shift cannot be surprised by it"
        assert "is left alone" in again.stderr
    finally:
        system.ensure_stopped()
