"""Video-MME: multiple choice about long videos."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from emloc.prompt import Visual
from emloc.video import Video
from experiments.datasets.base import Sample, check_whole
from experiments.datasets.published import Published
from experiments.datasets.source import Row, Table
from experiments.datasets.videos import VideoFolder, video_folder
from experiments.metrics import MetricSpec, videomme_score

LETTERS = "ABCD"
_PARTS = ("duration", "domain", "sub_category", "task_type")
_ENDINGS = (".mp4", ".MP4", ".mkv")


@dataclass(frozen=True, kw_only=True)
class VideoMME(Published):
    """2,700 questions about 900 videos, without subtitles; all are evaluated, so that there are no demonstrations.

    Meant for method=emloc_video with shots=0: every question condenses its own video. Layout of the user turn: video,
    instruction, question, options (which carry their letters), suffix, each on a line of its own; the public
    implementation's suffix begins with a line break, which makes a blank line, and so does ours.

    Parameters
    ----------
    frames
        Frames of each video, at uniform times from its first to its last.
    videos
        The folder of the videos; None: videomme/data below the Hugging Face home.
    """

    name: ClassVar[str] = "video_mme"
    hub_id: ClassVar[str] = "lmms-lab/Video-MME"
    split: ClassVar[str] = "test"
    columns: ClassVar[tuple[str, ...]] = ("videoID", "question_id", "question", "options", "answer", *_PARTS)
    visual_columns: ClassVar[tuple[str, ...]] = ()
    metrics: ClassVar[tuple[MetricSpec, ...]] = (MetricSpec("accuracy"),)
    wording: ClassVar[Mapping[str, str]] = {
        "instruction": (
            "Watch the video and pick the option that answers the question best. "
            "Reply with its letter only (A, B, C or D)."
        ),
        "suffix": "\nReply with the letter of the right option.",
    }

    rows: int | None = 2700
    pool_size: int = 0
    max_new_tokens: int = 16
    visual_tokens: int | None = 144
    frames: int = 384
    videos: str | Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("dataset.frames", self.frames, least=1)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(LETTERS)

    def sample(self, id: str, row: Row, visual: Visual) -> Sample:
        options, answer = row.texts("options"), row.text("answer")
        if answer not in LETTERS:
            raise row.wrong("answer", f"one of the letters {', '.join(LETTERS)}")
        prompts = self.prompts
        question = "\n".join([prompts["instruction"], row.text("question"), *options, prompts["suffix"]])
        return Sample(id, visual, answer, question, parts=tuple(f"{part}/{row.part(part)}" for part in _PARTS))

    def visual(self, table: Table, number: int, row: Row) -> Visual:
        return Video(self._folder.find(row.text("videoID"), _ENDINGS), frames=self.frames)

    def score(self, prediction: str, sample: Sample) -> Mapping[str, float]:
        return {"accuracy": videomme_score(prediction, sample.label, scoring=self.scoring)}

    def check_files(self) -> None:
        self._folder.check()

    @cached_property
    def _folder(self) -> VideoFolder:
        remedy = (
            "download the zip files of videos from lmms-lab/Video-MME, unpack them, and write dataset.videos=FOLDER."
        )
        return video_folder(self.videos, "videomme/data", remedy)
