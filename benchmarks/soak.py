"""A million requests while shapes and versions change: `python -m benchmarks.soak [--quick]`, about four minutes.

Does memory grow? wrk cycles through requests of several row counts, JSON and binary, good and refused ones, while the
registry promotes another version every few seconds. Resident memory is read once a second; the slope is fitted over the
time after the warm-up, with its standard error, because a few minutes cannot show a megabyte an hour: the result says
which slope this run could have seen. Then a much shorter run against a server with a planted leak of 200 bytes a
request: it must be seen.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.load import parse_wrk
from benchmarks.machine import machine_facts
from benchmarks.model import MODEL_NAME, BenchModel, make_registry
from benchmarks.payloads import Payload, Wire, make_payload
from benchmarks.processes import adopt_orphans, free_port, server
from benchmarks.starts import OIP_PATH, ROOT
from benchmarks.stored import store_result

_FLIP_S = 5.0
_LEAK = """
import sys
from serving import standalone
from serving.dataplane import DataPlane

held, accept = [], DataPlane.accept

def leaking(plane, call, body, reply, *rest):
    held.append(bytes(200))
    return accept(plane, call, body, reply, *rest)

DataPlane.accept = leaking
sys.exit(standalone.main())
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Exit status 1 when memory grows, or the planted leak is not seen."""
    options = _options(arguments)
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="hc-") as scratch:
        folder = Path(scratch)
        registry, model = make_registry(folder)
        _second_version(folder, registry)
        script = folder / "soak.lua"
        script.write_text(_lua(model), encoding="ascii")
        sound = _soak(folder / "sound", registry, script, options.seconds, ["-m", "serving.standalone"])
        leaking = _soak(folder / "leak", registry, script, options.seconds / 4, ["-c", _LEAK])
    result = {"sound": sound, "planted_leak": leaking, "settings": {"seconds": options.seconds}}
    store_result({"machine": machine_facts(ROOT), **result}, "soak", asked=options.output, quick=options.quick)
    print(json.dumps(result, indent=2))
    return 0 if sound["bytes_a_request"] < options.most_bytes and leaking["bytes_a_request"] > 100 else 1


def _second_version(folder: Path, registry: Path) -> None:
    """The same network as version 2: what changes is the version, not what it costs."""
    from export.package import read_package
    from export.registry import Registry

    copy = folder / "second"
    shutil.copytree(folder / "package", copy)
    manifest = copy / "manifest.json"
    plain = json.loads(manifest.read_text(encoding="utf-8"))
    plain["version"] = "2"
    manifest.write_text(json.dumps(plain, sort_keys=True, separators=(",", ":")), encoding="utf-8")
    Registry(registry).add(read_package(copy).dir)


def _lua(model: BenchModel) -> str:
    """A wrk script that cycles through requests of different shapes; one in ten is refused."""
    payloads = [make_payload(Wire.OIP_BINARY, np.repeat(model.image, rows, axis=0)) for rows in (1, 2, 3, 5, 8)]
    payloads += [make_payload(Wire.OIP_JSON, np.repeat(model.image, rows, axis=0)) for rows in (1, 2, 4)]
    payloads.append(Payload(wire=Wire.JSON, headers={"Content-Type": "application/json"}, body=b'{"inputs": []}'))
    lines = ["local requests = {}"]
    for payload in payloads:
        pairs = [(_quoted(name.encode()), _quoted(value.encode())) for name, value in payload.headers.items()]
        headers = ", ".join(f"[{name}] = {value}" for name, value in pairs)
        lines.append(f"requests[#requests + 1] = {{ {{ {headers} }}, {_quoted(payload.body)} }}")
    lines += [
        "local made, at = {}, 0",
        "init = function() for i, r in ipairs(requests) do",
        f"made[i] = wrk.format('POST', '{OIP_PATH}', r[1], r[2]) end end",
        "request = function() at = at % #made + 1 return made[at] end",
    ]
    return "\n".join(lines) + "\n"


def _quoted(data: bytes) -> str:
    return '"' + "".join(f"\\{byte:03d}" for byte in data) + '"'


def _soak(folder: Path, registry: Path, script: Path, seconds: float, program: list[str]) -> dict[str, Any]:
    from export.registry import Registry

    folder.mkdir()
    port, ready = free_port(), folder / "ready"
    command = [sys.executable, *program, "--registry", str(registry), "--port", str(port)]
    command += ["--records", str(folder / "records"), "--ready-file", str(ready)]
    command += ["--options-json", json.dumps({"capture": {"quota_bytes": 256 << 20}})]
    url = f"http://127.0.0.1:{port}{OIP_PATH}"
    with server(command, environment={"PYTHONPATH": str(ROOT)}, folder=folder, ready=ready.exists) as process:
        watched, times, sizes, flips = psutil.Process(process.pid), [], [], 0
        wrk = [
            "wrk",
            "-t1",
            "-c64",
            f"-d{math.ceil(seconds)}s",
            "--timeout",
            "10s",
            "--latency",
            "-s",
            str(script),
            url,
        ]
        load = subprocess.Popen(wrk, stdout=subprocess.PIPE, text=True)
        begun = flipped = time.monotonic()
        while load.poll() is None:
            time.sleep(1.0)
            now = time.monotonic()
            times.append(now - begun)
            sizes.append(watched.memory_info().rss)
            if now - flipped > _FLIP_S:
                flipped, flips = now, flips + 1
                Registry(registry).promote(MODEL_NAME, str(1 + flips % 2), author="soak")
        text = load.stdout.read() if load.stdout is not None else ""
    report = parse_wrk(text)
    return _slope(times, sizes, report.requests / report.duration_s) | {
        "requests": report.requests,
        "refused": report.bad_statuses,
        "socket_errors": report.socket_errors,
        "versions_promoted": flips,
        "resident_mib": [round(sizes[0] / 2**20, 1), round(sizes[-1] / 2**20, 1)],
    }


def _slope(times: Sequence[float], sizes: Sequence[int], rate: float) -> dict[str, float]:
    """Growth after the first 40 %, fitted by least squares; `sees` is twice the standard error."""
    begin = int(0.4 * len(times))
    x, y = np.array(times[begin:]), np.array(sizes[begin:], float)
    design = np.stack([x, np.ones_like(x)], axis=1)
    (slope, _), residual, *_ = np.linalg.lstsq(design, y, rcond=None)
    noise = float(residual[0]) / max(1, len(x) - 2) if residual.size else 0.0
    error = math.sqrt(noise / float(((x - x.mean()) ** 2).sum()))
    return {
        "mib_an_hour": round(float(slope) * 3600 / 2**20, 2),
        "sees_mib_an_hour": round(2 * error * 3600 / 2**20, 2),
        "bytes_a_request": round(float(slope) / rate, 2),
        "requests_per_s": round(rate, 1),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description="does memory grow?")
    parser.add_argument(
        "--seconds", type=float, default=150.0, help="of the sound server; a million requests on two cores"
    )
    parser.add_argument("--most-bytes", type=float, default=5.0, help="growth a request that is taken as none")
    parser.add_argument("--quick", action="store_true", help="20 seconds: does it run?")
    parser.add_argument("--output", type=Path, help="where the result is written; --quick alone writes none")
    options = parser.parse_args(arguments)
    if options.quick:
        options.seconds, options.most_bytes = 20.0, 100.0
    return options


if __name__ == "__main__":
    sys.exit(main())
