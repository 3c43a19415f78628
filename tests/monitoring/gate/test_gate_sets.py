"""The labelled sets of a gate out of a filled store, and what erasing takes out of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from export.contracts.dataset import Split
from export.dataset import Snapshot, write_snapshot
from monitoring import schema as t
from monitoring.case_pools import AUDIT_BIT
from monitoring.gate.contracts import SetKind
from monitoring.gate.erasing import erase_from_gates
from monitoring.gate.holdout import held_out
from monitoring.gate.job import read_request
from monitoring.gate.options import GateOptions, OwnSet
from monitoring.gate.prepare import Competitor, prepare_gate
from monitoring.gate.sets import GateSets, write_gate_sets
from monitoring.review.test_sets import insert_test_set
from tests.support.dataset_world import DatasetWorld, base_rows, dataset_world, parts


@pytest.fixture
def world(tmp_path: Path):
    made = dataset_world(tmp_path, cases=60)
    yield made
    made.store.close()


def sets_of(world: DatasetWorld, **options: object) -> GateSets:
    champion = world.catalogue.manifest("digits", world.catalogue.champion)
    assert champion is not None
    return write_gate_sets(
        world.source,
        champion,
        None,
        options=GateOptions(**options),  # type: ignore[arg-type]
        datasets=world.root,
        root=world.folder / "sets",
    )


def cases_of(sets: GateSets, name: str) -> set[str]:
    folder = next(one.folder for one in sets.sets if one.name == name)
    return set(pq.read_table(Path(folder) / "data.parquet")["case_id"].to_pylist())


def audited(world: DatasetWorld) -> set[str]:
    c = t.cases.c
    query = sa.select(c.id).where(
        c.label.is_not(None), c.flags.op("&")(AUDIT_BIT) != 0, c.state != "dismissed", c.input_state == "kept"
    )
    with world.store.read() as connection:
        return set(connection.scalars(query))


def test_the_audited_set_holds_every_labelled_audit_item_and_nothing_else(world: DatasetWorld):
    wanted = audited(world)
    assert 3 < len(wanted) < len(world.labelled())  # control
    sets = sets_of(world)
    assert cases_of(sets, "audited") == wanted
    first = sets.sets[0]
    assert (first.kind, first.used) == (SetKind.AUDITED, 0)
    assert Snapshot.open(first.folder).manifest.splits == {Split.TEST.value: len(wanted)}
    assert sets_of(world) == sets  # done again it is the same


def test_old_audit_items_are_left_to_history(world: DatasetWorld):
    newest = max(audited(world), key=lambda case: world.store.case(case).time_ns)  # type: ignore[union-attr]
    world.sql(t.versions.update().values(last_ns=world.store.case(newest).time_ns))  # type: ignore[union-attr]
    assert cases_of(sets_of(world, audited_s=0.001), "audited") == {newest}


def test_items_that_were_drawn_with_a_greater_chance_are_thinned(world: DatasetWorld):
    r, c = t.records.c, t.cases.c
    cases = sorted(audited(world))
    with world.store.write() as connection:
        query = sa.select(c.id_hash, c.time_ns).where(c.id == cases[0])
        id_hash, time_ns = connection.execute(query).one()
        where = (r.id_hash == id_hash, r.time_ns == time_ns)
        if not connection.execute(t.records.update().where(*where).values(probability=0.01, label='"1"')).rowcount:
            pytest.skip("this store has no record behind the case")
    sets = sets_of(world)
    assert cases[0] in cases_of(sets, "audited")
    assert len(cases_of(sets, "audited")) < len(cases) / 2
    assert "so that all were drawn with one chance" in sets.sets[0].note


def test_protected_failures_the_champions_test_rows_and_own_sets_come_with_it(world: DatasetWorld):
    cases = world.labelled()[:5]
    with world.store.write() as connection:
        insert_test_set(connection, actor="ann", name="askew", cases=cases, now_ns=1)
    rows = [replace(row, split=Split.TEST) if i % 3 == 0 else row for i, row in enumerate(base_rows())]
    base = write_snapshot(world.root, parts(), rows)
    world.trained_on("3", base.digest)
    own = OwnSet(model="digits", name="night", folder=str(base.folder))
    other = OwnSet(model="others", name="day", folder=str(base.folder))
    sets = sets_of(world, own=(own, other))
    assert [(s.name, s.kind) for s in sets.sets] == [
        ("audited", SetKind.AUDITED),
        ("golden", SetKind.GOLDEN),
        ("failures: askew", SetKind.FAILURES),
        ("night", SetKind.OWN),
    ]
    assert cases_of(sets, "failures: askew") <= set(cases)
    assert cases_of(sets, "failures: askew")
    assert sets.trained_on == (str(base.folder),)


def test_what_is_held_out_for_the_gate_is_not_trained_on(world: DatasetWorld):
    """Both sides decide by the same lot: no audited group of the gate's share is in a snapshot."""
    made = world.build(holdout_audit=0.5)
    table = pq.read_table(made.folder / "data.parquet")
    trained = set(table["case_id"].to_pylist())
    c = t.cases.c
    with world.store.read() as connection:
        groups = {row.id: row.group_id for row in connection.execute(sa.select(c.id, c.group_id))}
    ours = {case for case in audited(world) if held_out(groups[case] or case, 0.5)}
    assert ours
    assert not ours & trained
    assert ours <= cases_of(sets_of(world), "audited")


def test_the_request_names_everything_and_is_the_same_when_made_again(world: DatasetWorld, tmp_path: Path):
    champion = world.catalogue.manifest("digits", "2")

    def asked() -> bytes:
        return prepare_gate(
            world.source,
            Competitor(folder=tmp_path / "old", manifest=champion),
            Competitor(folder=tmp_path / "new", manifest=None),
            gate_id="g1",
            output=tmp_path / "gate",
            options=GateOptions(),
            datasets=world.root,
            training_id="t1",
        ).read_bytes()

    first = asked()
    assert asked() == first
    request = read_request(tmp_path / "gate" / "request.json")
    assert (request.id, request.training_id, request.sets[0].name) == ("g1", "t1", "audited")


def test_erasing_a_record_takes_it_out_of_a_gates_files(world: DatasetWorld, tmp_path: Path):
    turn = tmp_path / "loop" / "trainings" / "t1"
    champion = world.catalogue.manifest("digits", "2")
    assert champion is not None
    write_gate_sets(world.source, champion, None, options=GateOptions(), datasets=world.root, root=turn / "sets")
    (data,) = turn.glob("sets/*/data.parquet")
    record = pq.read_table(data)["record_id"].to_pylist()[0]
    output = turn / "gate"
    output.mkdir()
    (output / "report.html").write_text(f"<p>{record}")
    (output / "inputs.csv").write_text(f"set,id,record\naudited,x,{record}\n")
    flips = {"schema_version": 1, "words": "passed", "negative_flips": [{"id": "x"}], "positive_flips": []}
    (output / "verdict.json").write_text(json.dumps(flips))
    assert erase_from_gates(world.store, tmp_path / "loop", ["somebody else"]) == 0
    assert (output / "report.html").exists()
    assert erase_from_gates(world.store, tmp_path / "loop", [record]) == 1
    assert not any(record.encode() in path.read_bytes() for path in turn.rglob("*") if path.is_file())
    assert json.loads((output / "verdict.json").read_text())["negative_flips"] == []
    assert erase_from_gates(world.store, tmp_path / "loop", [record]) == 0
