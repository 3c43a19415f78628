"""Everything is killed while the story is told: it ends as if nothing had been. Fifty kills: by the script."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.support.story_kills import EXPECTED, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.fault,
    pytest.mark.timeout(3600),
    # connections to processes that were killed: the monitor's client has no end of its own
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def test_three_kills_of_everything_change_nothing_about_the_ending():
    with tempfile.TemporaryDirectory(prefix="hck-") as folder:
        ending = run(Path(folder), kills=3, seed=1)
    assert ending.kills == 3
    assert ending.killed >= 6, "serving and the monitor at least, each time"
    assert ending.same == EXPECTED, ending
