"""What a record says of itself besides its tensors: tags and request parameters, as attribute and value.

Only single values count (text, whole numbers, true and false); the protocol's own parameters do not.
"""

from __future__ import annotations

import json
from typing import Any

from monitoring.batches import Batch

MAX_NAME, MAX_VALUE = 40, 60
_PROTOCOL = frozenset({"priority", "timeout", "binary_data_output", "classification", "content_type", "headers"})
_PREFIXES = ("sequence_", "triton_", "hardcase_", "binary_", "shared_memory_")


def client_attributes(batch: Batch) -> dict[str, list[str]]:
    """Values by attribute, one a record, "" where a record has none. Tags win over parameters of the same name."""
    found: list[dict[str, str]] = []
    known: dict[bytes | None, dict[str, str]] = {None: {}}
    for piece in batch.pieces:
        params, tags = piece.records.params, piece.records.tags
        for item in piece.items.tolist():
            for text in (params[item], tags[item]):
                if text not in known:
                    known[text] = read_attributes(text)
            found.append(known[params[item]] | known[tags[item]])
    names = sorted({name for one in found for name in one})
    return {name: [one.get(name, "") for one in found] for name in names}


def read_attributes(text: bytes | None) -> dict[str, str]:
    """The single values of a JSON object; empty for anything else.

    Example:
        >>> read_attributes(b'{"site": "north", "priority": 2, "dark": true, "box": [1, 2]}')
        {'site': 'north', 'dark': 'yes'}
    """
    try:
        plain: Any = json.loads(text) if text else {}
    except ValueError:
        return {}
    if not isinstance(plain, dict):
        return {}
    made = {}
    for name, value in plain.items():
        if name in _PROTOCOL or name.startswith(_PREFIXES) or len(name) > MAX_NAME or not name.isprintable():
            continue
        if isinstance(value, bool):
            made[name] = "yes" if value else "no"
        elif isinstance(value, int) or (isinstance(value, str) and 0 < len(value) <= MAX_VALUE and value.isprintable()):
            made[name] = str(value)
    return made
