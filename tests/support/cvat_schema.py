"""What CVAT's own SDK says of the requests and answers that we use, as data.

    python -m tests.support.cvat_schema FOLDER      # from an unpacked wheel of cvat-sdk

The SDK's models are made from the server's OpenAPI document. Only names, types and what is required are kept.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).resolve().parents[1] / "monitoring" / "integrations" / "data" / "cvat_schema.json"
MODELS = ("ProjectWriteRequest", "PatchedLabelRequest", "TaskWriteRequest", "PatchedDataMetaWriteRequest",
          "DataRequest", "TaskRead", "ProjectRead", "Label", "JobRead", "DataMetaRead", "FrameMeta", "LabeledData",
          "LabeledImage", "LabeledShape", "Request", "RqId")  # fmt: skip
PLAIN = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
    dict: "object",
    list: "array",
}


def read_sdk(folder: str) -> dict[str, Any]:
    """The models of an unpacked SDK."""
    sys.path.insert(0, folder)
    models = importlib.import_module("cvat_sdk.api_client.models")
    version = importlib.import_module("cvat_sdk.version").VERSION
    return {"version": version, "models": {name: _model(getattr(models, name)) for name in MODELS}}


def _model(kind: Any) -> dict[str, Any]:
    types = kind.openapi_types
    types = types() if callable(types) else types
    required = getattr(kind, "_required_properties", set())
    return {"fields": {name: _type(given) for name, given in types.items()}, "named": sorted(required)}


def _type(given: Any) -> list[str]:
    made = []
    for one in given:
        if isinstance(one, list):
            made.append("array")
        elif one in PLAIN:
            made.append(PLAIN[one])
        elif getattr(one, "__name__", "") in ("datetime", "date", "file_type"):
            made.append("string")
        else:
            simple = hasattr(one, "allowed_values") and ("value",) in getattr(one, "allowed_values", {})
            made.append("string" if simple else "object")
    return sorted(set(made))


def problems(schema: dict[str, Any], model: str, value: dict[str, Any]) -> list[str]:
    """What of a JSON object is not as the model says: unknown names, and other types."""
    fields = schema["models"][model]["fields"]
    found = [f"{model} has no {name}" for name in value if name not in fields]
    for name, given in value.items():
        kinds = fields.get(name)
        kind = PLAIN.get(type(given), "object")
        if kinds and kind not in kinds and not (kind == "integer" and "number" in kinds):
            found.append(f"{model}.{name} is {' or '.join(kinds)}, not {kind}")
    return found


if __name__ == "__main__":
    SCHEMA.parent.mkdir(exist_ok=True)
    SCHEMA.write_text(json.dumps(read_sdk(sys.argv[1]), indent=1, sort_keys=True) + "\n", encoding="utf-8")
