"""How accurate a model is, without labels and with a few: `python -m benchmarks.accuracy [--quick]`; seeded.

Every estimate of the monitor on two real data sets under five kinds of change in five strengths each, through the code
that ships: a profile compiled by the export, windows counted as the monitor counts them. Once with everything rehearsed
that the export rehearses (the kinds are alike, the strengths and the pictures are others), and once without the
rehearsed change that is like the one that is tried: a change that nobody thought of. Then what audits promise and keep,
and how many labels they need where the rest fails. About three minutes on two quiet cores; --quick takes one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.accuracy_world import World, worlds
from benchmarks.machine import machine_facts
from benchmarks.starts import ROOT
from benchmarks.stored import store_result
from export.contracts.accuracy import AccuracyReference, family
from export.contracts.manifest import FileRole, Manifest, PackageFile, Provenance, RuntimeFile, RuntimeKind
from export.contracts.reference import ReferenceProfile
from monitoring.accuracy.audit import error_rate
from monitoring.accuracy.backtest import backtest
from monitoring.accuracy.estimate import Estimate, Method
from monitoring.baseline import Baseline, compile_baseline

LABELS = (30, 50, 100, 200, 400, 800)
TARGET = 0.04
Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """One estimate of one shifted data set. `unseen`: the change was not rehearsed."""

    data: str
    network: str
    kind: str
    step: int
    method: str
    unseen: bool
    truth: float
    value: float
    held: bool | None
    trusted: bool


def say(world: World) -> Iterator[Said]:
    """Every estimate under every change."""
    profile = world.profile()
    assert profile.accuracy is not None
    whole = compile_baseline(_manifest(world), profile)
    without = {kind: _without(whole, profile, alike) for kind, alike in world.alike.items()}
    data, network = world.name.split(" ", 1)
    labels = world.live[1]
    calibrated = _calibrations(world, profile)
    for kind, step, rows in world.shifted():
        answer = world.answer({"x": rows})
        for baseline, unseen in ((whole, False), (without.get(kind), True)):
            if baseline is None:
                continue
            tried = backtest(baseline, answer["logits"], answer["embedding"], labels, window_rows=len(labels))[0]
            for e in tried.estimates:
                if e.value is not None and (not unseen or e.method is Method.REHEARSAL):
                    yield Said(
                        data=data, network=network, kind=kind, step=step, method=e.method.value, unseen=unseen,
                        truth=tried.truth, value=e.value, held=_held(e, tried.truth), trusted=e.trusted,
                    )  # fmt: skip
        for method, confidence in calibrated.items():
            value = float(confidence(answer["logits"]).mean())
            yield Said(
                data=data, network=network, kind=kind, step=step, method=method, unseen=False,
                truth=tried.truth, value=value, held=None, trusted=False,
            )  # fmt: skip


def _held(e: Estimate, truth: float) -> bool | None:
    return None if e.low is None or e.high is None else e.low <= truth <= e.high


def _without(whole: Baseline, profile: ReferenceProfile, kind: str) -> Baseline:
    """The same version, had this kind of change not been rehearsed."""
    reference = profile.accuracy
    assert reference is not None
    kept = np.array([family(k) != kind for k in reference.kinds])
    fewer: AccuracyReference = replace(
        reference,
        kinds=tuple(k for k, keep in zip(reference.kinds, kept, strict=True) if keep),
        features=reference.features[kept],
        accuracy=reference.accuracy[kept],
        errors=reference.errors[kept],
    )
    return replace(whole, profile=replace(profile, accuracy=fewer))


def _calibrations(world: World, profile: ReferenceProfile) -> dict[str, Any]:
    """Richer calibrations than a temperature: isotonic (Zadrozny & Elkan 2002), matrix scaling (Guo et al. 2017)."""
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import LogisticRegression

    assert profile.classes is not None
    x, y = world.reference
    logits = world.answer({"x": x})["logits"].astype(np.float64)
    probabilities = profile.classes.probabilities
    right = logits.argmax(axis=1) == y
    isotonic = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    isotonic.fit(probabilities(logits).max(axis=1), right)
    vector = LogisticRegression(C=1.0, max_iter=2000).fit(logits, y)
    return {
        "isotonic": lambda z: isotonic.predict(probabilities(z).max(axis=1)),
        "matrix": lambda z: vector.predict_proba(z).max(axis=1),
    }


def audits(*, quick: bool) -> dict[str, Any]:
    """Coverage of the audit's interval, and how much narrower the proxy makes it, over simulated streams."""
    rng = np.random.default_rng(20)
    runs = 1000 if quick else 4000
    rows = []
    for rate in (0.02, 0.05, 0.1, 0.3):
        for n in (50, 100, 300):
            for sharpness in (0.0, 1.2, 4.0, 8.0):
                population = _stream(rng, rate, 400_000, sharpness)
                mean, correlation = float(population[1].mean()), float(np.corrcoef(*population)[0, 1])
                held, ratios = 0, []
                for _ in range(runs):
                    wrong, proxy = _stream(rng, rate, n, sharpness)
                    ours, alone = error_rate(wrong, proxy, mean), error_rate(wrong)
                    assert ours.low is not None
                    assert ours.high is not None
                    assert alone.low is not None
                    assert alone.high is not None
                    held += ours.low <= rate <= ours.high
                    ratios.append((ours.high - ours.low) / (alone.high - alone.low))
                rows.append(
                    {
                        "error_rate": rate,
                        "labels": n,
                        "correlation": round(correlation, 3),
                        "coverage": held / runs,
                        "width_ratio": float(np.median(ratios)),
                    }
                )
    strong = [r["width_ratio"] for r in rows if r["correlation"] >= 0.7]
    return {
        "runs": runs,
        "rows": rows,
        "coverage_mean": float(np.mean([r["coverage"] for r in rows])),
        "coverage_least": min(r["coverage"] for r in rows),
        "narrower_where_correlated": 1.0 - float(np.mean(strong)),
        "narrower_least": 1.0 - max(strong),
    }


def _stream(rng: np.random.Generator, rate: float, n: int, sharpness: float) -> tuple[Array, Array]:
    wrong = rng.random(n) < rate
    follows, other = rng.beta(1 + sharpness, 2, n), rng.beta(0.9, 3 + 3 * sharpness, n)
    return wrong.astype(float), np.where(wrong, follows, other)


def labels_needed(said: Sequence[Said], *, quick: bool) -> dict[str, Any]:
    """Mean absolute error of audits of n labels over the same shifted data sets, and the n that reaches 4 points."""
    rng = np.random.default_rng(21)
    truths = sorted({(s.data, s.network, s.kind, s.step, s.truth) for s in said if s.step})
    draws = 50 if quick else 400
    errors: dict[int, float] = {}
    for n in LABELS:
        off = [np.abs(rng.binomial(n, truth, draws) / n - truth).mean() for *_, truth in truths]
        errors[n] = float(np.mean(off))
    enough = next((n for n in LABELS if errors[n] <= TARGET), None)
    return {"error_by_labels": {str(n): e for n, e in errors.items()}, "labels_for_four_points": enough}


def summarise(said: Sequence[Said]) -> list[dict[str, Any]]:
    """One row a data set and method."""
    rows = []
    keys = sorted({(s.data, s.method, s.unseen) for s in said})
    for data, method, unseen in keys:
        here = [s for s in said if (s.data, s.method, s.unseen) == (data, method, unseen)]
        shifted = [s for s in here if s.step]
        held = [s.held for s in shifted if s.held is not None]
        trusted = [s for s in shifted if s.trusted]
        rows.append(
            {
                "data": data,
                "method": method,
                "unseen": unseen,
                "mild": _mae([s for s in here if s.step <= 1]),
                "shifted": _mae(shifted),
                "bias": float(np.mean([s.value - s.truth for s in shifted])),
                "by_kind": {k: _mae([s for s in shifted if s.kind == k]) for k in sorted({s.kind for s in shifted})},
                "interval_held": float(np.mean(held)) if held else None,
                "trusted_share": len(trusted) / len(shifted),
                "shifted_if_trusted": _mae(trusted),
                "windows": len(shifted),
            }
        )
    return rows


def _mae(said: Sequence[Said]) -> float | None:
    return float(np.mean([abs(s.value - s.truth) for s in said])) if said else None


def _manifest(world: World) -> Manifest:
    return Manifest(
        name="benchmark",
        version="1",
        task=world.task,
        signature=world.signature,
        runtimes=(RuntimeFile(kind=RuntimeKind.ONNX, path="model.onnx"),),
        files=(PackageFile(path="model.onnx", role=FileRole.WEIGHTS, sha256="0" * 64, size_bytes=1),),
        provenance=Provenance(created_at="2026-02-01T00:00:00Z", source="benchmark"),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print the figures, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, fewer draws; about a minute")
    parser.add_argument("--output", type=Path, help="where the result is written; --quick alone writes none")
    asked = parser.parse_args(argv)
    facts, began = machine_facts(ROOT, ("scikit-learn", "torch", "river", "scipy", "numpy")), time.perf_counter()
    said: list[Said] = []
    for world in worlds(quick=asked.quick):
        said += say(world)
        print(f"{world.name}: done after {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    result = {
        "machine": facts,
        "quick": asked.quick,
        "networks": sorted({f"{s.data} {s.network}" for s in said}),
        "estimates": summarise(said),
        "audits": audits(quick=asked.quick),
        "labels": labels_needed(said, quick=asked.quick),
        "seconds": round(time.perf_counter() - began, 1),
    }
    store_result(result, "accuracy", asked=asked.output, quick=asked.quick)
    for row in result["estimates"]:
        mild, shifted = (f"{100 * row[k]:5.2f}" if row[k] is not None else "none" for k in ("mild", "shifted"))
        print(f"{row['data']:9} {row['method']:11} {'unseen' if row['unseen'] else '':6} mild {mild} shifted {shifted}")
    a = result["audits"]
    print(
        f"audit: covers {a['coverage_mean']:.2%}, least {a['coverage_least']:.2%}; narrower {a['narrower_least']:.0%}"
    )
    print(f"labels for four points: {result['labels']['labels_for_four_points']}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
