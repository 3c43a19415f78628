"""What is measured: a table of servers, and the ways in which each is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.payloads import Wire
from benchmarks.starts import OIP_PATH, Start, litserve, mosec, ours_ray, ours_standalone, plain_ray, pytriton


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One way of loading a server.

    Attributes:
        entry: "front" (proxy, or the server where there is none) or "direct" (the replica's own port).
    """

    wire: Wire
    connections: int
    path: str
    entry: str = "front"

    @property
    def key(self) -> str:
        """For example `direct/oip-binary/64`, with the path's last word where it is not `infer`."""
        word = self.path.rsplit("/", 1)[-1]
        extra = "" if word in ("infer", "infer-json") else f"/{word}"
        return f"{self.entry}/{self.wire}/{self.connections}{extra}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A server with its settings.

    Attributes:
        environment: Name of the folder in `.venvs`; None is this project's own.
        captures: Every request must have been recorded; checked against the replica's metrics after the load.
    """

    key: str
    label: str
    start: Start
    cells: tuple[Cell, ...]
    environment: str | None = None
    distributions: tuple[str, ...] = ()
    captures: bool = False


def cells(wire: Wire, path: str, *connections: int, entry: str = "front") -> tuple[Cell, ...]:
    """One cell for each number of connections."""
    return tuple(Cell(wire=wire, connections=n, path=path, entry=entry) for n in connections)


def all_targets() -> tuple[Target, ...]:
    """Every server, ours first."""
    binary, json_wire, raw = Wire.OIP_BINARY, Wire.OIP_JSON, Wire.RAW
    ours = ("ray", "onnxruntime-gpu", "uvicorn", "uvloop", "httptools", "numpy")
    return (
        Target(
            key="ours_replica",
            label="Hardcase in Ray Serve, every request captured",
            start=ours_ray(capture=True),
            captures=True,
            distributions=ours,
            cells=cells(binary, OIP_PATH, 64, 1, entry="direct")
            + cells(json_wire, OIP_PATH, 64, 1, entry="direct")
            + cells(binary, OIP_PATH, 64, 1)
            + cells(json_wire, OIP_PATH, 64),
        ),
        Target(
            key="ours_replica_nocapture",
            label="Hardcase in Ray Serve, capture off",
            start=ours_ray(capture=False),
            distributions=ours,
            cells=cells(binary, OIP_PATH, 64, 1, entry="direct"),
        ),
        Target(
            key="ours_standalone",
            label="Hardcase stand-alone, every request captured",
            start=ours_standalone(capture=True),
            captures=True,
            distributions=ours,
            cells=cells(binary, OIP_PATH, 64, 1) + cells(json_wire, OIP_PATH, 64),
        ),
        Target(
            key="ours_standalone_nocapture",
            label="Hardcase stand-alone, capture off",
            start=ours_standalone(capture=False),
            distributions=ours,
            cells=cells(binary, OIP_PATH, 64),
        ),
        Target(
            key="ours_asgi",
            label="Hardcase stand-alone without the fast lane (ASGI), every request captured",
            start=ours_standalone(capture=True, fast_lane=False),
            captures=True,
            distributions=ours,
            cells=cells(binary, OIP_PATH, 64, 1),
        ),
        Target(
            key="mosec",
            label="mosec, batches of up to 64",
            start=mosec(64),
            environment="mosec",
            distributions=("mosec", "onnxruntime-gpu", "numpy"),
            cells=cells(raw, "/infer", 64, 1) + cells(Wire.JSON, "/infer-json", 64),
        ),
        Target(
            key="mosec_32",
            label="mosec, batches of up to 32",
            start=mosec(32),
            environment="mosec",
            distributions=("mosec", "onnxruntime-gpu", "numpy"),
            cells=cells(raw, "/infer", 64),
        ),
        Target(
            key="pytriton",
            label="Triton's front end with PyTriton",
            start=pytriton,
            environment="pytriton",
            distributions=("nvidia-pytriton", "onnxruntime-gpu", "numpy"),
            cells=cells(binary, OIP_PATH, 64, 1) + cells(json_wire, OIP_PATH, 64),
        ),
        Target(
            key="litserve",
            label="LitServe, raw bytes",
            start=litserve(raw),
            environment="litserve",
            distributions=("litserve", "onnxruntime-gpu", "numpy"),
            cells=cells(raw, "/infer", 64, 1),
        ),
        Target(
            key="litserve_json",
            label="LitServe, JSON",
            start=litserve(Wire.JSON),
            environment="litserve",
            distributions=("litserve", "onnxruntime-gpu", "numpy"),
            cells=cells(Wire.JSON, "/infer", 64),
        ),
        Target(
            key="ray_usual",
            label="Ray Serve written the usual way (FastAPI, @serve.batch, default proxy)",
            start=plain_ray("usual"),
            distributions=("ray", "onnxruntime-gpu", "numpy"),
            cells=cells(raw, "/infer", 64, 1) + cells(Wire.JSON, "/infer-json", 64),
        ),
        Target(
            key="ray_throughput",
            label="Ray Serve's high-throughput mode with a bare ASGI app",
            start=plain_ray("throughput"),
            distributions=("ray", "onnxruntime-gpu", "numpy"),
            cells=cells(raw, "/infer", 64, 1)
            + cells(raw, "/infer-alone", 64, 1)
            + cells(raw, "/infer", 64, 1, entry="direct")
            + cells(raw, "/infer-alone", 64, 1, entry="direct"),
        ),
    )
