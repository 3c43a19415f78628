"""The whole story in its short form, as people start it: one command, a system of its own, a report whose claims hold.

About 90 seconds on two quiet cores. The full form is `make demo`; its report is committed in `docs/examples/story/`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.run_state import current_run
from tests.support.hardcase_process import Place

pytestmark = [pytest.mark.slow, pytest.mark.fault, pytest.mark.timeout(900)]


def test_a_shift_is_noticed_labelled_learned_and_rolled_out_unattended(tmp_path: Path):
    place = Place.make(tmp_path / "s", serving={"standalone": True})
    done = place.run("demo", "--quick", "--json", timeout=800)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert [claim for claim in report["claims"] if not claim["holds"]] == [], done.stderr
    assert done.returncode == 0
    assert report["failed"] == 0
    assert [turn["stage"] for turn in report["turns"]] == ["promoted"]
    kinds = list(dict.fromkeys(event["kind"] for event in report["events"]))
    for earlier, later in [("world", "alarm"), ("trigger", "training"), ("training", "gate"), ("gate", "rollout")]:
        assert kinds.index(earlier) < kinds.index(later), report["events"]
    page = (place.paths.demo / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "http-equiv" not in page
    story = place.paths.demo / "story"
    assert (story / "registry").is_dir(), "it worked in a folder of its own"
    assert current_run(place.paths) is None
