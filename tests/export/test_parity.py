"""The parity gate sees every way in which two computations part, and says where."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from export.contracts import codec
from export.contracts.errors import ParityFailed
from export.contracts.manifest import Tolerance
from export.parity import ParityReport, compare, run_parity
from tests.support import packages as p

Arrays = Mapping[str, np.ndarray[Any, Any]]
X = np.random.default_rng(0).random((50, 1, 8, 8), dtype=np.float32)
W = np.random.default_rng(1).normal(size=(64, 10)).astype(np.float32)


def model(inputs: Arrays) -> dict[str, np.ndarray[Any, Any]]:
    """Row by row in a fixed order, so that batch sizes cannot change a bit."""
    flat = inputs["x"].reshape(len(inputs["x"]), -1)
    logits = np.stack([np.einsum("i,ij->j", row, W) for row in flat])
    return {"logits": logits, "embedding": flat.copy()}


def report(candidate: Callable[[Arrays], dict[str, Any]], **more: Any) -> ParityReport:
    more = {"targets": None, "tolerance": Tolerance()} | more
    return run_parity(model, {"onnx": candidate}, {"x": X}, signature=p.DIGITS_SIGNATURE, **more)


def altered(change: Callable[[dict[str, Any], Arrays], None]) -> Callable[[Arrays], dict[str, Any]]:
    def run(inputs: Arrays) -> dict[str, Any]:
        out = model(inputs)
        change(out, inputs)
        return out

    return run


def test_equal_computations_pass_and_the_report_survives_json() -> None:
    made = report(model, targets=model({"x": X})["logits"].argmax(axis=1))
    assert made.passed
    made.raise_if_failed()
    assert made.metrics[0].accuracy == 1.0
    assert {c.batch_size for c in made.comparisons} == {1, 2, 7, 32}
    assert {c.runtime for c in made.comparisons} == {"eager", "onnx"}
    assert codec.loads(ParityReport, made.to_json()) == made


def _one_value(out: dict[str, Any], inputs: Arrays) -> None:
    hit = np.flatnonzero((inputs["x"] == X[13]).all(axis=(1, 2, 3)))
    out["logits"][hit, 4] += 0.5


def test_one_wrong_value_is_found_with_its_row_column_and_size() -> None:
    with pytest.raises(ParityFailed) as caught:
        report(altered(_one_value)).raise_if_failed()
    text = caught.value.message
    assert "runtime 'onnx', output 'logits'" in text
    assert "index [13, 4]" in text
    assert "0.5 absolute" in text
    assert "4 of 16 comparisons failed" in text
    assert isinstance(caught.value.report, ParityReport)


def _swap_rows(out: dict[str, Any], inputs: Arrays) -> None:
    if len(inputs["x"]) == 7:
        out["logits"][[0, 1]] = out["logits"][[1, 0]]


def _nan(out: dict[str, Any], inputs: Arrays) -> None:
    out["logits"][0, 0] = np.nan


def _float64(out: dict[str, Any], inputs: Arrays) -> None:
    out["logits"] = out["logits"].astype(np.float64)


def _lost_row(out: dict[str, Any], inputs: Arrays) -> None:
    out["logits"] = out["logits"][:1]


def _missing(out: dict[str, Any], inputs: Arrays) -> None:
    del out["embedding"]


def _raises(out: dict[str, Any], inputs: Arrays) -> None:
    if len(inputs["x"]) > 1:
        raise RuntimeError("/secret/path: the batch is fixed")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_swap_rows, "batch size 7"),
        (_nan, "nan instead of"),
        (_float64, "datatype float64 instead of float32"),
        (_lost_row, "shape"),
        (_missing, "raised KeyError|missing"),
        (_raises, "batch size 2: it raised RuntimeError"),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_every_kind_of_difference_is_named(change: Any, text: str) -> None:
    made = report(altered(change))
    assert not made.passed
    with pytest.raises(ParityFailed, match=text) as caught:
        made.raise_if_failed()
    assert "/secret" not in caught.value.message
    codec.loads(ParityReport, made.to_json())


def test_rows_that_influence_each_other_do_not_pass_even_in_the_trusted_model() -> None:
    def batch_normed(inputs: Arrays) -> dict[str, Any]:
        out = model(inputs)
        out["logits"] = out["logits"] - out["logits"].mean(axis=0)
        return out

    made = run_parity(batch_normed, {}, {"x": X}, signature=p.DIGITS_SIGNATURE, tolerance=Tolerance())
    with pytest.raises(ParityFailed, match="rows influence each other"):
        made.raise_if_failed()


def test_small_differences_that_change_decisions_do_not_pass() -> None:
    """Every element is within a generous tolerance, yet the argmax flips: the task metric is the second judge."""

    def flipped(inputs: Arrays) -> dict[str, Any]:
        out = model(inputs)
        rows = np.arange(len(out["logits"]))
        out["logits"][rows, out["logits"].argmin(axis=1)] = out["logits"].max(axis=1) + 0.1
        return out

    made = report(flipped, tolerance=Tolerance(absolute=1e3, relative=0))
    assert all(c.passed for c in made.comparisons)
    with pytest.raises(ParityFailed, match=r"decides as eager does on 0\.00%"):
        made.raise_if_failed()


def test_nan_equals_nan_and_infinities_equal_themselves_only() -> None:
    a = np.array([np.nan, np.inf, -np.inf, 1.0])
    assert compare("r", "o", 1, a.copy(), a, Tolerance()).passed
    for i in range(3):
        b = a.copy()
        b[i] = 5.0
        assert not compare("r", "o", 1, b, a, Tolerance()).passed
        assert not compare("r", "o", 1, a, b, Tolerance()).passed


def test_text_and_integers_are_compared_exactly_or_by_tolerance() -> None:
    text = np.array([b"a", b"b"], dtype=object)
    assert compare("r", "o", 1, text.copy(), text, Tolerance()).passed
    assert compare("r", "o", 1, text[::-1].copy(), text, Tolerance()).share_out == 1.0
    whole = np.array([1, 2])
    assert not compare("r", "o", 1, whole + 1, whole, Tolerance()).passed


def test_few_samples_are_repeated_to_fill_a_batch() -> None:
    made = run_parity(model, {"onnx": model}, {"x": X[:1]}, signature=p.DIGITS_SIGNATURE, tolerance=Tolerance())
    assert made.passed
    assert made.rows == 1
    assert {c.elements for c in made.comparisons if c.output == "logits"} == {320}
