"""A trainer, and a gate, that does next to nothing: `python -m tests.support.loop_trainer RAN REQUEST`.

It notes in the file RAN that it ran, says a few things, and leaves what was asked for. Stdlib only: it starts at once.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main(ran: Path, request_file: Path) -> None:
    """Leave a package, or a verdict."""
    asked = json.loads(request_file.read_text())
    with ran.open("a") as file:
        file.write(f"{asked.get('id', 'gate')}\n")
    for step in range(3):
        print(json.dumps({"event": "progress", "step": step + 1, "of": 3, "text": f"epoch {step + 1}"}), flush=True)
        print(json.dumps({"event": "metric", "name": "loss", "value": 1.0 / (step + 1), "step": step + 1}), flush=True)
        time.sleep(0.05)
    if "snapshot" not in asked:
        (request_file.parent / "verdict.json").write_text("passed")
        return
    package = Path(asked["output"]) / "package"
    package.mkdir(parents=True, exist_ok=True)
    manifest = json.loads(ran.with_name("manifest.json").read_text()) | {"version": asked["version"]}
    manifest["provenance"] |= {"dataset_snapshot": asked["snapshot_digest"]}
    (package / "manifest.json").write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
