"""A tuned version: other settings, the same bytes, and a provenance that says where it comes from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from export.contracts import codec
from export.contracts.errors import AdmissionRefused, PackageError
from export.contracts.manifest import MANIFEST_FILE, Execution, Manifest
from export.package import Package, read_package
from export.retune import write_retuned
from tests.support.packages import digits_like_package

FOUND = Execution(max_batch_rows=32, intra_op_threads=2, instances=1)


def retuned(package: Package, dest: Path, version: str = "1-tuned", execution: Execution = FOUND) -> Package:
    return write_retuned(package, dest, version=version, execution=execution, metrics={"p99_ms": 7.5}, how="a test")


def test_a_tuned_version_has_the_same_files_and_says_what_it_comes_from(tmp_path: Path):
    package = digits_like_package(tmp_path)
    made = retuned(package, tmp_path / "made")
    made.verify()
    assert made.manifest.execution == FOUND
    assert made.manifest.files == package.manifest.files
    assert made.digest != package.digest
    assert (made.dir / "golden.npz").read_bytes() == (package.dir / "golden.npz").read_bytes()
    provenance = made.manifest.provenance
    assert (provenance.source, provenance.parent_version) == ("a test", "1")
    assert provenance.metrics["p99_ms"] == 7.5
    same = replace(made.manifest, version="1", execution=None, provenance=package.manifest.provenance)
    assert same == package.manifest, "nothing else differs"


def test_a_package_written_before_the_field_existed_reads_as_not_tuned(tmp_path: Path):
    package = digits_like_package(tmp_path)
    plain = codec.to_plain(package.manifest)
    del plain["execution"]
    assert codec.from_plain(Manifest, plain) == package.manifest
    assert package.manifest.execution is None


def test_settings_that_do_not_fit_are_refused_and_leave_nothing(tmp_path: Path):
    package = digits_like_package(tmp_path, max_batch_rows=16)
    with pytest.raises(PackageError, match="the package allows 16"):
        retuned(package, tmp_path / "a")
    with pytest.raises(PackageError, match="another version"):
        retuned(package, tmp_path / "b", version="1")
    with pytest.raises(PackageError, match="must be 1-64 of letters"):
        retuned(package, tmp_path / "c", version="a/b", execution=Execution())
    for name in "abc":
        assert not (tmp_path / name).exists()
    with pytest.raises(ValueError, match=r"execution\.instances is 0"):
        Execution(instances=0)


def test_a_damaged_source_is_not_copied(tmp_path: Path):
    package = digits_like_package(tmp_path)
    (package.dir / "golden.npz").write_bytes(b"damaged")
    with pytest.raises(AdmissionRefused):
        retuned(package, tmp_path / "made")
    assert not (tmp_path / "made" / MANIFEST_FILE).exists()
    assert read_package(package.dir).manifest.version == "1"
