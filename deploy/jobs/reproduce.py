"""A training again: the recorded request, in a folder of its own, and what came out of it this time.

Nothing is registered, gated or rolled out, and the loop does not know of it. The program is what was started then,
command line and environment as the job's folder has them, below a supervisor with the same limits.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.errors import CommandError, Missing
from deploy.jobs.folder import JobFolder, JobSpec
from deploy.jobs.local import CODE
from deploy.paths import StatePaths
from export.contracts import codec
from export.contracts.errors import HardcaseError
from export.contracts.training import PACKAGE_FOLDER, REQUEST_FILE, EventKind, TrainingEvent, TrainingRequest
from export.package import Package, read_package
from export.registry import Registry
from export.training.compare import PackageDifference, compare_packages
from monitoring.loop.contracts import JobState

TICK_S = 0.2
FOLDER = "reproductions"
_ELSEWHERE = "deploy.jobs.webhook_driver"


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A training as it was recorded.

    Attributes:
        package: What came out of it: as registered, or as the trainer left it.
    """

    request: TrainingRequest
    spec: JobSpec
    package: Package


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A training and its repetition.

    Attributes:
        same: The packages' digests are equal.
        within: It counts as reproduced: the same, or answers as near as was allowed.
        before: Digest of the package then.
        after: Digest of the package now.
        folder: Where the repetition lies; None when it was removed.
        words: All in one sentence.
    """

    training: str
    model: str
    version: str
    same: bool
    within: bool
    before: str
    after: str
    difference: PackageDifference
    seconds: float
    folder: str | None
    words: str


def recorded(paths: StatePaths, registry: Registry, training: str) -> Recorded:
    """What is known of a training.

    Args:
        paths: Of the installation; its state must be on this machine.
        registry: Of the installation.
        training: Its id.

    Raises:
        Missing: nothing is known of it, or something that it needs is gone; says what.
    """
    folder = paths.loop / "trainings" / training
    try:
        request = codec.loads(TrainingRequest, (folder / REQUEST_FILE).read_bytes())
    except FileNotFoundError:
        raise Missing(
            f"there is no request of a training '{training}' in this state folder",
            "`hardcase retrain list` shows the trainings; one that came from elsewhere (MLflow) was not trained here",
        ) from None
    spec = JobFolder(paths.jobs, training).spec()
    if spec is None:
        raise Missing(f"training {training} was asked for, but never started")
    if _ELSEWHERE in spec.argv:
        raise CommandError("a training by webhook ran elsewhere: only whoever ran it can run it again")
    for what, where in (("snapshot", request.snapshot), ("parent's package", request.parent)):
        if where is not None and not Path(where).is_dir():
            raise Missing(f"the {what} of training {training} is gone ({Path(where).name})", "it cannot be run again")
    return Recorded(request=request, spec=spec, package=_package(registry, request))


def newest(paths: StatePaths, model: str) -> str:
    """Id of the newest training of a model that was started here.

    Raises:
        Missing: there is none.
    """
    found: list[tuple[str, str]] = []
    for path in (paths.loop / "trainings").glob(f"*/{REQUEST_FILE}"):
        request = codec.loads(TrainingRequest, path.read_bytes())
        if request.model == model and JobFolder(paths.jobs, request.id).spec() is not None:
            found.append((request.asked_at, request.id))
    if not found:
        raise Missing(f"no training of '{model}' was started in this state folder")
    return max(found)[1]


def reproduce(
    known: Recorded,
    root: Path,
    *,
    tolerance: float | None = None,
    keep: bool = False,
    heard: Callable[[TrainingEvent], None] = lambda event: None,
) -> Reproduction:
    """Run a training again and compare what comes out.

    Args:
        known: The training.
        root: Folder for the repetition; made, and removed afterwards where both are the same.
        tolerance: Difference of the golden cases' answers that still counts as reproduced; None: only the same bytes.
        keep: Leave the folder also then.
        heard: Told what the trainer says.

    Raises:
        CommandError: the repetition failed.
    """
    folder = _declare(known, root)
    started = time.monotonic()
    state, reason = _run(folder, heard)
    if state is not JobState.SUCCEEDED:
        last = folder.log_end(5).strip()
        raise CommandError(f"the repetition {state.value}: {reason}", f"its log: {folder.log}\n{last}".strip())
    seconds = time.monotonic() - started
    made = read_package(root / "output" / PACKAGE_FOLDER)
    difference = compare_packages(known.package.dir, made.dir)
    near = tolerance is not None and difference.golden is not None and difference.golden <= tolerance
    gone = difference.same and not keep
    if gone:
        shutil.rmtree(root)
    return Reproduction(
        training=known.request.id,
        model=known.request.model,
        version=known.request.version,
        same=difference.same,
        within=difference.same or near,
        before=known.package.digest,
        after=made.digest,
        difference=difference,
        seconds=round(seconds, 2),
        folder=None if gone else str(root),
        words=_words(known, difference, near, tolerance),
    )


def _declare(known: Recorded, root: Path) -> JobFolder:
    output = root / "output"
    output.mkdir(parents=True)
    request = replace(known.request, output=str(output))
    (root / REQUEST_FILE).write_bytes(codec.dumps(request))
    spec = known.spec
    folder = JobFolder(root, "job")
    folder.declare(
        replace(
            spec,
            id="job",
            request=str(root / REQUEST_FILE),
            output=str(output),
            folder=str(output) if spec.folder == spec.output else spec.folder,
            restarts=0,
            secret_file="",
        )
    )
    return folder


def _run(folder: JobFolder, heard: Callable[[TrainingEvent], None]) -> tuple[JobState, str]:
    """Supervise it in a child process, which ends with this one."""
    command = [sys.executable, "-m", "deploy.jobs.supervise", "--with-parent", str(folder.dir)]
    said = 0
    with (folder.dir / "supervisor.log").open("wb") as log:
        child = subprocess.Popen(command, cwd=CODE, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        while True:
            ended = child.poll() is not None
            events, said = folder.events(said)
            for event in events:
                if event.kind is not EventKind.DONE:
                    heard(event)
            if ended:
                break
            time.sleep(TICK_S)
    finally:
        if child.poll() is None:  # we were interrupted: so is the program
            child.terminate()
            child.wait()
    exit_ = folder.exit()
    return (JobState.FAILED, "it was broken off") if exit_ is None else (exit_.state, exit_.reason)


def _package(registry: Registry, request: TrainingRequest) -> Package:
    try:
        return registry.package(request.model, request.version)
    except HardcaseError:
        left = Path(request.output) / PACKAGE_FOLDER
        if not left.is_dir():
            raise Missing(
                f"training {request.id} left no package to compare with", "it failed, or was removed"
            ) from None
        return read_package(left)


def _words(known: Recorded, found: PackageDifference, near: bool, tolerance: float | None) -> str:
    what = f"{known.request.model} {known.request.version}"
    if found.same:
        return f"the same request made the same package again: {what}, {known.package.digest[:23]}"
    allowed = f" (within {tolerance:g}: it counts as reproduced)" if near else ""
    return f"the same request made another package of {what}{allowed}: {found.text()}"
