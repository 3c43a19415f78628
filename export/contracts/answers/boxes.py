"""Detection: reading boxes, how sure an image's boxes are, and matching them with true ones.

References:
    Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010, section 4.2 (greedy matching by score).
    Kuppers et al., "Multivariate Confidence Calibration for Object Detection", CVPR-W 2020 (calibrated box scores).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.answers.outputs import one_by_role
from export.contracts.answers.reference import AnswerName
from export.contracts.scores import ScoreName
from export.contracts.signature import OutputRole, Signature
from export.contracts.task import BoxFormat, BoxRules

MAX_BOXES = 300  # of an image, the surest first
FLOOR = 0.05  # candidates below this score say nothing about what was missed
Array: TypeAlias = npt.NDArray[Any]
Float64s: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Boxes:
    """The boxes of a batch of images, by image, the surest first.

    Attributes:
        rows: Images.
        row: Image of each box, (boxes,), ascending.
        corners: Left, top, right, bottom, (boxes, 4).
        score: (boxes,).
        label: Class index, (boxes,).
        broken: Images whose outputs hold a value that is not finite, (rows,).
    """

    rows: int
    row: Ints
    corners: Float64s
    score: Float64s
    label: Ints
    broken: Bools

    def of(self, image: int) -> slice:
        """The boxes of an image."""
        return slice(*np.searchsorted(self.row, [image, image + 1]).tolist())


def read_boxes(signature: Signature, rules: BoxRules, outputs: Mapping[str, Array]) -> Boxes | None:
    """The boxes of each image without padding; None when boxes or scores were not recorded.

    Padding is what stands behind the count, has a score of 0 or less, or a negative class. Without classes every box
    is of class 0.

    Raises:
        ValueError: shapes that do not fit together.
    """
    corners = one_by_role(signature, outputs, OutputRole.BOXES)
    score = one_by_role(signature, outputs, OutputRole.BOX_SCORES)
    if corners is None or score is None:
        return None
    rows = len(score)
    score = score.reshape(rows, int(np.prod(score.shape[1:], dtype=np.int64)))
    if len(corners) != rows or corners.size != score.size * 4:
        raise ValueError(f"boxes of shape {list(corners.shape)} for scores of {list(score.shape)}")
    width = score.shape[1]
    corners = corners.reshape(rows, width, 4)
    label = one_by_role(signature, outputs, OutputRole.BOX_CLASSES)
    label = np.zeros(score.shape) if label is None else label.reshape(score.shape)
    count = one_by_role(signature, outputs, OutputRole.BOX_COUNT)
    inside = np.ones(score.shape, dtype=bool)
    if count is not None:
        inside = np.arange(width)[None, :] < np.nan_to_num(count.reshape(rows, -1)[:, :1], nan=0.0)
    finite = np.isfinite(corners).all(axis=2) & np.isfinite(score) & np.isfinite(label)
    broken = np.asarray((inside & ~finite).any(axis=1))
    with np.errstate(invalid="ignore"):
        kept = inside & finite & (score > 0) & (label >= 0)
    order = np.lexsort((np.arange(width)[None, :].repeat(rows, axis=0), -np.where(kept, score, -np.inf)), axis=-1)
    ranked = np.take_along_axis(kept, order, axis=1)
    ranked[:, MAX_BOXES:] = False
    row, place = np.nonzero(ranked)
    at = order[row, place]
    return Boxes(
        rows=rows,
        row=row.astype(np.int64),
        corners=to_corners(corners[row, at], rules.format),
        score=np.minimum(score[row, at], 1.0),
        label=label[row, at].astype(np.int64),
        broken=broken,
    )


def to_corners(boxes: Float64s, given_as: BoxFormat) -> Float64s:
    """Boxes (n, 4) of any format as left, top, right, bottom.

    Example:
        >>> to_corners(np.array([[5.0, 5.0, 4.0, 2.0]]), BoxFormat.CXCYWH).tolist()
        [[3.0, 4.0, 7.0, 6.0]]
    """
    b = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    if given_as is BoxFormat.XYXY:
        return b
    size = b[:, 2:]
    start = b[:, :2] - size / 2 if given_as is BoxFormat.CXCYWH else b[:, :2]
    return np.concatenate([start, start + size], axis=1)


def overlap(a: Float64s, b: Float64s) -> Float64s:
    """Intersection over union of each pair of boxes, (n, 4) and (m, 4) → (n, m); 0 for boxes without area.

    Example:
        >>> overlap(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2], [5, 5, 6, 6]])).round(3).tolist()
        [[0.333, 0.0]]
    """
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=2)
    union = _area(a)[:, None] + _area(b)[None, :] - shared
    return np.asarray(np.where(union > 0, shared / np.maximum(union, 1e-300), 0.0), dtype=np.float64)


def match(corners: Float64s, label: Ints, true_corners: Float64s, true_label: Ints, iou: float) -> Ints:
    """Which true box each predicted box (the surest first) is, (n,); -1 for none.

    Each predicted box takes the true box of its class, not yet taken, that it overlaps most, if at least `iou`.
    """
    found = np.full(len(corners), -1, dtype=np.int64)
    if not len(corners) or not len(true_corners):
        return found
    shared = overlap(corners, true_corners)
    shared[label[:, None] != true_label[None, :]] = -1.0
    free = np.ones(len(true_corners), dtype=bool)
    for i in range(len(corners)):
        best = int(np.argmax(np.where(free, shared[i], -1.0)))
        if free[best] and shared[i, best] >= iou:
            found[i], free[best] = best, False
    return found


def calibrated(score: Float64s, temperature: float, shift: float) -> Float64s:
    """P(box right) of a box score: sigmoid(logit / temperature + shift)."""
    s = np.clip(score, 1e-6, 1.0 - 1e-6)
    z = (np.log(s) - np.log1p(-s)) / temperature + shift
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(z, -700, 700))), dtype=np.float64)


def box_scores(boxes: Boxes, right: Float64s, rules: BoxRules) -> dict[str, Float64s]:
    """Watched quantities of each image, (rows,).

    Args:
        boxes: Of the images.
        right: P(right) of each box, (boxes,).
        rules: Decide which boxes are answers.

    Returns:
        `P_WRONG` before calibration: that one of the answers is spurious or one of the candidates below the threshold
        is a missed object, as if boxes were independent. `MSP` is how sure the least sure decision is. Images with
        values that are not finite are NaN.
    """
    answers = boxes.score >= rules.min_score
    with np.errstate(divide="ignore"):
        sure = np.where(answers, right, np.where(boxes.score >= FLOOR, 1.0 - right, 1.0))
    n = boxes.rows
    least = np.ones(n)
    np.minimum.at(least, boxes.row, sure)
    count = _sum(boxes, answers.astype(np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_score = np.where(count > 0, _sum(boxes, np.where(answers, boxes.score, 0.0)) / count, np.nan)
        area = _sum(boxes, np.where(answers, _area(boxes.corners), 0.0)) / count
        size = np.where(count > 0, np.sqrt(np.maximum(area, 0.0)), np.nan)
    out = {
        ScoreName.MSP.value: least,
        AnswerName.DOUBT.value: _sum(boxes, 1.0 - sure),
        AnswerName.BOXES.value: count,
        AnswerName.BOX_CONFIDENCE.value: mean_score,
        AnswerName.BOX_SIZE.value: size,
        ScoreName.P_WRONG.value: 1.0 - np.exp(_sum(boxes, np.log(np.maximum(sure, 1e-12)))),
    }
    return {name: np.where(boxes.broken, np.nan, column) for name, column in out.items()}


def _sum(boxes: Boxes, values: Float64s) -> Float64s:
    return np.asarray(np.bincount(boxes.row, weights=values, minlength=boxes.rows), dtype=np.float64)


def _area(boxes: Float64s) -> Float64s:
    return np.asarray(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1), dtype=np.float64)
