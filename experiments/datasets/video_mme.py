"""Video-MME: multiple choice about long videos."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from emloc.options import Count, CountOrZero
from emloc.prompt import Visual
from experiments.datasets.base import Sample
from experiments.datasets.source import Row
from experiments.datasets.videos import PublishedVideos
from experiments.metrics import videomme_score

LETTERS = "ABCD"
_PARTS = ("duration", "domain", "sub_category", "task_type")


@dataclass(frozen=True, kw_only=True)
class VideoMME(PublishedVideos):
    """2,700 questions about 900 videos, without subtitles; all are evaluated, so that there are no demonstrations.

    Meant for method=emloc_video with shots=0: every question condenses its own video. Layout of the user turn: video,
    instruction, question, options (which carry their letters), suffix, each on a line of its own; the public
    implementation's suffix begins with a line break, which makes a blank line, and so does ours.
    """

    name: ClassVar[str] = "video_mme"
    hub_id: ClassVar[str] = "lmms-lab/Video-MME"
    split: ClassVar[str] = "test"
    usual_folder: ClassVar[str] = "videomme/data"
    archive: ClassVar[str] = "the zip files of videos from lmms-lab/Video-MME, unpack them"
    file_column: ClassVar[str] = "videoID"
    endings: ClassVar[tuple[str, ...]] = (".mp4", ".MP4", ".mkv")
    columns: ClassVar[tuple[str, ...]] = ("videoID", "question_id", "question", "options", "answer", *_PARTS)
    wording: ClassVar[Mapping[str, str]] = {
        "instruction": (
            "Watch the video and pick the option that answers the question best. "
            "Reply with its letter only (A, B, C or D)."
        ),
        "suffix": "\nReply with the letter of the right option.",
    }

    rows: Count | None = 2700
    pool_size: CountOrZero = 0
    max_new_tokens: Count = 16
    visual_tokens: Count | None = 144
    frames: Count = 384

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(LETTERS)

    def sample(self, id: str, row: Row, visual: Visual) -> Sample:
        options, answer = row.texts("options"), row.letter("answer", LETTERS)
        prompts = self.prompts
        question = "\n".join([prompts["instruction"], row.text("question"), *options, prompts["suffix"]])
        return Sample(id, visual, answer, question, parts=tuple(f"{part}/{row.part(part)}" for part in _PARTS))

    def score(self, prediction: str, sample: Sample) -> Mapping[str, float]:
        return {"accuracy": videomme_score(prediction, sample.label, scoring=self.scoring)}
