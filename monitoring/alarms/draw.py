"""Which records are drawn for the alarms: the audit's uniform draw, and beside it one that prefers doubtful records.

A label of a record that looks wrong says more about "the error rate exceeds p0" than one of a record that looks right.
So labels drawn with chances that follow P(wrong) prove the same change with fewer of them
(`docs/decisions/0260-draws-that-follow-p-wrong.md`). The chances are known, so the bets keep their promise
(`monitoring.alarms.bets`); estimates of accuracy go by the uniform draw alone.

Both draws use the record's one lot (`monitoring.keys.audit_ranks`): it is audited when that is below the audit's rate,
and a *probe* when it lies between that and the chance here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from monitoring.alarms.bets import BIN_CHANCES, Floats, proxy_bins


def draw_chances(audit_rate: float, probe_rate: float) -> Floats:
    """(BINS,) chance with which a record is drawn for the alarms, by the bin of its P(wrong).

    The probes' rate is that of a record which is certainly wrong; others follow the root of P(wrong), and nobody has
    less than the audit's rate. Without an audit there are no probes.

    Example:
        >>> draw_chances(0.01, 0.2).round(3)[[0, 13, 25]].tolist()
        [0.01, 0.15, 0.2]
    """
    if audit_rate <= 0.0:
        return np.zeros(BIN_CHANCES.size)
    return np.asarray(np.maximum(audit_rate, probe_rate * np.sqrt(BIN_CHANCES)))


def chances_of(p_wrong: npt.ArrayLike, audit_rate: float, probe_rate: float) -> Floats:
    """The same for each record, as the shape of `p_wrong`; NaN has the audit's chance."""
    return np.asarray(draw_chances(audit_rate, probe_rate)[proxy_bins(p_wrong)])
