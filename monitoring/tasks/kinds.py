"""Which module speaks for a version. It goes by the roles of the outputs, because those say what can be read."""

from __future__ import annotations

from export.contracts.manifest import Manifest
from export.contracts.reference import ReferenceProfile
from export.contracts.signature import OutputRole
from monitoring.tasks.classification import Classification
from monitoring.tasks.other import Other
from monitoring.tasks.protocol import MonitoredTask
from monitoring.tasks.regression import Regression


def task_of(manifest: Manifest | None, profile: ReferenceProfile | None) -> MonitoredTask:
    """The task of a version; `Other` when its outputs mean nothing to the service, or nothing is known of it."""
    if manifest is None:
        return Other()
    signature = manifest.signature
    if signature.output_with_role(OutputRole.LOGITS, OutputRole.PROBABILITIES) is not None:
        return Classification(manifest, profile)
    if signature.output_with_role(OutputRole.VALUE) is not None:
        return Regression(manifest, profile)
    return Other(manifest, profile)
