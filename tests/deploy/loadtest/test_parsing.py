"""The options' little languages: what they accept, and that a refusal names the option."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from deploy.errors import Missing, UsageError
from deploy.loadtest.arrivals import Arrivals, schedule
from deploy.loadtest.options import make_plan
from deploy.loadtest.orders import Mode, Protocol
from deploy.loadtest.parsing import parse_goal, parse_header, parse_shape, parse_sweep, parse_target
from deploy.loadtest.tensors import Fill, TensorSpec, from_file, made_up
from export.contracts.datatypes import Datatype

IMAGE = TensorSpec(name="image", datatype=Datatype.FP32, shape=(-1, 3, -1, -1))


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("8", [8]),
        ("1,2,8", [1, 2, 8]),
        ("1:64:x2", [1, 2, 4, 8, 16, 32, 64]),
        ("1:10:x3", [1, 3, 9]),
        ("1:8", [1, 2, 4, 8]),
        ("100:500:200", [100, 300, 500]),
    ],
)
def test_a_sweep_is_a_list_of_levels(text: str, levels: list[int]):
    assert list(parse_sweep(text, "--concurrency", whole=True)) == levels


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "1:2:3:4", "1:10:x1", "1:10:0", "1:10:-1", "1,,2", "1e12", "nan"])
def test_a_sweep_that_is_none_names_its_option(text: str):
    with pytest.raises(UsageError, match="--rate"):
        parse_sweep(text, "--rate", whole=False)


def test_callers_are_whole_and_levels_are_not_too_many():
    with pytest.raises(UsageError, match="whole"):
        parse_sweep("1.5", "--concurrency", whole=True)
    with pytest.raises(UsageError, match="more than 100"):
        parse_sweep("1:1000:1", "--rate", whole=False)


def test_goals_shapes_and_headers():
    assert (parse_goal("p99:20ms", "x").percentile, parse_goal("p99:20ms", "x").limit_us) == (99, 20_000)
    assert parse_goal("p99.9:1.5s", "x").limit_us == 1_500_000
    assert parse_goal("p50:80us", "x").limit_us == 80
    assert parse_shape("a:b:1,2") == ("a:b", (1, 2))
    assert parse_header("Authorization: Bearer x:y") == ("Authorization", "Bearer x:y")
    for wrong in ("99:20ms", "p0:1ms", "p101:1ms", "p99:20", "p99:0ms"):
        with pytest.raises(UsageError, match="--latency-target"):
            parse_goal(wrong, "--latency-target")
    for wrong in ("a", "a:", "a:0", ":1", "a:x"):
        with pytest.raises(UsageError, match="--shape"):
            parse_shape(wrong)
    for wrong in ("a", "a b: c", ": c", "a: b\r\nc: d"):
        with pytest.raises(UsageError, match="--header"):
            parse_header(wrong)


@pytest.mark.parametrize(
    ("text", "protocol", "address", "name"),
    [
        ("http://h:8000", None, "http://h:8000", "http://h:8000"),
        ("h:8000", None, "http://h:8000", "http://h:8000"),
        ("h:9000", Protocol.GRPC, "grpc://h:9000", "grpc://h:9000"),
        ("http://h:9000", Protocol.GRPC, "grpc://h:9000", "grpc://h:9000"),
        ("grpc://h", None, "grpc://h:9000", "grpc://h:9000"),
        ("our server=https://h/serve/v2/", None, "https://h:443/serve", "our server"),
        ("triton=[::1]:8000", None, "http://[::1]:8000", "triton"),
    ],
)
def test_a_server_is_a_url_with_or_without_a_name(text: str, protocol: Protocol | None, address: str, name: str):
    target = parse_target(text, protocol)
    assert (target.address, target.name) == (address, name)


@pytest.mark.parametrize("text", ["ftp://h", "http://", "http://h:port", "a=ftp://x"])
def test_a_server_that_is_none_is_refused(text: str):
    with pytest.raises(UsageError):
        parse_target(text, None)


def test_open_dimensions_must_be_given_and_fit():
    with pytest.raises(UsageError, match="variable dimensions") as refused:
        made_up([IMAGE], batch=1, shapes={}, fill=Fill.RANDOM, count=1, seed=0)
    assert refused.value.hint.startswith("--shape image:3,N,N")
    with pytest.raises(UsageError, match="the model takes"):
        made_up([IMAGE], batch=1, shapes={"image": (4, 8, 8)}, fill=Fill.RANDOM, count=1, seed=0)
    with pytest.raises(UsageError, match="no such input"):
        made_up([IMAGE], batch=1, shapes={"picture": (3, 8, 8)}, fill=Fill.RANDOM, count=1, seed=0)
    made = made_up([IMAGE], batch=4, shapes={"image": (3, 8, 9)}, fill=Fill.RANDOM, count=3, seed=0)
    assert [p.tensors[0].array.shape for p in made] == [(4, 3, 8, 9)] * 3
    assert not np.array_equal(made[0].tensors[0].array, made[1].tensors[0].array)
    assert made[0].rows == 4
    fixed = TensorSpec(name="x", datatype=Datatype.INT64, shape=(3,))
    with pytest.raises(UsageError, match="no batch dimension"):
        made_up([fixed], batch=2, shapes={}, fill=Fill.ZERO, count=1, seed=0)


@pytest.mark.parametrize("datatype", list(Datatype))
@pytest.mark.parametrize("fill", list(Fill))
def test_every_datatype_can_be_made_up(datatype: Datatype, fill: Fill):
    spec = TensorSpec(name="x", datatype=datatype, shape=(-1, 2))
    (made, *_) = made_up([spec], batch=3, shapes={}, fill=fill, count=1, seed=0)
    assert made.tensors[0].array.dtype == datatype.numpy
    assert made.tensors[0].array.shape == (3, 2)


def test_inputs_come_from_arrays_requests_and_rows(tmp_path: Path):
    spec = [TensorSpec(name="x", datatype=Datatype.FP32, shape=(-1, 2))]
    rows = np.arange(10, dtype=np.float64).reshape(5, 2)
    np.savez(tmp_path / "a.npz", x=rows)
    batches = from_file(tmp_path / "a.npz", spec, batch=2)
    assert [p.tensors[0].array.tolist() for p in batches] == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert batches[0].tensors[0].array.dtype == np.float32
    (tmp_path / "r.json").write_text('{"inputs": [{"name": "x", "shape": [3, 2], "data": [1,2,3,4,5,6]}]}')
    assert from_file(tmp_path / "r.json", spec, batch=1)[0].rows == 3
    (tmp_path / "p.json").write_text('{"data": [{"x": [1, 2]}, {"x": {"content": [3, 4], "shape": [2]}}]}')
    assert [p.tensors[0].array.tolist() for p in from_file(tmp_path / "p.json", spec, batch=1)] == [[[1, 2]], [[3, 4]]]
    (tmp_path / "w.json").write_text('{"inputs": [{"name": "x", "shape": [2, 2], "data": [1,2,3]}]}')
    with pytest.raises(UsageError, match="3 elements"):
        from_file(tmp_path / "w.json", spec, batch=1)
    np.savez(tmp_path / "b.npz", y=rows)
    with pytest.raises(UsageError, match="'x' is missing"):
        from_file(tmp_path / "b.npz", spec, batch=1)
    with pytest.raises(Missing):
        from_file(tmp_path / "absent.npz", spec, batch=1)


def test_bytes_come_from_base64(tmp_path: Path):
    spec = [TensorSpec(name="image", datatype=Datatype.BYTES, shape=(-1, 1))]
    (tmp_path / "p.json").write_text('{"data": [{"image": {"b64": "/9j/"}}, {"image": ["text"]}]}')
    made = from_file(tmp_path / "p.json", spec, batch=1)
    assert [p.tensors[0].array.tolist() for p in made] == [[[b"\xff\xd8\xff"]], [[b"text"]]]
    (tmp_path / "w.json").write_text('{"data": [{"image": {"b64": "$$"}}]}')
    with pytest.raises(UsageError, match="base64"):
        from_file(tmp_path / "w.json", spec, batch=1)


def test_poisson_arrivals_have_their_rate_and_constant_ones_their_gaps():
    times = list(islice(schedule(Arrivals.POISSON, 1000.0, 0, seed=3), 20_000))
    gaps = np.diff(times)
    assert np.mean(gaps) == pytest.approx(1e6, rel=0.03)
    assert np.std(gaps) == pytest.approx(1e6, rel=0.05), "an exponential's deviation is its mean"
    assert times == sorted(times)
    even = list(islice(schedule(Arrivals.CONSTANT, 100.0, 7, seed=3, phase=0.5), 3))
    assert even == [7 + 5_000_000, 7 + 15_000_000, 7 + 25_000_000]


def test_options_that_exclude_each_other_are_refused():
    given = {
        "model": "m", "version": None, "concurrency": None, "rate": None, "arrivals": "poisson", "batch": 1,
        "shapes": (), "data": "random", "input_data": None, "encoding": None, "outputs": (), "headers": {},
        "window_s": 1, "warm_up_s": 1, "max_windows": 10, "stability": 0.1, "percentile": None, "timeout_s": 1,
        "workers": 0, "connections": 8, "seed": 1, "target": None,
    }  # fmt: skip
    assert make_plan(**given).mode is Mode.CONCURRENCY
    assert make_plan(**given | {"rate": "100", "target": "p99:20ms"}).stability.percentile == 99
    for change, text in (
        ({"concurrency": "1", "rate": "1"}, "exclude each other"),
        ({"model": ""}, "-m MODEL"),
        ({"arrivals": "weekly"}, "poisson or constant"),
        ({"data": "ones"}, "random or zero"),
        ({"encoding": "xml"}, "binary or json"),
    ):
        with pytest.raises(UsageError, match=text):
            make_plan(**given | change)
