"""The registry keeps versions unchanged, plans in order, and names inside its folder."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from export.contracts.errors import AdmissionRefused, Conflict, NotFound, PackageError, RegistryError
from export.contracts.traffic import ChallengerMode, TrafficPlan
from export.package import Package
from export.registry import NotRegistered, Registry
from tests.support import packages as p

WHO = {"author": "ann"}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry", clock=lambda: datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC))


def add(registry: Registry, tmp_path: Path, *versions: str) -> list[Package]:
    return [
        registry.add(p.digits_like_package(tmp_path / "made", version=v, seed=i).dir) for i, v in enumerate(versions)
    ]


def test_an_empty_registry_answers_and_creates_nothing(registry: Registry) -> None:
    assert registry.models() == ()
    assert registry.versions("digits") == ()
    assert registry.plan("digits") is None
    assert registry.history("digits") == ()
    assert registry.aliases("digits") == {}
    assert registry.generation() == registry.generation()
    assert not registry.root.exists()


def test_a_package_is_copied_and_can_be_read_back(registry: Registry, tmp_path: Path) -> None:
    (added,) = add(registry, tmp_path, "1")
    shutil.rmtree(tmp_path / "made")
    assert registry.models() == ("digits",)
    assert registry.package("digits", "1") == added
    added.verify()


def test_the_same_package_again_changes_nothing_and_another_content_is_refused(
    registry: Registry, tmp_path: Path
) -> None:
    add(registry, tmp_path, "1")
    before = registry.generation()
    registry.add(tmp_path / "made" / "digits" / "1")
    assert registry.generation() == before
    other = p.digits_like_package(tmp_path / "other", version="1", seed=77)
    with pytest.raises(RegistryError, match="another content"):
        registry.add(other.dir)


def test_a_damaged_package_is_not_added_and_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    package = p.digits_like_package(tmp_path / "made")
    (package.dir / "model.onnx").write_bytes(b"evil")
    with pytest.raises(AdmissionRefused, match="model"):
        registry.add(package.dir)
    assert registry.versions("digits") == ()
    assert registry.models() == ()


def test_versions_are_listed_oldest_first_and_ten_comes_after_nine(registry: Registry, tmp_path: Path) -> None:
    add(registry, tmp_path, "10", "9", "1.10", "1.9")
    assert registry.versions("digits") == ("1.9", "1.10", "9", "10")


def test_promotion_writes_the_next_revision_with_author_reason_and_time(registry: Registry, tmp_path: Path) -> None:
    add(registry, tmp_path, "1", "2")
    registry.promote("digits", "1", author="ann", reason="first")
    plan = registry.promote("digits", "2", author="bob", reason="better")
    assert plan == registry.plan("digits")
    assert (plan.revision, plan.champion, plan.author, plan.reason) == (2, "2", "bob", "better")
    assert plan.changed_at == "2026-05-04T03:02:01.000Z"
    assert [h.champion for h in registry.history("digits")] == ["1", "2"]


def test_promoting_the_champion_again_writes_no_revision(registry: Registry, tmp_path: Path) -> None:
    add(registry, tmp_path, "1")
    first = registry.promote("digits", "1", **WHO)
    assert registry.promote("digits", "1", author="bob") == first
    assert len(registry.history("digits")) == 1


def test_roll_backs_undo_promotions_one_by_one(registry: Registry, tmp_path: Path) -> None:
    add(registry, tmp_path, "1", "2", "3")
    for version in "123":
        registry.promote("digits", version, **WHO)
    registry.pin("digits", "1", **WHO)
    assert registry.rollback("digits", **WHO).champion == "2"
    assert registry.rollback("digits", **WHO).champion == "1"
    with pytest.raises(RegistryError, match="no earlier champion"):
        registry.rollback("digits", **WHO)
    registry.promote("digits", "3", **WHO)
    assert registry.rollback("digits", **WHO).champion == "1"


def test_a_roll_back_withdraws_the_challenger(registry: Registry, tmp_path: Path) -> None:
    add(registry, tmp_path, "1", "2", "3")
    registry.promote("digits", "1", **WHO)
    registry.promote("digits", "2", **WHO)
    registry.challenge("digits", "3", ChallengerMode.CANARY, 10.0, **WHO)
    plan = registry.rollback("digits", **WHO)
    assert (plan.champion, plan.challenger, plan.mode, plan.canary_percent) == ("1", None, ChallengerMode.NONE, 0.0)


def test_a_roll_back_skips_a_champion_that_was_removed(registry: Registry, tmp_path: Path) -> None:
    add(registry, tmp_path, "1", "2", "3")
    for version in "123":
        registry.promote("digits", version, **WHO)
    registry.remove_version("digits", "2")
    assert registry.rollback("digits", **WHO).champion == "1"


def test_a_challenger_that_is_promoted_stops_being_one(registry: Registry, tmp_path: Path) -> None:
    add(registry, tmp_path, "1", "2")
    registry.promote("digits", "1", **WHO)
    plan = registry.challenge("digits", "2", ChallengerMode.SHADOW, **WHO)
    assert plan.versions == ("1", "2")
    plan = registry.promote("digits", "2", **WHO)
    assert (plan.champion, plan.challenger, plan.mode) == ("2", None, ChallengerMode.NONE)


def test_plans_that_cannot_be_followed_are_refused_and_change_nothing(registry: Registry, tmp_path: Path) -> None:
    add(registry, tmp_path, "1", "2")
    registry.promote("digits", "1", **WHO)
    before = registry.generation()
    with pytest.raises(NotRegistered, match="no version '9'"):
        registry.promote("digits", "9", **WHO)
    with pytest.raises(RegistryError, match="at once"):
        registry.challenge("digits", "1", ChallengerMode.SHADOW, **WHO)
    with pytest.raises(RegistryError, match="canary_percent"):
        registry.challenge("digits", "2", ChallengerMode.CANARY, 120.0, **WHO)
    with pytest.raises(NotRegistered, match="not in the registry"):
        registry.promote("cats", "1", **WHO)
    assert registry.generation() == before


def test_a_plan_based_on_an_old_revision_is_a_conflict(registry: Registry, tmp_path: Path) -> None:
    add(registry, tmp_path, "1", "2")
    plan = registry.set_plan(TrafficPlan(model="digits", revision=0, champion="1"), expected_revision=0)
    assert plan.revision == 1
    with pytest.raises(Conflict, match="revision 1, not 0"):
        registry.set_plan(TrafficPlan(model="digits", revision=0, champion="2"), expected_revision=0)
    with pytest.raises(Conflict):
        registry.promote("digits", "2", expected_revision=0, **WHO)
    assert registry.promote("digits", "2", expected_revision=1, **WHO).champion == "2"


def test_pins_come_and_go(registry: Registry, tmp_path: Path) -> None:
    add(registry, tmp_path, "1", "2")
    registry.pin("digits", "2", **WHO)
    registry.pin("digits", "2", **WHO)
    assert registry.plan("digits").pinned == ("2",)
    assert registry.unpin("digits", "2", **WHO).pinned == ()


def test_aliases_name_versions_and_never_hide_one(registry: Registry, tmp_path: Path) -> None:
    add(registry, tmp_path, "1", "2")
    registry.set_alias("digits", "best", "2")
    assert registry.aliases("digits") == {"best": "2"}
    assert registry.resolve("digits", "best") == "2"
    assert registry.resolve("digits", "1") == "1"
    with pytest.raises(RegistryError, match="is a version"):
        registry.set_alias("digits", "1", "2")
    with pytest.raises(NotRegistered):
        registry.set_alias("digits", "next", "9")
    with pytest.raises(RegistryError, match="alias 'best'"):
        registry.remove_version("digits", "2")
    registry.set_alias("digits", "best", None)
    with pytest.raises(NotRegistered):
        registry.resolve("digits", "best")
    registry.remove_version("digits", "2")
    assert registry.versions("digits") == ("1",)


def test_a_version_that_the_plan_names_is_not_removed(registry: Registry, tmp_path: Path) -> None:
    add(registry, tmp_path, "1", "2")
    registry.promote("digits", "1", **WHO)
    registry.pin("digits", "2", **WHO)
    for version in "12":
        with pytest.raises(RegistryError, match="traffic plan"):
            registry.remove_version("digits", version)
    with pytest.raises(NotRegistered):
        registry.remove_version("digits", "3")


def test_the_generation_changes_with_every_change_and_only_then(registry: Registry, tmp_path: Path) -> None:
    seen = [registry.generation()]

    def changed() -> bool:
        seen.append(registry.generation())
        return seen[-1] not in seen[:-1]

    add(registry, tmp_path, "1", "2")
    assert changed()
    registry.promote("digits", "1", **WHO)
    assert changed()
    registry.promote("digits", "2", **WHO)
    assert changed()
    registry.set_alias("digits", "best", "1")
    assert changed()
    registry.set_alias("digits", "best", None)
    registry.remove_version("digits", "1")
    assert changed()
    assert not changed()
    assert Registry(registry.root).generation() == seen[-1]


def test_another_process_view_sees_a_version_that_was_replaced(registry: Registry, tmp_path: Path) -> None:
    add(registry, tmp_path, "1", "2")
    other = Registry(registry.root)
    first = other.package("digits", "1")
    registry.remove_version("digits", "1")
    registry.add(p.digits_like_package(tmp_path / "again", version="1", seed=50).dir)
    assert other.package("digits", "1").digest != first.digest


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc", "a\0b", "%2e%2e", "a..b", "\uff0e\uff0e", "x" * 65, ".lock", "a\n"]
)
def test_names_that_could_leave_the_folder_are_refused_everywhere(name: str, registry: Registry) -> None:
    calls: list[Any] = [
        lambda: registry.versions(name),
        lambda: registry.plan(name),
        lambda: registry.history(name),
        lambda: registry.aliases(name),
        lambda: registry.package(name, "1"),
        lambda: registry.package("digits", name),
        lambda: registry.resolve("digits", name),
        lambda: registry.promote(name, "1", **WHO),
        lambda: registry.remove_version("digits", name),
        lambda: registry.set_alias("digits", name, "1"),
    ]
    for call in calls:
        with pytest.raises(NotFound) as caught:
            call()
        assert "/" not in caught.value.message
    assert not registry.root.exists()


def test_links_in_the_registry_are_not_followed(registry: Registry, tmp_path: Path) -> None:
    add(registry, tmp_path, "1")
    outside = p.digits_like_package(tmp_path / "outside", version="2", seed=5)
    (registry.root / "models" / "digits" / "versions" / "2").symlink_to(outside.dir)
    (registry.root / "models" / "linked").symlink_to(tmp_path / "outside" / "digits")
    assert registry.versions("digits") == ("1",)
    assert registry.models() == ("digits",)


def test_a_version_folder_that_calls_itself_otherwise_is_refused(registry: Registry, tmp_path: Path) -> None:
    add(registry, tmp_path, "1")
    folder = registry.root / "models" / "digits" / "versions"
    shutil.copytree(folder / "1", folder / "2")
    with pytest.raises(PackageError, match="calls itself otherwise"):
        registry.package("digits", "2")
    assert set(registry.versions("digits")) == {"1", "2"}


def test_a_plan_that_cannot_be_read_says_so(registry: Registry, tmp_path: Path) -> None:
    add(registry, tmp_path, "1")
    registry.promote("digits", "1", **WHO)
    path = registry.root / "models" / "digits" / "plans" / "00000001.json"
    path.write_text(path.read_text().replace('"schema_version":1', '"schema_version":9'))
    with pytest.raises(RegistryError, match="another release"):
        registry.plan("digits")
    path.write_text("{")
    with pytest.raises(RegistryError, match="not readable"):
        registry.plan("digits")
