"""From a package to a runtime: which file, which framework, which device."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from export.contracts.manifest import FileRole, Manifest, RuntimeFile, RuntimeKind
from serving import effective
from serving.options import RuntimeOptions
from serving.runtime.base import DeviceUnavailable, LoadFailed, Prepared, Runtime
from serving.runtime.devices import CPU, Device, choose_device, cuda_device_count
from serving.runtime.double import double_runtime, parse_double
from serving.runtime.staged import GraphOptions

_log = logging.getLogger("hardcase.runtime")


def load_runtime(directory: Path, manifest: Manifest, options: RuntimeOptions, max_rows: int = 0) -> Runtime:
    """Load the preferred runtime of an admitted package.

    Args:
        directory: The package's folder; its digests have been checked.
        manifest: The package's manifest.
        options: Which runtime and device.
        max_rows: Rows of the largest batch that will be sent; 0 takes the manifest's.

    Raises:
        DeviceUnavailable: the device cannot be used, and no fallback is allowed.
        LoadFailed: the file does not load, or its tensors are not those of the signature.
    """
    chosen = choose_file(manifest, options)
    device = choose_device(options.device, cuda_device_count())
    graphs = GraphOptions(
        enabled=options.onnx_cuda_graphs if chosen.kind is RuntimeKind.ONNX else options.cuda_graphs,
        max_rows=max_rows or manifest.max_batch_rows,
        memory_bytes=options.graph_memory_bytes,
    )
    try:
        return _open(chosen, directory, manifest, device, options, graphs)
    except DeviceUnavailable as error:
        if not options.allow_cpu_fallback:
            raise
        _log.warning("%s; the settings allow the CPU, so %s %s runs there", error, manifest.name, manifest.version)
        runtime = _open(chosen, directory, manifest, CPU, options, graphs)
        runtime.fallback = True
        return runtime


def choose_file(manifest: Manifest, options: RuntimeOptions) -> RuntimeFile:
    """The runtime file to load: the first kind of `options.prefer` that the package has, else the package's first.

    Raises:
        LoadFailed: the package has no runtime file, or the settings prefer a kind that does not exist.
    """
    known = [kind.value for kind in RuntimeKind]
    for kind in options.prefer:
        if kind not in known:
            raise LoadFailed(f"runtime.prefer names '{kind[:40]}': it must be one of {', '.join(known)}")
        for candidate in manifest.runtimes:
            if candidate.kind == kind:
                return candidate
    if not manifest.runtimes:
        raise LoadFailed("the package has no file that a runtime executes")
    return manifest.runtimes[0]


def needs(manifest: Manifest, options: RuntimeOptions) -> tuple[int, str]:
    """Size of the weights that a load of this package reads, bytes, and the name of the device that it loads them on.

    Raises:
        LoadFailed: the settings name a runtime or a device that does not exist.
    """
    chosen = choose_file(manifest, options)
    mine = Path(chosen.path).parent
    # External data of ONNX lies beside its file; another runtime's weights have a runtime entry of their own.
    others = {r.path for r in manifest.runtimes} - {chosen.path}
    sizes = [
        f.size_bytes
        for f in manifest.files
        if f.role is FileRole.WEIGHTS and f.path not in others and Path(f.path).parent == mine
    ]
    return sum(sizes), str(choose_device(options.device, cuda_device_count()))


def _open(
    chosen: RuntimeFile,
    directory: Path,
    manifest: Manifest,
    device: Device,
    options: RuntimeOptions,
    graphs: GraphOptions,
) -> Runtime:
    path, signature = directory / chosen.path, manifest.signature.model
    threads = effective.intra_op_threads(options, manifest)
    runtime: Runtime
    if device.kind == "double":
        inner = _open(chosen, directory, manifest, CPU, options, graphs)
        how = parse_double(device.setting)
        # The double stands for the device of either runtime file, so it follows the setting for TorchScript.
        recorded = replace(graphs, enabled=options.cuda_graphs)
        runtime = double_runtime(inner, signature, how, lanes=options.lanes, graphs=recorded)
    elif chosen.kind is RuntimeKind.ONNX:
        from serving.runtime.onnx import open_onnx

        runtime = open_onnx(path, signature, device, options, threads=threads, graphs=graphs)
    else:
        from serving.runtime.torch import open_torch

        runtime = open_torch(path, signature, device, options, threads=threads, graphs=graphs)
    if isinstance(runtime, Prepared):
        try:
            runtime.prepare()
        except BaseException:
            runtime.close()
            raise
    return runtime
