"""What an accelerator does for a batch, behind a protocol: CUDA streams (`torch_streams`) and their double (`double`).

A lane is one ordered queue of device work: copies in, computation, copies out, issued without waiting. Several lanes
overlap. `serving.runtime.staged` is written against this protocol alone, so that all of it is tested without a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Any, Protocol

from serving.runtime.base import Array

Tensor = Any
"""A tensor on the device: only the lane that made it looks inside."""


class Fault(StrEnum):
    """What an exception means for the batches to come."""

    MODEL = "model"  # the model raised: the next batch is answered
    MEMORY = "memory"  # this batch did not fit: fewer rows may
    LOST = "lost"  # the device answers nothing any more in this process


class Graph(Protocol):
    """A recorded computation at fixed shapes. It reads `inputs` where they are, and is replayed by its own lane."""

    inputs: Sequence[Tensor]


class Lane(Protocol):
    """One ordered queue of device work. Used by one thread at a time, inside `work()`."""

    def work(self) -> AbstractContextManager[object]:
        """Make this lane the one that the calling thread issues to."""
        ...

    def upload(self, host: Array, into: Tensor | None = None) -> Tensor:
        """Begin to copy an array to the device. It must stay as it is until `finish` has returned.

        Args:
            host: C-contiguous; page-locked, or the copy is not asynchronous.
            into: A tensor of at least as many rows to copy into; its further rows become copies of the last one.
        """
        ...

    def compute(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Begin to run the model. Batches of different lanes are computed one after the other, in order of the calls.

        Returns:
            All outputs of the signature.
        """
        ...

    def capture(self, inputs: Sequence[Tensor]) -> Graph:
        """Record the computation for inputs of exactly these shapes.

        Raises:
            Exception: it cannot be recorded; the lane works on without.
        """
        ...

    def replay(self, graph: Any) -> list[Tensor]:
        """Begin to run what this lane has recorded, on what its inputs hold. The outputs hold until the next replay."""
        ...

    def download(self, tensor: Tensor, rows: int | None) -> Tensor:
        """Begin to copy a tensor, or its first `rows` rows, to the host."""
        ...

    def finish(self) -> None:
        """Wait, without holding the interpreter, until everything that was issued is done.

        Raises:
            Exception: what went wrong on the way.
        """
        ...

    def array(self, download: Tensor) -> Array:
        """The result of a finished `download`: C-contiguous, the caller's own."""
        ...

    def close(self) -> None:
        """Give up graphs and memory. Called when nothing is under way."""
        ...


class Accelerator(Protocol):
    """A device with a model on it."""

    name: str

    def lane(self) -> Lane:
        """A new lane."""
        ...

    def host(self, size_bytes: int) -> Array:
        """Host memory that the device copies from by itself (page-locked), as a uint8 array."""
        ...

    def memory_bytes(self) -> int:
        """Device memory that this process has taken."""
        ...

    def relieve(self) -> None:
        """Give back memory that is cached and not used."""
        ...

    def fault(self, error: BaseException) -> Fault:
        """What an exception of a lane means."""
        ...

    def close(self) -> None:
        """Give up the model and all that is left. The lanes are closed before."""
        ...
