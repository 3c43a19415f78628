"""Are planted slices found? `python -m benchmarks.slices [--quick]`; seeded, about two minutes.

Each world has records with random attributes, a base failure rate, and two planted conjunctions of one to three
conditions in which the model fails far more often. A planted slice counts as found when six or more of ten records of a
found slice lie in it (precision@10, as Domino counts) and the two agree in most of their records. Worlds without plants
count false slices.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine_facts
from benchmarks.starts import ROOT
from benchmarks.stored import store_result
from monitoring.slices.attributes import SliceOptions, find_slices

BASE = 0.05


def world(rng: np.random.Generator, rows: int, plants: int) -> tuple[dict[str, Any], Any, list[Any]]:
    """Attributes, failures, and the members of each planted slice."""
    attributes = {f"a{i}": rng.choice(list("abcdefgh")[: rng.integers(2, 9)], rows) for i in range(10)}
    chance, members = np.full(rows, BASE), []
    for _ in range(plants):
        while True:
            names = rng.choice(sorted(attributes), rng.integers(1, 4), replace=False)
            inside = np.ones(rows, bool)
            for name in names:
                inside &= attributes[name] == rng.choice(np.unique(attributes[name]))
            if inside.sum() >= max(60, rows // 400):
                break
        chance = np.where(inside, rng.uniform(0.3, 0.7), chance)
        members.append(inside)
    return attributes, rng.random(rows) < chance, members


def found(members: Any, slices: Sequence[Any], rng: np.random.Generator) -> bool:
    """Whether one of the slices is the planted one."""
    for one in slices:
        precision = members[rng.permutation(one.rows)[:10]].mean()
        both = members[one.rows].sum()
        if precision >= 0.6 and both >= 0.5 * (len(one.rows) + members.sum() - both):
            return True
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Plant, search, count, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slices", description="are planted slices found?")
    parser.add_argument("--worlds", type=int, default=40)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="four worlds: does it run?")
    parser.add_argument("--output", type=Path, help="where the result is written; --quick alone writes none")
    options = parser.parse_args(arguments)
    rng, worlds = np.random.default_rng(20_261_121), 4 if options.quick else options.worlds
    planted = hits = reported = false = 0
    for _ in range(worlds):
        attributes, failed, members = world(rng, options.rows, 2)
        slices = find_slices(attributes, failed, SliceOptions())
        planted, reported = planted + len(members), reported + len(slices)
        hits += sum(found(m, slices, rng) for m in members)
        attributes, failed, _ = world(rng, options.rows, 0)
        false += len(find_slices(attributes, failed, SliceOptions()))
    attributes, failed, members = world(rng, 100_000, 2)
    started = time.process_time()
    large = find_slices(attributes, failed, SliceOptions())
    result = {
        "machine": machine_facts(ROOT),
        "settings": {"worlds": worlds, "rows": options.rows, "base": BASE},
        "planted": planted,
        "found": hits,
        "share_found": round(hits / planted, 3),
        "slices_reported_per_world": round(reported / worlds, 2),
        "false_slices_per_world_without_plants": round(false / worlds, 3),
        "cpu_s_for_100000_rows": round(time.process_time() - started, 2),
        "found_in_100000_rows": sum(found(m, large, rng) for m in members),
    }
    print(json.dumps({k: v for k, v in result.items() if k != "machine"}, indent=1))
    store_result(result, "slices", asked=options.output, quick=options.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
