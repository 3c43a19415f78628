"""Records survive the trip to JSON and back, and a reader refuses what it does not know by its path."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.contracts import codec
from export.contracts.arrays import decode_bytes, encode_bytes, load_npz, save_npz
from export.contracts.datatypes import Datatype
from export.contracts.manifest import Manifest, Provenance, RuntimeFile, Task, TaskKind, Tolerance
from export.contracts.signature import InputDisplay, InputKind, InputSpec, OutputRole, OutputSpec, Signature
from export.contracts.traffic import ChallengerMode, TrafficPlan

names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=12)
dims = st.lists(st.one_of(st.just(-1), st.integers(1, 9)), max_size=3).map(lambda d: (-1, *d))
versions = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,8}", fullmatch=True)
displays = st.builds(
    InputDisplay,
    kind=st.sampled_from(InputKind),
    layout=st.sampled_from([None, "CHW", "HW"]),
    value_range=st.one_of(st.none(), st.tuples(st.floats(-9, 0), st.floats(1, 9))),
    feature_names=st.lists(names, max_size=3).map(tuple),
)
inputs = st.builds(InputSpec, name=names, datatype=st.sampled_from(Datatype), shape=dims, display=displays)
outputs = st.builds(
    OutputSpec, name=names, datatype=st.sampled_from(Datatype), shape=dims, role=st.sampled_from(OutputRole)
)
signatures = st.builds(
    Signature,
    inputs=st.lists(inputs, min_size=1, max_size=3, unique_by=lambda i: i.name).map(tuple),
    outputs=st.lists(outputs, min_size=1, max_size=3, unique_by=lambda o: o.name).map(tuple),
)
manifests = st.builds(
    Manifest,
    name=versions,
    version=versions,
    task=st.builds(Task, kind=st.sampled_from(TaskKind), class_names=st.lists(names, max_size=3).map(tuple)),
    signature=signatures,
    runtimes=st.just(()) | st.just((RuntimeFile(kind="onnx", path="model.onnx"),)),
    files=st.just(()),
    provenance=st.builds(
        Provenance,
        created_at=st.just("2026-01-01T00:00:00Z"),
        source=names,
        metrics=st.dictionaries(names, st.floats(allow_nan=False, allow_infinity=False), max_size=2),
    ),
    golden_tolerance=st.builds(Tolerance, absolute=st.floats(0, 1), relative=st.floats(0, 1)),
)


@given(manifests)
@settings(max_examples=80, deadline=None)
def test_a_manifest_survives_the_trip_and_its_bytes_are_canonical(manifest: Manifest) -> None:
    data = codec.dumps(manifest)
    again = codec.loads(Manifest, data)
    assert again == manifest
    assert codec.dumps(again) == data


@given(manifests, st.data())
@settings(max_examples=80, deadline=None)
def test_a_manifest_with_one_field_changed_in_type_removed_or_added_is_refused_by_name(
    manifest: Manifest, data: st.DataObject
) -> None:
    plain = json.loads(codec.dumps(manifest))
    change = data.draw(st.sampled_from(["add", "remove", "retype"]))
    if change == "add":
        plain["signature"]["colour"] = 1
        expected = "colour"
    elif change == "remove":
        expected = data.draw(st.sampled_from(["name", "task", "signature", "files"]))
        del plain[expected]
    else:
        expected = data.draw(st.sampled_from(["name", "runtimes", "max_batch_rows", "provenance"]))
        plain[expected] = {"name": 3, "runtimes": {}, "max_batch_rows": True, "provenance": []}[expected]
    with pytest.raises(ValueError, match=expected):
        codec.loads(Manifest, json.dumps(plain))


@pytest.mark.parametrize("text", ["", "{", "[]", "nul", '{"model":1e999}', "[" * 20_000])
def test_what_is_no_json_object_is_refused_without_a_crash(text: str) -> None:
    with pytest.raises(ValueError, match="TrafficPlan"):
        codec.loads(TrafficPlan, text)


@pytest.mark.parametrize("name", ["", "a/b", "..", "a..b", ".hidden", "-x", "x" * 65, "a\n", "ä", "a b", "a\0"])
def test_a_manifest_refuses_names_that_could_leave_a_folder(name: str) -> None:
    base = Manifest(
        name="ok",
        version="1",
        task=Task(kind=TaskKind.OTHER),
        signature=Signature(
            inputs=(InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 1)),),
            outputs=(OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, 1)),),
        ),
        runtimes=(),
        files=(),
        provenance=Provenance(created_at="", source=""),
    )
    with pytest.raises(ValueError, match="name"):
        replace(base, name=name)
    with pytest.raises(ValueError, match="version"):
        replace(base, version=name)


def test_a_plan_that_cannot_be_followed_is_refused() -> None:
    with pytest.raises(ValueError, match="canary_percent"):
        TrafficPlan(model="m", revision=1, champion="1", canary_percent=101)
    with pytest.raises(ValueError, match="challenger"):
        TrafficPlan(model="m", revision=1, champion="1", mode=ChallengerMode.SHADOW)


@given(st.lists(st.binary(max_size=9), max_size=12))
def test_text_elements_survive_the_wire_form(items: list[bytes]) -> None:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    assert decode_bytes(encode_bytes(array), (len(items),)).tolist() == items


@given(st.binary(max_size=40), st.integers(0, 5))
def test_any_bytes_decode_to_elements_or_are_refused(data: bytes, count: int) -> None:
    try:
        array = decode_bytes(data, (count,))
    except ValueError:
        return
    assert encode_bytes(array) == data


def test_arrays_survive_the_file_and_equal_arrays_give_equal_bytes(tmp_path: Any) -> None:
    text = np.array([[b"", b"a\0b"]], dtype=object)
    arrays = {"in/x": np.random.default_rng(0).random((2, 3)), "in/t": text, "out/b": np.array([True])}
    save_npz(tmp_path / "a.npz", arrays)
    save_npz(tmp_path / "b.npz", arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = load_npz(tmp_path / "a.npz")
    assert set(again) == set(arrays)
    assert again["in/t"].tolist() == text.tolist()
    np.testing.assert_array_equal(again["in/x"], arrays["in/x"])


def test_an_array_file_that_would_inflate_past_the_bound_is_refused(tmp_path: Any) -> None:
    save_npz(tmp_path / "zeros.npz", {"z": np.zeros(1_000_000)})
    assert (tmp_path / "zeros.npz").stat().st_size < 20_000
    with pytest.raises(ValueError, match="more than the limit"):
        load_npz(tmp_path / "zeros.npz", max_bytes=1_000_000)
    (tmp_path / "zeros.npz").write_bytes(b"PK nonsense")
    with pytest.raises(ValueError, match="not a readable array file"):
        load_npz(tmp_path / "zeros.npz")
