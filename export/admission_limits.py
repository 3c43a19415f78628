"""What a package may hold and what checking it may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class AdmissionLimits:
    """Limits of the admission check. Each refusal names the limit that was passed.

    Attributes:
        memory_bytes: Address space of the checking process (an ONNX file is read whole, twice its size is needed).
        cpu_s: CPU seconds of the checking process.
        wall_s: Seconds until the checking process is killed.
        files: Files of a package.
        total_bytes: Bytes of all files, and of all tensors.
        onnx_bytes: Bytes of an ONNX file without its external data; protobuf ends at 2 GiB.
        nodes: Nodes of a graph with all its sub-graphs and function bodies.
        nesting: Depth of sub-graphs in sub-graphs.
        tensors: Stored tensors.
        rank: Dimensions of a stored tensor.
        elements: Elements of a stored tensor.
        constant_elements: Elements that an operator may make of a stored shape.
        archive_entries: Entries of a TorchScript archive or an array file.
        archive_bytes: Inflated size of one.
    """

    memory_bytes: int = 6 << 30
    cpu_s: int = 120
    wall_s: float = 180.0
    files: int = 1024
    total_bytes: int = 64 << 30
    onnx_bytes: int = (2 << 30) - 1
    nodes: int = 500_000
    nesting: int = 16
    tensors: int = 200_000
    rank: int = 16
    elements: int = 1 << 34
    constant_elements: int = 1 << 30
    archive_entries: int = 100_000
    archive_bytes: int = 64 << 30
