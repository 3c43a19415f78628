"""What holds for one version: a setting that is given wins, then what `hardcase tune` measured, then the default."""

from __future__ import annotations

from export.contracts.manifest import Manifest
from serving.options import BatchOptions, RuntimeOptions

DEFAULT_INTRA_OP_THREADS = 1


def max_rows(options: BatchOptions, manifest: Manifest) -> int:
    """Rows of a version's largest batch."""
    tuned = manifest.execution.max_batch_rows if manifest.execution is not None else None
    return options.max_rows or tuned or manifest.max_batch_rows


def intra_op_threads(options: RuntimeOptions, manifest: Manifest) -> int:
    """Threads of one execution; 0 lets the runtime choose."""
    if options.intra_op_threads is not None:
        return options.intra_op_threads
    tuned = manifest.execution.intra_op_threads if manifest.execution is not None else None
    return DEFAULT_INTRA_OP_THREADS if tuned is None else tuned
