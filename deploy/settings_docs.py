"""Writes `hardcase.schema.json` and `docs/settings.md` from the settings: `python -m deploy.settings_docs`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from deploy.settings import Settings
from deploy.settings_file import Key, dotted, section_of

SCHEMA_FILE = "hardcase.schema.json"
DOCS_FILE = "docs/settings.md"

_INTRO = """# Settings

<!-- Written by `python -m deploy.settings_docs` from deploy/settings.py; edit there. -->

Everything is set in one file, `hardcase.yaml`, in the folder in which `hardcase` is started (or `--settings FILE`).
Every key has a default: no file, or an empty one, is fine. An editor that knows JSON Schema completes and checks the
file when its first line is

```yaml
# yaml-language-server: $schema=hardcase.schema.json
```

A variable `HARDCASE__SECTION__KEY` overrides a key; its value is read as YAML:

```bash
HARDCASE__SERVING__PORT=8001 HARDCASE__CAPTURE__DURABILITY=synced hardcase status
```

An unknown key, or a value that does not fit, is refused with its place and the nearest right key:

```text
error: hardcase.yaml:3:3: serving.prot: unknown key; did you mean 'serving.port'?
```

Sizes are numbers of bytes or texts such as `64 MiB` and `1 GB`. Times end in their unit: `_s` seconds, `_us`
microseconds, `_days` days.
"""


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of `hardcase.yaml`."""
    schema = Settings.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "hardcase.yaml",
        **{k: v for k, v in schema.items() if k != "title"},
    }


def markdown() -> str:
    """The page with every key, its default and what it does."""
    return "\n".join([_INTRO, *_section(Settings, ())]) + "\n"


def _section(model: type[BaseModel], prefix: Key) -> Iterator[str]:
    inner: list[tuple[Key, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        key = (*prefix, name)
        section = section_of(field.annotation)
        if section is not None:
            inner.append((key, section))
            if not isinstance(field.default, tuple):
                continue
        yield f"### `{dotted(key)}`\n"
        yield " ".join((field.description or "").split()) + f" Default: {_default(name, field)}.\n"
    for key, section in inner:
        name = dotted(key) + ("[]" if isinstance(_field(key).default, tuple) else "")
        yield f"## {name}\n"
        yield " ".join((section.__doc__ or "").split()) + "\n"
        yield from _section(section, (*key, 0) if name.endswith("[]") else key)


def _field(key: Key) -> FieldInfo:
    model: Any = Settings
    for part in key[:-1]:
        if isinstance(part, str):
            model = section_of(model.model_fields[part].annotation)
    found: FieldInfo = model.model_fields[key[-1]]
    return found


def _default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "none, must be given"
    value = field.default
    if value is None or value == ():
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if name.endswith("_bytes") and value % size == 0:
            return f"`{value // size} {unit}`"
    return f"`{value}`"


def main(root: Path) -> None:
    """Write both files below `root`."""
    (root / SCHEMA_FILE).write_text(json.dumps(json_schema(), indent=2) + "\n", encoding="utf-8")
    (root / DOCS_FILE).write_text(markdown(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(__file__).resolve().parents[1])
