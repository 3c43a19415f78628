"""Which module speaks for a version. It goes by the roles of the outputs, because those say what can be read."""

from __future__ import annotations

from export.contracts.manifest import Manifest, TaskKind
from export.contracts.reference import ReferenceProfile
from export.contracts.signature import OutputRole
from monitoring.tasks.classification import Classification
from monitoring.tasks.detection import Detection
from monitoring.tasks.multi_label import MultiLabel
from monitoring.tasks.other import Other
from monitoring.tasks.protocol import MonitoredTask
from monitoring.tasks.regression import Regression

_VALUES = (OutputRole.VALUE, OutputRole.VALUE_MEMBERS, OutputRole.VALUE_QUANTILES)
_CLASSES = (OutputRole.LOGITS, OutputRole.PROBABILITIES)


def task_of(manifest: Manifest | None, profile: ReferenceProfile | None) -> MonitoredTask:
    """The task of a version; `Other` when its outputs mean nothing to the service, or nothing is known of it."""
    if manifest is None:
        return Other()
    signature, kind = manifest.signature, manifest.task.kind
    if signature.output_with_role(*_CLASSES) is not None:
        return MultiLabel(manifest, profile) if kind is TaskKind.MULTI_LABEL else Classification(manifest, profile)
    if signature.output_with_role(OutputRole.BOXES) is not None:
        return Detection(manifest, profile)
    if signature.output_with_role(*_VALUES) is not None:
        return Regression(manifest, profile)
    return Other(manifest, profile)
