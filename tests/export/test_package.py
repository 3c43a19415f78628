"""A package is written whole or not at all, and what was changed afterwards is found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.contracts.errors import AdmissionRefused, PackageError
from export.contracts.manifest import MANIFEST_FILE, FileRole, RuntimeKind
from export.package import Package, read_package, write_package
from export.package_files import is_safe_path, open_beneath
from tests.support import packages as p


def test_a_package_gives_back_what_was_put_in(tmp_path: Path) -> None:
    package = p.digits_like_package(tmp_path, seed=3)
    golden = package.golden()
    assert golden is not None
    assert golden.rows == 4
    assert package.runtime_file(RuntimeKind.ONNX) == package.dir / "model.onnx"
    assert package.runtime_file(RuntimeKind.TORCHSCRIPT) is None
    assert package.files(FileRole.GOLDEN) == (package.dir / "golden.npz",)
    assert package.reference() is None
    assert package.digest.startswith("sha256:")
    with pytest.raises(PackageError, match="no such file"):
        package.file("../secret")


def test_text_golden_cases_keep_every_byte(tmp_path: Path) -> None:
    golden = p.echo_package(tmp_path).golden()
    assert golden is not None
    assert golden.inputs["text"].tolist() == [[b"hello"], ["grüße".encode()], [b""]]


def test_nothing_is_left_when_writing_fails_half_way(tmp_path: Path) -> None:
    def fill(folder: Path) -> dict[str, FileRole]:
        (folder / "model.onnx").write_bytes(b"half")
        raise RuntimeError("power cut")

    manifest = p.manifest_for(p.DIGITS_SIGNATURE, name="m")
    with pytest.raises(RuntimeError):
        write_package(tmp_path / "out", manifest, fill)
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_whose_file_was_not_written_is_refused(tmp_path: Path) -> None:
    manifest = p.manifest_for(p.DIGITS_SIGNATURE, name="m")
    with pytest.raises(PackageError, match=r"model\.onnx"):
        write_package(tmp_path / "out", manifest, lambda folder: {})
    assert list(tmp_path.iterdir()) == []


def test_an_existing_package_is_replaced_only_when_asked(tmp_path: Path) -> None:
    first = p.digits_like_package(tmp_path, seed=1)
    model = (first.dir / "model.onnx").read_bytes()

    def fill(folder: Path) -> dict[str, FileRole]:
        (folder / "model.onnx").write_bytes(model + b"\0")
        return {"model.onnx": FileRole.WEIGHTS}

    manifest = p.manifest_for(p.DIGITS_SIGNATURE, name="digits")
    with pytest.raises(PackageError, match="already"):
        write_package(first.dir, manifest, fill)
    assert read_package(first.dir) == first
    second = write_package(first.dir, manifest, fill, overwrite=True)
    assert second.digest != first.digest
    assert [x.name for x in first.dir.parent.iterdir()] == ["1"]


def _flip(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(bytes(data))


def _truncate(folder: Path) -> None:
    os.truncate(folder / "model.onnx", 10)


def _grow(folder: Path) -> None:
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b"x")


def _remove(folder: Path) -> None:
    (folder / "golden.npz").unlink()


def _add(folder: Path) -> None:
    (folder / "notes.txt").write_text("hello")


def _add_below(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "notes.txt").write_text("hello")


def _symlink(folder: Path) -> None:
    (folder / "model.onnx").rename(folder.parent / "elsewhere")
    (folder / "model.onnx").symlink_to(folder.parent / "elsewhere")


def _hard_link(folder: Path) -> None:
    os.link(folder / "model.onnx", folder.parent / "elsewhere")


def _fifo(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")


def _linked_folder(folder: Path) -> None:
    (folder.parent / "real").mkdir()
    (folder / "weights").symlink_to(folder.parent / "real")


@pytest.mark.parametrize(
    "damage",
    [_flip, _truncate, _grow, _remove, _add, _add_below, _symlink, _hard_link, _fifo, _linked_folder],
    ids=lambda f: f.__name__,
)
def test_every_kind_of_damage_is_found_by_name(damage: Callable[[Path], None], tmp_path: Path) -> None:
    package = p.digits_like_package(tmp_path)
    package.verify()
    damage(package.dir)
    with pytest.raises(AdmissionRefused, match=r"file '(model\.onnx|golden\.npz|(sub/)?notes\.txt|weights)'"):
        package.verify()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not valid JSON"),
        (b'{"name":"x"}', "missing"),
        (b"[" * 100_000, "not valid JSON"),
        (b" " * (5 << 20), "larger than"),
    ],
)
def test_a_bad_manifest_is_refused_without_a_path_in_the_text(text: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).write_bytes(text)
    with pytest.raises(PackageError, match=why) as caught:
        read_package(tmp_path)
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(PackageError, match="No such file"):
        read_package(tmp_path / "nowhere")


def test_a_manifest_that_names_a_file_outside_is_refused(tmp_path: Path) -> None:
    package = p.digits_like_package(tmp_path)
    for bad in ("../model.onnx", "/etc/passwd", "a/../../b", "model.onnx\\u0000", "C:\\\\x", "a//b", "./model.onnx"):
        text = (package.dir / MANIFEST_FILE).read_text().replace('"path":"golden.npz"', f'"path":"{bad}"')
        other = tmp_path / "other"
        other.mkdir(exist_ok=True)
        (other / MANIFEST_FILE).write_text(text)
        with pytest.raises(PackageError, match="path"):
            read_package(other)


TRICKS = ["..", ".", "", "%2e%2e", "..%2f", "\0", "a", "é", "\u2025", "\uff0e\uff0e", "/", "\\", "~", "proc", "self"]


@given(st.lists(st.sampled_from(TRICKS), min_size=1, max_size=6), st.sampled_from(["/", "//", "\\", "/./"]))
@settings(max_examples=400, deadline=None)
def test_no_generated_path_opens_outside_its_folder(parts: list[str], separator: str) -> None:
    path = separator.join(parts)
    base = Path("/nowhere/inside")
    if is_safe_path(path):
        resolved = Path(os.path.normpath(base / path))
        assert base in resolved.parents
        assert "\0" not in path


@given(st.lists(st.sampled_from(["up", "link", "real", "file", "..", "out", "loop"]), min_size=1, max_size=5))
@settings(max_examples=150, deadline=None)
def test_no_generated_walk_over_links_leads_outside(tmp_path_factory: pytest.TempPathFactory, parts: list[str]) -> None:
    top = tmp_path_factory.mktemp("walk")
    root = top / "root"
    (root / "real" / "real").mkdir(parents=True)
    (top / "secret").write_text("secret")
    (root / "up").symlink_to("..")
    (root / "link").symlink_to(root / "real")
    (root / "real" / "up").symlink_to("../..")
    (root / "real" / "out").symlink_to("../../secret")
    (root / "loop").symlink_to("loop")
    (root / "real" / "file").write_text("inside")
    path = "/".join(parts)
    if path == "real/file":
        with open_beneath(root, path) as file:
            assert file.read() == b"inside"
        return
    with pytest.raises(AdmissionRefused) as caught:
        open_beneath(root, path)
    assert str(top) not in caught.value.message


def test_golden_cases_that_cannot_be_read_are_a_package_error(tmp_path: Path) -> None:
    package: Package = p.digits_like_package(tmp_path)
    (package.dir / "golden.npz").write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(PackageError, match="golden"):
        package.golden()
    np.savez(package.dir / "golden.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(PackageError, match="golden"):
        package.golden()
