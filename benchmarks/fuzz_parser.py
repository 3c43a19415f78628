"""Coverage-guided fuzzing of the request parser with libFuzzer (atheris), against the naive oracle.

    python -m benchmarks.fuzz_parser --executions 10000000 --jobs 2

The target is `tests.support.parser_fuzz.check`: the parser must agree with a second implementation on every input, and
raise nothing but errors fit for the public. Writes `benchmarks/results/fuzz_parser.json`; a finding stops the run, is
kept under `tests/fuzz/corpus`, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "fuzz_parser.json"
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
INSTRUMENTED = ("serving.protocol", "serving.request_plan", "serving.tensors")
MAX_LEN = 320
_STATUS = re.compile(r"#(\d+)\s+(\w+)\s+cov: (\d+) ft: (\d+) corp: (\d+)/(\S+).*exec/s: (\d+)")


def fuzz(arguments: list[str]) -> None:
    """Be the libFuzzer process; never returns."""
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        from tests.support.parser_fuzz import check
    atheris.Setup([sys.argv[0], *arguments], lambda data: check(data) and None)
    atheris.Fuzz()


def seeds(folder: Path) -> None:
    """Plain valid requests of every signature in every form, and short bodies as they are."""
    from tests.support.parser_fuzz import SUBJECTS

    for subject in range(len(SUBJECTS)):
        for form in range(3):
            folder.joinpath(f"valid-{subject}-{form}").write_bytes(bytes((subject, 4, form, 1)))
        for mode, body in ((0, b'{"inputs":[]}'), (1, bytes(16)), (2, b"\x011{}"), (3, b"\x02\x00{}")):
            folder.joinpath(f"raw-{subject}-{mode}").write_bytes(bytes((subject, mode)) + body)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What one libFuzzer process did."""

    executions: int
    edges: int
    features: int
    corpus: int
    findings: tuple[str, ...]
    exit_status: int


def run_one(executions: int, seed: int, max_seconds: int) -> Run:
    """Fuzz in one child process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = folder / "seeds"
        start.mkdir()
        seeds(start)
        command = [sys.executable, "-m", "benchmarks.fuzz_parser", "--child"]
        command += [f"-runs={executions}", f"-max_total_time={max_seconds}", f"-seed={seed}", f"-max_len={MAX_LEN}"]
        command += ["-rss_limit_mb=4096", "-timeout=60", f"-artifact_prefix={folder}/found-", str(folder), str(start)]
        if CORPUS.is_dir():
            command.append(str(CORPUS))
        log: list[str] = []
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, errors="replace") as child:
            assert child.stderr is not None
            for line in child.stderr:
                log.append(line)
                if _STATUS.search(line) and sys.stderr.isatty():
                    print(f"seed {seed}: {line.rstrip()[:100]}", file=sys.stderr)
        found = sorted(folder.glob("found-*"))
        for path in found:
            CORPUS.mkdir(parents=True, exist_ok=True)
            (CORPUS / path.name.removeprefix("found-")).write_bytes(path.read_bytes())
    if found or child.returncode:
        print("".join(log[-60:]), file=sys.stderr)
    last = [m for line in log if (m := _STATUS.search(line))][-1]
    return Run(
        executions=int(last[1]),
        edges=int(last[3]),
        features=int(last[4]),
        corpus=int(last[5]),
        findings=tuple(path.name for path in found),
        exit_status=child.returncode,
    )


def run(executions: int, seed: int, max_seconds: int, jobs: int) -> dict[str, Any]:
    """Share the executions out to `jobs` processes with seeds of their own, and describe what happened."""
    began = time.monotonic()
    share = -(-executions // jobs)
    with ThreadPoolExecutor(jobs) as pool:
        runs = list(pool.map(lambda i: run_one(share, seed + i, max_seconds), range(jobs)))
    seconds = time.monotonic() - began
    total = sum(r.executions for r in runs)
    return {
        "target": "tests.support.parser_fuzz.check",
        "instrumented": list(INSTRUMENTED),
        "engine": f"libFuzzer, atheris {version('atheris')}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": _git("rev-parse", "HEAD"),
        "parser_blobs": _git("hash-object", *(name.replace(".", "/") + ".py" for name in INSTRUMENTED)).split(),
        "python": sys.version.split()[0],
        "seeds": [seed + i for i in range(jobs)],
        "executions": total,
        "seconds": round(seconds, 1),
        "executions_per_s": round(total / seconds),
        "coverage": {
            "edges": max(r.edges for r in runs),
            "features": max(r.features for r in runs),
            "corpus": sum(r.corpus for r in runs),
        },
        "findings": [name for r in runs for name in r.findings],
        "exit_status": max(r.exit_status for r in runs),
    }


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def main(argv: list[str]) -> int:
    """The command line."""
    if argv[:1] == ["--child"]:
        fuzz(argv[1:])
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_parser", description=__doc__.split("\n")[0])
    parser.add_argument("--executions", type=int, default=10_000_000)
    parser.add_argument("--max-seconds", type=int, default=3600)
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULT, help="default: %(default)s")
    arguments = parser.parse_args(argv)
    result = run(arguments.executions, arguments.seed, arguments.max_seconds, arguments.jobs)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 1 if result["findings"] or result["exit_status"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
