"""Boxes that answers give, and how well they fit: the metrics of ScreenSpot."""

import math
import re
from collections.abc import Sequence

from emloc.errors import UserError
from experiments.metrics.rules import Scoring, is_strict

Box = tuple[float, float, float, float]  # left, top, right, bottom; 0 to 1 from the left upper corner of the image

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
_SCALE = 1000  # Qwen2-VL is trained on coordinates from 0 to 1000
_NO_BOX: Box = (0.0, 0.0, 0.0, 0.0)


def _pattern(number: str, *, comma: str, pairs: bool) -> re.Pattern[str]:
    """The ways to write a box, of which the leftmost in the text is taken."""
    four, pair = comma.join([number] * 4), comma.join([number] * 2)
    corners = [rf"{corner}.*?x:\s*{number}.*?y:\s*{number}" for corner in ("Top-left", "Bottom-right")]
    ways = [rf"\(\s*{four}\s*\)", rf"\[\s*{four}\s*\]", ".*?".join(corners)]
    ways.append(rf"Top-left:\s*\(\s*{pair}\s*\)\s*Bottom-right:\s*\(\s*{pair}\s*\)")
    if pairs:
        ways += [rf"\(\s*{pair}\s*\)\s*,?\s*\(\s*{pair}\s*\)", rf"\[\s*{pair}\s*\]\s*,?\s*\[\s*{pair}\s*\]"]
    return re.compile("|".join(ways))


_REFERENCE = _pattern(r"(-?\d+(?:\.\d+)?)", comma=r",\s*", pairs=False)
_STRICT = _pattern(r"([-+]?(?:\d+\.?\d*|\.\d+))", comma=r"\s*,\s*", pairs=True)


def parse_box(text: str, *, scoring: Scoring = "reference") -> Box | None:
    """The first box in the text, in the coordinates of `Box`; it may be inverted, empty or outside the image.

    Reference rules, of the paper's public implementation: the leftmost of "(l, t, r, b)", "[l, t, r, b]", "Top-left ...
    x: l ... y: t ... Bottom-right ... x: r ... y: b" on one line, and "Top-left: (l, t) Bottom-right: (r, b)". A number
    begins with a digit or a minus, and no white space stands before a comma. If the first number is above 1, all four
    are divided by 1000, so that "[0, 456, 789, 900]" is left as it is. Without a box: (0, 0, 0, 0). One deviation: the
    public implementation fails at both "Top-left" forms; here they are read as they are meant.

    Strict rules: also "(l, t), (r, b)", as Qwen2-VL writes it (between <|box_start|> and <|box_end|> or not), the same
    in square brackets, ".9", "+0.9" and white space before commas; all four are divided by 1000 if the largest is above
    1. Pixels cannot be told from thousandths and are read as such. Without a box, or with a number that is not finite:
    None.
    """
    strict = is_strict(scoring)
    found = (_STRICT if strict else _REFERENCE).search(text)
    if found is None:
        return None if strict else _NO_BOX
    left, top, right, bottom = (float(number) for number in found.groups() if number is not None)
    if not all(map(math.isfinite, (left, top, right, bottom))):
        return None if strict else _NO_BOX
    scale = _SCALE if (max(left, top, right, bottom) if strict else left) > 1 else 1
    return left / scale, top / scale, right / scale, bottom / scale


def box_scores(prediction: str, reference: Sequence[float], *, scoring: Scoring = "reference") -> dict[str, float]:
    """How well the box in an answer fits: "centre accuracy", "IoU" and "ACC@0.1" to "ACC@0.9", each 0 to 1.

    ACC@t is 1 if IoU >= t. Source: the metrics of ScreenSpot in the paper's public implementation. With strict rules an
    answer without a box scores 0 everywhere; with the reference's, (0, 0, 0, 0) has its centre inside every target
    that begins in the left upper corner of the screen.

    Raises
    ------
    UserError
        If the reference is not a box: four finite numbers, left <= right and top <= bottom.
    """
    target, box = _checked(reference), parse_box(prediction, scoring=scoring)
    overlap = iou(box, target) if box else 0.0
    return {
        "centre accuracy": float(box is not None and centre_inside(box, target)),
        "IoU": overlap,
        **{f"ACC@{threshold}": float(overlap >= threshold) for threshold in THRESHOLDS},
    }


def iou(box: Box, other: Box) -> float:
    """Intersection over union of the areas; 0 if they do not meet, one is inverted or both are empty."""
    shared = (max(box[0], other[0]), max(box[1], other[1]), min(box[2], other[2]), min(box[3], other[3]))
    intersection = _area(shared)
    return intersection / (_area(box) + _area(other) - intersection) if intersection > 0 else 0.0


def centre_inside(box: Box, target: Box) -> bool:
    """Whether the centre of the box is inside the target; its border counts as inside."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return target[0] <= x <= target[2] and target[1] <= y <= target[3]


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _checked(reference: Sequence[float]) -> Box:
    if len(reference) != 4 or not all(map(math.isfinite, reference)):
        raise UserError(f"A target box must be four finite numbers, but got {list(reference)!r}.")
    left, top, right, bottom = map(float, reference)
    if left > right or top > bottom:
        raise UserError(f"A target box must be left, top, right, bottom, but got {list(reference)!r}.")
    return left, top, right, bottom
