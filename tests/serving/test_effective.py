"""Settings that are given win over what was measured, and that wins over the defaults, in what is really loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from export.contracts.manifest import Execution
from export.package import read_package
from export.registry import Registry
from export.retune import write_retuned
from serving import effective
from serving.options import BatchOptions, RuntimeOptions, ServingOptions
from serving.runtime.loader import load_runtime
from serving.runtime.trial import try_load
from tests.support.packages import digits_like_package
from tests.support.server import standalone

TUNED = Execution(max_batch_rows=8, intra_op_threads=2)


@pytest.mark.parametrize(
    ("given", "execution", "expected"),
    [(0, None, 256), (0, TUNED, 8), (0, Execution(), 256), (64, TUNED, 64), (64, None, 64)],
)
def test_the_largest_batch_is_given_tuned_or_the_packages_own(
    tmp_path: Path, given: int, execution: Execution | None, expected: int
):
    manifest = replace(digits_like_package(tmp_path).manifest, execution=execution)
    assert effective.max_rows(BatchOptions(max_rows=given), manifest) == expected


@pytest.mark.parametrize(
    ("given", "execution", "expected"),
    [(None, None, 1), (None, TUNED, 2), (None, Execution(intra_op_threads=0), 0), (0, TUNED, 0), (1, TUNED, 1)],
)
def test_the_threads_are_given_tuned_or_one(
    tmp_path: Path, given: int | None, execution: Execution | None, expected: int
):
    manifest = replace(digits_like_package(tmp_path).manifest, execution=execution)
    assert effective.intra_op_threads(RuntimeOptions(intra_op_threads=given), manifest) == expected


def test_the_session_has_the_tuned_threads(tmp_path: Path):
    package = digits_like_package(tmp_path)
    tuned = write_retuned(package, tmp_path / "tuned", version="2", execution=TUNED, metrics={}, how="test")
    for options, threads in ((RuntimeOptions(), 2), (RuntimeOptions(intra_op_threads=1), 1)):
        runtime = load_runtime(tuned.dir, tuned.manifest, options)
        assert runtime._session.get_session_options().intra_op_num_threads == threads  # type: ignore[attr-defined]
        runtime.close()
    try_load(tuned.dir, 8, RuntimeOptions(), 60)  # the child reads the same options


def test_a_server_shows_the_tuned_batch_in_its_configuration(tmp_path: Path):
    made = digits_like_package(tmp_path / "made")
    tuned = write_retuned(made, tmp_path / "tuned", version="1-tuned", execution=TUNED, metrics={}, how="test")
    registry = Registry(tmp_path / "registry")
    registry.add(tuned.dir)
    registry.promote("digits", "1-tuned", author="test")
    assert read_package(tuned.dir).manifest.execution == TUNED
    with standalone(tmp_path / "a", registry.root) as server:
        assert server.get("/v2/models/digits/config")["max_batch_size"] == 8
    given = ServingOptions(registry="", records="", batch=BatchOptions(max_rows=16))
    with standalone(tmp_path / "b", registry.root, options=given) as server:
        assert server.get("/v2/models/digits/config")["max_batch_size"] == 16
