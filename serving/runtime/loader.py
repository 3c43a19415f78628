"""From a package to a runtime: which file, which framework, which device."""

from __future__ import annotations

import logging
from pathlib import Path

from export.contracts.manifest import Manifest, RuntimeFile, RuntimeKind
from serving import effective
from serving.options import RuntimeOptions
from serving.runtime.base import DeviceUnavailable, LoadFailed, Runtime
from serving.runtime.devices import CPU, Device, choose_device, cuda_device_count

_log = logging.getLogger("hardcase.runtime")


def load_runtime(directory: Path, manifest: Manifest, options: RuntimeOptions) -> Runtime:
    """Load the preferred runtime of an admitted package.

    Args:
        directory: The package's folder; its digests have been checked.
        manifest: The package's manifest.
        options: Which runtime and device.

    Raises:
        DeviceUnavailable: the device cannot be used, and no fallback is allowed.
        LoadFailed: the file does not load, or its tensors are not those of the signature.
    """
    chosen = choose_file(manifest, options)
    device = choose_device(options.device, cuda_device_count())
    try:
        return _open(chosen, directory, manifest, device, options)
    except DeviceUnavailable as error:
        if not options.allow_cpu_fallback:
            raise
        _log.warning("%s; the settings allow the CPU, so %s %s runs there", error, manifest.name, manifest.version)
        runtime = _open(chosen, directory, manifest, CPU, options)
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


def _open(chosen: RuntimeFile, directory: Path, manifest: Manifest, device: Device, options: RuntimeOptions) -> Runtime:
    path = directory / chosen.path
    threads = effective.intra_op_threads(options, manifest)
    if chosen.kind is RuntimeKind.ONNX:
        from serving.runtime.onnx import OnnxRuntime

        return OnnxRuntime(path, manifest.signature.model, device, threads)
    from serving.runtime.torch import TorchRuntime

    return TorchRuntime(path, manifest.signature.model, device, threads)
