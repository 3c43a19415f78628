"""The labelling config of a model: what annotators see, and what they may answer, from the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from xml.sax.saxutils import quoteattr

from export.contracts.manifest import Manifest, TaskKind
from export.contracts.signature import InputKind, InputSpec, OutputRole
from monitoring.images import is_picture

CONTROL = "label"
MAX_CHOICES = 200  # more cannot be looked over; the model's own classes may be more
MANY = 12  # so many fit on the page as buttons
_KEYS = "1234567890qwertyuiopasdfghjklzxcvbnm"


class Shown(StrEnum):
    """How an input is drawn, as the tag of Label Studio is called."""

    PICTURE = "Image"
    TABLE = "HyperText"
    TEXT = "Text"


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """An input on the page. `key` is its name in the task's data."""

    key: str
    name: str
    shown: Shown


def fields_of(manifest: Manifest) -> tuple[Field, ...]:
    """The inputs in the order of the signature, pictures first: boxes are drawn on the first one."""
    made = [Field(key=f"input_{i}", name=s.name, shown=_shown(s)) for i, s in enumerate(manifest.signature.inputs)]
    return tuple(sorted(made, key=lambda field: field.shown is not Shown.PICTURE))


def classes_of(manifest: Manifest) -> tuple[str, ...]:
    """Names of the classes; their numbers where the package names none.

    Raises:
        ValueError: two have one name, there are too many, or it is not known how many there are.
    """
    names = manifest.task.class_names
    if not names:
        output = manifest.signature.output_with_role(OutputRole.LOGITS, OutputRole.PROBABILITIES)
        count = output.shape[-1] if output is not None and len(output.shape) > 1 else -1
        if count < 1:
            raise ValueError("the package names no classes")
        names = tuple(str(i) for i in range(count))
    if len(names) > MAX_CHOICES:
        raise ValueError(f"{len(names)} classes are too many to choose from; at most {MAX_CHOICES}")
    if len(set(names)) < len(names):
        raise ValueError("two classes have one name")
    return names


def values_of(manifest: Manifest) -> int:
    """How many numbers a regression answers."""
    output = manifest.signature.output_with_role(OutputRole.VALUE)
    shape = () if output is None else output.shape[1:]
    return shape[0] if len(shape) == 1 and shape[0] > 0 else 1


def labelling_config(manifest: Manifest) -> str:
    """The config as XML.

    Raises:
        ValueError: annotators cannot be asked for this kind of answer.
    """
    fields = fields_of(manifest)
    lines = ["<View>", f"  <Header value={quoteattr(f'{manifest.name}: what is right?')}/>"]
    for field in fields:
        if len(fields) > 1:
            lines.append(f'  <Header value={quoteattr(field.name)} size="5"/>')
        extra = ' zoom="true" zoomControl="true"' if field.shown is Shown.PICTURE else ""
        lines.append(f'  <{field.shown.value} name="{field.key}" value="${field.key}"{extra}/>')
    lines += [f"  {line}" for line in _control(manifest, fields)]
    return "\n".join([*lines, "</View>"])


def _control(manifest: Manifest, fields: tuple[Field, ...]) -> list[str]:
    about, kind = fields[0].key, manifest.task.kind
    if kind in (TaskKind.CLASSIFICATION, TaskKind.MULTI_LABEL):
        names = classes_of(manifest)
        choice = "single" if kind is TaskKind.CLASSIFICATION else "multiple"
        layout = ' showInline="true"' if len(names) <= MANY else ' layout="select"'
        required = ' required="true" requiredMessage="Choose a class, or skip"' if choice == "single" else ""
        head = f'<Choices name="{CONTROL}" toName="{about}" choice="{choice}"{layout}{required}>'
        keys = hotkeys(names)
        choices = [
            f"  <Choice value={quoteattr(name)}" + (f' hotkey="{key}"/>' if key else "/>")
            for name, key in zip(names, keys, strict=True)
        ]
        return [head, *choices, "</Choices>"]
    if kind is TaskKind.DETECTION:
        if fields[0].shown is not Shown.PICTURE:
            raise ValueError("boxes need an input that is a picture")
        names = classes_of(manifest)
        labels = [f"  <Label value={quoteattr(n)}" + (f' hotkey="{k}"/>' if k else "/>")
                  for n, k in zip(names, hotkeys(names), strict=True)]  # fmt: skip
        return [f'<RectangleLabels name="{CONTROL}" toName="{about}">', *labels, "</RectangleLabels>"]
    if kind is TaskKind.REGRESSION:
        count = values_of(manifest)
        names = (CONTROL,) if count == 1 else tuple(f"{CONTROL}_{i}" for i in range(count))
        # step="any" would be HTML's word for it; the tag takes numbers only
        return [f'<Number name="{name}" toName="{about}" step="0.000001" required="true"/>' for name in names]
    raise ValueError(f"annotators cannot be asked for answers of the kind '{kind}'")


def hotkeys(names: tuple[str, ...]) -> list[str]:
    """A key for each class: its own digit where it is one, else the next free one; "" when they are used up.

    Example:
        >>> hotkeys(("0", "1", "cat", "dog"))
        ['0', '1', '2', '3']
    """
    own = {name for name in names if len(name) == 1 and name in "0123456789"}
    free = iter([key for key in _KEYS if key not in own])
    return [name if name in own else next(free, "") for name in names]


def _shown(spec: InputSpec) -> Shown:
    if is_picture(spec):
        return Shown.PICTURE
    return Shown.TABLE if spec.display.kind is InputKind.TABULAR else Shown.TEXT
