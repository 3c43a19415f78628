"""The C++ program under sanitizers against damaged files, and the ways to build it that the README shows."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.cli.main import main as hardcase
from export.cpp_project import find_libraries, write_project
from tests.support import cpp_runner
from tests.support import packages as p
from tests.support.cpp_runner import Runner, reseal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MUTATIONS = 60_000  # of each file, in one process
RUNS = 250  # of the whole program on damaged packages
FOUND = re.compile(r"Sanitizer|runtime error:")


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return cpp_runner.build(tmp_path_factory.mktemp("asan"), torch=False, sanitize=True, targets=("mutate",))


def test_the_sanitizers_are_in_the_program(sanitized: Runner) -> None:
    """The positive control of the tests below."""
    ran = sanitized("--help", env={"ASAN_OPTIONS": "help=1"})
    assert "Available flags for AddressSanitizer" in ran.err + ran.out


def test_whole_packages_run_clean_under_sanitizers(sanitized: Runner, tmp_path: Path) -> None:
    for make in (p.all_dtypes_package, p.echo_package, p.multi_input_package, p.unbatched_package):
        ran = sanitized(make(tmp_path).dir, "--golden")
        assert (ran.code, ran.err) == (0, "")


def test_damaged_bytes_never_crash_the_readers(sanitized: Runner, tmp_path: Path) -> None:
    package = p.all_dtypes_package(tmp_path).dir
    files = [package / "manifest.json", package / "golden.npz", p.echo_package(tmp_path).dir / "golden.npz"]
    program = sanitized.program.parent / "mutate"
    done = subprocess.run(
        [program, str(MUTATIONS), "20261121", *files], capture_output=True, text=True, timeout=800, check=False
    )
    assert not FOUND.search(done.stderr), done.stderr[:4000]
    assert done.returncode == 0
    counts = [tuple(map(int, re.findall(r"\d+", line))) for line in done.stdout.splitlines()]
    assert len(counts) == len(files)
    assert all(accepted > MUTATIONS // 100 and refused > MUTATIONS // 2 for accepted, refused in counts), counts


def test_damaged_packages_never_crash_the_program(sanitized: Runner, tmp_path: Path) -> None:
    generator = random.Random(20261121)
    source = p.digits_like_package(tmp_path / "source").dir
    codes: list[int] = []
    for i in range(RUNS):
        package = Path(shutil.copytree(source, tmp_path / "copy", dirs_exist_ok=True))
        victim = package / generator.choice(["manifest.json", "golden.npz", "model.onnx"])
        data = bytearray(victim.read_bytes())
        for _ in range(generator.randrange(1, 4)):
            at = generator.randrange(len(data))
            if generator.random() < 0.3:
                del data[at : at + generator.randrange(1, 40)]
            else:
                data[at] = generator.randrange(256)
        victim.write_bytes(data)
        if victim.name != "manifest.json":
            reseal(package)
        ran = sanitized(package, "--golden", "--json")
        assert not FOUND.search(ran.err), f"run {i}: {ran.err[:4000]}"
        assert ran.code in (0, 1, 3), f"run {i}: exit code {ran.code}"
        assert (ran.code == 3) == ("error" in json.loads(ran.out))
        codes.append(ran.code)
    assert codes.count(3) > RUNS // 2


def test_the_line_without_cmake_in_the_readme_builds_the_program(tmp_path: Path) -> None:
    cpp_runner.need_compiler()
    write_project(tmp_path / "p")
    readme = (tmp_path / "p" / "README.md").read_text()
    block = next(b for b in re.findall(r"```bash\n(.*?)```", readme, re.S) if "g++" in b)
    libraries = find_libraries()
    line = block[block.index("g++") :]
    subprocess.run(["bash", "-euc", f"TORCH={libraries.torch}\n{line}"], cwd=tmp_path / "p", timeout=800, check=True)
    package = p.torchscript_package(tmp_path, with_onnx=False).dir
    ran = Runner(program=tmp_path / "p" / "hardcase-run")(package, "--golden", "--json")
    assert ran.code == 0, ran.err
    assert {c["runtime"] for c in ran.report["golden"]} == {"torchscript"}


def test_one_command_writes_and_builds_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cpp_runner.need_compiler()
    assert hardcase(["render", "cpp", "-o", str(tmp_path / "runner"), "--build", "--json"]) == 0
    program = Path(json.loads(capsys.readouterr().out)["program"])
    ran = Runner(program=program)(p.torchscript_package(tmp_path / "packages").dir, "--golden", "--json")
    assert ran.code == 0, ran.err
    assert {c["runtime"] for c in ran.report["golden"]} == {"onnx", "torchscript"}
    assert hardcase(["render", "cpp", "-o", str(tmp_path / "runner"), "--json"]) == 4
