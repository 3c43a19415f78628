"""What does the whole story end with? `python -m benchmarks.story [--report FOLDER]`; six to ten quiet minutes.

Runs `hardcase demo` in a folder and on ports of its own, and keeps what it found out. `--report docs/examples/story`
puts its report there, as the example that people read. The exit code is the story's: 1 when a claim does not hold.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from benchmarks.machine import machine_facts
from deploy.processes import free_ports

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "story.json"
KEPT = ("seconds", "sent", "answered", "failed", "recoveries", "labels", "claims")
LIMIT_S = 1_200


def main() -> int:
    """Run it once, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, help="folder for report.html and report.json")
    asked = parser.parse_args()
    facts = machine_facts(ROOT)
    with tempfile.TemporaryDirectory(prefix="story-") as name:
        folder = Path(name)
        http, grpc, console = free_ports(3)
        settings = {"serving": {"port": http, "grpc_port": grpc}, "monitor": {"port": console}}
        (folder / "hardcase.yaml").write_text(yaml.safe_dump(settings))
        done = subprocess.run([sys.executable, "-m", "deploy.cli", "demo"], cwd=folder, timeout=LIMIT_S, check=False)
        made = folder / ".hardcase" / "demo"
        told = json.loads((made / "report.json").read_text(encoding="utf-8"))
        if asked.report is not None:
            asked.report.mkdir(parents=True, exist_ok=True)
            for file in ("report.html", "report.json"):
                shutil.copyfile(made / file, asked.report / file)
    RESULTS.write_text(json.dumps({"machine": facts} | {key: told[key] for key in KEPT}, indent=1) + "\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
