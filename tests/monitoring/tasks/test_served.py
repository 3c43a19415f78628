"""The same models as real packages on a real server: over HTTP, through the record log, into cases with their truth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from deploy.wiring import RegistryCatalogue
from export.contracts.datatypes import Datatype
from export.registry import Registry
from monitoring import schema as t
from monitoring.cycle import make_loop, run_cycle
from monitoring.options import CaseOptions
from monitoring.store import Store
from tests.support import task_models
from tests.support.monitor_world import options
from tests.support.server import Server, standalone
from tests.support.task_models import World
from tests.support.wire import Tensor

SERVED = (task_models.multi_label, task_models.ensemble, task_models.detection, task_models.segmentation)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    folder = tmp_path_factory.mktemp("served")
    registry = Registry(folder / "registry")
    for make in SERVED:
        world = make()
        world.package(folder / "packages")
        registry.add(folder / "packages" / world.kind / "1")
        registry.promote(world.kind, "1", author="test")
    with standalone(folder / "server", registry.root) as server:
        yield server, folder


def truth_of(world: World, rows: slice) -> dict[str, Any]:
    """The body's truth for those rows of one request."""
    return {"truth": world.truth[rows] if world.kind != "spread" else [[v] for v in world.truth[rows]]}


def test_answers_travel_from_the_request_to_the_judged_case(served: tuple[Server, Path]) -> None:
    server, folder = served
    for make in SERVED:
        world = make()
        for i in range(12):  # one row, then three rows a request
            rows = slice(i, i + 1) if i < 8 else slice(3 * i, 3 * i + 3)
            identity = f"{world.kind}-{i}"
            answer = server.infer(
                world.kind, [Tensor(name="x", datatype=Datatype.FP32, array=world.x[rows])], id=identity
            )
            for name in set(answer.tensors) - {"embedding"}:
                np.testing.assert_allclose(answer[name], world.answer(world.x[rows])[name], atol=1e-3)
            if world.truth[0] is not None:
                body = {"id": identity, **truth_of(world, rows)}
                assert server.post(f"/v2/models/{world.kind}/feedback", body).status_code == 202
    chosen = options(folder, records_root=folder / "server" / "records", cases=CaseOptions(audit_rate=1.0))
    store = Store(chosen.database_url)
    loop = make_loop(chosen, store, RegistryCatalogue(Registry(folder / "registry")))
    while run_cycle(loop):
        pass
    loop.reader.close()
    with store.read() as connection:
        query = sa.select(t.records, t.versions.c.model).join(t.versions, t.records.c.version_id == t.versions.c.id)
        records = [dict(r) for r in connection.execute(query).mappings()]
        assert connection.scalar(sa.select(sa.func.count()).select_from(t.dead_letters)) == 0
    assert len(records) == 12 * len(SERVED)
    for make in SERVED:
        world = make()
        own = [r for r in records if r["model"] == world.kind]
        if world.truth[0] is None:
            assert all(r["answer"] is None and r["correct_rows"] is None for r in own)
            continue
        assert all(len(r["answer"]) == r["rows"] for r in own)
        assert all(0 <= r["correct_rows"] <= r["rows"] for r in own)
        assert all(0 <= r["p_wrong"] <= 1 for r in own)
        assert 0 < sum(r["correct_rows"] for r in own) < sum(r["rows"] for r in own)
    store.close()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"truth": [[{"box": [0, 0, 1], "class": "1"}]]}, "truth[0][0].box"),
        ({"truth": [[{"box": [0, 0, 1, "x"]}]]}, "truth[0][0].box[3]"),
        ({"truth": [[{"box": [0, 0, 1, 1], "colour": 3}]]}, "truth[0][0].colour"),
        ({"truth": [[[1]]]}, "truth[0][0]"),
        ({"truth": []}, "truth"),
        ({"truth": [None]}, "truth[0]"),
        ({"truth": [True]}, "truth[0]"),
        ({"truth": [[1] * 5000]}, "truth"),
        ({"truth": [1], "label": 1}, "exclude"),
    ],
)
def test_a_truth_that_is_none_is_refused_by_name(served: tuple[Server, Path], body: dict[str, Any], said: str) -> None:
    response = served[0].post("/v2/models/boxes/feedback", {"id": "boxes-0", **body})
    assert response.status_code == 400
    assert said in response.json()["error"]
