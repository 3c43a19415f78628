"""The page of faults names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "faults-of-serving.md"
FAULTS = ["F01", "F02", "F03", "F04", "F05", "F06", "F07", "F09", "F10", "F11", "F13", "F14", "F15", "F16", "F17"]


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| F\d\d ", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_fault_has_its_row_with_both_controls() -> None:
    assert [row[0] for row in rows()] == FAULTS
    assert all(len(row) == 6 and all(row) for row in rows())


def test_every_file_function_and_benchmark_that_it_names_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    files = set(re.findall(r"`((?:tests|benchmarks)/[\w/]+\.(?:py|json))`", text))
    assert len(files) > 12
    missing = {name for name in files if not (ROOT / name).exists()}
    sources = "".join((ROOT / name).read_text(encoding="utf-8") for name in files if name.endswith(".py"))
    missing |= {name for name in re.findall(r"`(test_\w+)`", text) if f"def {name}(" not in sources}
    modules = set(re.findall(r"python -m (benchmarks\.\w+)", text))
    missing |= {name for name in modules if not (ROOT / f"{name.replace('.', '/')}.py").exists()}
    assert not missing


def test_every_fault_test_of_the_default_suite_is_one_that_asserts() -> None:
    for row in rows():
        for name in re.findall(r"`(tests/[\w/]+\.py)`", row[3]):
            assert "assert " in (ROOT / name).read_text(encoding="utf-8"), name
