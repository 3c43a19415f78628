"""From the arguments of `hardcase gate` to a request: packages found, sets named, policy read."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.errors import CommandError, Missing, UsageError
from deploy.gate.errors import GateError
from deploy.gate.inputs import open_set
from deploy.gate.job import run_gate
from deploy.wiring import gate_options
from export.contracts.errors import HardcaseError
from export.package import Package, read_package
from monitoring.gate.contracts import GatePolicy, SetKind
from monitoring.gate.job import GateBudgets, GateRequest, GateResult, GateSet

if TYPE_CHECKING:
    from deploy.cli.context import Invocation


@dataclass(frozen=True, kw_only=True)
class Asking:
    """What somebody asked on the command line.

    Attributes:
        sets: (kind, folder).
        policy: Files, or "key=value".
    """

    candidate: str
    reference: str
    sets: Sequence[tuple[str, Path]]
    trained_on: Sequence[Path]
    policy: Sequence[str]
    not_worse: bool
    out: Path | None
    ray: str


@dataclass(frozen=True, kw_only=True)
class Held:
    """A gate that was held, and where its files lie."""

    result: GateResult
    output: Path


@contextmanager
def hold(invocation: Invocation, asking: Asking, tell: Callable[[int, int, str], None]) -> Iterator[Held]:
    """Hold the gate; without `--out` its files are gone when the context ends.

    Raises:
        UsageError: no set is given, or a key of the policy is none.
        Missing: a package or a set is not there.
        CommandError: the champion or a set cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="hardcase-gate-") as temporary:
        output = asking.out.resolve() if asking.out is not None else Path(temporary)
        request = _request(invocation, asking, output)
        try:
            result = run_gate(request, tell)
        except GateError as error:
            raise CommandError(error.message) from None
        yield Held(result=result, output=output)


def _request(invocation: Invocation, asking: Asking, output: Path) -> GateRequest:
    options = gate_options(invocation.settings)
    candidate = _folder(invocation, asking.candidate)
    reference = _reference(invocation, asking)
    model = reference.manifest.name
    policy, budgets = policy_of(invocation, asking.policy)
    if asking.not_worse:
        policy = replace(policy, ask_better=False)
    sets = [
        GateSet(name=own.name, kind=own.kind, folder=_existing(Path(own.folder)), source=f"own:{own.name}")
        for own in options.own
        if own.model == model
    ]
    taken = {one.name for one in sets}
    for kind, folder in asking.sets:
        name = _free(kind if kind != SetKind.OWN.value else folder.name or kind, taken)
        taken.add(name)
        sets.append(GateSet(name=name, kind=SetKind(kind), folder=_existing(folder), source=f"{kind}:{name}"))
    if not sets:
        raise UsageError("no labelled inputs are given", "name a snapshot folder: --audited, --golden or --set")
    return GateRequest(
        id=secrets.token_hex(8),
        model=model,
        champion=str(reference.dir.resolve()),
        candidate=str(candidate.resolve()),
        output=str(output),
        sets=tuple(sets),
        policy=policy,
        budgets=budgets,
        trained_on=tuple(_existing(folder) for folder in asking.trained_on),
        batch_rows=options.batch_rows,
        silence_s=options.silence_s,
        report_rows=options.report_rows,
        ray=asking.ray or options.ray,
    )


def policy_of(invocation: Invocation, given: Sequence[str]) -> tuple[GatePolicy, GateBudgets]:
    """Those of the settings, with what was given on the command line.

    Raises:
        UsageError: a key that is none, or a value out of its range.
    """
    options = gate_options(invocation.settings)
    found: dict[str, Any] = {}
    for item in given:
        key, equals, value = item.partition("=")
        found.update({key.strip(): _parsed(value)} if equals else _file(Path(item)))
    kinds: tuple[GatePolicy | GateBudgets, ...] = (options.policy, options.budgets)
    made = []
    for one in kinds:
        fields = {name: type(getattr(one, name)) for name in one.__dataclass_fields__}
        mine = {name: found.pop(name) for name in list(found) if name in fields}
        try:
            made.append(replace(one, **{name: fields[name](value) for name, value in mine.items()}))
        except (TypeError, ValueError) as error:
            raise UsageError(f"--policy: {error}") from None
    if found:
        raise UsageError(f"--policy: there is no '{next(iter(found))}'", "docs/guides/gate.md lists the keys")
    return made[0], made[1]  # type: ignore[return-value]


def count_labels(invocation: Invocation, model: str, labels: int | None, folders: Sequence[Path]) -> int:
    """How many audited labels a gate would have.

    Raises:
        UsageError: neither a model, nor a number, nor a folder is given.
    """
    if labels is not None:
        return labels
    if folders:
        try:
            return sum(len(open_set(folder)) for folder in folders)
        except HardcaseError as error:
            raise CommandError(error.message) from None
    if not model:
        raise UsageError("what is planned for?", "name a model, --labels or --audited")
    from deploy.monitor_client import MonitorClient

    return int(MonitorClient.of(invocation.settings).get("/api/gates/plan", model=model)["labels"])


def _folder(invocation: Invocation, what: str) -> Path:
    """Of a package that may be broken: that is for the gate to say."""
    if "@" in what and not Path(what).exists():
        return _registered(invocation, what).dir
    path = Path(what)
    if not path.is_dir():
        raise Missing(f"there is no package folder '{what}'", "give a folder, or MODEL@VERSION")
    return path


def _reference(invocation: Invocation, asking: Asking) -> Package:
    if not asking.reference:
        model = asking.candidate.partition("@")[0] if "@" in asking.candidate else ""
        if not model:
            model = read_package(_folder(invocation, asking.candidate)).manifest.name
        plan = invocation.registry.plan(model)
        if plan is None or plan.champion is None:
            raise UsageError(f"model '{model}' has no champion to compare with", "name one: --reference")
        return invocation.registry.package(model, plan.champion)
    if "@" in asking.reference and not Path(asking.reference).exists():
        return _registered(invocation, asking.reference)
    return read_package(_folder(invocation, asking.reference))


def _registered(invocation: Invocation, what: str) -> Package:
    model, _, version = what.partition("@")
    return invocation.registry.package(model, version)


def _existing(folder: Path) -> str:
    if not folder.is_dir():
        raise Missing(f"there is no snapshot folder '{folder}'")
    return str(folder.resolve())


def _free(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} {number}"
    return free


def _parsed(value: str) -> Any:
    import yaml

    return yaml.safe_load(value)


def _file(path: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(path.read_text())
    except OSError:
        raise Missing(f"there is no policy file '{path}'") from None
    except yaml.YAMLError:
        raise UsageError(f"'{path.name}' is no YAML") from None
    if not isinstance(found, dict):
        raise UsageError(f"'{path.name}' must hold keys and values")
    return found
