"""The map, a selection, and the form to try a model."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from export.contracts.datatypes import Datatype
from export.contracts.errors import NotFound
from export.contracts.signature import InputKind, InputSpec
from monitoring.api import fields
from monitoring.api.compare_views import Comparer
from monitoring.baseline import Baseline
from monitoring.console import explore_parts as x
from monitoring.console import parts
from monitoring.console.build import Builder
from monitoring.explore.selections import cases_of_selection, selection
from monitoring.images import is_picture

SHOWN = 200
MAX_FIELDS = 200


def map_page(builder: Builder, comparer: Comparer, model: str, version: str | None, focus: str) -> x.MapPage:
    """The map of a version."""
    chosen = comparer.explorer.version(model, version)
    where = f"/models/{model}/map?version="
    return x.MapPage(
        shell=builder.shell("overview"),
        model=model,
        version=chosen,
        versions=tuple(
            parts.Choice(value=v, label=v, chosen=v == chosen, href=where + quote(v)) for v in comparer.versions(model)
        ),
        points=f"/api/models/{model}/map?version={quote(chosen)}",
        focus=focus,
    )


def selection_page(builder: Builder, identity: str) -> x.SelectionPage:
    """The cases of a selection, most probably wrong first."""
    row = selection(builder.view.store, identity)
    ids = cases_of_selection(builder.view.store, identity, SHOWN)
    found = [builder.view.store.case(case) for case in ids]
    return x.SelectionPage(
        shell=builder.shell("cases"),
        id=row.id,
        model=row.model,
        title=row.title,
        actor=row.actor,
        at=fields.to_text(fields.from_ns(row.time_ns)),
        cases=row.cases,
        left=row.left,
        shown=tuple(builder.card(case) for case in found if case is not None),
    )


def try_page(builder: Builder, comparer: Comparer, model: str, version: str | None) -> x.TryPage:
    """The form that the signature makes."""
    explorer = comparer.explorer
    explorer.view.known(model, version)
    problem = ""
    inputs: tuple[x.TryInput, ...] = ()
    specs: list[dict[str, Any]] = []
    try:
        manifest = explorer.manifest(model, version)
        baseline = explorer.findings.baselines.get(model, manifest.version)
        made = [_input(spec, baseline, len(manifest.signature.inputs)) for spec in manifest.signature.inputs]
        inputs, specs = tuple(one for one, _ in made), [spec for _, spec in made]
    except NotFound as error:
        problem = error.message
    if not explorer.options.url:
        problem = "no service is configured that could answer (monitor.inference.url)"
    plan = parts.Choice(value="", label="as traffic goes", chosen=version is None)
    return x.TryPage(
        shell=builder.shell("overview"),
        model=model,
        version=version or "",
        versions=(
            plan,
            *(parts.Choice(value=v, label=f"version {v}", chosen=v == version) for v in comparer.versions(model)),
        ),
        inputs=inputs,
        inputs_json=json.dumps(specs),
        problem=problem,
    )


def _input(spec: InputSpec, baseline: Baseline, count: int) -> tuple[x.TryInput, dict[str, Any]]:
    kind, note, example = "json", "", ""
    numbers: tuple[x.TryField, ...] = ()
    low, high = spec.display.value_range or ((0.0, 255.0) if spec.datatype is Datatype.UINT8 else (0.0, 1.0))
    if spec.preprocess is not None:
        kind, note = "file", "JPEG, PNG or WebP; the service decodes and resizes it."
    elif is_picture(spec):
        kind, note = "image", f"Decoded and resized in this browser; values from {low:g} to {high:g}."
    elif spec.datatype is Datatype.BYTES:
        kind = "text"
    else:
        numbers = _fields(spec, baseline) if count == 1 else ()
        kind = "fields" if numbers else "json"
        note = "Medians of the reference to begin with; the range is that of its middle 90 %." if numbers else ""
        example = "" if numbers else json.dumps([0] * _elements(spec)) if 0 < _elements(spec) <= MAX_FIELDS else ""
    shown = x.TryInput(
        name=spec.name,
        kind=kind,
        datatype=spec.datatype.value,
        shape=str(list(spec.shape)),
        note=note,
        example=example,
        fields=numbers,
    )
    layout = spec.display.layout or "HW"
    plain = {"name": spec.name, "kind": kind, "datatype": spec.datatype.value, "shape": list(spec.shape)}
    return shown, plain | {"layout": layout, "low": low, "high": high}


def _fields(spec: InputSpec, baseline: Baseline) -> tuple[x.TryField, ...]:
    """A field a column, where the whole input is a row of numbers."""
    width = spec.shape[-1] if len(spec.shape) == 2 else 0  # (batch, column)
    if not 0 < width <= MAX_FIELDS or spec.display.kind is InputKind.IMAGE:
        return ()
    names = spec.display.feature_names or tuple(f"{spec.name}[{i}]" for i in range(width))
    profile = baseline.profile
    known = profile is not None and len(profile.columns) == width and len(names) == width
    made = []
    for i in range(width):
        low, middle, high = 0.0, 0.0, 0.0
        if known and profile is not None:
            low, middle, high = (float(profile.column_quantiles[i][q]) for q in (5, 50, 95))
        text = f"{low:.4g} to {high:.4g} on the reference" if known else ""
        made.append(x.TryField(name=names[i] if i < len(names) else str(i), value=f"{middle:.6g}", range=text))
    return tuple(made)


def _elements(spec: InputSpec) -> int:
    size = 1
    for n in spec.shape:
        size *= 1 if n == -1 else n
    return size
