"""A gate from request to files, in one straight function.

Each version answers in a process of its own, both at the same time. Nothing here depends on which machine it runs on,
but for the costs: the same request gives the same verdict.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from deploy.gate.answering import NOTHING
from deploy.gate.child import VersionAtWork, VersionFailed, VersionProcess
from deploy.gate.costs import Costs, measure, size_mib
from deploy.gate.errors import GateError
from deploy.gate.inputs import LabelledSet, open_set, trained_on
from deploy.gate.write import write_files, write_verdict
from export.contracts.errors import HardcaseError
from export.contracts.manifest import TaskKind
from export.package import Package, read_package
from monitoring.gate.contracts import Check, Outcome
from monitoring.gate.decide import decide
from monitoring.gate.evaluated import Asked, Compared, compare
from monitoring.gate.fit import can_run, contract, fit_checks
from monitoring.gate.job import GateRequest, GateResult, GateSet, Version
from monitoring.gate.judge import Judged

CHUNK = 512  # inputs between two words of a version
Tell = Callable[[int, int, str], None]  # step, of, text
Start = Callable[[Path, Path, int, float], VersionAtWork]  # as the arguments of `VersionProcess`


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What the two versions did on all sets, and what it cost."""

    compared: list[Compared]
    costs: Costs
    seconds: dict[str, float]


def run_gate(
    request: GateRequest, tell: Tell = lambda step, of, text: None, start: Start = VersionProcess
) -> GateResult:
    """Hold a gate and write its files into `request.output`.

    Args:
        request: What is asked.
        tell: Is told of progress.
        start: Makes what runs a version: a process of its own.

    Raises:
        GateError: the champion or a set cannot be used; nothing is said about the candidate.
    """
    started, begin = datetime.now(UTC), time.monotonic()
    champion = _champion(Path(request.champion))
    sets = _sets(request)
    candidate, checks = _candidate(Path(request.candidate))
    answers = Answers(compared=[], costs=Costs(), seconds={})
    if candidate is not None:
        checks += fit_checks(champion.manifest, candidate.manifest)
        if champion.manifest.task.kind is TaskKind.OTHER:
            words = "nobody can say which answers of a task of kind 'other' are right: there is nothing to compare"
            checks.append(contract("task", Outcome.UNDECIDED, words))
        elif can_run(champion.manifest, candidate.manifest):
            try:
                answers = _ask_both(request, champion, sets, tell, start)
                checks.append(_finite_check(answers.compared))
            except VersionFailed as failure:
                checks.append(contract("answers", Outcome.FAILED, f"cannot answer the sets: {failure}"))
    deciding = time.monotonic()
    evaluated = [c.evaluated for c in answers.compared if c.evaluated.ids]
    verdict = decide(evaluated, answers.costs.measured(request.budgets), request.policy, checks)
    result = GateResult(
        id=request.id,
        model=champion.manifest.name,
        training_id=request.training_id,
        task=champion.manifest.task.kind.value,
        champion=_version(champion),
        candidate=_version(candidate) if candidate is not None else Version(version=Path(request.candidate).name),
        outcome=verdict.outcome,
        words=verdict.words,
        checks=verdict.checks,
        sets=tuple(c.result for c in answers.compared),
        negative_flips=verdict.negative_flips,
        positive_flips=verdict.positive_flips,
        policy=request.policy,
        budgets=request.budgets,
        costs=answers.costs.pairs,
        started_at=started.isoformat(timespec="seconds").replace("+00:00", "Z"),
        seconds=answers.seconds | {"deciding": time.monotonic() - deciding},
    )
    writing = time.monotonic()
    inputs = {given.name: labelled for given, labelled in sets}
    write_files(Path(request.output), result, answers.compared, inputs, champion.manifest, request)
    ended = time.monotonic()
    # The verdict is written last, when everything else lies there: whoever finds it finds all.
    seconds = result.seconds | {"writing": ended - writing, "all": ended - begin}
    result = replace(result, seconds={name: round(value, 3) for name, value in seconds.items()})
    write_verdict(Path(request.output), result)
    return result


def _champion(folder: Path) -> Package:
    try:
        package = read_package(folder)
        package.verify()
    except HardcaseError as error:
        raise GateError(f"the champion's package cannot be used: {error.message}") from None
    return package


def _candidate(folder: Path) -> tuple[Package | None, list[Check]]:
    try:
        package = read_package(folder)
        package.verify()
    except HardcaseError as error:
        return None, [contract("package", Outcome.FAILED, f"the candidate's package is broken: {error.message}")]
    return package, [contract("package", Outcome.PASSED, "every file is what the manifest says")]


def _sets(request: GateRequest) -> list[tuple[GateSet, LabelledSet]]:
    names = [given.name for given in request.sets]
    if len(set(names)) != len(names):
        raise GateError("two sets have the same name")
    found = []
    for given in request.sets:
        try:
            found.append((given, open_set(Path(given.folder))))
        except HardcaseError as error:
            raise GateError(f"set '{given.name}' cannot be read: {error.message}") from None
    return found


def _ask_both(
    request: GateRequest, champion: Package, sets: Sequence[tuple[GateSet, LabelledSet]], tell: Tell, start: Start
) -> Answers:
    """Both versions on all sets.

    Raises:
        VersionFailed: the candidate cannot be loaded or does not answer.
        GateError: the champion.
    """
    begin = time.monotonic()
    try:
        seen = trained_on(Path(folder) for folder in request.trained_on)
    except HardcaseError as error:
        raise GateError(f"a snapshot that was trained on cannot be read: {error.message}") from None
    total, done = 2 * sum(len(labelled) for _, labelled in sets), [0, 0]
    reading = time.monotonic() - begin

    def answer(side: int, process: VersionAtWork) -> list[Judged]:
        made = []
        for given, _ in sets:
            judged = NOTHING
            for part in process.evaluate(given.folder, CHUNK):
                judged = judged.extended(part)
                done[side] += len(part.goodness)
                tell(sum(done), total, f"{('champion', 'candidate')[side]} on '{given.name}'")
            made.append(judged)
        return made

    with ExitStack() as stack:
        old, new = (
            stack.enter_context(start(Path(folder), Path(request.champion), request.batch_rows, request.silence_s))
            for folder in (request.champion, request.candidate)
        )
        _or_error(old.load)
        new.load()
        answering = time.monotonic()
        if request.ray is None:
            with ThreadPoolExecutor(2) as pool:
                ours, theirs = pool.submit(answer, 0, old), pool.submit(answer, 1, new)
                judged = [_or_error(ours.result), theirs.result()]
        else:
            from deploy.gate.ray_tasks import answer_on_ray

            judged = answer_on_ray(request, sets, tell)
        answered = time.monotonic()
        costs = measure(old, new, sets, request)
        costs = costs.also("size_mib", size_mib(champion), size_mib(read_package(request.candidate)))
        measured = time.monotonic()
    compared = []
    for (given, labelled), a, b in zip(sets, *judged, strict=True):
        asked = Asked(
            digest=labelled.digest,
            ids=labelled.ids,
            records=labelled.records,
            truths=labelled.truths,
            slices=labelled.slices,
            left_out=[not seen.isdisjoint(marks) for marks in labelled.marks],
        )
        task = champion.manifest.task
        compared.append(compare(given, asked, a, b, task.kind, task.class_names, request.slice_names))
    seconds = {
        "reading": reading,
        "answering": answered - answering,
        "measuring": measured - answered,
        "comparing": time.monotonic() - measured,
    }
    return Answers(compared=compared, costs=costs, seconds=seconds)


def _or_error(work: Callable[[], list[Judged] | None]) -> list[Judged]:
    """Work of the champion: when it fails nothing can be said about the candidate."""
    try:
        return work() or []
    except VersionFailed as failure:
        raise GateError(f"the champion cannot answer the sets: {failure}") from None


def _finite_check(compared: Sequence[Compared]) -> Check:
    old, new = (sum(c.not_finite[side] for c in compared) for side in (0, 1))
    n = sum(len(c.lines) for c in compared)
    outcome = Outcome.FAILED if new > old else Outcome.PASSED
    words = f"{new:,} of {n:,} answers hold NaN or infinity, the champion's {old:,}" if new or old else "all are finite"
    return contract("finite", outcome, words, float(old), float(new))


def _version(package: Package) -> Version:
    made = package.manifest.provenance
    return Version(
        version=package.manifest.version,
        digest=package.digest,
        created_at=made.created_at,
        dataset_snapshot=made.dataset_snapshot,
    )
