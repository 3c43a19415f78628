"""The pipelines that people copy: their own commands are run here, over real packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import gate_world as world

CI = Path(__file__).parents[3] / "docs" / "examples" / "ci"


def of_github() -> tuple[list[str], dict[str, str]]:
    job = yaml.safe_load((CI / "hardcase-gate.yml").read_text())["jobs"]["gate"]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    return commands, job["env"]


def of_gitlab() -> tuple[list[str], dict[str, str]]:
    job = yaml.safe_load((CI / "hardcase-gate.gitlab-ci.yml").read_text())["hardcase gate"]
    assert job["allow_failure"] == {"exit_codes": [7]}
    assert job["artifacts"]["reports"]["junit"] == "gate/junit.xml"
    return [*job["before_script"], *job["script"]], job["variables"]


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", [of_github, of_gitlab])
@pytest.mark.parametrize(("shuffled", "expected"), [(False, 0), (True, 1)])
def test_a_pipelines_commands_do_what_it_says(tmp_path: Path, pipeline: Any, shuffled: bool, expected: int) -> None:
    commands, names = pipeline()
    folder = checkout(tmp_path, names, shuffled=shuffled)
    environment = environment_of(tmp_path, names)
    assert commands[0] == "pip install hardcase"  # what the others find here already
    codes = [subprocess.run(["sh", "-c", c], cwd=folder, env=environment, check=False).returncode for c in commands[1:]]
    assert codes == [0, expected]
    assert {path.name for path in (folder / "gate").iterdir()} == {"report.html", "junit.xml", "openlineage.json"}


def checkout(tmp_path: Path, names: dict[str, str], *, shuffled: bool) -> Path:
    """A repository as the pipeline expects it: packages, a labelled set, the script."""
    folder = tmp_path / "checkout"
    (folder / "ci").mkdir(parents=True)
    (folder / "ci" / "gate.sh").write_text((CI / "gate.sh").read_text())
    made = {"REFERENCE": world.package(tmp_path, "1", 60), "CANDIDATE": world.package(tmp_path, "2", shuffled=shuffled)}
    for name, package in made.items():
        (folder / names[name]).parent.mkdir(parents=True, exist_ok=True)
        package.dir.rename(folder / names[name])
    (folder / names["AUDITED"]).parent.mkdir(parents=True, exist_ok=True)
    world.live(tmp_path / "sets").folder.rename(folder / names["AUDITED"])
    return folder


def environment_of(tmp_path: Path, names: dict[str, str]) -> dict[str, str]:
    """With `hardcase` on the path, as pip would have put it there: this tree's."""
    tools = tmp_path / "bin"
    tools.mkdir()
    command = tools / "hardcase"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m deploy.cli "$@"\n')
    command.chmod(0o755)
    root = str(Path(__file__).parents[3])
    return {**os.environ, **names, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": root}
