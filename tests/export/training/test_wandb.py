"""A run at Weights & Biases, offline, by the real library, and read back from the file that it leaves.

python -m benchmarks.peers.setup wandb      # once: 100 MB, half a minute
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT

PYTHON = ROOT / ".venvs" / "wandb" / "bin" / "python"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="no .venvs/wandb: run python -m benchmarks.peers.setup wandb"),
]

# Its own packages first; ours come after, for numpy and what `export` needs.
SCRIPT = """
import sys
sys.path.append(sys.argv[3])
from pathlib import Path
from tests.support.training_request import said_run
from export.training.wandb_logger import WandbLogger
run, lines = said_run(Path(sys.argv[1]), parameters={"lr": 0.25})
try:
    with WandbLogger(run, project="faces") as logger:
        for step in range(5):
            run.metric("val_accuracy", 0.5 + step / 10, step=step)
        logger.summary({"test_accuracy": 0.97})
        if sys.argv[2] == "fails":
            raise RuntimeError("stopped")
except RuntimeError:
    pass
run.metric("after", 1.0)
assert len(lines) == 6, lines
"""

# The file is a LevelDB log: blocks of 32 KiB, each piece with CRC-32, length and type (whole, first, middle, last).
READ = """
import json, struct, sys, zlib
from google.protobuf.json_format import MessageToDict
from wandb.proto import wandb_internal_pb2
data = open(sys.argv[1], "rb").read()
assert data[:4] == b":W&B", data[:8]
at, held, found = 7, b"", []
while at + 7 <= len(data):
    left = 32768 - at % 32768
    if left < 7:
        at += left
        continue
    check, length, kind = struct.unpack("<IHB", data[at : at + 7])
    piece = data[at + 7 : at + 7 + length]
    assert zlib.crc32(piece, zlib.crc32(bytes([kind]))) == check, "a damaged piece"
    at += 7 + length
    held += piece
    if kind in (1, 4):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(held)
        found.append(MessageToDict(record, preserving_proto_field_name=True))
        held = b""
print(json.dumps(found))
"""


def test_an_offline_run_holds_parameters_lineage_and_every_point(tmp_path: Path):
    records = _written(tmp_path, "ends")
    (made,) = [r["run"] for r in records if "run" in r]
    assert (made["run_id"], made["project"], made["display_name"]) == ("0123456789ab", "faces", "digits 2")
    config = {i["key"]: json.loads(i["value_json"]) for i in made["config"]["update"]}
    assert config["lr"] == 0.25
    assert config["snapshot"] == "sha256:" + "a" * 64
    assert (config["parent_version"], config["training"]) == ("1", "0123456789ab")
    points = []
    for record in records:
        items = {_key(i): json.loads(i["value_json"]) for i in record.get("history", {}).get("item", [])}
        if "val_accuracy" in items:
            points.append((items["step"], items["val_accuracy"]))
        assert "after" not in items, "it was logged after the run's end"
    assert points == [(step, 0.5 + step / 10) for step in range(5)]
    (end,) = [r["exit"] for r in records if "exit" in r]
    assert end.get("exit_code", 0) == 0
    said = [i for r in records for i in r.get("summary", {}).get("update", []) if _key(i) == "test_accuracy"]
    assert json.loads(said[0]["value_json"]) == 0.97


def test_a_training_that_fails_is_a_run_that_failed(tmp_path: Path):
    (end,) = [r["exit"] for r in _written(tmp_path, "fails") if "exit" in r]
    assert end["exit_code"] == 1


def _key(item: dict[str, object]) -> str:
    nested = item.get("nested_key") or [item.get("key")]
    return str(nested[0])  # type: ignore[index]


def _written(folder: Path, how: str) -> list[dict[str, dict[str, object]]]:
    """Run a trainer with the logger, offline, and read its file back by W&B's own messages."""
    env = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true", "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    ours = sysconfig.get_paths()["purelib"]
    done = subprocess.run(
        [str(PYTHON), "-c", SCRIPT, str(folder), how, ours],
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (file,) = folder.glob("output/wandb/offline-run-*/run-*.wandb")
    read = subprocess.run(
        [str(PYTHON), "-c", READ, str(file)], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert read.returncode == 0, read.stderr[-3000:]
    return json.loads(read.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_without_the_library_the_way_to_get_it_is_named():
    code = "from pathlib import Path\nfrom export.training.wandb_logger import WandbLogger\n" \
           "from tests.support.training_request import said_run\nimport sys, tempfile\nsys.modules['wandb'] = None\n" \
           "WandbLogger(said_run(Path(tempfile.mkdtemp()))[0])"  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert "pip install 'hardcase[wandb]'" in done.stderr
