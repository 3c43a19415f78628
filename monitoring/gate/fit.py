"""Can a candidate take the champion's place at all? It must take what clients send and give what they read."""

from __future__ import annotations

from export.contracts.manifest import Manifest
from export.contracts.signature import InputSpec, OutputSpec, Signature
from export.contracts.task import BoxRules, Task, TaskKind
from monitoring.gate.contracts import Check, CheckKind, Outcome


def contract(subject: str, outcome: Outcome, words: str, champion: float = 0.0, candidate: float = 0.0) -> Check:
    """A check about what a package promises."""
    return Check(
        kind=CheckKind.CONTRACT,
        subject=subject,
        outcome=outcome,
        n=0,
        champion=champion,
        candidate=candidate,
        words=words,
    )


def fit_checks(champion: Manifest, candidate: Manifest) -> list[Check]:
    """One check each of model, inputs, outputs and task; every difference that a client would meet is named.

    More is allowed than equality: a candidate may take shapes that the champion does not, and give further outputs
    and classes at the end.
    """
    found = (
        ("inputs", _inputs(champion.signature, candidate.signature), "takes every request that the champion takes"),
        ("outputs", _outputs(champion.signature, candidate.signature), "gives every output that the champion gives"),
        ("task", _task(champion.task, candidate.task), "answers the same question in the same terms"),
    )
    checks = []
    if champion.name != candidate.name:
        words = f"the candidate is of model '{candidate.name}', the champion of '{champion.name}'"
        checks.append(contract("model", Outcome.FAILED, words))
    for subject, problems, words in found:
        outcome = Outcome.FAILED if problems else Outcome.PASSED
        checks.append(contract(subject, outcome, "; ".join(problems) or words))
    return checks


def can_run(champion: Manifest, candidate: Manifest) -> bool:
    """Whether the champion's inputs can be put to the candidate."""
    return not _inputs(champion.signature, candidate.signature) and champion.task.kind is candidate.task.kind


def _inputs(old: Signature, new: Signature) -> list[str]:
    mine, theirs = {s.name: s for s in new.inputs}, {s.name: s for s in old.inputs}
    problems = [f"needs an input '{n}' that no client sends" for n in mine if n not in theirs]
    for name, spec in theirs.items():
        if name not in mine:
            problems.append(f"does not take the input '{name}'")
        else:
            problems += _differ("input", spec, mine[name], wider=True)
    if old.batched and not new.batched:
        problems.append("takes no batches")
    return problems


def _outputs(old: Signature, new: Signature) -> list[str]:
    mine = {s.name: s for s in new.outputs}
    problems = []
    for spec in old.outputs:
        if spec.name not in mine:
            problems.append(f"does not give the output '{spec.name}'")
            continue
        given = mine[spec.name]
        problems += _differ("output", spec, given, wider=False)
        if given.role is not spec.role:
            problems.append(f"output '{spec.name}' is {given.role}, and {spec.role} is expected")
    return problems


def _differ(what: str, old: InputSpec | OutputSpec, new: InputSpec | OutputSpec, *, wider: bool) -> list[str]:
    """How a tensor differs. `wider`: the new one may leave open what the old one fixes."""
    problems = []
    if old.datatype is not new.datatype:
        problems.append(f"{what} '{old.name}' is {new.datatype}, and {old.datatype} is expected")
    same = len(old.shape) == len(new.shape)
    fits = same and all(a == b or (b == -1 if wider else a == -1) for a, b in zip(old.shape, new.shape, strict=True))
    if not fits and not (same and not wider and _more_classes(old.shape, new.shape)):
        problems.append(f"{what} '{old.name}' has the shape {list(new.shape)}, and {list(old.shape)} is expected")
    return problems


def _more_classes(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
    """Only the last axis, that of the classes, differs, and there is more of it."""
    return bool(old) and old[:-1] == new[:-1] and (new[-1] == -1 or new[-1] >= old[-1] > 0)


def _task(old: Task, new: Task) -> list[str]:
    if old.kind is not new.kind:
        return [f"is for {new.kind}, and the champion for {old.kind}"]
    problems = []
    missing = [name for name in old.class_names if name not in new.class_names]
    if missing:
        shown = ", ".join(f"'{n}'" for n in missing[:5]) + (" …" if len(missing) > 5 else "")
        problems.append(f"knows {len(new.class_names)} classes of {len(old.class_names)}: {shown} missing")
    elif new.class_names[: len(old.class_names)] != old.class_names:
        problems.append("has its classes in another order: clients that read indices would read wrong ones")
    if old.kind is TaskKind.DETECTION:
        a, b = old.boxes or BoxRules(), new.boxes or BoxRules()
        if (a.format, a.units) != (b.format, b.units):
            problems.append(f"gives boxes as {b.format} in {b.units}, and {a.format} in {a.units} is expected")
    return problems
