"""A request as something to paste: curl, and Python without any client library."""

from __future__ import annotations

import json
from collections.abc import Sequence

from export.contracts.datatypes import Datatype
from monitoring.explore.serving_client import Tensor


def request_body(inputs: Sequence[Tensor]) -> dict[str, object] | None:
    """The request as JSON of the Open Inference Protocol; None where JSON cannot carry it (bytes that are no text)."""
    items: list[dict[str, object]] = []
    for tensor in inputs:
        flat = tensor.array.reshape(-1)
        if tensor.datatype is Datatype.BYTES:
            try:
                data: list[object] = [item.decode() for item in flat]
            except UnicodeDecodeError:
                return None
        elif tensor.datatype is Datatype.BF16:
            return None
        else:
            data = [round(x, 6) if isinstance(x, float) else x for x in flat.tolist()]
        shape = list(tensor.array.shape)
        items.append({"name": tensor.name, "datatype": tensor.datatype.value, "shape": shape, "data": data})
    return {"inputs": items}


def curl(url: str, body: dict[str, object] | None, *, key: bool) -> str:
    """The request for a shell. `key`: the service asks for a token."""
    token = ' \\\n  -H "Authorization: Bearer $TOKEN"' if key else ""
    if body is None:
        return f"# this input is not text: send it as binary data\ncurl {url}{token} \\\n  --data-binary @request.bin"
    text = json.dumps(body, ensure_ascii=False).replace("'", "'\\''")
    head = f"curl {url} \\\n  -H 'Content-Type: application/json'{token}"
    return f"{head} \\\n  -d '{text}'"


def python(url: str, body: dict[str, object] | None, *, key: bool) -> str:
    """The request for Python's standard library."""
    token = ', "Authorization": "Bearer " + os.environ["TOKEN"]' if key else ""
    data = "open('request.json', 'rb').read()" if body is None else f"json.dumps({body!r}).encode()"
    return (
        f"import json{', os' if key else ''}, urllib.request\n\n"
        "request = urllib.request.Request(\n"
        f"    {url!r},\n"
        f"    data={data},\n"
        f'    headers={{"Content-Type": "application/json"{token}}},\n'
        ")\n"
        "with urllib.request.urlopen(request) as response:\n"
        '    print(json.load(response)["outputs"])'
    )
