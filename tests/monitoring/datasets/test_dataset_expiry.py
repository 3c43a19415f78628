"""A time limit on inputs reaches data sets and gates: afterwards the store is searched for what was planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from export.contracts.privacy import PrivacyPolicy
from export.dataset import Snapshot
from monitoring import schema as t
from monitoring.datasets.expiry import Expirer
from monitoring.datasets.recipes import NONE
from monitoring.datasets.rows import SnapshotRow, SnapshotState, items, latest_of, look
from monitoring.facts import write_fact
from monitoring.gate.options import GateOptions
from monitoring.gate.sets import write_gate_sets
from monitoring.retention_limits import apply_time_limits
from tests.monitoring.erasure.test_erasure import MARK, search
from tests.support import monitor_world as w
from tests.support.console_store import START_S
from tests.support.dataset_world import DatasetWorld, dataset_world

DAY_S = 86_400
LIMIT = PrivacyPolicy(model="digits", input_days=10)
OLD, YOUNGER, YOUNG = 8.0, 7.5, 2.0  # days before START_S


@pytest.fixture
def world(tmp_path: Path):
    """Three records are old; the oldest has a planted input."""
    made = dataset_world(tmp_path, cases=40)
    for case, days in zip(made.labelled(), [OLD, YOUNGER, YOUNG], strict=False):
        time_ns, c = round((START_S - days * DAY_S) * 1e9), t.cases.c
        same = sa.select(c.id_hash).where(c.id == case).scalar_subquery()
        made.sql(t.records.update().where(t.records.c.id_hash == same).values(time_ns=time_ns))
        made.set_case(case, time_ns=time_ns)
    x = t.case_tensors.c
    case = made.labelled()[0]
    mine = (x.case_id == case) & (x.direction == "in")
    with made.store.read() as connection:
        data = connection.scalars(sa.select(x.data).where(mine)).one()
    made.sql(t.case_tensors.update().where(mine).values(data=MARK * 3 + data[12:]))
    yield made
    made.store.close()


def expire(world: DatasetWorld, days_later: float, *policies: PrivacyPolicy) -> None:
    """The duties of retention and of data sets, so many days after START_S by the retention clock."""
    now_s = START_S + days_later * DAY_S
    with world.store.write() as connection:
        write_fact(connection, "retention_clock_s", now_s)
        apply_time_limits(connection, now_s, policies)
    Expirer(world.store, w.options(world.folder, privacy=policies), lambda: 7).turn()
    world.store.scrub()


def now(world: DatasetWorld, identity: str) -> SnapshotRow:
    with world.store.read() as connection:
        return look(connection, world.root, identity)


def latest(world: DatasetWorld, made: SnapshotRow) -> SnapshotRow:
    with world.store.read() as connection:
        return latest_of(connection, world.root, made.digest)


def snapshots(folder: Path) -> list[str]:
    return [name for name in search(folder, MARK) if name.startswith("datasets/")]


def test_an_input_whose_time_is_over_is_nowhere_in_the_store(world: DatasetWorld) -> None:
    first, second = world.build(holdout_audit=0.0), world.build(base=NONE, holdout_audit=0.0)
    assert len(snapshots(world.folder)) == 2, "control: both snapshots hold the planted value"
    expire(world, 1.9, LIMIT)
    assert len(snapshots(world.folder)) == 2, "one hour is left"
    expire(world, 2.1, LIMIT)
    assert search(world.folder, MARK) == []
    for made in (first, second):
        assert now(world, made.id).state is SnapshotState.ERASED
        assert now(world, made.id).erased == 2, "what would follow within a day goes with it"
        rest = latest(world, made)
        assert rest.rows == made.rows - 2
        assert rest.state is SnapshotState.WHOLE
        assert rest.notes[-1] == f"Takes the place of {made.id}: 2 rows had to go."
        ages = [(START_S - row.time_ns / 1e9) / DAY_S for row in rest.open().items() if row.time_ns]
        assert max(ages) == pytest.approx(YOUNG)
    base_rows = [row for row in latest(world, first).open().items() if not row.time_ns]
    assert len(base_rows) == world.base.manifest.rows, "the base data set is nobody's record"


def test_a_next_row_makes_a_next_successor_and_the_last_one_leaves_the_base(world: DatasetWorld) -> None:
    made = world.build(holdout_audit=0.0)
    expire(world, 2.1, LIMIT)
    one = latest(world, made)
    expire(world, 2.2, LIMIT)
    assert latest(world, made).id == one.id, "nothing is due"
    expire(world, 8.1, LIMIT)
    two = latest(world, made)
    assert two.rows == one.rows - 1
    assert [note for note in two.notes if "takes the place" in note.lower()] == [
        f"Takes the place of {one.id}: 1 rows had to go."
    ]
    expire(world, 30, LIMIT)
    assert latest(world, made).rows == world.base.manifest.rows
    with world.store.read() as connection:
        assert items(connection, snapshot=latest(world, made).id) == []


@pytest.mark.parametrize(
    ("policy", "goes"),
    [
        (PrivacyPolicy(model="digits"), False),
        (PrivacyPolicy(model="faces", input_days=1), False),
        (PrivacyPolicy(model="digits", input_days=1, snapshot_days=400), False),
        (PrivacyPolicy(model="digits", record_days=1), False),
        (PrivacyPolicy(model="digits", snapshot_days=10), True),
        (PrivacyPolicy(input_days=10), True),
        (PrivacyPolicy(input_days=100, case_days=10), True),
    ],
)
def test_which_setting_reaches_data_sets(world: DatasetWorld, policy: PrivacyPolicy, goes: bool) -> None:
    made = world.build(holdout_audit=0.0)
    expire(world, 2.1, policy)
    assert (snapshots(world.folder) == []) is goes
    assert (now(world, made.id).state is SnapshotState.ERASED) is goes
    assert ("inputs in data sets for" in policy.text) is (policy.days_in_snapshots is not None)


def test_stopped_after_the_rows_were_marked_the_next_turn_goes_on(
    world: DatasetWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = world.build(holdout_audit=0.0)

    def stop(*_: object) -> int:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("monitoring.datasets.expiry.replace_marked", stop)
        with pytest.raises(OSError, match="killed"):
            expire(world, 2.1, LIMIT)
    assert now(world, made.id).state is SnapshotState.ERASING
    assert len(snapshots(world.folder)) == 1, "control: it is still there"
    expire(world, 2.1)  # even without a limit: what was marked has to go
    assert snapshots(world.folder) == []
    assert latest(world, made).rows == made.rows - 2


def test_a_folder_that_cannot_be_read_stops_no_limit(world: DatasetWorld, caplog: pytest.LogCaptureFixture) -> None:
    made = world.build(holdout_audit=0.0)
    broken = world.root / "0123456789abcdef"
    broken.mkdir()
    (broken / "snapshot.json").write_text("{}")
    expire(world, 2.1, LIMIT)
    assert now(world, made.id).state is SnapshotState.ERASED
    assert "cannot be read" in caplog.text


def test_sets_and_report_of_a_gate_go_with_their_rows(world: DatasetWorld) -> None:
    turn = world.folder / "loop" / "trainings" / "t1"
    champion = world.catalogue.manifest("digits", "2")
    assert champion is not None
    write_gate_sets(
        world.source,
        champion,
        None,
        options=GateOptions(audited_s=100 * DAY_S),
        datasets=world.root,
        root=turn / "sets",
    )
    held = [path.parent for path in turn.glob("sets/*/data.parquet")]
    oldest = min(row.time_ns for folder in held for row in Snapshot.open(folder).items())
    (turn / "gate").mkdir()
    (turn / "gate" / "report.html").write_text("pictures")
    age = (START_S - oldest / 1e9) / DAY_S
    expire(world, 9.9 - age, LIMIT)
    assert (turn / "gate" / "report.html").exists()
    expire(world, 10.1 - age, LIMIT)
    assert not (turn / "gate" / "report.html").exists()
    assert list(turn.glob("sets/*")) == []


def test_planted_bits_are_found_in_a_data_set(world: DatasetWorld) -> None:
    """The search itself: without it, finding nothing would mean nothing."""
    world.build(holdout_audit=0.0)
    assert snapshots(world.folder)
    assert search(world.folder, np.float32(0.111222).tobytes()) == []
