"""F16: memory stays flat while shapes and versions change, and a planted leak is seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import soak


@pytest.mark.slow
@pytest.mark.fault
def test_memory_is_flat_and_a_planted_leak_is_not(tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    assert soak.main(["--quick", "--output", str(out)]) == 0, out.read_text()
    found = json.loads(out.read_text())
    assert found["sound"]["versions_promoted"] >= 2, "the positive control: versions did change"
    assert found["sound"]["socket_errors"] == 0
    assert found["planted_leak"]["bytes_a_request"] > 2 * max(1.0, found["sound"]["bytes_a_request"])
