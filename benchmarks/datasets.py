"""How long a snapshot of many rows takes, and which check finds wrong labels among failures.

    python -m benchmarks.datasets [--quick]

About a minute on two cores; `--quick` takes some seconds and writes nothing. Figure to reach: 100,000 rows of 8x8 built
in at most 10 s of one core. The second table shuffles 5 % of the labels of what the demo's network meets in traffic,
upright digits and digits turned by 50 degrees, of which it gets most wrong, and looks for them: by confident learning
alone, and with the neighbours' word as `monitoring.datasets.noise` asks for it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine_facts
from export.contracts.dataset import Split
from export.dataset import DatasetRow, write_snapshot
from monitoring import schema as t
from monitoring.datasets import noise
from monitoring.datasets.build import SnapshotSource, build_snapshot
from monitoring.datasets.recipes import Recipe
from monitoring.keys import case_id, record_hash
from monitoring.store import Store
from monitoring.vectors import to_units, to_vectors
from tests.support.console_store import CLASSES, MemoryCatalogue, complete, manifest
from tests.support.dataset_world import parts

RESULTS = Path(__file__).parent / "results" / "datasets.json"
CHUNK = 1000


def build(rows: int, cases: int) -> dict[str, Any]:
    """Seconds of one core for a snapshot of `rows`, `cases` of which are labelled cases and the rest its base."""
    rng = np.random.default_rng(1)
    images = (rng.random((rows, 1, 8, 8)) * 16).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(f"sqlite:///{folder}/monitor.db")
        _fill(store, images[:cases])
        base = write_snapshot(
            folder / "datasets",
            parts(),
            [
                DatasetRow(
                    row_id=f"base-{i:07d}",
                    inputs={"x": images[i]},
                    label=CLASSES[i % 10],
                    split=Split.VALIDATION if i % 5 == 0 else Split.TRAIN,
                )
                for i in range(cases, rows)
            ],
        )
        source = SnapshotSource(store=store, catalogue=MemoryCatalogue(manifests=(manifest(),)))
        cpu, wall = time.process_time(), time.perf_counter()
        recipe = Recipe(base=base.digest, holdout_audit=0.0)
        made = build_snapshot(source, "digits", recipe, actor="benchmark", root=folder / "datasets", now_ns=1)
        found = {"rows": made.rows, "cases": cases, "cpu_s": round(time.process_time() - cpu, 2)}
        found["wall_s"] = round(time.perf_counter() - wall, 2)
        cpu = time.process_time()
        opened = made.open()
        opened.arrays("train")
        found["open_and_read_cpu_s"] = round(time.process_time() - cpu, 2)
        found["data_mib"] = round((made.folder / "data.parquet").stat().st_size / 2**20, 1)
        store.close()
    assert made.rows == rows
    return found


def _fill(store: Store, images: Any) -> None:
    rows, tensors = [], []
    for i, image in enumerate(images):
        time_ns = (1_772_000_000 + i) * 10**9
        record_id = f"req-{i:06d}"
        identity = case_id("digits", record_id, time_ns)
        about = {
            "id": identity,
            "id_hash": record_hash("digits", record_id),
            "record_id": record_id,
            "time_ns": time_ns,
        }
        about |= {"model": "digits", "version": "2", "variant": "champion", "state": "labelled", "rows": 1}
        about |= {"input_state": "kept", "label": json.dumps(CLASSES[i % 10]), "decided_by": "ann"}
        rows.append(complete(t.cases, about | {"group_id": identity, "predicted": i % 7, "outcome": "ok"}))
        tensor = {"case_id": identity, "direction": "in", "name": "x", "position": 0, "datatype": "FP32"}
        tensors.append(tensor | {"shape": [1, 1, 8, 8], "data": image.tobytes()})
    with store.write() as connection:
        for start in range(0, len(rows), CHUNK):
            connection.execute(t.cases.insert(), rows[start : start + CHUNK])
            connection.execute(t.case_tensors.insert(), tensors[start : start + CHUNK])


def suspects(seed: int, slips: float = 0.05) -> dict[str, Any]:
    """Precision and recall of both checks over what the demo's network meets."""
    import torch
    from scipy.ndimage import rotate

    from deploy.demo.digits import load_digits
    from deploy.demo.network import train_network

    digits = load_digits()
    network = train_network(digits.train, seed=seed).eval()
    rng = np.random.default_rng(seed)
    upright, turned = np.split(rng.permutation(len(digits.live.labels))[:600], 2)
    images = digits.live.images.copy()
    images[turned] = rotate(images[turned], 50, axes=(2, 3), reshape=False, order=1)
    picked = np.concatenate([upright, turned])
    with torch.no_grad():
        logits, embedding = network(torch.from_numpy(images[picked]))
    p = torch.softmax(logits, 1).double().numpy()
    truth = digits.live.labels[picked]
    given = truth.copy()
    wrong = rng.choice(len(given), round(slips * len(given)), replace=False)
    given[wrong] = (given[wrong] + rng.integers(1, 10, len(wrong))) % 10
    slipped = set(wrong.tolist())
    units = to_units(to_vectors(embedding.numpy()))
    alone = set(np.flatnonzero(noise.off_diagonal(given, p) >= 0).tolist())  # the first question only
    both = {int(s.row_id) for s in noise.find_suspects([str(i) for i in range(len(given))], given, p, units)}
    found: dict[str, Any] = {"seed": seed, "labels": len(given), "slips": len(slipped)}
    found["accuracy"] = round(float((p.argmax(1) == truth).mean()), 3)
    for name, said in (("confident_learning", alone), ("with_neighbours", both)):
        hit = len(said & slipped)
        found[name] = {
            "suspects": len(said),
            "precision": round(hit / len(said), 3) if said else None,
            "recall": round(hit / len(slipped), 3),
        }
    return found


def main() -> None:
    """Run, print, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5,000 rows, one seed, no results")
    quick = parser.parse_args().quick
    facts = machine_facts(Path(__file__).parents[1])
    made = build(5000, 500) if quick else build(100_000, 5000)
    print(made, flush=True)
    checks = [suspects(seed) for seed in range(1 if quick else 5)]
    for check in checks:
        print(check, flush=True)
    if not quick:
        found = {"machine": facts, "build": made, "suspects": checks}
        RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
