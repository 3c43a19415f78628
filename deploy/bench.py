"""`hardcase bench`: hands over to the repository's benchmarks, which are no part of an installed package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.errors import Missing


def run_bench(arguments: Sequence[str]) -> int:
    """Run benchmarks/serving.py and write its tables; returns its exit status.

    Raises:
        Missing: this installation has no repository beside it.
    """
    root = Path(__file__).resolve().parents[1]
    if not (root / "benchmarks" / "serving.py").is_file():
        raise Missing("the benchmarks are part of the repository, not of the package", "clone it and run `make bench`")
    measured = subprocess.run([sys.executable, "-m", "benchmarks.serving", *arguments], cwd=root, check=False)
    return measured.returncode
