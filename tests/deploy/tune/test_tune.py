"""`hardcase tune` with real servers: it writes a version that loads, with settings that serving follows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.cli import main
from deploy.paths import StatePaths
from deploy.settings import Settings
from deploy.tune.run import find_package, tuned_version
from deploy.wiring import pools, tuned_replicas
from export.contracts.manifest import Execution
from export.registry import Registry
from export.retune import write_retuned
from tests.support import packages
from tests.support.server import standalone
from tests.support.traffic import digits


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.chdir(tmp_path)
    made = Registry(tmp_path / ".hardcase" / "registry")
    made.add(packages.digits_like_package(tmp_path / "made", max_batch_rows=16).dir)
    made.promote("digits", "1", author="test")
    return made


def test_the_best_settings_go_into_a_new_version_that_serves(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["tune", "digits", "--latency-target", "p95:5s", "--budget", "1", "-c", "2"]
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["version"] == "1-tuned"
    assert told["within"] is True
    assert told["best"] == {"max_batch_rows": 16, "intra_op_threads": 1, "instances": 1}
    assert len(told["trials"]) == 1, "the budget allows the first and no more"
    package = registry.package("digits", "1-tuned")
    assert package.manifest.execution == Execution(max_batch_rows=16, intra_op_threads=1, instances=1)
    assert package.manifest.provenance.parent_version == "1"
    assert package.manifest.provenance.metrics["tune_callers"] == 2
    assert package.manifest.provenance.metrics["tune_requests_per_s"] > 10
    assert registry.plan("digits").champion == "1", "nothing is served by that alone"
    registry.promote("digits", "1-tuned", author="test")
    with standalone(tmp_path / "server", registry.root) as server:
        assert server.infer("digits", digits()).version == "1-tuned"
        assert server.get("/v2/models/digits/config")["max_batch_size"] == 16
    assert main([*arguments, "--as", "1"]) == 4
    assert "exists already" in capsys.readouterr().err


def test_a_target_that_nothing_keeps_writes_nothing(registry: Registry, capsys: pytest.CaptureFixture[str]):
    assert main(["tune", "digits", "--latency-target", "p50:1us", "--budget", "1", "-c", "1"]) == 4
    told = capsys.readouterr()
    assert "over the target" in told.out
    assert "nothing was written" in told.err
    assert registry.versions("digits") == ("1",)


@pytest.mark.slow
def test_a_search_over_batches_threads_and_instances(registry: Registry, capsys: pytest.CaptureFixture[str]):
    assert main(["tune", "digits", "--latency-target", "p99:10s", "--budget", "100", "--json"]) == 0
    trials = json.loads(capsys.readouterr().out)["trials"]
    tried = [t["candidate"] for t in trials]
    assert len({t["max_batch_rows"] for t in tried}) >= 3
    assert all(t["level"]["errors"] == {} for t in trials if t["level"])


def test_a_version_that_does_not_load_says_why(tmp_path: Path, registry: Registry, capsys: pytest.CaptureFixture[str]):
    registry.add(packages.nan_package(tmp_path / "made").dir)
    assert main(["tune", "digits@nan", "--latency-target", "p99:1s", "--budget", "1"]) == 1
    assert "no settings work" in capsys.readouterr().err


def test_packages_are_found_by_name_version_champion_and_folder(registry: Registry, tmp_path: Path):
    newer = packages.digits_like_package(tmp_path / "made", version="2", seed=3)
    registry.add(newer.dir)
    assert find_package("digits", registry).manifest.version == "1", "the champion"
    assert find_package("digits@2", registry).manifest.version == "2"
    assert find_package(str(newer.dir), registry).manifest.version == "2"
    for absent in ("nobody", "digits@9", str(tmp_path / "absent" / "folder")):
        assert main(["tune", absent, "--latency-target", "p99:1s"]) == 3


def test_the_versions_name_is_free(registry: Registry, tmp_path: Path):
    package = registry.package("digits", "1")
    assert tuned_version(package, None, registry) == "1-tuned"
    for expected in ("1-tuned-2", "1-tuned-3"):
        name = tuned_version(package, None, registry)
        made = write_retuned(package, tmp_path / name, version=name, execution=Execution(), metrics={}, how="test")
        registry.add(made.dir)
        assert tuned_version(package, None, registry) == expected
    assert tuned_version(registry.package("digits", "1-tuned"), None, registry) == "1-tuned-3"


def test_replicas_are_given_or_what_the_champions_ask_for(registry: Registry, tmp_path: Path):
    paths = StatePaths(tmp_path / ".hardcase")
    assert pools(Settings(), paths)[0].replicas == 1
    package = registry.package("digits", "1")
    for instances in (3, 2):
        version = f"x{instances}"
        execution = Execution(instances=instances)
        made = write_retuned(package, tmp_path / version, version=version, execution=execution, metrics={}, how="test")
        registry.add(made.dir)
    assert pools(Settings(), paths)[0].replicas == 1, "neither is the champion"
    registry.promote("digits", "x3", author="test")
    assert tuned_replicas(registry, ["digits", "nobody"]) == 3
    assert pools(Settings(), paths)[0].replicas == 3
    assert pools(Settings.model_validate({"serving": {"replicas": 1}}), paths)[0].replicas == 1
    own = Settings.model_validate({"serving": {"pools": [{"model": "digits"}]}})
    assert [p.replicas for p in pools(own, paths)] == [1, 3]
