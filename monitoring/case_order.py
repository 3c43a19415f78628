"""Which cases a person should see first, and which of them say the same thing. Pure functions of a window's cases.

P(wrong) decides which records may become cases (`monitoring.case_pools`). Among those of a window the order is kernel
herding: each place goes to the case that brings what was chosen so far closest, in kernel mean, to all of them. So the
first labels are a fair sample in small of what fails, instead of the hardest odd ones: taking the least confident, or
the farthest, loses to a random choice (the table is in `docs/decisions/0121-the-queue-herds.md`). Between windows,
places go by highest averages (D'Hondt): a window with twice the expected failures gets twice the places in every prefix
of the queue.

Audit cases, drawn uniformly beforehand, are dealt evenly into it: they neither wait for the end nor push the rest away,
and nothing here changes with which chance they were drawn.

References:
    Chen, Welling & Smola, "Super-samples from kernel herding", UAI 2010, eq. 8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from monitoring.vectors import Int8s, cosines

Bools = npt.NDArray[np.bool_]
Float64s = npt.NDArray[np.float64]
_LEAST = 1e-3  # weight of a case without a score: it comes last, but in a stated place
_NEARER = 1e-6  # what separates an audit case from the case it is dealt in behind
_HIDDEN = 1e-3  # factor of a case that nobody needs to look at
_BANDWIDTH = 0.3  # of the kernel, in distances between unlike inputs


def suppress(
    vectors: Int8s, contents: Sequence[int | None], likeness: float | None, leaders: Int8s, known: Sequence[int | None]
) -> list[tuple[int, float] | None]:
    """Which of the cases, in their order, another one stands for.

    The first of a neighbourhood stands for all later ones of it, as in non-maximum suppression: a member is like its
    leader, not merely like another member, so groups cannot grow into chains.

    Args:
        vectors: (n, width) of the cases, in order; zeros where a case has none.
        contents: (n,) content hashes, None where not known.
        likeness: Cosine from which two cases are near-duplicates; None compares contents only.
        leaders: (m, width) of earlier leaders.
        known: (m,) their content hashes.

    Returns:
        For each case None when it leads, or (its leader, cosine): leaders are numbered 0..m-1, cases of this call
        m..m+n-1.
    """
    m = len(known)
    by_content = {content: i for i, content in reversed(list(enumerate(known))) if content is not None}
    near = likeness is not None and vectors.shape[1] > 0
    before = cosines(vectors, leaders) if near and m else np.zeros((len(contents), 0), dtype=np.float32)  # (n, m)
    among = cosines(vectors, vectors) if near else np.zeros((len(contents), 0), dtype=np.float32)  # (n, n)
    own: list[int] = []
    result: list[tuple[int, float] | None] = []
    for i, content in enumerate(contents):
        if content is not None and content in by_content:
            result.append((by_content[content], 1.0))
            continue
        best, at = -1.0, -1
        if before.shape[1]:
            at = int(np.argmax(before[i]))
            best = float(before[i, at])
        if near and own:
            j = int(np.argmax(among[i, own]))
            if float(among[i, own[j]]) > best:
                best, at = float(among[i, own[j]]), m + own[j]
        if likeness is not None and best >= likeness:
            result.append((at, min(best, 1.0)))
            continue
        own.append(i)
        if content is not None:
            by_content[content] = m + i
        result.append(None)
    return result


def herd(ranks: Float64s, vectors: Int8s, typical: float) -> npt.NDArray[np.int64]:
    """All n cases in the order of kernel herding, (n,); by rank where there is nothing to compare.

    Args:
        ranks: (n,).
        vectors: (n, width).
        typical: 1 - cosine between two unlike inputs.
    """
    n = len(ranks)
    if not n or not vectors.shape[1] or typical <= 0.0:
        return np.argsort(-ranks, kind="stable")
    kernel = np.exp((cosines(vectors, vectors).astype(np.float64) - 1.0) / (_BANDWIDTH * typical))
    np.fill_diagonal(kernel, 1.0)
    target = kernel.mean(axis=1)
    covered = np.zeros(n)
    free = np.ones(n, dtype=bool)
    order = np.empty(n, dtype=np.int64)
    for place in range(n):
        gain = np.round(np.where(free, target - covered / (place + 1), -np.inf), 12)
        order[place] = at = int(np.argmax(gain))
        free[at] = False
        covered += kernel[at]
    return order


def queue_values(
    ranks: Float64s, vectors: Int8s, typical: float, audits: Bools, hidden: Bools, floor: float
) -> Float64s:
    """Place of each case in the queue, (n,), highest first; comparable between windows.

    Args:
        ranks: (n,) P(wrong), about 1 for a failed request.
        vectors: (n, width).
        typical: See `herd`.
        audits: (n,) drawn at random: dealt in evenly, in the order in which they are given.
        hidden: (n,) another case stands for it, or it has its label: behind everything else.
        floor: Share of the places that audit cases get, as long as there are any.
    """
    weights = np.maximum(ranks, _LEAST)
    values = np.zeros(len(ranks))
    standing = np.flatnonzero(~audits & ~hidden)
    order = standing[herd(weights[standing], vectors[standing], typical)]
    values[order] = weights[standing].sum() / np.arange(1, len(order) + 1)
    last = np.flatnonzero(~audits & hidden)
    values[last] = weights[last] * _HIDDEN
    _deal_in(values, order, np.flatnonzero(audits), weights, floor)
    return np.round(values, 9)


def _deal_in(
    values: Float64s,
    order: npt.NDArray[np.int64],
    audits: npt.NDArray[np.int64],
    weights: Float64s,
    floor: float,
) -> None:
    """Give audit cases every 1/floor-th place; those left over follow by their own weight."""
    every = max(1, round(1.0 / floor) - 1) if floor > 0.0 else len(values) + 1
    for i, audit in enumerate(audits.tolist()):
        after = (i + 1) * every - 1
        if after < len(order):
            values[audit] = values[order[after]] * (1.0 - _NEARER)
        else:
            last = values[order[-1]] if len(order) else 1.0
            values[audit] = min(last * (1.0 - _NEARER), weights[audit])
