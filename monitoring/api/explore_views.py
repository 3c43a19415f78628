"""Selections, map and tried requests as the API's answers."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from export.contracts.arrays import decode_bytes
from export.contracts.datatypes import Datatype
from export.contracts.errors import NotFound
from export.contracts.manifest import Manifest
from export.contracts.signature import InputKind, InputSpec, OutputRole
from monitoring.api import explore_models as e
from monitoring.api import fields
from monitoring.api.finding_views import Findings
from monitoring.api.views import View
from monitoring.explore import selections as s
from monitoring.explore import snippets
from monitoring.explore.inputs import to_tensors
from monitoring.explore.layout import encode_points
from monitoring.explore.opinion import Opinion, opinions
from monitoring.explore.points import map_points, projection_of
from monitoring.explore.serving_client import Reply, ServingClient, Tensor
from monitoring.images import is_picture
from monitoring.inference_options import InferenceOptions
from monitoring.options import CaseOptions
from monitoring.rows import TensorRow
from monitoring.store import CaseOrder
from monitoring.tasks.tensors import number
from monitoring.vectors import stack

SHOWN_ELEMENTS = 4096
EXAMPLES = 12
NO_EMBEDDING = "this version has no output with the role embedding"
_UNREADABLE = "the answer does not fit the version's signature as the registry has it"


@dataclass(frozen=True, kw_only=True)
class Explorer:
    """What the answers about looking around are made of."""

    view: View
    findings: Findings
    serving: ServingClient
    cases: CaseOptions = field(default_factory=CaseOptions)
    clock_ns: Callable[[], int] = time.time_ns

    @property
    def options(self) -> InferenceOptions:
        """Where the service is."""
        return self.serving.options

    def save(self, asked: e.SelectionStart, actor: str) -> e.Selection:
        """Keep a selection."""
        model = self.view.known(asked.model)
        return selection(s.save_selection(self.view.store, model, asked.cases, asked.title, actor, self.clock_ns()))

    def points(self, model: str, query: e.MapQuery) -> bytes:
        """The map's file."""
        version = self.version(model, query.version)
        baseline = self.findings.baselines.get(model, version)
        points = map_points(self.view.store, baseline, model, version, query.limit)
        drawable = self.view.picture_of(model, version) is not None
        more = {"model": model, "version": version, "classes": list(baseline.class_names), "pictures": drawable}
        return encode_points(points, more)

    def version(self, model: str, version: str | None) -> str:
        """A known version of a known model."""
        return version if self.view.known(model, version) and version else self.view.default_version(model)

    def manifest(self, model: str, version: str | None) -> Manifest:
        """The manifest that a request is made from.

        Raises:
            NotFound: the registry does not know the version.
        """
        found = self.view.manifest(model, self.version(model, version))
        if found is None:
            raise NotFound("the registry does not know this version, so its inputs are not known")
        return found

    def try_it(self, model: str, asked: e.TryStart) -> e.Tried:
        """Ask the model, score its answer, and say where it lies."""
        manifest = self.manifest(model, asked.version)
        inputs = to_tensors(manifest.signature, [item.model_dump() for item in asked.inputs])
        wanted = [o.name for o in manifest.signature.outputs if o.role is not OutputRole.INTERNAL]
        reply = self.serving.infer(model, asked.version, inputs, wanted, "try")
        if reply.version != manifest.version:  # the plan's choice was another than ours
            manifest = self.view.manifest(model, reply.version) or manifest
        rows, missing = self._opinions(model, inputs, reply)
        vector = rows[0].vector if rows else None
        body = snippets.request_body(inputs)
        where = f"{self.options.url}/v2/models/{model}" + (f"/versions/{asked.version}" if asked.version else "")
        key = bool(self.options.token_file)
        near = self.findings.near_vector(model, reply.version, vector, asked.neighbours) if vector else []
        return e.Tried(
            id=reply.id,
            model=model,
            version=reply.version,
            milliseconds=round(reply.seconds * 1000, 2),
            class_names=list(manifest.task.class_names),
            outputs=[self._output(manifest, tensor) for tensor in reply.outputs.values()],
            rows=[self._row(model, reply.version, row) for row in rows],
            neighbours=near,
            missing=missing or (None if vector else NO_EMBEDDING),
            curl=snippets.curl(where + "/infer", body, key=key),
            python=snippets.python(where + "/infer", body, key=key),
        )

    def examples(self, model: str, version: str | None) -> list[e.Example]:
        """Inputs to begin with."""
        manifest = self.manifest(model, version)
        made = self._of_cases(manifest)
        return [*made, *_of_reference(manifest, self.findings.baselines.get(model, manifest.version))][: 2 * EXAMPLES]

    def _opinions(self, model: str, inputs: list[Tensor], reply: Reply) -> tuple[list[Opinion], str | None]:
        baseline = self.findings.baselines.get(model, reply.version)
        try:
            return opinions(baseline, inputs, reply, self.cases, time_ns=self.clock_ns()), None
        except (ValueError, IndexError):
            return [], _UNREADABLE

    def _row(self, model: str, version: str, row: Opinion) -> e.TriedRow:
        place = None
        plane = None if row.vector is None else projection_of(self.findings.baselines.get(model, version))
        if plane is not None and row.vector is not None:
            x, y = plane.place(stack([row.vector]))[0].tolist()
            place = (x, y) if np.isfinite([x, y]).all() else None
        same = {n: getattr(row, n) for n in ("confidence", "p_wrong", "value", "scores")}
        shown = {n: getattr(row.shown, n) for n in ("predicted", "predicted_label", "probabilities", "answer")}
        return e.TriedRow.model_validate(same | shown | {"reasons": list(row.reasons), "place": place})

    def _output(self, manifest: Manifest, tensor: Tensor) -> e.TriedTensor:
        spec = next((o for o in manifest.signature.outputs if o.name == tensor.name), None)
        return e.TriedTensor(
            name=tensor.name,
            datatype=tensor.datatype.value,
            role=OutputRole.OTHER.value if spec is None else spec.role.value,
            shape=list(tensor.array.shape),
            data=_plain(tensor) if tensor.array.size <= SHOWN_ELEMENTS else None,
        )

    def _of_cases(self, manifest: Manifest) -> list[e.Example]:
        page = self.view.store.cases(model=manifest.name, order=CaseOrder.TIME, limit=4 * EXAMPLES)
        made: list[e.Example] = []
        for row in page.cases:
            if row.input_state != "kept" or len(made) >= EXAMPLES:
                continue
            tensors = self.view.store.case_tensors(row.id, "in")
            specs = {spec.name: spec for spec in manifest.signature.inputs}
            if {t.name for t in tensors} != set(specs) or any(t.datatype != specs[t.name].datatype for t in tensors):
                continue
            made.append(
                e.Example(
                    name=f"case {row.id[:6]}",
                    source="case",
                    case=row.id,
                    label=f"answered {row.predicted_label or row.predicted}" if row.predicted is not None else "case",
                    picture=self.view.case(row).picture,
                    inputs=[_one_row(t, row.row if row.rows > 1 else 0, manifest.signature.batched) for t in tensors],
                )
            )
        return made


def selection(row: s.Selection) -> e.Selection:
    """A selection as an answer."""
    same = {n: getattr(row, n) for n in e.Selection.model_fields if n not in ("time", "href")}
    return e.Selection.model_validate(same | {"time": fields.from_ns(row.time_ns), "href": f"/selections/{row.id}"})


def _one_row(tensor: TensorRow, row: int, batched: bool) -> e.TryInput:
    """A row of a case's input as it was recorded."""
    datatype, shape = Datatype(tensor.datatype), tensor.shape
    if datatype is Datatype.BYTES:
        items = decode_bytes(tensor.data, shape)
        one = items[row : row + 1] if batched else items
        data = one.reshape(-1)
        if len(data) == 1:
            return e.TryInput(name=tensor.name, shape=list(one.shape), base64=base64.b64encode(data[0]).decode())
        return e.TryInput(name=tensor.name, shape=list(one.shape), data=[x.decode("utf-8", "replace") for x in data])
    array = np.frombuffer(tensor.data, dtype=datatype.numpy).reshape(shape)
    part = array[row : row + 1] if batched else array.reshape(shape[1:]) if shape[:1] == (1,) else array
    return e.TryInput(name=tensor.name, shape=list(part.shape), base64=base64.b64encode(part.tobytes()).decode())


def _of_reference(manifest: Manifest, baseline: Any) -> list[e.Example]:
    """Rows of the reference, where its watched columns are all of one input's numbers."""
    spec, profile = manifest.signature.inputs[0], baseline.profile
    if len(manifest.signature.inputs) != 1 or profile is None or not _whole(spec, profile.columns):
        return []
    rows = profile.frame[np.linspace(0, len(profile.frame) - 1, min(EXAMPLES, len(profile.frame))).astype(int)]
    return [
        e.Example(
            name=f"reference {i + 1}",
            source="reference",
            case=None,
            label="from the reference",
            picture=None,
            inputs=[e.TryInput(name=spec.name, shape=[1, len(row)], data=[number(x) or 0.0 for x in row])],
        )
        for i, row in enumerate(rows)
    ]


def _whole(spec: InputSpec, columns: tuple[str, ...]) -> bool:
    flat = len(spec.shape) == 2 and spec.shape[1] == len(columns) and not is_picture(spec)  # (batch, column)
    return flat and (spec.display.kind is InputKind.TABULAR or all(":" not in name for name in columns))


def _plain(tensor: Tensor) -> list[Any]:
    flat = tensor.array.reshape(-1)
    if tensor.datatype is Datatype.BYTES:
        return [x.decode("utf-8", "replace") for x in flat]
    if tensor.datatype is Datatype.BF16:
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return [number(x) for x in flat] if flat.dtype.kind == "f" else flat.tolist()
