"""Scores of whole runs, worked out by hand: a model that says what it is told answers every benchmark.

The queries are rows 2 to 9 of ten; rows 1 and 0 demonstrate. Answers are given in the order of the rows.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from emloc import backbones
from experiments.datasets.imagenet100 import class_names
from experiments.records.schema import Metric, Record
from tests.support.imagenet import imagenet_tree
from tests.support.oracle import Oracle
from tests.support.published import BENCHMARKS
from tests.support.runs import execute, lines

pytest_plugins = ["tests.support.run_fixtures"]

QUERIES = range(2, 10)
LONG = "9" * 400

Ask = Callable[..., Record]


@pytest.fixture
def ask(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Does a run of a benchmark in which the model gives these answers."""
    monkeypatch.setitem(backbones.families(), "qwen2_vl", Oracle)

    def run(name: str, answers: Sequence[str], *options: str) -> Record:
        benchmark = BENCHMARKS[name]
        split = benchmark.dataset.split
        given = {f"{split}/{row}": text for row, text in zip(QUERIES, answers, strict=True)}
        monkeypatch.setattr(Oracle, "answers", given)
        copy = benchmark.write(tmp_path / "copy", benchmark.rows(10))
        return execute(
            f"dataset={name}", f"dataset.path={copy}", "dataset.rows=null", "dataset.pool_size=2", "shots=2",
            f"model.path={checkpoint}", "model.visual_tokens=checkpoint", "method=none", "device=cpu",
            f"hydra.run.dir={tmp_path / 'run'}", *options,
        )  # fmt: skip

    return run


def answers_of(name: str) -> list[str]:
    """What a demonstration of each query would answer."""
    made = [BENCHMARKS[name].row(row) for row in QUERIES]
    if name == "screenspot":
        return [str(row["bbox"]) for row in made]
    if name == "ok_vqa":
        return [row["answers"][0] for row in made]
    if name == "mme_realworld_lite":
        return [row["answer"] for row in made]
    return ["ABCDEF"[row["options"].index(row["answer"])] for row in made]


def values(record: Record) -> dict[str, float]:
    return {metric.name: metric.value for metric in (record.metric, *record.other_metrics)}


def parts(metric: Metric) -> dict[str, tuple[float, int]]:
    return {name: (part.value, part.n) for name, part in metric.parts.items()}


@pytest.mark.parametrize("scoring", ["reference", "strict"])
@pytest.mark.parametrize("name", BENCHMARKS)
def test_right_answers_score_one(name: str, scoring: str, ask: Ask) -> None:
    found = values(ask(name, answers_of(name), f"scoring={scoring}"))
    abstained = found.pop("chose E", None)
    assert found == dict.fromkeys(found, 1.0)
    assert abstained in (None, 2 / 8)  # the right answer of rows 4 and 9


#          row 2  3     4      5                   6          7                  8         9
ILLUSIONS = ["C", "d.", "(A)", "B. The right one", "C) both", "The answer is D", "A or B", ""]


@pytest.mark.parametrize(("scoring", "right"), [("reference", 4 / 8), ("strict", 6 / 8)])
def test_option_letters_of_illusions(scoring: str, right: float, ask: Ask) -> None:
    record = ask("illusionvqa_soft_localization", ILLUSIONS, f"scoring={scoring}")
    assert values(record) == {"accuracy": right}
    # Even rows are of category impossible: 2, 4 are right, and by the strict rules 6.
    assert parts(record.metric)["impossible"] == ((2 if scoring == "reference" else 3) / 4, 4)


def test_answers_end_at_a_blank_line(ask: Ask, tmp_path: Path) -> None:
    ask("illusionvqa_soft_localization", ["C\n\nor D", " D \n\n", "A\nor D", "\n\nB", "", "", "", ""])
    stored = lines(tmp_path / "run")
    assert [line["prediction"] for line in stored[:4]] == ["C", "D", "A\nor D", ""]
    assert [line["score"] for line in stored[:4]] == [1.0, 1.0, 0.0, 0.0]


REALWORLD = [
    "C",  # C
    "The best answer is: D",  # D
    "(E) Not in the image.",  # E
    "",  # A, by the reference's accident
    "Answer: B",  # B; the reference finds the A of the word
    "Even so, option C",  # C; the reference finds the E of the word
    "e",  # D, so that abstaining is wrong
    "E",  # E
]


@pytest.mark.parametrize(("scoring", "right", "chose_e"), [("reference", 5 / 8, 4 / 8), ("strict", 6 / 8, 3 / 8)])
def test_option_letters_of_the_real_world(scoring: str, right: float, chose_e: float, ask: Ask) -> None:
    record = ask("mme_realworld_lite", REALWORLD, f"scoring={scoring}")
    assert values(record) == {"accuracy": right, "chose E": chose_e}


def test_parts_of_the_real_world(ask: Ask) -> None:
    record = ask("mme_realworld_lite", REALWORLD)
    assert parts(record.metric) == {
        "Perception": (4 / 6, 6),
        "Perception/OCR with Complex Context": (2 / 3, 3),  # rows 3, 6, 9
        "Perception/OCR with Complex Context/scene text": (2 / 3, 3),
        "Perception/Autonomous_Driving": (2 / 3, 3),  # rows 2, 5, 8
        "Perception/Autonomous_Driving/motion/pedestrian": (2 / 3, 3),
        "Reasoning": (1 / 2, 2),
        "Reasoning/Monitoring": (1 / 2, 2),  # rows 4, 7
        "Reasoning/Monitoring/vehicle/attribute": (1 / 2, 2),
    }


# Of ten people, four say "thing N", three "Two cats", three "dont know".
KNOWLEDGE = [
    "thing 2 ASSISTANT: What else?",  # 1
    "Thing 3.",  # 1
    "2 cats",  # 0.9
    "don't know",  # 0.9
    "a thing 6",  # 1
    "thing 7?",  # 1
    "thing,8",  # 1; the reference reads "thing8"
    "cats",  # 0
]


@pytest.mark.parametrize(("scoring", "accuracy"), [("reference", 5.8 / 8), ("strict", 6.8 / 8)])
def test_answers_of_ten_people(scoring: str, accuracy: float, ask: Ask) -> None:
    record = ask("ok_vqa", KNOWLEDGE, f"scoring={scoring}")
    assert values(record) == {"VQA accuracy": pytest.approx(accuracy)}
    found = parts(record.metric)
    assert set(found) == {"question_type/four", "question_type/nine", "answer_type/other"}
    assert found["answer_type/other"] == (record.metric.value, 8)
    assert found["question_type/nine"] == (pytest.approx(2.9 / 4), 4)  # rows 3, 5, 7, 9


# The box of row N begins at 0.1667 + N / 100 and is 0.2 wide; it goes from 0.25 to 0.5 downwards.
SCREENS = [
    str(BENCHMARKS["screenspot"].row(2)["bbox"]),
    f"[{LONG}, 1, 2, 3]",  # not a finite number
    "<|box_start|>(207,250),(407,500)<|box_end|>",  # Qwen2-VL's own form
    "[0.5, 0.5, 0.6, 0.6]",  # elsewhere
    "The place is [227, 250, 427, 500].",
    str([*BENCHMARKS["screenspot"].row(7)["bbox"][:3], 0.36]),  # the upper 44 % of the box
    "[.25, .25, .45, .5]",  # no digit before the point
    "ASSISTANT: [0.2567, 0.25, 0.4567, 0.5]",
]
THOUSANDTHS = (0.2 - 0.001 / 3) / (0.2 + 0.001 / 3)  # IoU of boxes that are a third of a thousandth apart


@pytest.mark.parametrize(
    ("scoring", "expected"),
    [
        (
            "reference",
            {
                "centre accuracy": 3 / 8, "IoU": (1 + THOUSANDTHS + 0.44) / 8,
                "ACC@0.1": 3 / 8, "ACC@0.3": 3 / 8, "ACC@0.5": 2 / 8, "ACC@0.7": 2 / 8, "ACC@0.9": 2 / 8,
            },
        ),
        (
            "strict",
            {
                "centre accuracy": 5 / 8, "IoU": (1 + 2 * THOUSANDTHS + 0.44 + 0.59 / 0.61) / 8,
                "ACC@0.1": 5 / 8, "ACC@0.3": 5 / 8, "ACC@0.5": 4 / 8, "ACC@0.7": 4 / 8, "ACC@0.9": 4 / 8,
            },
        ),
    ],
)  # fmt: skip
def test_boxes_on_screens(scoring: str, expected: dict[str, float], ask: Ask) -> None:
    record = ask("screenspot", SCREENS, f"scoring={scoring}")
    assert list(values(record)) == list(expected)
    assert values(record) == pytest.approx(expected)


def test_parts_of_screens(ask: Ask) -> None:
    record = ask("screenspot", SCREENS)
    assert parts(record.metric) == {
        "desktop/text": (0.5, 2),  # rows 2, 8
        "desktop/icon": (0.0, 2),  # rows 3, 9
        "web/text": (0.0, 1),  # row 4
        "web/icon": (0.0, 1),  # row 5
        "mobile/text": (1.0, 1),  # row 6
        "mobile/icon": (1.0, 1),  # row 7
    }


def test_what_is_stored_of_every_answer(ask: Ask, tmp_path: Path) -> None:
    record = ask("ok_vqa", KNOWLEDGE)
    first, *_ = stored = lines(tmp_path / "run")
    assert [line["id"] for line in stored] == [f"val2014/{row}" for row in QUERIES]
    assert (first["answer"], first["prediction"]) == ("thing 2 ASSISTANT: What else?", "thing 2")
    assert (first["target"], first["scores"]) == ("thing 2", {"VQA accuracy": 1.0})
    assert record.demonstrations.ids == ["val2014/1", "val2014/0"]
    assert record.demonstrations.rule == "reference"


def test_class_names_of_imagenet(ask: Ask, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = imagenet_tree(tmp_path / "imagenet", train=1, val=1)
    said = {
        "newt": "It is a smooth newt.",  # right: the name is in it
        "goose": "GOOSE",
        "tree frog": "Tree. Frog",
        "hen": "Let me see\n\nhen",  # nothing behind a blank line counts
        "kite (bird of prey)": "kite",
    }
    ids = {name: f"val/{wnid}/ILSVRC2012_val_{50 * n:08d}.JPEG" for n, (wnid, name) in enumerate(class_names().items())}
    monkeypatch.setattr(Oracle, "answers", {id: said.get(name, "a thing") for name, id in ids.items()})
    record = execute(
        "dataset=imagenet100", f"dataset.root={root}", "shots=2", f"model.path={checkpoint}", "device=cpu",
        "method=none", f"hydra.run.dir={tmp_path / 'run'}", "model.visual_tokens=checkpoint",
    )  # fmt: skip
    assert (record.metric.name, record.metric.value, record.metric.n) == ("substring accuracy", 3 / 100, 100)
