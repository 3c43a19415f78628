"""What goes into a model and what comes out: names, datatypes, shapes, axes, roles, and how people see an input."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from export.contracts.codec import ONLY_WHEN_SET
from export.contracts.datatypes import Datatype
from export.contracts.preprocess import ImageDecode

BATCH_AXIS = "batch"


class OutputRole(StrEnum):
    """What an output means; monitoring reads outputs by role, never by name."""

    LOGITS = "logits"  # unnormalised class scores (batch, class)
    PROBABILITIES = "probabilities"  # class probabilities that sum to one (batch, class)
    VALUE = "value"  # regression value(s) (batch, ...)
    VALUE_MEMBERS = "value_members"  # an ensemble's values (batch, member[, value]); or several outputs, a member each
    VALUE_QUANTILES = "value_quantiles"  # predicted quantiles (batch[, value], level), levels in the task
    VALUE_SPREAD = "value_spread"  # the model's own standard deviation of each value, shaped as the values
    BOXES = "boxes"  # detected boxes (batch, box, 4), format in the task
    BOX_SCORES = "box_scores"  # how sure of each box, 0 to 1 (batch, box); 0 or less is padding
    BOX_CLASSES = "box_classes"  # class index of each box (batch, box); negative is padding
    BOX_COUNT = "box_count"  # boxes of each row that are not padding (batch) or (batch, 1)
    EMBEDDING = "embedding"  # penultimate features (batch, feature); returned only when named
    INTERNAL = "internal"  # returned only when named, never recorded
    OTHER = "other"  # returned, recorded, not interpreted

    @property
    def answered_by_default(self) -> bool:
        """Whether a request that names no outputs receives this one."""
        return self not in (OutputRole.EMBEDDING, OutputRole.INTERNAL)


class InputKind(StrEnum):
    """How a person looks at an input."""

    IMAGE = "image"
    TABULAR = "tabular"
    TEXT = "text"
    TENSOR = "tensor"


@dataclass(frozen=True, kw_only=True, slots=True)
class InputDisplay:
    """How to show an input.

    Attributes:
        kind: Which view draws it.
        layout: For images, the order of the axes after the batch: "CHW", "HWC" or "HW".
        value_range: For images, the values drawn as black and white.
        feature_names: For tabular inputs, one name per column.
    """

    kind: InputKind = InputKind.TENSOR
    layout: str | None = None
    value_range: tuple[float, float] | None = None
    feature_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSpec:
    """One input tensor. `shape` includes the batch axis; -1 marks a variable dimension.

    Attributes:
        preprocess: How encoded images (BYTES, one file a row, last dimension 1) become the model's own tensor; None
            when the model takes the input as it travels.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    axes: tuple[str, ...] = ()
    display: InputDisplay = field(default_factory=InputDisplay)
    preprocess: ImageDecode | None = field(default=None, metadata=ONLY_WHEN_SET)

    def behind(self) -> InputSpec:
        """The model's own tensor: the file's place in the shape becomes the image's axes."""
        if self.preprocess is None:
            return self
        decoded = self.preprocess
        display = replace(self.display, layout=decoded.layout.value)
        shape = (*self.shape[:-1], *decoded.tensor_shape)
        return InputSpec(name=self.name, datatype=decoded.datatype, shape=shape, display=display)


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputSpec:
    """One output tensor. `shape` includes the batch axis; -1 marks a variable dimension."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    role: OutputRole = OutputRole.OTHER
    axes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Signature:
    """All tensors of a model as they travel, in the order of the model's own inputs and outputs.

    Clients, the record log and the monitor go by it. What the runtime sees is `model`.

    Attributes:
        batched: Axis 0 of every input and output is the batch axis, and requests may be merged along it.
    """

    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    batched: bool = True

    def __post_init__(self) -> None:
        """Refuse a signature that contradicts itself.

        Raises:
            ValueError: names the tensor and what is wrong with it.
        """
        if not self.inputs or not self.outputs:
            raise ValueError("a signature needs at least one input and one output")
        for kind, specs in (("input", self.inputs), ("output", self.outputs)):
            names = [s.name for s in specs]
            if len(set(names)) != len(names):
                raise ValueError(f"{kind} names are not unique: {', '.join(names)}")
            for spec in specs:
                if not spec.name:
                    raise ValueError(f"an {kind} has an empty name")
                if any(d < -1 or d == 0 for d in spec.shape):
                    raise ValueError(
                        f"{kind} '{spec.name}' has shape {list(spec.shape)}: dimensions are -1 or positive"
                    )
                if spec.axes and len(spec.axes) != len(spec.shape):
                    raise ValueError(
                        f"{kind} '{spec.name}' names {len(spec.axes)} axes for {len(spec.shape)} dimensions"
                    )
                if self.batched and (not spec.shape or spec.shape[0] != -1):
                    raise ValueError(
                        f"{kind} '{spec.name}' of a batched signature must start with a -1 batch dimension"
                    )
        _check_encoded(self.inputs, self.batched)

    @property
    def preprocesses(self) -> bool:
        """Whether any input is decoded before the model sees it."""
        return any(spec.preprocess is not None for spec in self.inputs)

    @property
    def model(self) -> Signature:
        """The model's own tensors: this signature with decoded images in the place of encoded ones."""
        if not self.preprocesses:
            return self
        return replace(self, inputs=tuple(spec.behind() for spec in self.inputs))

    def output_with_role(self, *roles: OutputRole) -> OutputSpec | None:
        """The first output that has one of `roles`, in the order in which the roles are given."""
        for role in roles:
            for spec in self.outputs:
                if spec.role is role:
                    return spec
        return None


def _check_encoded(specs: tuple[InputSpec, ...], batched: bool) -> None:
    for spec in specs:
        if spec.preprocess is None:
            continue
        shapes = ((-1, 1),) if batched else ((1,), (1, 1))
        if spec.datatype is not Datatype.BYTES or spec.shape not in shapes:
            wanted = " or ".join(str(list(s)) for s in shapes)
            raise ValueError(
                f"input '{spec.name}' is {spec.datatype} {list(spec.shape)}: encoded images are BYTES {wanted}"
            )
