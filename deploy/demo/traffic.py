"""The demo's clients: standard binary requests over HTTP, paced, and feedback with the true labels afterwards."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx
import numpy as np
import numpy.typing as npt

from deploy.demo.digits import CLASS_NAMES, Part
from deploy.demo.shifts import Shift, apply
from deploy.errors import CommandError, NotRunning

MODEL = "digits"
CLIENTS = 8  # requests under way at once
FEEDBACK_ITEMS = 100  # a request


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One part of the day.

    Attributes:
        key: Short name; part of every record id.
        title: For people.
        count: Requests.
        seconds: Time over which they are spread.
        harmful: Whether accuracy is expected to suffer; together these phases are "the shifted part".
    """

    key: str
    title: str
    shift: Shift
    count: int
    seconds: float
    harmful: bool


@dataclass(kw_only=True)
class Sent:
    """What became of a phase's requests: ids and true labels of those that were answered."""

    phase: Phase
    ids: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    failed: int = 0
    first_ns: int = 0
    last_ns: int = 0


def binary_request(image: npt.NDArray[np.float32], request_id: str) -> tuple[bytes, dict[str, str]]:
    """One image (1, 1, 8, 8) as a protocol request with a binary tensor: body and headers."""
    header = json.dumps(
        {
            "id": request_id,
            "inputs": [
                {
                    "name": "image",
                    "shape": list(image.shape),
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": image.nbytes},
                }
            ],
        }
    ).encode()
    body = header + np.ascontiguousarray(image, dtype="<f4").tobytes()
    return body, {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(header)),
    }


class Traffic:
    """Sends phases to a serving address.

    Args:
        base: Such as `http://127.0.0.1:8000`.
        run: Name of this run of the demo; the first part of every record id.
        token: Bearer token, when serving asks for one.
    """

    def __init__(self, base: str, run: str, token: str | None = None) -> None:
        self._run = run
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        limits = httpx.Limits(max_connections=CLIENTS)
        self._client = httpx.AsyncClient(base_url=base, headers=headers, limits=limits, timeout=30.0, trust_env=False)

    async def send(self, phase: Phase, part: Part, seed: int, advance: Callable[[int], None]) -> Sent:
        """Send one phase: `count` different images of `part`, under the phase's shift.

        Raises:
            NotRunning: nothing answers at all.
        """
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(len(part.labels))[: phase.count]
        images = apply(phase.shift, part.images[chosen], seed)
        sent = Sent(phase=phase, first_ns=time.time_ns())
        gate = asyncio.Semaphore(CLIENTS)
        started = time.monotonic()

        async def one(number: int) -> None:
            record_id = f"demo-{self._run}-{phase.key}-{number:04d}"
            body, headers = binary_request(images[number : number + 1], record_id)
            async with gate:
                try:
                    response = await self._client.post(f"/v2/models/{MODEL}/infer", content=body, headers=headers)
                except httpx.ConnectError:
                    raise NotRunning("serving stopped answering") from None
                except httpx.TransportError:
                    sent.failed += 1
                    return
            if response.status_code == 200:
                sent.ids.append(record_id)
                sent.labels.append(int(part.labels[chosen[number]]))
            else:
                sent.failed += 1
            advance(1)

        async with asyncio.TaskGroup() as group:
            for number in range(len(chosen)):
                due = started + phase.seconds * number / len(chosen)
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                group.create_task(one(number))
        sent.last_ns = time.time_ns()
        return sent

    async def feedback(self, sent: Sequence[Sent], advance: Callable[[int], None]) -> int:
        """Tell the true label of every answered request; returns how many.

        Raises:
            CommandError: serving did not take it.
        """
        items = [
            {"id": record_id, "label": CLASS_NAMES[label], "source": "demo"}
            for phase in sent
            for record_id, label in zip(phase.ids, phase.labels, strict=True)
        ]
        for start in range(0, len(items), FEEDBACK_ITEMS):
            chunk = items[start : start + FEEDBACK_ITEMS]
            response = await self._client.post(f"/v2/models/{MODEL}/feedback", json=chunk)
            if response.status_code != 202:
                raise CommandError(f"feedback was answered with {response.status_code}: {response.text[:200]}")
            advance(len(chunk))
        return len(items)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
