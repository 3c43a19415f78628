"""Whole loads, trial in a child included, on the double and in another precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.admission import admit
from serving.loading import load_version
from serving.options import BatchOptions, Precision, RuntimeOptions, ServingOptions
from serving.runtime.base import LoadFailed
from tests.support import packages as p


def options(**runtime: Any) -> ServingOptions:
    return ServingOptions(
        registry="", records="", batch=BatchOptions(max_rows=8), runtime=RuntimeOptions(load_attempts=1, **runtime)
    )


def test_a_version_on_the_double_is_ready_with_its_facts(tmp_path: Path) -> None:
    ready = load_version(p.digits_like_package(tmp_path), options(device="double:1ms", lanes=3), admit)
    facts = ready.facts()
    assert facts["device"] == "double"
    assert (facts["lanes"], facts["graphs"], facts["graph_note"]) == (3, "1,2,4,8", "all sizes")
    assert isinstance(facts["memory_bytes"], int)
    assert ready.runtime.concurrency == 3
    assert ready.proof.batch_us >= 1000
    assert not ready.inline, "a batch on a device never runs on the event loop"
    (answer,) = ready.runtime.run([np.zeros((3, 1, 8, 8), np.float32)], (0,))
    assert answer.shape == (3, 10)
    ready.runtime.close()


def test_a_largest_batch_that_does_not_fit_is_refused_at_the_load(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match=r"warm-up with 8 rows failed: the model ran out of memory"):
        load_version(p.digits_like_package(tmp_path), options(device="double:1ms,oom_above=6"), admit)


def test_a_precision_that_the_golden_cases_do_not_bear_is_refused_with_its_name(tmp_path: Path) -> None:
    package = p.torchscript_package(tmp_path, with_onnx=False)
    given = options(device="cpu", prefer=("torchscript",), precision=Precision.BF16)
    with pytest.raises(LoadFailed, match=r"golden cases: output .* differs .*\(runtime\.precision is bf16\)"):
        load_version(package, given, admit)
