"""Which accelerators the machine has, asked of the driver itself, so that no framework has to be imported."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from serving.runtime.base import LoadFailed


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """A place to run: "cpu", the CUDA device with an index, or the double of a device.

    Attributes:
        kind: "cpu", "cuda" or "double".
        index: Of the CUDA device.
        setting: What the settings say of the double.
    """

    kind: str
    index: int = 0
    setting: str = ""

    def __str__(self) -> str:
        return f"cuda:{self.index}" if self.kind == "cuda" else self.kind


CPU = Device(kind="cpu")


def cuda_device_count() -> int:
    """CUDA devices that the driver shows to this process; 0 when there is no driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def choose_device(wanted: str, cuda_devices: int) -> Device:
    """The device that `runtime.device` names.

    "auto" is CUDA whenever the driver shows a device: a framework that then cannot use it fails the load, instead of
    answering slowly for months.

    Args:
        wanted: "cpu", "cuda", "cuda:N", "auto", or "double" with what `serving.runtime.double` reads.
        cuda_devices: What `cuda_device_count` says.

    Raises:
        LoadFailed: the setting is none of these.

    Example:
        >>> str(choose_device("auto", 0)), str(choose_device("auto", 2)), str(choose_device("cuda:1", 2))
        ('cpu', 'cuda:0', 'cuda:1')
    """
    if wanted == "cpu" or (wanted == "auto" and cuda_devices == 0):
        return CPU
    if wanted.startswith("double"):
        return Device(kind="double", setting=wanted)
    if wanted in ("auto", "cuda"):
        return Device(kind="cuda")
    prefix, _, index = wanted.partition(":")
    if prefix == "cuda" and index.isascii() and index.isdigit():
        return Device(kind="cuda", index=int(index))
    raise LoadFailed(f"runtime.device is '{wanted[:40]}': it must be auto, cpu, cuda or cuda:N")
