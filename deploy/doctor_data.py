"""What a check of `hardcase doctor` is, and the checks of stored data: registry and record log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from deploy.cli.context import Invocation
from deploy.paths import StatePaths


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"  # as it should be
    NOTE = "note"  # worth knowing, nothing to do
    WARN = "warn"  # works, but something will hurt
    FAIL = "fail"  # does not work


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at. `advice` says what to do, where something is to be done."""

    name: str
    verdict: Verdict
    detail: str
    advice: str = ""


def registry_checks(invocation: Invocation) -> Iterator[Check]:
    """Every package against the digests of its manifest."""
    from export.contracts.errors import HardcaseError
    from export.package_files import check_files

    registry, good = invocation.registry, 0
    for model in registry.models():
        for version in registry.versions(model):
            try:
                package = registry.package(model, version)
                check_files(package.dir, package.manifest)
                good += 1
            except HardcaseError as error:
                yield Check(
                    name="registry", verdict=Verdict.FAIL, detail=f"{model} {version}: {error.message}",
                    advice=f"add the package again, or: hardcase registry remove {model} {version}",
                )  # fmt: skip
    yield Check(name="registry", verdict=Verdict.OK, detail=f"{good} packages with right digests")


def bucket_checks(invocation: Invocation) -> Iterator[Check]:
    """The bucket, where one is set: reached, and able to do what we need."""
    settings = invocation.settings.storage
    if not settings.url:
        return
    from deploy.storage import check_bucket, open_store
    from export.contracts.errors import HardcaseError

    try:
        wrong = check_bucket(open_store(settings, retry_s=5.0))
    except HardcaseError as error:
        yield Check(
            name="bucket", verdict=Verdict.FAIL, detail=error.message,
            advice="storage.url, storage.endpoint, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )  # fmt: skip
        return
    for text in wrong:
        yield Check(name="bucket", verdict=Verdict.FAIL, detail=text, advice="use a store with conditional writes")
    if not wrong:
        yield Check(
            name="bucket", verdict=Verdict.OK, detail=f"{settings.url}: reads, writes, lists, conditional writes"
        )


def record_log_checks(paths: StatePaths) -> Iterator[Check]:
    """Every frame of every log."""
    if not paths.records.is_dir():
        return
    from monitoring.records.verify import verify

    report = verify(paths.records)
    for source in report.sources:
        if not source.ok:
            yield Check(
                name="record log", verdict=Verdict.FAIL, detail=f"{source.source}: {source.problems[0]}",
                advice="hardcase records verify explains each; what verifies is still read",
            )  # fmt: skip
    records = sum(s.records for s in report.sources)
    yield (
        Check(
            name="record log", verdict=Verdict.OK, detail=f"{len(report.sources)} logs, {records} records, all verified"
        )
        if report.ok
        else Check(name="record log", verdict=Verdict.NOTE, detail=f"{records} records can be read")
    )
