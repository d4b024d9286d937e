"""Boxes in answers, and how well they fit."""

import pytest

from emloc.errors import UserError
from experiments.metrics import Box, Scoring, box_scores, parse_box
from experiments.metrics.boxes import iou

NONE = (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("(0.1, 0.2, 0.3, 0.4)", (0.1, 0.2, 0.3, 0.4)),
        ("It is at [0.1,0.2, 0.3,\n0.4].", (0.1, 0.2, 0.3, 0.4)),
        ("( 0, 0, 1, 1 ) or (0.1, 0.2, 0.3, 0.4)", (0.0, 0.0, 1.0, 1.0)),
        ("[0.5, 0.5, 0.6, 0.6] (0.1, 0.2, 0.3, 0.4)", (0.5, 0.5, 0.6, 0.6)),
        ("[123, 456, 789, 900]", (0.123, 0.456, 0.789, 0.9)),
        ("[0, 456, 789, 900]", (0.0, 456.0, 789.0, 900.0)),  # the first number decides
        ("[1, 456, 789, 900]", (1.0, 456.0, 789.0, 900.0)),
        ("[2, 0.5, 0.7, 0.9]", (0.002, 0.0005, 0.0007, 0.0009)),
        ("[-0.1, 0.2, 0.3, 0.4]", (-0.1, 0.2, 0.3, 0.4)),
        ("Top-left corner x: 0.1, y: 0.2; Bottom-right corner x: 0.3, y: 0.4", (0.1, 0.2, 0.3, 0.4)),
        ("Top-left x:100 y:200 Bottom-right x:300 y:400", (0.1, 0.2, 0.3, 0.4)),
        ("Top-left: (0.1, 0.2) Bottom-right: ( 0.3, 0.4 )", (0.1, 0.2, 0.3, 0.4)),
        ("Top-left x: 0.1 y: 0.2\nBottom-right x: 0.3 y: 0.4", NONE),
        ("top-left: (0.1, 0.2) bottom-right: (0.3, 0.4)", NONE),
        ("(123,456),(789,900)", NONE),
        ("<|box_start|>(123,456),(789,900)<|box_end|>", NONE),
        ("(.1, .2, .3, .4)", NONE),
        ("(0.1 , 0.2, 0.3, 0.4)", NONE),
        ("(0.1, 0.2, 0.3)", NONE),
        ("(0.1, 0.2, 0.3, 0.4]", NONE),
        ("0.1, 0.2, 0.3, 0.4", NONE),
        ("(１, ２, ３, 猫)", NONE),
        (f"({'9' * 400}, 0, 1, 1)", NONE),
        ("", NONE),
    ],
)
def test_reference_rules(text: str, box: Box) -> None:
    assert parse_box(text) == pytest.approx(box, abs=1e-15)


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("(123,456),(789,900)", (0.123, 0.456, 0.789, 0.9)),
        ("Here: <|box_start|>(123,456),(789,900)<|box_end|>", (0.123, 0.456, 0.789, 0.9)),
        ("[[123, 456], [789, 900]]", (0.123, 0.456, 0.789, 0.9)),
        ("( 0 , 0 ) ( 1 , 1 )", (0.0, 0.0, 1.0, 1.0)),
        ("(.1, +.2, .3 , 0.4)", (0.1, 0.2, 0.3, 0.4)),
        ("[0, 456, 789, 900]", (0.0, 0.456, 0.789, 0.9)),
        ("[0.1, 0.2, 0.3, 0.4]", (0.1, 0.2, 0.3, 0.4)),
        ("Top-left x: .1, y: .2; Bottom-right x: .3, y: .4", (0.1, 0.2, 0.3, 0.4)),
        ("Top-left: (100, 200) Bottom-right: (300, 400)", (0.1, 0.2, 0.3, 0.4)),
        ("(0.5, 0.6) and [0.1, 0.2, 0.3, 0.4]", (0.1, 0.2, 0.3, 0.4)),
        ("(0.5, 0.6)", None),
        ("", None),
        (f"({'9' * 400}, 0, 1, 1)", None),
    ],
)
def test_strict_rules(text: str, box: Box | None) -> None:
    assert parse_box(text, scoring="strict") == (box and pytest.approx(box, abs=1e-15))


def test_scores_of_a_box_that_fits_in_part() -> None:
    # The right half of the target, the threshold 0.5 is met exactly.
    scores = box_scores("(0.25, 0.0, 0.5, 0.5)", [0.0, 0.0, 0.5, 0.5])
    accuracies = {"ACC@0.1": 1.0, "ACC@0.3": 1.0, "ACC@0.5": 1.0, "ACC@0.7": 0.0, "ACC@0.9": 0.0}
    assert scores == {"centre accuracy": 1.0, "IoU": 0.5, **accuracies}


def test_the_border_counts_as_inside() -> None:
    assert box_scores("(0.5, 0.5, 1.5, 1.5)", [0.0, 0.0, 1.0, 1.0])["centre accuracy"] == 1.0
    assert box_scores("(0.5, 0.5, 1.6, 1.5)", [0.0, 0.0, 1.0, 1.0])["centre accuracy"] == 0.0


def test_the_centre_is_that_of_the_prediction() -> None:
    assert box_scores("(0.6, 0.6, 0.8, 0.8)", [0.0, 0.0, 1.0, 1.0])["centre accuracy"] == 1.0
    assert box_scores("(0.0, 0.0, 1.0, 1.0)", [0.6, 0.6, 0.8, 0.8])["centre accuracy"] == 0.0


@pytest.mark.parametrize("scoring", ["reference", "strict"])
@pytest.mark.parametrize(
    "text", ["(0.3, 0.3, 0.1, 0.1)", "(0.3, 0.1, 0.1, 0.3)", "(0.2, 0.2, 0.2, 0.2)", "(5, 5, 5, 5)", "nothing"]
)
def test_a_box_without_area_overlaps_with_nothing(text: str, scoring: Scoring) -> None:
    for reference in ([0.1, 0.1, 0.3, 0.3], [0.2, 0.2, 0.2, 0.2]):
        assert box_scores(text, reference, scoring=scoring)["IoU"] == 0.0


def test_no_box_in_the_corner_is_right_by_the_reference_only() -> None:
    corner = [0.0, 0.0, 0.1, 0.1]
    assert box_scores("nothing", corner)["centre accuracy"] == 1.0
    assert set(box_scores("nothing", corner, scoring="strict").values()) == {0.0}


def test_iou_of_two_boxes() -> None:
    assert iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert iou((0, 0, 1, 1), (1, 0, 2, 1)) == 0.0
    assert iou((0.2, 0.3, 0.4, 0.5), (0.2, 0.3, 0.4, 0.5)) == 1.0


@pytest.mark.parametrize("reference", [[0.1, 0.2, 0.3], [0.3, 0.1, 0.1, 0.3], [0, 0, 1, float("nan")]])
def test_a_target_that_is_no_box(reference: list[float]) -> None:
    with pytest.raises(UserError, match="A target box must be"):
        box_scores("(0, 0, 1, 1)", reference)
