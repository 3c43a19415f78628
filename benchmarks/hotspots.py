"""Where a serving process spends its time under load: `python -m benchmarks.hotspots`.

Starts our server, loads it with wrk, samples it with py-spy, and prints the functions with the most time of their own
(C code counts for the Python line that called it, so `--lines` tells more), and the time below each step of a request.
The table goes to `results/hotspots.json`. Sampling does not stop the process; `--native` does, shows C functions, and
makes the server several times slower: look at shares then, not at rates.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.load import LoadResult, run_wrk
from benchmarks.machine import machine_facts
from benchmarks.model import make_registry
from benchmarks.payloads import Wire, write_scripts
from benchmarks.processes import adopt_orphans
from benchmarks.serving import Control
from benchmarks.starts import OIP_PATH, ROOT, Workplace, ours_ray, ours_standalone

RESULTS = ROOT / "benchmarks" / "results" / "hotspots.json"
SAMPLES_PER_S = 400


@dataclass(frozen=True, kw_only=True, slots=True)
class Spot:
    """A function, and the shares (0..1) of all samples in which it ran itself, or was anywhere on the stack."""

    function: str
    own: float
    below: float


def read_samples(stacks: Iterable[str], *, lines: bool = False) -> list[Spot]:
    """Shares from py-spy's `raw` format: frames from the outermost inwards, joined by `;`, a space, a count.

    Idle stacks are not in it: py-spy leaves out threads that wait.

    Args:
        stacks: The file's lines.
        lines: Tell lines of a function apart.

    Example:
        >>> read_samples(["main (a.py:1);run (a.py:5) 3", "main (a.py:1) 1"])[0]
        Spot(function='run (a.py)', own=0.75, below=0.75)
    """
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()
    total = 0
    for line in stacks:
        stack, _, count_text = line.rstrip().rpartition(" ")
        if not stack or not count_text.isdigit():
            continue
        count, frames = int(count_text), [_function(frame, lines) for frame in stack.split(";")]
        total += count
        own[frames[-1]] += count
        below.update(dict.fromkeys(frames, count))
    spots = [Spot(function=f, own=own[f] / total, below=n / total) for f, n in below.items()]
    return sorted(spots, key=lambda spot: (-spot.own, -spot.below, spot.function))


def serving_process(root_pid: int) -> int:
    """The process that answers: the Ray replica below `root_pid` where there is one, else `root_pid` itself."""
    for child in psutil.Process(root_pid).children(recursive=True):
        if any("ServeReplica" in word for word in child.cmdline()):
            return child.pid
    return root_pid


def main(arguments: Sequence[str] | None = None) -> int:
    """Sample and print."""
    options = _options(arguments)
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if spy is None:
        print("py-spy is not installed: pip install py-spy", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server is ended on the way out
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="hb", dir="/tmp", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        registry, model = make_registry(scratch / "model")
        wire = Wire.OIP_JSON if options.json else Wire.OIP_BINARY
        script = write_scripts(scratch / "lua", model.image)[wire]
        place = Workplace(folder=scratch, registry=registry, model=model, right=Control(model).right)
        start = ours_ray if options.ray else ours_standalone
        with start(capture=not options.no_capture)(place) as addresses:
            child = psutil.Process().children()[0]
            url = addresses["direct"] + OIP_PATH
            run_wrk(url, script, connections=options.connections, duration_s=2)
            spots, load = _sample(spy, serving_process(child.pid), url, script, options, scratch / "samples")
    rows = [spot for spot in spots if spot.own >= 0.005 or spot.below >= 0.05]
    print(f"{load.requests_per_s:,.0f} requests/s while sampled, p50 {load.latency_us[50]:,.0f} µs")
    print("   own   below  function")
    for spot in rows[: options.top]:
        print(f"{spot.own:6.1%}  {spot.below:6.1%}  {spot.function}")
    result = {
        "machine": machine_facts(ROOT),
        "settings": {"wire": str(wire), "ray": options.ray, "capture": not options.no_capture}
        | {"connections": options.connections, "seconds": options.seconds},
        "requests_per_s": load.requests_per_s,
        "spots": [{"function": s.function, "own": round(s.own, 4), "below": round(s.below, 4)} for s in rows],
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _sample(
    spy: str, pid: int, url: str, script: Path, options: argparse.Namespace, samples: Path
) -> tuple[list[Spot], LoadResult]:
    """Load and sample at the same time."""
    loads: list[LoadResult] = []
    loader = threading.Thread(
        target=lambda: loads.append(
            run_wrk(url, script, connections=options.connections, duration_s=options.seconds + 2)
        )
    )
    loader.start()
    command = [spy, "record", "--pid", str(pid), "--duration", str(int(options.seconds)), "--format", "raw"]
    command += [
        "--rate",
        str(SAMPLES_PER_S),
        "--output",
        str(samples),
        "--native" if options.native else "--nonblocking",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=options.seconds + 60)
    loader.join()
    if done.returncode != 0 or not loads:
        raise SystemExit(f"py-spy could not sample the server: {done.stderr.strip()[-500:]}")
    return read_samples(samples.read_text(encoding="utf-8").splitlines(), lines=options.lines), loads[0]


def _function(frame: str, lines: bool) -> str:
    """`name (folder/file.py:12)` → `name (file.py)`: folders belong to the machine."""
    found = re.fullmatch(r"(.+) \((.+?)(:\d+)?\)", frame)
    if not found:
        return frame
    line = found[3] if lines and found[3] else ""
    return f"{found[1]} ({found[2].rsplit('/', 1)[-1]}{line})"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hotspots", description="where the time goes")
    parser.add_argument("--ray", action="store_true", help="a replica in Ray Serve instead of stand-alone")
    parser.add_argument("--json", action="store_true", help="JSON bodies instead of binary ones")
    parser.add_argument("--no-capture", action="store_true", help="record nothing")
    parser.add_argument("--lines", action="store_true", help="tell the lines of a function apart")
    parser.add_argument("--native", action="store_true", help="with C functions; stops the process for each sample")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--top", type=int, default=45, help="how many functions are printed")
    parser.add_argument("--output", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
