"""One running system without Ray for the whole session: starting it takes ten seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hardcase_process import Place, Running


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """`hardcase up` with the demo model, without Ray, with windows of five seconds."""
    folder: Path = tmp_path_factory.mktemp("up")
    place = Place.make(folder, serving={"standalone": True}, monitor={"window_s": 5})
    system = place.start()
    yield system
    system.ensure_stopped()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder in which nothing runs."""
    return Place.make(tmp_path / "here", serving={"standalone": True})
