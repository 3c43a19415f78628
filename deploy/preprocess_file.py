"""The file of `--preprocess`: which inputs are encoded images, and what becomes of them.

`python -m deploy.preprocess_file` writes `preprocess.schema.json`, by which editors complete and check the file.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from deploy.errors import UsageError
from export.contracts import codec
from export.contracts.errors import PackageError
from export.contracts.preprocess import ImageDecode
from export.images import Values, image_input

SCHEMA_FILE = "preprocess.schema.json"
MAX_BYTES = 1 << 20
_HINT = "docs/guides/images.md shows a file; preprocess.schema.json lists every field"
_JSON_TYPES = {int: "integer", float: "number", str: "string"}


def read_preprocess(path: Path) -> dict[str, ImageDecode]:
    """Read a YAML or JSON file: by input name, the fields of `export.images.image_input`.

    Raises:
        UsageError: not such a file; the text names the input and the field.
    """
    try:
        data = path.read_bytes()
        if len(data) > MAX_BYTES:
            raise UsageError(f"--preprocess: the file is larger than {MAX_BYTES} bytes", _HINT)
        plain = yaml.safe_load(data)
    except OSError as error:
        raise UsageError(f"--preprocess: {error.strerror}: '{path.name}'", _HINT) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise UsageError(f"--preprocess: '{path.name}' is neither YAML nor JSON{where}", _HINT) from None
    if isinstance(plain, dict):
        plain.pop("$schema", None)
    if not isinstance(plain, dict) or not plain:
        raise UsageError(f"--preprocess: '{path.name}' must map the names of inputs to their preprocessing", _HINT)
    return {str(name): _declared(str(name), fields) for name, fields in plain.items()}


def _declared(name: str, fields: Any) -> ImageDecode:
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise UsageError(f"--preprocess: {name}: expected fields and their values", _HINT)
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    if "size" not in given:
        raise UsageError(f"--preprocess: {name}: 'size' is missing", _HINT)
    try:
        return image_input(**given)
    except PackageError as error:
        text = str(error).removeprefix("image_input").removeprefix(":").removeprefix(".").strip()
        raise UsageError(f"--preprocess: {name}: {text}", _HINT) from None


def json_schema() -> dict[str, Any]:
    """The file's JSON Schema, from the declaration's fields and their documentation."""
    hints, texts = typing.get_type_hints(ImageDecode), _field_texts()
    properties: dict[str, Any] = {}
    for field in dataclasses.fields(ImageDecode):
        properties[field.name] = {"description": texts[field.name], **_type(hints[field.name])}
        if field.default is not dataclasses.MISSING and field.name not in ("scale", "mean", "std"):
            properties[field.name]["default"] = codec.to_plain(field.default)
    side = {"type": "integer", "minimum": 1}
    properties["size"] = {
        "description": "Side of a square, or height and width; pixels.",
        "oneOf": [side, {"type": "array", "items": side, "minItems": 2, "maxItems": 2}],
    }
    properties["values"] = {
        "description": "What the model's pixels range over; sets scale, mean and std unless they are given: raw 0 to "
        "255, unit 0 to 1, signed -1 to 1, imagenet the mean and standard deviation of ImageNet.",
        "enum": [v.value for v in Values],
        "default": Values.UNIT.value,
    }
    fields = {"type": "object", "properties": properties, "required": ["size"], "additionalProperties": False}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Preprocessing of encoded images, by input name",
        "type": "object",
        "properties": {"$schema": {"type": "string"}},
        "additionalProperties": fields,
        "minProperties": 1,
    }


def _type(hint: Any) -> dict[str, Any]:
    if isinstance(hint, type) and issubclass(hint, Enum):
        allowed = ["FP32", "FP16", "UINT8"] if hint.__name__ == "Datatype" else [m.value for m in hint]
        return {"enum": allowed}
    arguments = typing.get_args(hint)
    if arguments:
        fixed = None if Ellipsis in arguments else len(arguments)
        sizes = {} if fixed is None else {"minItems": fixed, "maxItems": fixed}
        return {"type": "array", "items": {"type": _JSON_TYPES[arguments[0]]}, **sizes}
    return {"type": _JSON_TYPES[hint]}


def _field_texts() -> dict[str, str]:
    """The lines of the declaration's `Attributes:` section, by field."""
    section = inspect.cleandoc(ImageDecode.__doc__ or "").split("Attributes:\n")[1].split("\n\n")[0]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {6,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()).replace("`", "") for name, text in found}


def main(root: Path) -> None:
    """Write the schema below `root`."""
    (root / SCHEMA_FILE).write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(__file__).resolve().parents[1])
