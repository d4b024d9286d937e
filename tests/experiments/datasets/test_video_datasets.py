"""Datasets of videos, through whole runs on small copies: what is asked, how it is scored, and what can be wrong."""

import json
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

from emloc.errors import UserError
from emloc.video import Video
from experiments.datasets.video_mme import VideoMME
from experiments.datasets.video_qa import VideoQA
from experiments.datasets.youcook2 import YouCook2
from experiments.metrics import Caption, corpus_scores, per_video_scores
from experiments.metrics.breakdown import jackknife_stderr
from experiments.records.schema import Mean
from tests.support.runs import comparable, execute, lines
from tests.support.videos import write_video

pytest_plugins = ["tests.support.run_fixtures"]
CAPTIONS = ["chop the onion", "fry the onion in oil", "add salt to the pan", "stir the soup", "chop the red pepper"]


def save(folder: Path, split: str, rows: list[dict[str, Any]]) -> Path:
    """A parquet file where `hf download` would put it."""
    (folder / "data").mkdir(parents=True)
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(rows).to_parquet(str(folder / "data" / f"{split}-00000-of-00001.parquet"))
    return folder


@pytest.fixture
def youcook2(tmp_path: Path) -> list[str]:
    """15 clips of three videos, the columns of the original."""
    rows = []
    for number in range(15):
        video = f"v{number % 3}"
        name = f"{video}/clip{number}.mp4"
        write_video(tmp_path / "videos" / name, 6)
        rows.append(
            {
                "id": number, "video_url": "", "recipe_type": str(number % 2), "segment": [0.0, 1.5],
                "sentence": CAPTIONS[number % 5], "video_path": name, "youtube_id": video,
            }
        )  # fmt: skip
    path = save(tmp_path / "table", "val", rows)
    return [
        "dataset=youcook2", f"dataset.path={path}", f"dataset.videos={tmp_path / 'videos'}", "dataset.rows=null",
        "dataset.pool_size=5", "dataset.frames=4",
    ]  # fmt: skip


@pytest.fixture
def video_mme(tmp_path: Path) -> list[str]:
    rows = []
    for number in range(6):
        write_video(tmp_path / "videos" / f"id{number}{('.mp4', '.MP4')[number % 2]}", 12)
        rows.append(
            {
                "video_id": "1", "duration": ("short", "long")[number % 2], "domain": "Knowledge", "url": "",
                "sub_category": "Biology", "videoID": f"id{number}", "question_id": f"1-{number}",
                "task_type": "Counting", "question": f"Question {number}?",
                "options": [f"{letter}. option" for letter in "ABCD"], "answer": "ABCD"[number % 4],
            }
        )  # fmt: skip
    path = save(tmp_path / "table", "test", rows)
    return [
        "dataset=video_mme", f"dataset.path={path}", f"dataset.videos={tmp_path / 'videos'}", "dataset.rows=null",
        "dataset.frames=4", "shots=0",
    ]  # fmt: skip


def run(options: list[str], checkpoint: Path, tmp_path: Path, *more: str) -> Any:
    folder = f"hydra.run.dir={tmp_path / 'run'}"
    return execute(*options, f"model.path={checkpoint}", "device=cpu", "dataset.max_new_tokens=4", folder, *more)


def test_youcook2_scores_captions_together(youcook2: list[str], checkpoint: Path, tmp_path: Path) -> None:
    record = run(youcook2, checkpoint, tmp_path, "shots=4")
    assert record.demonstrations.rule == "reference"
    assert len(record.demonstrations.ids) == 4
    assert [metric.name for metric in (record.metric, *record.other_metrics)][:2] == ["CIDEr per video", "CIDEr"]
    given = lines(tmp_path / "run")
    assert len(given) == 10
    assert {line["score"] for line in given} == {None}
    by_id = {sample.id: sample for sample in _youcook2(youcook2).samples()}
    captions = [
        Caption(
            prediction=str(line["prediction"]),
            references=[str(line["target"])],
            video=str(by_id[str(line["id"])].reference),
        )
        for line in given
    ]
    named = {metric.name: metric for metric in (record.metric, *record.other_metrics)}
    for name, value in corpus_scores(captions).items():
        assert named[name].value == pytest.approx(value / 100)
        assert named[name].stderr is not None
    for name, mean in per_video_scores(captions).items():
        assert named[f"{name} per video"].value == pytest.approx(mean.value / 100)
        assert (named[f"{name} per video"].n, named[f"{name} per video"].unit) == (3, "")


def test_youcook2_asks_for_its_scorers_before_the_first_query(
    youcook2: list[str], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocoevalcap.bleu.bleu_scorer", None)
    with pytest.raises(UserError, match=r"pip install 'emloc\[metrics\]'"):
        run(youcook2, checkpoint, tmp_path, "shots=4")
    assert not (tmp_path / "run").exists()


def test_youcook2_strict_puts_the_corpus_first(youcook2: list[str], checkpoint: Path, tmp_path: Path) -> None:
    record = run(youcook2, checkpoint, tmp_path, "shots=0", "method=zero_shot", "scoring=strict")
    assert record.metric.name == "CIDEr"


def _youcook2(options: list[str]) -> YouCook2:
    given = dict(option.removeprefix("dataset.").split("=", 1) for option in options)
    return YouCook2(path=given["path"], videos=given["videos"], pool_size=5, frames=4, rows=None)


def test_youcook2_shows_the_whole_clip(youcook2: list[str]) -> None:
    dataset = _youcook2(youcook2)
    sample = dataset.samples()[0]
    assert isinstance(sample.visual, Video)
    assert sample.visual.frames == 4
    assert sample.visual.path.is_file()
    assert dataset.written(sample.label) in CAPTIONS
    assert {sample.question for sample in [*dataset.pool(), *dataset.samples()]} == {dataset.prompts["question"]}


def test_video_mme(video_mme: list[str], checkpoint: Path, tmp_path: Path) -> None:
    record = run(video_mme, checkpoint, tmp_path, "method=zero_shot")
    assert record.metric.n == 6
    assert set(record.metric.parts) == {
        "duration/short", "duration/long", "domain/Knowledge", "sub_category/Biology", "task_type/Counting",
    }  # fmt: skip
    assert record.metric.parts["duration/short"].n == 3
    assert set(record.prompt_fingerprint) == {"instruction", "suffix"}
    prompt = str(lines(tmp_path / "run")[0]["prompt"])
    instruction, suffix = (VideoMME.wording[name] for name in ("instruction", "suffix"))
    assert prompt == f"{instruction}\nQuestion 0?\nA. option\nB. option\nC. option\nD. option\n{suffix}"
    assert suffix.startswith("\n")


def test_every_question_condenses_its_own_video(video_mme: list[str], checkpoint: Path, tmp_path: Path) -> None:
    window = ["method=emloc_video", "method.window=2", "method.allocation.ratios=[0.5]", "method.allocation.delta=0.69"]
    record = run(video_mme, checkpoint, tmp_path, *window)
    given = lines(tmp_path / "run")
    assert len(given) == 6
    owns: list[Any] = [line["own"] for line in given]
    assert record.context.per_query
    assert record.context.tokens_full == round(sum(own["tokens_full"] for own in owns) / 6)
    per_layer = [sum(own["tokens_kept_per_layer"][layer] for own in owns) / 6 for layer in range(2)]
    assert record.context.tokens_kept_per_layer == [round(kept) for kept in per_layer]
    assert record.context.tokens_kept_mean == pytest.approx(sum(per_layer) / 2)
    assert 1.5 < (record.context.compression or 0) < 3
    assert record.js.final_per_chunk == [own["js"] for own in owns]
    (tmp_path / "run" / "record.json").unlink()
    assert comparable(run(video_mme, checkpoint, tmp_path, *window)) == comparable(record)  # from the answers on disk


def test_a_missing_video_is_named_or_skipped(video_mme: list[str], checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "videos" / "id2.mp4").unlink()
    (tmp_path / "videos" / "id3.MP4").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"Expected the video id2\.mp4 in .*videos, but it is not there; download"):
        run(video_mme, checkpoint, tmp_path, "method=zero_shot")
    record = run(video_mme, checkpoint, tmp_path, "method=zero_shot", "on_error=skip")
    assert record.metric.n == 4
    assert set(record.skipped) == {"test/2", "test/3"}


def test_no_videos_at_all(video_mme: list[str], checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere, but it is not there; download the zip files of videos"):
        run(video_mme, checkpoint, tmp_path, f"dataset.videos={tmp_path / 'nowhere'}", "on_error=skip")


def write_questions(folder: Path, rows: list[dict[str, Any]], name: str = "questions") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def test_own_videos(checkpoint: Path, tmp_path: Path) -> None:
    rows = [
        {"video": f"{number}.mp4", "question": "What?", "answer": "left", "options": ["right", "left"]}
        for number in range(3)
    ]
    for number in range(3):
        write_video(tmp_path / "own" / f"{number}.mp4", 12)
    root = write_questions(tmp_path / "own", rows)
    write_questions(root, rows[:1], "demonstrations")
    dataset = VideoQA(root=root)
    sample = dataset.samples()[0]
    assert (sample.question, sample.label) == ("What?\nA. right\nB. left", "B")
    assert dataset.score("B. left", sample) == {"accuracy": 1.0}
    assert dataset.score("left", sample) == {"accuracy": 0.0}
    assert [demonstration.answer for demonstration in dataset.draw(1, 0)] == ["B"]
    options = ["dataset=video_qa", f"dataset.root={root}", "dataset.frames=4"]
    record = run(options, checkpoint, tmp_path, "shots=1")
    assert record.metric.n == 3
    assert record.context.tokens_full > 0


def test_own_videos_with_free_answers(tmp_path: Path) -> None:
    write_video(tmp_path / "own" / "a.mp4", 12)
    dataset = VideoQA(
        root=write_questions(tmp_path / "own", [{"video": "a.mp4", "question": "What?", "answer": "Hen"}])
    )
    assert dataset.score("It is a hen.", dataset.samples()[0]) == {"accuracy": 1.0}
    assert dataset.pool() == []


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"video": "b.mp4", "question": "What?", "answer": "x"}], "Expected the video b.mp4"),
        ([{"video": "a.mp4", "question": " ", "answer": "x"}], "Row 0 of .* should have a text that is not empty"),
        (
            [{"video": "a.mp4", "question": "?", "answer": "x", "options": ["y"]}],
            "should have one of at most 10 options as 'answer', but has \"x\"",
        ),
    ],
)
def test_rows_that_cannot_be_used(tmp_path: Path, rows: list[dict[str, Any]], problem: str) -> None:
    write_video(tmp_path / "own" / "a.mp4", 12)
    dataset = VideoQA(root=write_questions(tmp_path / "own", rows))
    sample = dataset.samples()[0]
    assert sample.problem
    with pytest.raises(UserError, match=problem):
        dataset.solved(sample)


def test_own_videos_without_questions(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Expected questions\.jsonl in"):
        VideoQA(root=tmp_path).samples()
    write_questions(tmp_path, [{"video": "a.mp4", "question": "What?"}])
    with pytest.raises(UserError, match="there is no 'answer'"):
        VideoQA(root=tmp_path).samples()
    with pytest.raises(UserError, match=r"dataset\.root is not given"):
        VideoQA().samples()
    with pytest.raises(UserError, match="texts called suffix, but got 'sufix'"):
        VideoQA(prompt={"sufix": "?"})


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = [1.0, 4.0, 2.0, 8.0, 5.0]
    found = jackknife_stderr(
        lambda kept: {"mean": sum(values[n] for n in kept) / len(kept)}, [str(n) for n in range(5)]
    )
    assert found is not None
    assert found["mean"] == pytest.approx(Mean.of(values).stderr)
    assert jackknife_stderr(lambda kept: {"n": 1.0 * len(kept)}, ["a", "a"]) is None
