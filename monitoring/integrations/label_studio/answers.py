"""Annotations of Label Studio to labels of the model, and the model's answers to predictions.

The server accepts labels that its config does not have, so everything is held against the model here. Boxes are shares
of the picture in percent there, and in the model's own units here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from export.contracts.manifest import Manifest, TaskKind
from export.contracts.task import BoxRules, BoxUnits
from monitoring.integrations.boxes import in_rules
from monitoring.integrations.contracts import Changed, Given
from monitoring.integrations.label_studio.config import CONTROL, classes_of, fields_of, values_of
from monitoring.integrations.pictures import picture_size
from monitoring.review.contracts import Verdict

Json = Mapping[str, Any]
_EMAIL = re.compile(r"(\S+@\S+),\s*\d+$")


class NoLabel(ValueError):
    """An annotation that says nothing of this model's answers; the text is for people."""


def changed_of(task: Json, manifest: Manifest) -> Changed:
    """What is said of a task: of each annotator the newest annotation that is not cancelled, else the newest one."""
    newest: dict[str, tuple[tuple[bool, str, int], Json]] = {}
    for annotation in task.get("annotations") or ():
        who = annotator_of(annotation)
        place = (not annotation.get("was_cancelled"), str(annotation.get("updated_at", "")), int(annotation["id"]))
        if who not in newest or place > newest[who][0]:
            newest[who] = (place, annotation)
    given = tuple(_given(who, annotation, manifest) for who, (_, annotation) in sorted(newest.items()))
    return Changed(task=str(task["id"]), given=given)


def annotator_of(annotation: Json) -> str:
    """The e-mail address of whoever gave it; the number of their account where the server does not say.

    Example:
        >>> annotator_of({"created_username": "Ann Lee ann@example.com, 7", "completed_by": 7})
        'ann@example.com'
    """
    found = _EMAIL.search(str(annotation.get("created_username") or ""))
    return found[1] if found is not None else str(annotation.get("completed_by") or "unknown")


def label_of(results: Sequence[Json], manifest: Manifest) -> Any:
    """The label that an annotation's results are.

    Raises:
        NoLabel: they are none, or not of this model.
    """
    kind = manifest.task.kind
    own = [r for r in results if str(r.get("from_name", "")).partition("_")[0] == CONTROL]
    if kind is TaskKind.REGRESSION:
        return _numbers(own, values_of(manifest))
    names = classes_of(manifest)
    if kind is TaskKind.DETECTION:
        return [_box(r, manifest, names) for r in own]
    chosen = [str(name) for r in own for name in (r.get("value") or {}).get("choices") or ()]
    for name in chosen:
        if name not in names:
            raise NoLabel(f"'{name[:60]}' is no class of the model")
    if kind is TaskKind.MULTI_LABEL:
        return list(dict.fromkeys(chosen))
    if len(set(chosen)) != 1:
        raise NoLabel("no class was chosen" if not chosen else f"{len(set(chosen))} classes were chosen; one is needed")
    return chosen[0]


def results_of(answer: Any, manifest: Manifest) -> list[dict[str, Any]]:
    """A model's answer (as a label would say it) as the results of a prediction; none where there is none."""
    kind, about = manifest.task.kind, fields_of(manifest)[0].key
    if answer is None:
        return []
    if kind is TaskKind.REGRESSION:
        values = answer if isinstance(answer, list) else [answer]
        names = [CONTROL] if len(values) == 1 else [f"{CONTROL}_{i}" for i in range(len(values))]
        return [
            {"from_name": name, "to_name": about, "type": "number", "value": {"number": value}}
            for name, value in zip(names, values, strict=True)
        ]
    if kind is TaskKind.DETECTION:
        return [_rectangle(box, manifest, about) for box in answer]
    choices = answer if isinstance(answer, list) else [answer]
    return [{"from_name": CONTROL, "to_name": about, "type": "choices", "value": {"choices": choices}}]


def _given(who: str, annotation: Json, manifest: Manifest) -> Given:
    stamp = f"{annotation['id']}@{annotation.get('updated_at', '')}"
    if annotation.get("was_cancelled"):
        return Given(annotator=who, verdict=Verdict.UNCLEAR, stamp=stamp)
    try:
        label = label_of(annotation.get("result") or (), manifest)
    except (NoLabel, TypeError, AttributeError) as error:
        text = str(error) if isinstance(error, NoLabel) else "the annotation is not built as the config asks"
        return Given(annotator=who, verdict=Verdict.LABEL, problem=text, stamp=stamp)
    return Given(annotator=who, verdict=Verdict.LABEL, label=label, stamp=stamp)


def _numbers(results: Sequence[Json], count: int) -> Any:
    names = [CONTROL] if count == 1 else [f"{CONTROL}_{i}" for i in range(count)]
    found = {r.get("from_name"): (r.get("value") or {}).get("number") for r in results}
    values = [found.get(name) for name in names]
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise NoLabel("a number is missing" if value is None else "a number is none, or not finite")
    return values[0] if count == 1 else values


def _box(result: Json, manifest: Manifest, names: Sequence[str]) -> dict[str, Any]:
    value = result.get("value") or {}
    labels = list(value.get("rectanglelabels") or ())
    if len(labels) != 1 or labels[0] not in names:
        raise NoLabel("a box has no class of the model")
    if value.get("rotation"):
        raise NoLabel("a box is turned; the model's boxes are upright")
    try:
        x, y, width, height = (float(value[k]) for k in ("x", "y", "width", "height"))
    except (KeyError, TypeError, ValueError):
        raise NoLabel("a box has no corners") from None
    if not all(map(math.isfinite, (x, y, width, height))) or width <= 0 or height <= 0:
        raise NoLabel("a box has no size")
    size: tuple[Any, Any] = (result.get("original_width"), result.get("original_height"))
    wide, high = _units(manifest, size)
    corners = (x / 100 * wide, y / 100 * high, (x + width) / 100 * wide, (y + height) / 100 * high)
    return {"box": in_rules(corners, manifest.task.boxes or BoxRules()), "class": labels[0]}


def _rectangle(box: Json, manifest: Manifest, about: str) -> dict[str, Any]:
    """A box of the model's answer, whose four numbers are corners in the model's units."""
    wide, high = _units(manifest, (None, None))
    left, top, right, bottom = (n / s * 100 for n, s in zip(box["box"], (wide, high, wide, high), strict=True))
    value = {"x": left, "y": top, "width": right - left, "height": bottom - top, "rotation": 0,
             "rectanglelabels": [box["class"]]}  # fmt: skip
    return {"from_name": CONTROL, "to_name": about, "type": "rectanglelabels", "value": value}


def _units(manifest: Manifest, shown: tuple[Any, Any]) -> tuple[float, float]:
    """What a whole picture measures in the model's units, (width, height)."""
    if (manifest.task.boxes or BoxRules()).units is BoxUnits.RELATIVE:
        return 1.0, 1.0
    width, height = picture_size(manifest) or shown
    if not all(isinstance(n, int | float) and n > 0 for n in (width, height)):
        raise NoLabel("the size of the picture is not known")
    return float(width), float(height)
