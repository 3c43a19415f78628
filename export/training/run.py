"""One run of a trainer: what was asked for, its data, and a way to say how it goes.

    import sys
    from export.training.run import TrainingRun

    with TrainingRun.open(sys.argv) as run:
        rows = run.snapshot.arrays("train")
        ...
        run.metric("val_accuracy", 0.93, step=3)
        run.export(module, metrics={"val_accuracy": 0.93})
        run.done()

Prints of the program and of its libraries go to the log: the run takes standard output for its events.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar, cast

import numpy as np

from export.contracts import codec
from export.contracts.errors import HardcaseError, PackageError
from export.contracts.manifest import Manifest, Provenance
from export.contracts.training import PACKAGE_FOLDER, EventKind, TrainingEvent, TrainingRequest
from export.package import Package, read_package
from export.training.lines import MAX_TEXT, event_of, to_line
from export.training.process import on_sigterm, seed_everything, take_output

if TYPE_CHECKING:
    import torch

    from export.dataset import Snapshot

STOPPED = 128 + signal.SIGTERM  # what a shell says of a program that SIGTERM ended
V = TypeVar("V", str, int, float, bool)
Listener: TypeAlias = Callable[[str, float, int | None], None]  # name, value, step


class TrainingStopped(SystemExit):
    """Raised by whatever the run says next after SIGTERM. Catch it to leave a checkpoint; then let it go on."""

    def __init__(self) -> None:
        super().__init__(STOPPED)


class RequestRefused(HardcaseError):
    """The request cannot be carried out as it is: unreadable, or of other data than it names."""

    code = "request_refused"


class TrainingRun(AbstractContextManager["TrainingRun"]):
    """See the module's text. Made by `open`.

    Attributes:
        request: What was asked for.
        output: Folder for everything that the training leaves; it exists.
    """

    def __init__(self, request: TrainingRequest, write: Callable[[bytes], None]) -> None:
        self.request = request
        self.output = Path(request.output)
        self._write = write
        self._undo: list[Callable[[], None]] = []
        self._stopping = threading.Event()
        self._metrics: dict[str, float] = {}
        self._asked: set[str] = set()
        self._listeners: list[Listener] = []
        self._done = False

    @classmethod
    def open(cls, argv: Sequence[str], *, seeds: Sequence[str] = ("random", "numpy", "torch")) -> Self:
        """Read the request whose path is the last argument, check it, seed the libraries, listen for SIGTERM.

        Args:
            argv: Of the program.
            seeds: Which sources of random numbers are seeded; a library that is not installed is left out.

        Raises:
            RequestRefused: there is no request, or the snapshot is another than it names.
        """
        if len(argv) < 2:
            raise RequestRefused("the last argument must be the path of a request file")
        try:
            request = codec.loads(TrainingRequest, Path(argv[-1]).read_bytes())
        except OSError as error:
            raise RequestRefused(f"the request file cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise RequestRefused(f"the request file is wrong: {error}") from None
        Path(request.output).mkdir(parents=True, exist_ok=True)
        write, restore = take_output()
        run = cls(request, write)
        run._undo += [restore, on_sigterm(run._stop)]
        try:
            run._check_data()
            seed_everything(request.seed, seeds)
        except BaseException:
            run.close()
            raise
        return run

    # ---- what is there

    @cached_property
    def snapshot(self) -> Snapshot:
        """The data set; its digest is the request's."""
        from export.dataset import Snapshot

        return Snapshot.open(Path(self.request.snapshot))

    @cached_property
    def parent(self) -> Package | None:
        """The package of the version to start from."""
        return read_package(Path(self.request.parent)) if self.request.parent else None

    @property
    def package_folder(self) -> Path:
        """Where the package must lie in the end."""
        return self.output / PACKAGE_FOLDER

    @property
    def stopping(self) -> bool:
        """Whether somebody wants this program to end."""
        return self._stopping.is_set()

    @property
    def metrics(self) -> Mapping[str, float]:
        """The last value of every metric so far."""
        return dict(self._metrics)

    def parameter(self, name: str, default: V) -> V:
        """A parameter of the request, of the default's type.

        Raises:
            RequestRefused: it has another type.
        """
        self._asked.add(name)
        value = self.request.parameters.get(name, default)
        kind: Any = type(default)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise RequestRefused(f"parameter '{name}' must be of type {kind.__name__}")
        return cast(V, value)

    # ---- what is said

    def progress(self, step: int, of: int | None = None, text: str = "") -> None:
        """How far it is."""
        self._say(TrainingEvent(kind=EventKind.PROGRESS, step=step, of=of, text=text[:MAX_TEXT]))

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """A figure. One that is not finite is said as a note: a diverged loss is a fact, not a number."""
        value = float(value)
        if not np.isfinite(value):
            self.note(f"{name} is {value}" + ("" if step is None else f" at step {step}"))
            return
        self._say(TrainingEvent(kind=EventKind.METRIC, name=name, value=value, step=step))
        self._metrics[name] = value
        for listener in self._listeners:
            listener(name, value, step)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Have every metric told to somebody else, too; returns how to end that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def note(self, text: str) -> None:
        """Something that people should read."""
        self._say(TrainingEvent(kind=EventKind.NOTE, text=text[:MAX_TEXT]))

    def artefact(self, path: Path | str, text: str = "") -> Path:
        """A file below `output` that people may want; relative paths are taken from there."""
        place = self.output / path
        self._say(
            TrainingEvent(kind=EventKind.ARTEFACT, path=place.relative_to(self.output).as_posix(), text=text[:MAX_TEXT])
        )
        return place

    def done(self, metrics: Mapping[str, float] | None = None) -> None:
        """The package lies there.

        Raises:
            PackageError: it does not, or it is another than the one asked for.
        """
        manifest = read_package(self.package_folder).manifest
        if (manifest.name, manifest.version) != (self.request.model, self.request.version):
            raise PackageError(f"the package is '{manifest.name}' {manifest.version}, which was not asked for")
        for name in sorted(set(self.request.parameters) - self._asked):
            self.note(f"parameter '{name}' was given, and nobody asked for it")
        given = metrics if metrics is not None else manifest.provenance.metrics or self._metrics
        found = {name: float(value) for name, value in given.items()}
        self._say(TrainingEvent(kind=EventKind.DONE, metrics=found))
        self._done = True

    # ---- what is left

    def provenance(self, source: str, metrics: Mapping[str, float] | None = None) -> Provenance:
        """Of the package: its snapshot, its parent, and the request's time, not the clock's."""
        from export.provenance import environment, git_commit

        return Provenance(
            created_at=self.request.asked_at or self.snapshot.manifest.created_at,
            source=source,
            git_commit=git_commit(),
            environment=environment(),
            dataset_snapshot=self.snapshot.digest,
            parent_version=self.request.parent_version,
            metrics=dict(self._metrics if metrics is None else metrics),
        )

    def export(self, module: torch.nn.Module, *, metrics: Mapping[str, float] | None = None, **more: Any) -> Package:
        """Export a PyTorch module as the package that was asked for.

        Signature, task and names are the parent's, or without one the snapshot's; the reference profile is compiled
        from rows that were not trained on (split `test`, or else `validation`).

        Args:
            module: The trained module.
            metrics: For the provenance; default: the last value of every metric.
            more: Other arguments of `export.from_torch.export_module`, which win.

        Raises:
            ParityFailed, PackageError: as of `export_module`.
        """
        from export.from_torch import export_module
        from export.training.export_arguments import export_arguments

        like: Manifest | None = self.parent.manifest if self.parent else None
        given = export_arguments(self.snapshot, like)
        source = f"trainer:{type(module).__module__}.{type(module).__qualname__}"
        given |= {
            "name": self.request.model,
            "version": self.request.version,
            "out_dir": self.package_folder,
            "provenance": self.provenance(source, metrics),
            "seed": self.request.seed,
            "overwrite": True,  # of an attempt that was broken off after its export
        }
        given |= more
        return export_module(module, given.pop("example_inputs"), **given)

    # ---- its life

    def close(self) -> None:
        """Give standard output and signals back. Idempotent."""
        while self._undo:
            self._undo.pop()()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close. Whoever leaves without `done` has failed: the program ends with a status that says so."""
        self.close()
        if kind is None and not self._done:
            raise SystemExit("the trainer ended without calling done()")

    def _say(self, event: TrainingEvent) -> None:
        if self._stopping.is_set():
            raise TrainingStopped
        line = to_line(event)
        if event_of(json.loads(line)) is None:
            raise ValueError(f"this event is not one of the contract: {line[:200]!r}")
        self._write(line)

    def _stop(self) -> None:
        if self._stopping.is_set():
            raise TrainingStopped  # asked twice: at once
        self._stopping.set()

    def _check_data(self) -> None:
        try:
            found = self.snapshot.digest
        except (HardcaseError, OSError, ValueError):
            raise RequestRefused("the snapshot cannot be read") from None
        if found.removeprefix("sha256:") != self.request.snapshot_digest.removeprefix("sha256:"):
            raise RequestRefused("the snapshot is another one than the request names")
