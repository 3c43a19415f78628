"""Roll-outs in front of real traffic: a stand-alone server and its record log, a monitor over a store, a registry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from export.package import Package
from monitoring.rollout.policy import EventKind, RolloutState
from monitoring.rollout.rows import events
from tests.support import rollout_live as r

pytestmark = pytest.mark.slow


def test_a_good_candidate_becomes_champion_and_no_request_fails(tmp_path: Path) -> None:
    with r.live(tmp_path, lambda folder: r.good_package(folder, "2")) as live:
        identity = live.roll_out("2")
        done = live.until_ended(identity)
        assert done.state is RolloutState.PROMOTED, live.log(identity)
        live.traffic.wait_for(200)
        assert (live.plan().champion, live.plan().challenger) == ("2", None)
        assert live.traffic.sent[-1].version == "2"
        assert live.traffic.failed() == []
        assert done.standing.exposed <= 0.02 * done.standing.answered + 5


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (r.wrong_package, "disagreement with the champion"),
        (r.nan_package, "not finite"),
        (r.slow_package, "slow answers"),
    ],
)
def test_a_bad_candidate_is_back_within_thirty_seconds(
    tmp_path: Path, make: Callable[[Path, str], Package], said: str
) -> None:
    with r.live(tmp_path, lambda folder: make(folder, "2")) as live:
        identity = live.roll_out("2")
        done = live.until_ended(identity)
        assert done.state is RolloutState.ROLLED_BACK, live.log(identity)
        assert said in done.reason, live.log(identity)
        assert (live.plan().champion, live.plan().challenger) == ("1", None)
        live.traffic.wait_for(100)
        assert live.traffic.failed() == []
        answered = live.traffic.versions()
        assert answered["2"] <= 0.01 * sum(answered.values()) + 3
        with live.store.read() as connection:
            log = events(connection, identity)
        assert done.ended_ns is not None
        bad_since = next(e.time_ns for e in reversed(log) if e.kind is EventKind.STEP)
        assert done.ended_ns - bad_since <= 30e9, live.log(identity)
