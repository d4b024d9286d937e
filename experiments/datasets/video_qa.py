"""Questions about the user's own videos: `questions.jsonl` beside the files, one question per line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

from emloc.errors import UserError
from emloc.options import Count
from emloc.video import Video
from experiments.datasets.base import Rule, Sample, Worded
from experiments.datasets.image_folder import checked_root
from experiments.datasets.source import Row, load_table
from experiments.datasets.videos import VideoFolder
from experiments.metrics import normalised_substring, strict_letter

_FILES = ("{}.jsonl", "{}.json", "{}.parquet")
_LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True, kw_only=True)
class VideoQA(Worded):
    """Every row has `video` (a path in the folder), `question` and `answer`, and may have `options` (a list of texts).

    Without options, an answer is right if the row's answer occurs in it (`normalised_substring`). With options, which
    are listed below the question under letters, the row's answer is one of them, the model is to give its letter, and
    `strict_letter` reads it. Demonstrations, if there are any, are in a file like it called demonstrations.

    Parameters
    ----------
    root
        The folder with questions.jsonl (or .json, .parquet) and the videos.
    frames
        Frames of each video, at uniform times from its first to its last.
    prompt
        `suffix`: follows the question.
    """

    name: ClassVar[str] = "video_qa"
    usual: ClassVar[Rule] = "first"
    stop: ClassVar[str | None] = "\n\n"
    wording: ClassVar[Mapping[str, str]] = {"suffix": ""}

    root: str | Path | None = None
    frames: Count = 64
    max_new_tokens: Count = 32
    visual_tokens: Count | None = 144

    def pool(self) -> Sequence[Sample]:
        return self._demonstrations

    def samples(self) -> Sequence[Sample]:
        return self._questions

    def score(self, prediction: str, sample: Sample) -> Mapping[str, float]:
        if sample.reference:
            return {"accuracy": float(strict_letter(prediction, sample.reference) == sample.label)}
        return {"accuracy": normalised_substring(prediction, sample.label)}

    @cached_property
    def _demonstrations(self) -> list[Sample]:
        return self._read("demonstrations", optional=True)

    @cached_property
    def _questions(self) -> list[Sample]:
        return self._read("questions")

    @cached_property
    def _folder(self) -> VideoFolder:
        layout = "questions.jsonl and the videos that it names"
        return VideoFolder(checked_root(self.root, layout), f"dataset.root must hold {layout}.")

    def _read(self, name: str, *, optional: bool = False) -> list[Sample]:
        files = [self._folder.path / pattern.format(name) for pattern in _FILES]
        there = [file for file in files if file.is_file()]
        if not there and optional:
            return []
        if not there:
            raise UserError(
                f"Expected {files[0].name} in {self._folder.path}, but it is not there; {self._folder.remedy}"
            )
        table = load_table(self.name, name, there[0])
        table.check(["video", "question", "answer"])
        options = ["options"] if "options" in table.data.column_names else []
        rows = table.rows(["video", "question", "answer", *options])
        names = (f"{name}/{number}" for number in range(len(table)))
        return [Sample.made(id, partial(self._sample, id, row)) for id, row in zip(names, rows, strict=True)]

    def _sample(self, id: str, row: Row) -> Sample:
        visual = Video(self._folder.find(row.text("video")), frames=self.frames)
        question, suffix = row.text("question"), self.prompts["suffix"]
        if not row.cells.get("options"):
            return Sample(id, visual, row.text("answer"), f"{question}{suffix}")
        listed, label = row.lettered("options", "answer", _LETTERS)
        text = "\n".join([question, *listed])
        return Sample(id, visual, label, f"{text}{suffix}", reference=_LETTERS[: len(listed)])
