"""What a runtime is, what it raises, and the array conversions that all runtimes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from export.contracts.bf16 import numbers
from export.contracts.datatypes import Datatype
from export.contracts.errors import ModelFailed, PackageError, Unavailable

Array = npt.NDArray[Any]
Fact = str | int | float | bool | None


class LoadFailed(PackageError):
    """The weights do not become a working model; the message is public and says which promise is broken."""

    code = "load_failed"


class DeviceUnavailable(LoadFailed):
    """The device that the settings ask for cannot be used; change `runtime.device` or allow the CPU fallback."""

    code = "device_unavailable"


MODEL_RAISED = "the model raised an error while it computed this batch"
MODEL_OUT_OF_MEMORY = "the model ran out of memory on this batch: send fewer rows"
MODEL_CLOSED = "the version has been unloaded"
DEVICE_LOST = "the accelerator failed: this replica answers again after its restart"


class OutOfMemory(Unavailable):
    """The batch did not fit into the memory of its device. Fewer rows may; so may the same rows later."""

    code = "out_of_memory"
    grpc_status = "RESOURCE_EXHAUSTED"

    def __init__(self) -> None:
        super().__init__(MODEL_OUT_OF_MEMORY)


class DeviceLost(Unavailable):
    """An earlier batch broke the device for this process. Another replica, or this one after its restart, answers."""

    code = "device_lost"

    def __init__(self) -> None:
        super().__init__(DEVICE_LOST)


class Runtime(Protocol):
    """One loaded version on one device.

    Attributes:
        concurrency: How many `run` calls may be under way at once, each from its own thread. On an accelerator the
            copies of one batch overlap with the computation of another.
        kind: "onnx" or "torchscript".
        device: Where it really runs, as measured after the load: "cpu", "cuda:0".
        provider: What executes it: "CPUExecutionProvider", "CUDAExecutionProvider", "libtorch".
        fallback: The settings asked for an accelerator, and allowed the CPU that runs it now.
        healthy: False after an error from which the process cannot recover (a sticky CUDA error): restart it.
    """

    kind: str
    device: str
    provider: str
    fallback: bool
    healthy: bool
    concurrency: int

    def buffer(self, index: int, shape: tuple[int, ...]) -> Array | None:
        """Memory in which the calling thread may gather one input of the batch that it is about to run.

        It spares a copy where the device reads host memory directly (pinned memory). It belongs to the calling thread
        until `run` has returned and nobody refers to the array any more.

        Args:
            index: Index of the input in the signature.
            shape: (rows, ...), or the whole shape when unbatched.

        Returns:
            A C-contiguous array of the signature's numpy dtype, or None: gather into an array of your own.
        """
        ...

    def run(self, inputs: Sequence[Array], outputs: Sequence[int]) -> list[Array]:
        """Execute one batch.

        Args:
            inputs: One C-contiguous array an input, in signature order: shape (rows, ...), the signature's numpy
                dtype (BF16: its bits as uint16; BYTES: object arrays of `bytes`). They are never changed.
            outputs: Indices into the signature's outputs. A tuple spares a conversion.

        Returns:
            One C-contiguous array a wanted output, in that order. The caller may keep them.

        Raises:
            InvalidRequest: a BYTES element is not text, and the model's tensor is.
            OutOfMemory: the batch did not fit; the next one may.
            DeviceLost: `healthy` is False since an earlier batch.
            ModelFailed: the framework raised; the text is public.
        """
        ...

    def close(self) -> None:
        """Give the memory back. Afterwards `run` raises ModelFailed. Closing twice is harmless."""
        ...


@runtime_checkable
class Described(Protocol):
    """A runtime that has more to say about itself than every runtime has."""

    @property
    def facts(self) -> dict[str, Fact]:
        """For the record log and for people: names without spaces, values of the record log's kinds."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """A runtime with something to do between its load and its first batch."""

    def prepare(self) -> None:
        """Do it. Called once."""
        ...


def closed() -> ModelFailed:
    """The error of a `run` after `close`."""
    return ModelFailed(MODEL_CLOSED)


def as_contiguous(array: Array, dtype: np.dtype[Any]) -> Array:
    """`array` with the given dtype and C order, copied only when it has to be."""
    return np.ascontiguousarray(array, dtype=dtype)


def as_float64(datatype: Datatype, array: Array) -> Array:
    """A float tensor of the wire as float64: BF16 travels as bits, the upper half of a float32."""
    return numbers(datatype, array).astype(np.float64)
