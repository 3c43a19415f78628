"""A console whose reviewers are who their cookie says they are, with cases of every kind of task and input."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from fastapi import FastAPI
from starlette.requests import cookie_parser

from export.contracts.arrays import encode_bytes
from export.contracts.datatypes import Datatype
from export.contracts.manifest import (
    FileRole,
    Manifest,
    PackageFile,
    Provenance,
    RuntimeFile,
    RuntimeKind,
    Task,
    TaskKind,
)
from export.contracts.signature import InputDisplay, InputKind, InputSpec, OutputRole, OutputSpec, Signature
from export.contracts.task import BoxFormat, BoxRules
from monitoring import schema as t
from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.keys import case_id, record_hash
from monitoring.people.contracts import Principal, Role
from monitoring.reports import ReportOptions, ReportService
from monitoring.review.ledger import Ledger
from monitoring.store import Store
from tests.support.console_server import listening
from tests.support.console_store import Day, MemoryCatalogue, StillMonitor, complete, fill, manifest
from tests.support.review_cases import Clock

START_S = 1_772_000_040
FP32 = Datatype.FP32


class Cookied:
    """Whoever comes is who the cookie `who` says; `viewer` may only read. Stands inside the guard."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            raw = next((v.decode() for k, v in scope["headers"] if k == b"cookie"), "")
            name = cookie_parser(raw).get("who", "ann")
            role = Role.VIEWER if name == "viewer" else Role.REVIEWER
            scope.setdefault("state", {})["principal"] = Principal(name=name, role=role)
        await self._app(scope, receive, send)


@dataclass(kw_only=True)
class ReviewConsole:
    """A console that listens, and what is behind it."""

    address: str
    store: Store
    ledger: Ledger
    clock: Clock
    day: Day
    kinds: dict[str, str]  # kind of task or input -> id of a case


@contextmanager
def review_console(
    root: Path, *, cases: int = 130, texts: tuple[str, ...] = (), clock: Any = None, kinds: bool = True
) -> Iterator[ReviewConsole]:
    """Digits with pictures, and one case of each kind besides."""
    store = Store(f"sqlite:///{root}/m.db")
    day = fill(store, cases=cases, texts=texts)
    classes = tuple((texts * 10)[:10]) if texts else manifest().task.class_names
    manifests = (manifest(version="1"), manifest(classes=classes), *KINDS)
    ids = fill_kinds(store, texts) if kinds else {}
    reports = ReportService(ReportOptions(folder=root / "r"), lambda *_: None)  # type: ignore[arg-type]
    clock = clock or Clock(time.time_ns())  # answers look at leases by the wall clock
    ledger = Ledger(store, clock=clock)
    app = build_console(
        store,
        MemoryCatalogue(manifests=manifests),
        StillMonitor(),
        list,
        ConsoleOptions(),
        reports=reports,
        ledger=ledger,
    )
    app.user_middleware.append(type(app.user_middleware[0])(Cookied))
    with listening(app) as address:
        yield ReviewConsole(address=address, store=store, ledger=ledger, clock=clock, day=day, kinds=ids)
    reports.close()
    store.close()


def _manifest(name: str, task: Task, *inputs: InputSpec, output: OutputRole = OutputRole.LOGITS) -> Manifest:
    out = OutputSpec(name="y", datatype=FP32, shape=(-1, 3), role=output)
    return Manifest(
        name=name,
        version="1",
        task=task,
        signature=Signature(inputs=inputs, outputs=(out,)),
        runtimes=(RuntimeFile(kind=RuntimeKind.ONNX, path="model.onnx"),),
        files=(PackageFile(path="model.onnx", role=FileRole.WEIGHTS, sha256="0" * 64, size_bytes=1),),
        provenance=Provenance(created_at="2026-02-01T00:00:00Z", source="test"),
    )


def _image(name: str, channels: int, side: int) -> InputSpec:
    display = InputDisplay(kind=InputKind.IMAGE, layout="CHW", value_range=(0.0, 1.0))
    return InputSpec(name=name, datatype=FP32, shape=(-1, channels, side, side), display=display)


_TABLE = InputSpec(
    name="x",
    datatype=FP32,
    shape=(-1, 4),
    display=InputDisplay(kind=InputKind.TABULAR, feature_names=("age", "income", "balance", "visits")),
)
_TEXT = InputSpec(name="text", datatype=Datatype.BYTES, shape=(-1, 1), display=InputDisplay(kind=InputKind.TEXT))
_WAVE = InputSpec(name="wave", datatype=FP32, shape=(-1, 2, 40))
_MANY = tuple(f"species {i:03d}" for i in range(120))
_BOXES = BoxRules(format=BoxFormat.XYWH)
KINDS = (
    _manifest("labels", Task(kind=TaskKind.MULTI_LABEL, class_names=("cat", "dog", "tree")), _image("x", 3, 12)),
    _manifest("price", Task(kind=TaskKind.REGRESSION), _TABLE, output=OutputRole.VALUE),
    _manifest("find", Task(kind=TaskKind.DETECTION, class_names=("car", "bike"), boxes=_BOXES), _image("x", 3, 24),
              output=OutputRole.BOXES),
    _manifest("mood", Task(kind=TaskKind.CLASSIFICATION, class_names=("good", "bad", "so-so")), _TEXT),
    _manifest("many", Task(kind=TaskKind.CLASSIFICATION, class_names=_MANY), _WAVE),
    _manifest("scene", Task(kind=TaskKind.CLASSIFICATION, class_names=("in", "out")), _image("rgb", 3, 16),
              _image("depth", 1, 16)),
)  # fmt: skip


def fill_kinds(store: Store, texts: tuple[str, ...] = (), copy: int = 0) -> dict[str, str]:
    """One open case of each of `KINDS`; returns {model: case}. `texts` are put into texts and parameters.

    `copy`: number of this call, so that several make several cases each.
    """
    rng = np.random.default_rng(3)
    said = "\n".join(texts) or "I waited an hour and nobody came."
    tensors: dict[str, dict[str, Any]] = {
        "labels": {"x": rng.random((1, 3, 12, 12), dtype=np.float32)},
        "price": {"x": np.array([[44, 1e6, -3, 12]], dtype=np.float32)},
        "find": {"x": rng.random((1, 3, 24, 24), dtype=np.float32)},
        "mood": {"text": [said.encode()]},
        "many": {"wave": rng.normal(0, 1, (1, 2, 40)).astype(np.float32)},
        "scene": {
            "rgb": rng.random((1, 3, 16, 16), dtype=np.float32),
            "depth": rng.random((1, 1, 16, 16), dtype=np.float32),
        },
    }
    shares = rng.dirichlet(np.full(len(_MANY), 0.05)).tolist()
    answers: dict[str, dict[str, Any]] = {
        "labels": {"answer": [0, 2], "probabilities": [0.9, 0.3, 0.8]},
        "price": {"answer": {"value": [12.5], "low": [8.0], "high": [19.0]}},
        "find": {
            "answer": [
                {"box": [2.0, 3.0, 10.0, 9.0], "class": 0, "score": 0.91, "right": 0.8},
                {"box": [12.0, 12.0, 20.0, 22.0], "class": 1, "score": 0.55, "right": 0.4},
            ]
        },
        "mood": {"predicted": 1, "predicted_label": "bad", "probabilities": [0.2, 0.5, 0.3]},
        "many": {"predicted": int(np.argmax(shares)), "predicted_label": _MANY[int(np.argmax(shares))],
                 "probabilities": shares},
        "scene": {"predicted": 0, "predicted_label": "in", "probabilities": [0.6, 0.4]},
    }  # fmt: skip
    ids: dict[str, str] = {}
    with store.write() as connection:
        for i, (model, inputs) in enumerate(tensors.items()):
            time_ns, record = (START_S + i + 60 * copy) * 10**9, f"kind-{model}{f'-{copy}' if copy else ''}"
            ids[model] = identity = case_id(model, record, time_ns)
            version = {"model": model, "version": "1", "digest": "", "first_ns": time_ns, "last_ns": time_ns}
            known = sa.select(t.versions.c.id).where(t.versions.c.model == model)
            if connection.execute(known).first() is None:
                connection.execute(t.versions.insert().values(**version))
            row = {
                "id": identity,
                "id_hash": record_hash(model, record),
                "record_id": record,
                "model": model,
                "version": "1",
                "variant": "champion",
                "time_ns": time_ns,
                "window_start_s": START_S,
                "state": "open",
                "flags": 1,
                "rank": 0.5,
                "p_wrong": 0.5,
                "confidence": 0.5,
                "scores": {},
                "outcome": "ok",
                "rows": 1,
                "row": 0,
                "timing_us": {"queue": 10, "compute": 20, "total": 40},
                "params": json.dumps({"note": texts[i % len(texts)]}) if texts else None,
                "source": "r-1",
                "input_state": "kept",
            } | answers[model]
            connection.execute(t.cases.insert(), complete(t.cases, row))
            for position, (name, value) in enumerate(inputs.items()):
                text = isinstance(value, list)
                tensor = {
                    "case_id": identity,
                    "direction": "in",
                    "name": name,
                    "position": position,
                    "datatype": "BYTES" if text else "FP32",
                    "shape": [1, 1] if text else list(value.shape),
                    "data": encode_bytes(np.array(value, dtype=object).reshape(1, 1)) if text else value.tobytes(),
                }
                connection.execute(t.case_tensors.insert(), tensor)
    return ids
