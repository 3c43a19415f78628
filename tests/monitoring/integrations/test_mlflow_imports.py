"""Versions that somebody registers in MLflow for us: fetched, checked, given to the loop; what is refused, why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
import sqlalchemy as sa

from export.contracts.manifest import SampleSource
from monitoring import schema as t
from monitoring.integrations.mlflow import rows
from monitoring.integrations.mlflow.client import RemoteFile
from monitoring.integrations.mlflow.incoming import Refused, choose
from monitoring.integrations.mlflow.names import ImportState
from monitoring.loop.contracts import Stage
from tests.support.mlflow_stub import StubMlflow, stub_mlflow
from tests.support.mlflow_world import MlflowWorld, mlflow_world
from tests.support.packages import digits_like_model, digits_like_package, regression_package


@pytest.fixture
def server() -> Iterator[StubMlflow]:
    with stub_mlflow() as stub:
        yield stub


@pytest.fixture
def world(tmp_path: Path, server: StubMlflow) -> Iterator[MlflowWorld]:
    made = mlflow_world(tmp_path, server.url, imports=True)
    yield made
    made.store.close()


def register(
    server: StubMlflow, files: dict[str, bytes], *, name: str = "digits", tag: str = "import"
) -> dict[str, str]:
    """What somebody does in MLflow: a run with files, registered as a version with our tag; returns its tags."""
    server.models.setdefault(name, {"versions": [], "aliases": {}})
    number = len(server.models[name]["versions"]) + 1
    root = f"9/models/m-{number}/artifacts"
    server.files |= {f"{root}/{path}": data for path, data in files.items()}
    made = {"name": name, "version": str(number), "run_id": "", "source": f"models:/m-{number}",
            "root": f"mlflow-artifacts:/{root}", "tags": {"hardcase": tag}}  # fmt: skip
    server.models[name]["versions"].append(made)
    return made["tags"]  # type: ignore[return-value]


def onnx_bytes(seed: int = 5) -> bytes:
    return digits_like_model(seed).SerializeToString()


def trainings(world: MlflowWorld) -> list[dict[str, object]]:
    with world.store.read() as connection:
        return [dict(row) for row in connection.execute(sa.select(t.trainings)).mappings()]


def test_an_onnx_model_becomes_a_candidate_of_the_loop(server: StubMlflow, world: MlflowWorld):
    world.turns()
    pickle = b"\x80\x05."
    tags = register(server, {"MLmodel": b"flavors: {}", "model.onnx": onnx_bytes(), "python_model.pkl": pickle})
    world.later()
    world.turns()
    (turn,) = trainings(world)
    assert (turn["stage"], turn["version"], turn["champion"]) == ("trained", "2", "1")
    assert (turn["trainer"], turn["actor"], turn["flight"]) == ("mlflow", "mlflow", "digits")
    package = world.registry.package("digits", "2")
    assert turn["digest"] == package.digest
    assert package.manifest.provenance.source == "mlflow:digits/2"
    assert package.manifest.provenance.samples is SampleSource.REAL  # the champion's golden rows
    assert package.manifest.task == world.registry.package("digits", "1").manifest.task
    assert tags["hardcase"] == "taken"
    assert tags["hardcase.training"] == turn["id"]
    assert not any("python_model.pkl" in call for call in server.calls), "a pickle was fetched"
    assert server.models["digits"]["aliases"]["candidate"] == "2"
    assert len(server.models["digits"]["versions"]) == 2, "it was registered a second time"

    world.move(str(turn["id"]), Stage.PROMOTED)
    world.plan("2")
    world.turns()
    assert server.models["digits"]["aliases"] == {"champion": "2"}
    assert tags["hardcase.stage"] == "promoted"


def test_a_package_keeps_its_files_and_gets_our_version(server: StubMlflow, world: MlflowWorld, tmp_path: Path):
    made = digits_like_package(tmp_path / "theirs", name="other", version="17", seed=3)
    files = {path.relative_to(made.dir).as_posix(): path.read_bytes() for path in made.dir.rglob("*") if path.is_file()}
    register(server, files)
    world.turns()
    package = world.registry.package("digits", "2")
    assert package.manifest.files == made.manifest.files
    assert package.manifest.provenance.source.startswith("mlflow:digits/1 (")


def test_it_waits_while_the_model_has_a_turn_under_way(server: StubMlflow, world: MlflowWorld):
    world.training("0123456789ab", Stage.TRAINING, version="7")
    register(server, {"model.onnx": onnx_bytes()})
    world.turns()
    assert [row.state for row in rows.imports(world.store)] == ["found"]
    world.move("0123456789ab", Stage.FAILED)
    world.later()
    world.turns()
    assert [row.state for row in rows.imports(world.store)] == ["taken"]
    assert len(trainings(world)) == 2


@pytest.mark.parametrize("cut", ["artifacts", "get-download-uri", "set-tag"])
def test_lost_answers_take_nothing_in_twice(server: StubMlflow, world: MlflowWorld, cut: str):
    world.turns()
    register(server, {"model.onnx": onnx_bytes()})
    server.lose, server.losing = 3, cut
    for _ in range(4):
        world.later()
        world.turns()
    assert server.lose == 0, "the fault did not happen"
    assert len(trainings(world)) == 1
    assert world.registry.versions("digits") == ("1", "2")


def with_operator(operator: str) -> bytes:
    model = digits_like_model(5)
    model.graph.node[0].op_type = operator
    return model.SerializeToString()


def other_contract(tmp_path: Path) -> bytes:
    return (regression_package(tmp_path / "other").dir / "model.onnx").read_bytes()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"model.pkl": b"\x80\x05."}, "neither an ONNX file nor a Hardcase package"),
        ({"model.onnx": b"not a model"}, "not a readable ONNX file"),
        ({"a/model.onnx": onnx_bytes(), "b/model.onnx": onnx_bytes()}, "2 ONNX files"),
        ({"model.onnx": with_operator("PyOp")}, "operator"),
        ({"manifest.json": b"{}", "model.onnx": onnx_bytes()}, "manifest"),
        ({f"f{i}.txt": b"" for i in range(70)}, "more than 64 files"),
    ],
    ids=["pickle", "garbage", "two", "operator", "manifest", "many"],
)
def test_what_is_refused_says_why_in_mlflow(
    server: StubMlflow, world: MlflowWorld, files: dict[str, bytes], words: str, tmp_path: Path
):
    tags = register(server, files)
    world.turns()
    assert tags["hardcase"] == "refused"
    assert words in tags["hardcase.problem"]
    assert str(tmp_path) not in tags["hardcase.problem"]
    assert trainings(world) == []
    assert world.registry.versions("digits") == ("1",)


def test_another_contract_than_the_champions_is_refused(server: StubMlflow, world: MlflowWorld, tmp_path: Path):
    tags = register(server, {"model.onnx": other_contract(tmp_path)})
    world.turns()
    assert tags["hardcase"] == "refused"
    assert (
        "its inputs are not the champion's: x FP32 [-1, 4] instead of x FP32 [-1, 1, 8, 8]" in tags["hardcase.problem"]
    )


def test_a_model_that_is_not_served_here_is_refused(server: StubMlflow, world: MlflowWorld):
    tags = register(server, {"model.onnx": onnx_bytes()}, name="cats")
    world.turns()
    assert "no model 'cats' is served here" in tags["hardcase.problem"]


def test_too_large_a_model_is_not_fetched(tmp_path: Path, server: StubMlflow):
    world = mlflow_world(tmp_path, server.url, imports=True, file_bytes=1000)
    tags = register(server, {"model.onnx": onnx_bytes()})
    world.turns()
    assert "more than experiments.file_bytes" in tags["hardcase.problem"]
    assert not [call for call in server.calls if call.startswith("GET") and call.endswith("model.onnx")]
    world.store.close()


def test_files_outside_the_servers_store_are_not_followed(server: StubMlflow, world: MlflowWorld):
    tags = register(server, {})
    server.models["digits"]["versions"][0]["root"] = "s3://elsewhere/model"
    world.turns()
    assert "not behind the tracking server" in tags["hardcase.problem"]


def test_nothing_is_taken_in_unless_the_settings_say_so(tmp_path: Path, server: StubMlflow):
    world = mlflow_world(tmp_path, server.url)
    tags = register(server, {"model.onnx": onnx_bytes()})
    world.turns()
    assert tags == {"hardcase": "import"}
    assert rows.imports(world.store, tuple(ImportState)) == []
    world.store.close()


def test_external_data_beside_the_file_comes_along():
    files = [RemoteFile(path=p, size_bytes=1) for p in ("m/model.onnx", "m/model.onnx.data", "m/x.pkl", "other.data")]
    assert [file.path for file in choose(files)] == ["m/model.onnx", "m/model.onnx.data"]
    with pytest.raises(Refused):
        choose([RemoteFile(path="conda.yaml", size_bytes=1)])


def test_the_stub_registers_what_it_should():
    assert onnx.load_from_string(onnx_bytes()).graph.output[0].name == "logits"


def test_what_somebody_here_asks_for_needs_neither_tag_nor_setting(server: StubMlflow, tmp_path: Path):
    world = mlflow_world(tmp_path, server.url)  # imports are off
    try:
        world.turns()
        tags = register(server, {"model.onnx": onnx_bytes()}, tag="no")
        own = next(v for v in server.models["digits"]["versions"] if v["tags"].get("hardcase.version") == "1")
        world.later()
        world.turns()
        assert not trainings(world), "a look alone takes nothing"
        number = str(len(server.models["digits"]["versions"]))
        asked = rows.ask_for(world.store, "digits", number, "digits", "ann", world.now[0])
        assert (asked.state, asked.asked_by, asked.version) == (ImportState.FOUND, "ann", "")
        rows.ask_for(world.store, "digits", own["version"], "digits", "ann", world.now[0])
        rows.ask_for(world.store, "digits", "99", "digits", "ann", world.now[0])
        world.turns()
        (turn,) = trainings(world)
        assert turn["reason"] == f"version {number} of 'digits' was registered in MLflow, and ann asked for it"
        assert tags["hardcase"] == "taken"
        found = {row.number: row for row in rows.newest_imports(world.store, 10)}
        assert found[number].training_id == turn["id"]
        assert rows.ask_for(world.store, "digits", number, "digits", "bob", 1).asked_by == "ann", "it is here already"
        with world.store.write() as connection:
            connection.execute(t.trainings.update().values(flight=None))
        world.later()
        world.turns()
        found = {row.number: row for row in rows.newest_imports(world.store, 10)}
        assert found[own["version"]].problem == "it is version 1 here already"
        assert found["99"].problem == "there is no such version in MLflow"
        again = rows.ask_for(world.store, "digits", "99", "digits", "bob", world.now[0])
        assert (again.state, again.problem, again.asked_by) == (ImportState.FOUND, "", "bob"), "it is tried again"
    finally:
        world.store.close()
