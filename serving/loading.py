"""From a registered package to a runtime that may answer: one straight, blocking function, run on its own thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from export.admission import AdmissionReport
from export.admission_limits import AdmissionLimits
from export.contracts.errors import AdmissionRefused, HardcaseError
from export.package import Package
from serving import effective
from serving.options import ServingOptions
from serving.runtime.base import Described, Fact, Runtime
from serving.runtime.loader import load_runtime, needs
from serving.runtime.memory import MemoryBudget
from serving.runtime.proof import Proof, prove
from serving.runtime.trial import LoadInterrupted, LoadTimedOut, try_load

_log = logging.getLogger("hardcase.loading")
_RETRY_S = 0.5  # pause before another attempt, times the attempts made

Admit = Callable[[Path, AdmissionLimits], AdmissionReport]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """A proved runtime, and what it took to get there.

    Attributes:
        inline: Its batches are short enough for the event loop.
        seconds: Seconds by step: "admit", "trial", "load", "prove".
        attempts: How often the trial ran.
        memory: What the load took.
    """

    package: Package
    runtime: Runtime
    proof: Proof
    inline: bool
    seconds: dict[str, float]
    attempts: int
    memory: dict[str, Fact]

    def facts(self) -> dict[str, Fact]:
        """What the record log says about the load."""
        return {
            "digest": self.package.digest,
            "runtime": self.runtime.kind,
            "device": self.runtime.device,
            "provider": self.runtime.provider,
            "inline": self.inline,
            "row_us": _finite(self.proof.row_us),
            "batch_us": _finite(self.proof.batch_us),
            "batch_rows": self.proof.batch_rows,
            "golden_rows": self.proof.golden_rows,
            "attempts": self.attempts,
            **{f"{step}_s": round(spent, 4) for step, spent in self.seconds.items()},
            **self.memory,
            **(self.runtime.facts if isinstance(self.runtime, Described) else {}),
        }


def load_version(
    package: Package,
    options: ServingOptions,
    admit: Admit,
    stopped: Callable[[], bool] = lambda: False,
    memory: MemoryBudget | None = None,
) -> Ready:
    """Admit, try, load and prove a package: every step can refuse it, none can hurt what is being served.

    Digests and structure are checked in a child process (`admit`); then a second child loads the weights, warms up and
    runs the golden cases, so that weights which crash, hang or exhaust the memory do it there. Only then does this
    process load them, and proves them once more where they will run.

    Args:
        package: From the registry.
        options: Device, time limit, attempts, batch size.
        admit: Raises AdmissionRefused for a package that is not safe to load.
        stopped: Asked between the steps: whether nobody waits for the result any more.
        memory: Who has claimed how much in this process; None: nobody.

    Raises:
        HardcaseError: why the version is not available; the message is public.
    """
    deadline = time.monotonic() + options.runtime.load_timeout_s
    seconds: dict[str, float] = {}
    started = time.monotonic()
    _admit(admit, package, options.runtime.load_timeout_s)
    seconds["admit"] = time.monotonic() - started
    budget = memory or MemoryBudget(options.runtime)
    weights_bytes, device = needs(package.manifest, options.runtime)
    with budget.claim(package.manifest, weights_bytes, device) as claim:
        started = time.monotonic()
        attempts = _try(package, options, deadline, stopped)
        seconds["trial"] = time.monotonic() - started
        if stopped():
            raise LoadInterrupted("the version is no longer wanted")
        max_rows = effective.max_rows(options.batch, package.manifest)
        started = time.monotonic()
        runtime = load_runtime(package.dir, package.manifest, options.runtime, max_rows)
        seconds["load"] = time.monotonic() - started
        started = time.monotonic()
        try:
            proof = prove(runtime, package, max_rows, precision=options.runtime.precision)
            took = budget.keep(claim, runtime)
        except BaseException:
            runtime.close()
            raise
        seconds["prove"] = time.monotonic() - started
    return Ready(
        package=package,
        runtime=runtime,
        proof=proof,
        inline=proof.batch_us < options.batch.inline_below_us
        and runtime.device == "cpu"
        and not package.manifest.signature.preprocesses,  # decoding an image is nothing for the event loop
        seconds=seconds,
        attempts=attempts,
        memory=took,
    )


def _try(package: Package, options: ServingOptions, deadline: float, stopped: Callable[[], bool]) -> int:
    """Load in a child process until that gives a verdict; returns how often it was tried.

    Raises:
        LoadFailed: the verdict, or none after all attempts, or no more time.
    """
    attempts = 0
    max_rows = effective.max_rows(options.batch, package.manifest)
    while True:
        attempts += 1
        left = deadline - time.monotonic()
        if left <= 0:
            raise LoadTimedOut(f"the load did not finish within {options.runtime.load_timeout_s:.0f} s")
        try:
            try_load(package.dir, max_rows, options.runtime, left)
            return attempts
        except LoadInterrupted as error:
            if attempts >= options.runtime.load_attempts or stopped():
                raise LoadInterrupted(f"{error.message} ({attempts} attempts)") from None
            time.sleep(min(_RETRY_S * attempts, max(0.0, deadline - time.monotonic())))


async def load_in_background(work: Callable[[], Ready], limit_s: float) -> Ready:
    """Run a load on a daemon thread of its own, for at most `limit_s` seconds.

    A thread that hangs inside a framework cannot be stopped: it is left behind, and what it may still bring is closed.

    Raises:
        LoadTimedOut: it did not come back in time.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Ready] = loop.create_future()

    def settle(ready: Ready | None, error: BaseException | None) -> None:
        if not future.done():
            if ready is not None:
                future.set_result(ready)
            elif error is not None:
                future.set_exception(error)
        elif ready is not None:
            ready.runtime.close()

    def body() -> None:
        ready: Ready | None = None
        failure: BaseException | None = None
        try:
            ready = work()
        except BaseException as error:
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, ready, failure)

    threading.Thread(target=body, name="hardcase-load", daemon=True).start()
    try:
        return await asyncio.wait_for(future, limit_s)
    except TimeoutError:
        raise LoadTimedOut(f"the load did not finish within {limit_s:.0f} s") from None


def public_reason(error: BaseException) -> str:
    """What may be told of a failed load. The unexpected gets a fixed text, and its traceback goes to the log."""
    if isinstance(error, HardcaseError):
        return error.message
    _log.error("a load failed unexpectedly", exc_info=error)
    return "the load failed unexpectedly: the log has the details"


def _admit(admit: Admit, package: Package, wall_s: float) -> None:
    """Check digests and structure of a package, and that it is still the one that the registry named."""
    report = admit(package.dir, AdmissionLimits(wall_s=wall_s))
    if report.digest != package.digest:
        raise AdmissionRefused("the package changed while it was being read")


def _finite(value: float) -> float | None:
    return round(value, 3) if value < float("inf") else None
