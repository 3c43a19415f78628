"""Watched columns follow from the signature, and their values from the tensor, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.contracts import descriptors as d
from export.contracts.datatypes import Datatype
from export.contracts.signature import InputDisplay, InputKind, InputSpec, OutputSpec, Signature
from tests.support import packages as p


def signature_of(*inputs: InputSpec, batched: bool = True) -> Signature:
    shape = (-1,) if batched else (1,)
    return Signature(
        inputs=inputs, outputs=(OutputSpec(name="y", datatype=Datatype.FP32, shape=shape),), batched=batched
    )


def image(height: int = 8, width: int = 8) -> InputSpec:
    display = InputDisplay(kind=InputKind.IMAGE, layout="CHW", value_range=(0.0, 1.0))
    return InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 1, height, width), display=display)


@pytest.mark.parametrize(
    "factory",
    [
        p.digits_like_package,
        p.echo_package,
        p.multi_input_package,
        p.all_dtypes_package,
        p.variable_length_package,
        p.regression_package,
        p.unbatched_package,
    ],
    ids=lambda f: f.__name__,
)
def test_a_frame_has_the_stated_columns_for_every_kind_of_model(factory: Any, tmp_path: Path) -> None:
    package = factory(tmp_path)
    signature, golden = package.manifest.signature, package.golden()
    frame = d.frame(signature, golden.inputs)
    assert frame.shape == (golden.rows if signature.batched else 1, len(d.columns(signature)))
    assert frame.dtype == np.float32
    assert np.isfinite(frame).all()
    assert len(set(d.columns(signature))) == len(d.columns(signature))


def test_rows_do_not_influence_each_other() -> None:
    signature, x = signature_of(image()), np.random.default_rng(1).random((20, 1, 8, 8), dtype=np.float32)
    together = d.frame(signature, {"x": x})
    alone = np.concatenate([d.frame(signature, {"x": x[i : i + 1]}) for i in range(20)])
    np.testing.assert_array_equal(together, alone)


def test_image_descriptors_equal_their_definitions() -> None:
    signature, x = signature_of(image()), np.random.default_rng(1).random((3, 1, 8, 8), dtype=np.float32)
    x[0, 0, 0, :4] = 0.0
    x[0, 0, 1, 0] = 1.0
    named = dict(zip(d.columns(signature), d.frame(signature, {"x": x})[0], strict=True))
    assert named["x[3]"] == x[0].reshape(-1)[3]
    assert named["x:mean"] == pytest.approx(x[0].mean(), rel=1e-6)
    assert named["x:std"] == pytest.approx(x[0].std(), rel=1e-5)
    assert named["x:min"] == 0
    assert named["x:max"] == 1
    assert named["x:saturated"] == pytest.approx(5 / 64)
    a = x[0, 0].astype(float)
    laplacian = [
        abs(4 * a[i, j] - a[i - 1, j] - a[i + 1, j] - a[i, j - 1] - a[i, j + 1])
        for i in range(1, 7)
        for j in range(1, 7)
    ]
    assert named["x:sharpness"] == pytest.approx(np.mean(laplacian), rel=1e-5)


def test_blurring_an_image_lowers_its_sharpness_whatever_the_layout() -> None:
    from scipy.ndimage import gaussian_filter

    x = np.random.default_rng(1).random((4, 16, 16), dtype=np.float32)
    for layout, shape in (("HW", (-1, 16, 16)), ("HWC", (-1, 16, 16, 1)), ("CHW", (-1, 1, 16, 16))):
        display = InputDisplay(kind=InputKind.IMAGE, layout=layout)
        signature = signature_of(InputSpec(name="x", datatype=Datatype.FP32, shape=shape, display=display))
        column = d.columns(signature).index("x:sharpness")
        sharp = d.frame(signature, {"x": x.reshape(4, *shape[1:])})[:, column]
        blurred = np.stack([gaussian_filter(i, 1.0) for i in x]).reshape(4, *shape[1:])
        soft = d.frame(signature, {"x": blurred})[:, column]
        assert (soft < 0.5 * sharp).all()


def test_large_inputs_have_descriptors_only_and_tabular_ones_features_only() -> None:
    assert all(":" in c for c in d.columns(signature_of(image(32, 32))))
    display = InputDisplay(kind=InputKind.TABULAR, feature_names=("area", "rooms"))
    tabular = InputSpec(name="t", datatype=Datatype.FP32, shape=(-1, 2), display=display)
    assert d.columns(signature_of(tabular)) == ("t.area", "t.rooms")


def test_the_number_of_watched_features_is_bounded_over_all_inputs() -> None:
    many = [InputSpec(name=f"i{k}", datatype=Datatype.FP32, shape=(-1, 100)) for k in range(40)]
    features = [c for c in d.columns(signature_of(*many)) if ":" not in c]
    assert len(features) == 200


def test_values_that_are_not_finite_are_reported_and_do_not_spoil_the_others() -> None:
    signature = signature_of(image(20, 20))
    x = np.random.default_rng(1).random((2, 1, 20, 20), dtype=np.float32)
    x[0, 0, 0, 0], x[0, 0, 0, 1] = np.nan, np.inf
    frame = d.frame(signature, {"x": x})
    named = dict(zip(d.columns(signature), frame[0], strict=True))
    assert named["x:not_finite"] == pytest.approx(2 / 400)
    assert np.isfinite(frame).all()


def test_bf16_is_read_as_the_numbers_it_stands_for() -> None:
    signature = signature_of(InputSpec(name="x", datatype=Datatype.BF16, shape=(-1, 2)))
    bits = (np.array([[1.5, -2.0]], dtype="<f4").view("<u4") >> 16).astype("<u2")
    assert d.frame(signature, {"x": bits})[0, :2].tolist() == [1.5, -2.0]


def test_text_is_described_by_its_bytes() -> None:
    signature = signature_of(InputSpec(name="t", datatype=Datatype.BYTES, shape=(-1, 1)))
    text = np.array([["äb 12".encode()], [b""]], dtype=object)
    frame = d.frame(signature, {"t": text})
    assert dict(zip(d.columns(signature), frame[0].tolist(), strict=True)) == pytest.approx(
        {"t:length": 6, "t:words": 2, "t:not_ascii": 2 / 6, "t:digits": 2 / 6}
    )
    assert frame[1].tolist() == [0, 0, 0, 0]


@given(st.sampled_from([t for t in Datatype if t is not Datatype.BYTES]), st.integers(0, 4), st.data())
@settings(max_examples=60, deadline=None)
def test_any_elements_of_any_datatype_give_a_frame(datatype: Datatype, rows: int, data: st.DataObject) -> None:
    signature = signature_of(InputSpec(name="x", datatype=datatype, shape=(-1, 3)))
    raw = data.draw(st.binary(min_size=rows * 3 * datatype.itemsize, max_size=rows * 3 * datatype.itemsize))
    if datatype is Datatype.BOOL:
        raw = bytes(b & 1 for b in raw)
    x = np.frombuffer(raw, dtype=datatype.numpy).reshape(rows, 3)
    with np.errstate(over="ignore", invalid="ignore"):
        assert d.frame(signature, {"x": x}).shape == (rows, len(d.columns(signature)))


def test_inputs_of_different_row_counts_are_refused() -> None:
    spec = [InputSpec(name=n, datatype=Datatype.FP32, shape=(-1, 2)) for n in "ab"]
    with pytest.raises(ValueError, match="rows"):
        d.frame(signature_of(*spec), {"a": np.zeros((2, 2), np.float32), "b": np.zeros((3, 2), np.float32)})
