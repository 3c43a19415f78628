"""Evil packages are refused in the child process, each with its reason, before any session is made."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.admission import AdmissionReport, admit
from export.admission_limits import AdmissionLimits
from export.admission_rules import check_package
from export.contracts.errors import AdmissionRefused, PackageError
from export.contracts.manifest import MANIFEST_FILE, FileRole, RuntimeFile, RuntimeKind
from export.package import Package, write_package
from tests.support import packages as p

Model = onnx.ModelProto
SMALL = AdmissionLimits(nodes=2000, nesting=8, tensors=500, wall_s=60)


def packed(folder: Path, model: Model | bytes, extra: dict[str, bytes] | None = None) -> Package:
    """A package around a model, with a manifest whose digests are right: only the content is evil."""

    def fill(target: Path) -> dict[str, FileRole]:
        data = model if isinstance(model, bytes) else model.SerializeToString()
        for name, content in {"model.onnx": data, **(extra or {})}.items():
            (target / name).write_bytes(content)
        return dict.fromkeys(["model.onnx", *(extra or {})], FileRole.WEIGHTS)

    return write_package(folder / "evil", p.manifest_for(p.DIGITS_SIGNATURE, name="evil", task=p.DIGITS_TASK), fill)


def external(location: str, **more: str) -> Model:
    model = p.digits_like_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return model


def with_node(node: onnx.NodeProto, domain: str = "") -> Model:
    model = p.digits_like_model()
    model.graph.node.append(node)
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def nested(depth: int) -> Model:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["logits"], ["deep"])],
        "g",
        [],
        [helper.make_tensor_value_info("deep", TensorProto.FLOAT, None)],
    )
    for i in range(depth):
        node = helper.make_node("If", ["yes"], [f"o{i}"], then_branch=inner, else_branch=inner)
        info = helper.make_tensor_value_info(f"o{i}", TensorProto.FLOAT, None)
        inner = helper.make_graph([node], "g", [], [info])
    model = p.digits_like_model()
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.append(inner.node[0])
    return model


def functions(levels: int, width: int, *, loop: bool = False, domain: str = "local") -> Model:
    """f_i calls f_(i+1) `width` times; the last one holds a node, or calls the first one."""
    model = with_node(helper.make_node("f0", ["logits"], ["z"], domain=domain), domain if domain != "" else "x")
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(domain, 1)]
    for i in range(levels):
        last = i == levels - 1
        target = ("f0", domain) if last and loop else ("Identity", "") if last else (f"f{i + 1}", domain)
        names = ["x", *(f"t{k}" for k in range(width - 1)), "y"]
        nodes = [helper.make_node(target[0], [names[k]], [names[k + 1]], domain=target[1]) for k in range(width)]
        model.functions.append(helper.make_function(domain, f"f{i}", ["x"], ["y"], nodes, opsets))
    return model


def changed(change: Callable[[Model], Any]) -> Model:
    model = p.digits_like_model()
    change(model)
    return model


def _rename_input(model: Model) -> None:
    model.graph.input[0].name = "other"
    model.graph.node[0].input[0] = "other"


def _dims(*dims: int) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    return change


def _expanding(*shape: int) -> Model:
    model = with_node(helper.make_node("ConstantOfShape", ["huge"], ["z"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array(shape, dtype=np.int64), "huge"))
    return model


def _metadata(model: Model) -> None:
    entry = model.metadata_props.add()
    entry.key, entry.value = "ort_config", '{"session_options": {}}'


EVIL_MODELS: dict[str, tuple[Callable[[], Model | bytes], str]] = {
    "not_a_model": (lambda: b"\x08\xff\xff nonsense", "not a readable model"),
    "empty_file": (lambda: b"", "IR version 0"),
    "external_absolute": (lambda: external("/etc/passwd"), "outside the package"),
    "external_parent": (lambda: external("../../../etc/passwd"), "outside the package"),
    "external_proc": (lambda: external("/proc/self/environ"), "outside the package"),
    "external_memory_address": (lambda: external("*/_ORT_MEM_ADDR_/*", offset="1000"), "outside the package"),
    "external_encoded": (lambda: external("%2e%2e/secret"), "outside the package"),
    "external_nul": (lambda: external("w.bin\0/../x"), "outside the package"),
    "external_not_in_manifest": (lambda: external("other.bin"), "does not name"),
    "external_manifest_itself": (lambda: external(MANIFEST_FILE), "does not name"),
    "external_past_end": (lambda: external("w.bin", offset="100"), "past the end"),
    "external_huge_offset": (lambda: external("w.bin", offset="9" * 30), "no plain number"),
    "external_negative_offset": (lambda: external("w.bin", offset="-1"), "no plain number"),
    "external_wrong_length": (lambda: external("w.bin", length="4"), "its shape needs"),
    "external_unknown_key": (lambda: external("w.bin", url="http://example.org"), "unknown way"),
    "custom_domain": (lambda: with_node(helper.make_node("Run", ["x"], ["z"], domain="evil"), "evil"), "not accepted"),
    "python_operator": (
        lambda: with_node(helper.make_node("PythonOp", ["x"], ["z"], domain="com.microsoft"), "com.microsoft"),
        "not on the list",
    ),
    "engine_context": (
        lambda: with_node(helper.make_node("EPContext", ["x"], ["z"], domain="com.microsoft"), "com.microsoft"),
        "not on the list",
    ),
    "unknown_standard_operator": (lambda: with_node(helper.make_node("Exec", ["x"], ["z"])), "not in the standard"),
    "deeply_nested": (lambda: nested(12), "nested deeper"),
    "too_many_nodes": (
        lambda: changed(
            lambda m: m.graph.node.extend([helper.make_node("Identity", ["x"], [f"n{i}"]) for i in range(3000)])
        ),
        "more than 2000 nodes",
    ),
    "function_bomb": (lambda: functions(20, 10), "functions expand"),
    "function_loop": (lambda: functions(3, 1, loop=True), "calls itself"),
    "function_in_standard_domain": (lambda: functions(1, 1, domain="ai.onnx.ml"), "redefines"),
    "negative_dimension": (lambda: changed(_dims(-64, -64)), "negative dimension"),
    "overflowing_dimensions": (lambda: changed(_dims(2**32, 2**32, 4)), "more than"),
    "dimensions_without_data": (lambda: changed(_dims(1 << 16, 1 << 16)), "its shape needs"),
    "rank_too_high": (lambda: changed(_dims(*[1] * 40)), "dimensions"),
    "unknown_data_type": (lambda: changed(lambda m: setattr(m.graph.initializer[0], "data_type", 99)), "unknown data"),
    "constant_that_expands": (lambda: _expanding(1 << 20, 1 << 20), "ConstantOfShape"),
    "old_operator_set": (lambda: changed(lambda m: setattr(m.opset_import[0], "version", 1)), "operator set 1"),
    "future_format": (lambda: changed(lambda m: setattr(m, "ir_version", 999)), "IR version 999"),
    "session_options_in_metadata": (lambda: changed(_metadata), "ort_config"),
    "wrong_input_name": (lambda: changed(_rename_input), "no input 'x'"),
    "wrong_input_type": (
        lambda: changed(lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.DOUBLE)),
        "input 'x' is FP32",
    ),
    "wrong_output_shape": (
        lambda: changed(lambda m: setattr(m.graph.output[0].type.tensor_type.shape.dim[1], "dim_value", 7)),
        "output 'logits' has shape",
    ),
}


@pytest.mark.parametrize("kind", EVIL_MODELS)
def test_an_evil_model_is_refused_with_its_reason(kind: str, tmp_path: Path) -> None:
    make, reason = EVIL_MODELS[kind]
    package = packed(tmp_path, make(), {"w.bin": bytes(64 * 64 * 4)} if kind.startswith("external") else None)
    with pytest.raises(AdmissionRefused, match=reason) as caught:
        check_package(package.dir, SMALL)
    assert str(tmp_path) not in caught.value.message
    assert "/etc" not in caught.value.message


@pytest.mark.parametrize("kind", ["not_a_model", "external_proc", "function_bomb", "deeply_nested", "python_operator"])
def test_the_child_process_refuses_with_the_same_reason(kind: str, tmp_path: Path) -> None:
    make, reason = EVIL_MODELS[kind]
    with pytest.raises(AdmissionRefused, match=reason):
        admit(packed(tmp_path, make(), {"w.bin": b"x"} if kind.startswith("external") else None).dir, SMALL)


def test_the_same_models_without_their_evil_are_admitted(tmp_path: Path) -> None:
    """The positive control: the rules refuse the evil, not the construction."""
    good = {
        "external": packed(tmp_path / "a", external("w.bin", offset="0", length="16384"), {"w.bin": bytes(16384)}),
        "nested": packed(tmp_path / "b", nested(3)),
        "functions": packed(tmp_path / "c", functions(3, 3)),
        "microsoft": packed(
            tmp_path / "d",
            with_node(helper.make_node("Gelu", ["logits"], ["z"], domain="com.microsoft"), "com.microsoft"),
        ),
        "expanding": packed(tmp_path / "e", _expanding(10, 10)),
    }
    for package in good.values():
        assert check_package(package.dir, SMALL)["digest"] == package.digest


@pytest.mark.parametrize(
    "factory",
    [
        p.digits_like_package,
        p.echo_package,
        p.multi_input_package,
        p.all_dtypes_package,
        p.variable_length_package,
        p.unbatched_package,
        p.regression_package,
        p.torchscript_package,
        p.slow_package,
    ],
    ids=lambda f: f.__name__,
)
def test_honest_packages_are_admitted_quickly_and_confined(factory: Any, tmp_path: Path) -> None:
    report: AdmissionReport = admit(factory(tmp_path).dir)
    assert report.seconds < 10
    assert {"memory", "cpu", "no_writes", "no_new_privileges"} <= set(report.guards)
    assert report.facts["files"] >= 1


# ---- files


def _manifest_change(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    plain = json.loads((folder / MANIFEST_FILE).read_text())
    change(plain)
    (folder / MANIFEST_FILE).write_text(json.dumps(plain))


def _swap_roles(plain: dict[str, Any]) -> None:
    plain["runtimes"][0]["path"] = "golden.npz"


def _lie_about_size(plain: dict[str, Any]) -> None:
    plain["files"][0]["size_bytes"] = -5


def _no_runtime(plain: dict[str, Any]) -> None:
    plain["runtimes"] = []


def _golden_is_weights(plain: dict[str, Any]) -> None:
    plain["golden"] = "model.onnx"


def _name_twice(plain: dict[str, Any]) -> None:
    plain["files"].append(plain["files"][0])


def _many_files(plain: dict[str, Any]) -> None:
    plain["files"] += [{**plain["files"][0], "path": f"f{i}"} for i in range(2000)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_swap_roles, "does not name a weights file"),
        (_lie_about_size, "larger than|bytes, the manifest says"),
        (_no_runtime, "names no runtime"),
        (_golden_is_weights, "does not name a golden file"),
        (_name_twice, "names a file twice"),
        (_many_files, "more than 1024 files"),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_a_manifest_that_lies_is_refused(change: Any, reason: str, tmp_path: Path) -> None:
    package = p.digits_like_package(tmp_path)
    _manifest_change(package.dir, change)
    with pytest.raises(AdmissionRefused, match=reason):
        check_package(package.dir, AdmissionLimits())


def test_links_pipes_and_strange_files_are_refused(tmp_path: Path) -> None:
    for i, (damage, reason) in enumerate(
        [
            (lambda d: (d / "x").symlink_to("/etc/passwd"), "regular"),
            (lambda d: os.mkfifo(d / "x"), "regular"),
            (lambda d: os.link(d / "model.onnx", tmp_path / "link"), "regular"),
            (lambda d: (d / "x").write_text("hi"), "not in the manifest"),
            (lambda d: (d / "golden.npz").unlink(), "missing"),
        ]
    ):
        package = p.digits_like_package(tmp_path / str(i))
        damage(package.dir)
        with pytest.raises(AdmissionRefused, match=reason):
            check_package(package.dir, AdmissionLimits())


# ---- archives


def rebuilt(package: Package, name: str, entries: Callable[[zipfile.ZipFile, zipfile.ZipFile], None]) -> None:
    """Write an archive of the package anew and put the manifest right, so that only the content is evil."""
    path = package.dir / name
    source = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    with zipfile.ZipFile(path, "w") as target:
        entries(source, target)
    digest, size = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size

    def change(plain: dict[str, Any]) -> None:
        for entry in plain["files"]:
            if entry["path"] == name:
                entry["sha256"], entry["size_bytes"] = digest, size

    _manifest_change(package.dir, change)


def copy(
    source: zipfile.ZipFile, target: zipfile.ZipFile, skip: str = "\0", patch: tuple[str, bytes] = ("\0", b"")
) -> None:
    for info in source.infolist():
        if skip in info.filename:
            continue
        data = source.read(info)
        if patch[0] in info.filename and info.filename.endswith(".py"):
            data += patch[1]
        target.writestr(info.filename, data)


def _adding(name: str, data: bytes = b"x") -> Callable[[zipfile.ZipFile, zipfile.ZipFile], None]:
    def entries(source: zipfile.ZipFile, target: zipfile.ZipFile) -> None:
        copy(source, target)
        target.writestr(name, data)

    return entries


def _without(name: str) -> Callable[[zipfile.ZipFile, zipfile.ZipFile], None]:
    return lambda source, target: copy(source, target, skip=name)


def _code(text: str) -> Callable[[zipfile.ZipFile, zipfile.ZipFile], None]:
    return lambda source, target: copy(source, target, patch=("code/", text.encode()))


EVIL_ARCHIVES: dict[str, tuple[Callable[[zipfile.ZipFile, zipfile.ZipFile], None], str]] = {
    "absolute_name": (_adding("/etc/cron.d/x"), "plain relative path"),
    "parent_name": (_adding("model/../../x"), "plain relative path"),
    "backslash_name": (_adding("model\\..\\x"), "plain relative path|one folder"),
    "second_folder": (_adding("other/data.pkl"), "one folder"),
    "unknown_entry": (_adding("model/payload.so"), "does not belong"),
    "bomb": (_adding("model/data/77", b"\0" * 3_000_000), "inflates"),
    "no_code": (_without("/code/"), "there is no code"),
    "no_constants": (_without("constants.pkl"), "missing"),
    "maps_a_file": (_code("\ndef f():\n  return torch.from_file('/etc/passwd', False, 9)\n"), "from_file"),
    "writes_a_file": (_code("\ndef f(x):\n  torch . save(x, '/tmp/x')\n"), "'save'"),
    "custom_operator": (_code("\ndef f(x):\n  return ops.evil.run(x)\n"), "namespace"),
    "renames_torch": (_code("\ndef f(x):\n  t = torch\n  return t.zeros(1)\n"), "another name"),
    "renames_ops": (_code("\ndef f(x):\n  t = ops\n  return t.evil.run(1)\n"), "namespace"),
    "custom_class": (_code("\ndef f(x):\n  return __torch__.torch.classes.evil.Shell()\n"), "custom class"),
    "unreadable_code": (_code("\ndef f(x:\n '''"), "cannot be read"),
}


@pytest.fixture(scope="module")
def torchscript(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return p.torchscript_package(tmp_path_factory.mktemp("ts"), with_onnx=False)


@pytest.mark.parametrize("kind", EVIL_ARCHIVES)
def test_an_evil_torchscript_archive_is_refused(kind: str, torchscript: Package, tmp_path: Path) -> None:
    import shutil

    entries, reason = EVIL_ARCHIVES[kind]
    shutil.copytree(torchscript.dir, tmp_path / "p")
    package = Package(dir=tmp_path / "p", manifest=torchscript.manifest, digest="")
    rebuilt(package, "model.pt", entries)
    with pytest.raises(AdmissionRefused, match=reason):
        check_package(package.dir, AdmissionLimits(archive_bytes=2_000_000))


def test_a_rebuilt_archive_without_evil_is_admitted(torchscript: Package, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(torchscript.dir, tmp_path / "p")
    package = Package(dir=tmp_path / "p", manifest=torchscript.manifest, digest="")
    rebuilt(package, "model.pt", copy)
    admit(package.dir)


def test_a_pickle_in_place_of_torchscript_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    def fill(target: Path) -> dict[str, FileRole]:
        torch.save({"w": torch.zeros(3)}, target / "model.pt")
        return {"model.pt": FileRole.WEIGHTS}

    runtimes = (RuntimeFile(kind=RuntimeKind.TORCHSCRIPT, path="model.pt"),)
    manifest = p.manifest_for(p.DIGITS_SIGNATURE, name="m", runtimes=runtimes)
    with pytest.raises(AdmissionRefused, match="pickle"):
        admit(write_package(tmp_path / "p", manifest, fill).dir)


def test_golden_cases_that_need_pickle_or_would_inflate_are_refused(tmp_path: Path) -> None:
    for i, (arrays, reason) in enumerate(
        [
            ({"x": np.array([{"a": 1}], dtype=object)}, "pickle"),
            ({"x": np.zeros(1_000_000)}, "inflates"),
        ]
    ):
        package = p.digits_like_package(tmp_path / str(i))
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        inner = zipfile.ZipFile(buffer)
        rebuilt(package, "golden.npz", lambda _, target, z=inner: [target.writestr(n, z.read(n)) for n in z.namelist()])
        with pytest.raises(AdmissionRefused, match=reason):
            admit(package.dir, AdmissionLimits(archive_bytes=2_000_000))


# ---- the child's limits


def test_a_check_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    with pytest.raises(AdmissionRefused, match="longer than"):
        admit(p.digits_like_package(tmp_path).dir, AdmissionLimits(wall_s=0.01))


def test_a_check_that_needs_too_much_memory_or_cpu_is_refused(tmp_path: Path) -> None:
    package = p.slow_package(tmp_path)  # 32 MB of weights
    with pytest.raises(AdmissionRefused, match="more memory than the limit"):
        check_package(package.dir, AdmissionLimits(memory_bytes=64 << 20))
    with pytest.raises(AdmissionRefused, match=r"more memory than the limit|could not be carried out"):
        admit(package.dir, AdmissionLimits(memory_bytes=100 << 20))
    with pytest.raises(AdmissionRefused, match="CPU or memory limit"):
        admit(package.dir, AdmissionLimits(cpu_s=0))


def test_no_package_at_all_is_a_package_error(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=MANIFEST_FILE):
        admit(tmp_path)


CONFINED = """
import json, os, socket, subprocess, sys
from pathlib import Path
from export.admission_child import close_file_system, confine
guards = confine({"memory_bytes": 2 << 30, "cpu_s": 20})
root = Path(sys.argv[1])
socket.getaddrinfo  # imported before the hook
def attempt(what):
    try:
        what()
    except (OSError, PermissionError) as error:
        return type(error).__name__
    return "worked"
def write():
    with open(root / "new", "wb") as file:
        file.write(b"x" * 10)
        file.flush()
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
network = attempt(lambda: socket.create_connection(("127.0.0.1", int(sys.argv[2])), timeout=5))
close_file_system(root)
print(json.dumps({
    "guards": guards,
    "network": network,
    "write": attempt(write),
    "outside": attempt(lambda: open("/etc/passwd").close()),
    "inside": attempt(lambda: open(root / "manifest.json").close()),
    "socket": attempt(lambda: socket.socket()),
    "process": attempt(lambda: subprocess.run(["true"])),
}))
os._exit(0)
"""


def test_the_child_cannot_write_connect_start_processes_or_open_anything_outside(tmp_path: Path) -> None:
    import socket

    package = p.digits_like_package(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-c", CONFINED, str(package.dir), port],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    found = json.loads(done.stdout)
    assert found["inside"] == "worked"
    assert found["write"] != "worked"
    assert (found["outside"], found["socket"], found["process"]) == ("PermissionError",) * 3
    if "no_network" in found["guards"]:
        assert found["network"] != "worked"
    else:
        assert found["network"] == "worked", "without the guard the report must not promise it"


def test_the_child_imports_neither_torch_nor_onnxruntime() -> None:
    code = (
        "import sys, onnx, export.admission_rules, export.admission_child;"
        "print([m for m in ('torch', 'onnxruntime', 'ray', 'sklearn', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_package_may_be_named_relative_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = p.digits_like_package(tmp_path)
    monkeypatch.chdir(tmp_path / "digits")
    assert admit("1").digest == package.digest
