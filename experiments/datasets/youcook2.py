"""YouCook2: one sentence about a clip of a cooking video."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from emloc.prompt import Visual
from emloc.video import Video
from experiments.breakdown import Scored, jackknife_stderr
from experiments.datasets.base import Sample, check_whole
from experiments.datasets.published import Published
from experiments.datasets.source import Row, Table
from experiments.datasets.videos import VideoFolder, video_folder
from experiments.metrics import Caption, Mean, corpus_scores, per_video_scores, require_scorers
from experiments.record import Metric


@dataclass(frozen=True, kw_only=True)
class YouCook2(Published):
    """3,179 clips of the validation split, the whole of each file; 3,079 are evaluated.

    Captions are scored together, so that a single answer has no score. Every metric is given twice: as the mean over
    videos of the metric within each video's clips, which the public implementation reports and `scoring=reference`
    puts first, and on the corpus, which is what the literature reports and `scoring=strict` puts first.

    Parameters
    ----------
    frames
        Frames of each clip, at uniform times from its first to its last.
    videos
        The folder of the clips; None: YouCookIIVideos/YouCookIIVideos below the Hugging Face home.
    """

    name: ClassVar[str] = "youcook2"
    hub_id: ClassVar[str] = "lmms-lab/YouCook2"
    split: ClassVar[str] = "val"
    columns: ClassVar[tuple[str, ...]] = ("sentence", "video_path", "youtube_id", "recipe_type")
    visual_columns: ClassVar[tuple[str, ...]] = ()
    wording: ClassVar[Mapping[str, str]] = {"question": "Describe in one sentence what is done in this clip."}

    rows: int | None = 3179
    max_new_tokens: int = 128
    visual_tokens: int | None = 256
    frames: int = 8
    videos: str | Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("dataset.frames", self.frames, least=1)

    def sample(self, id: str, row: Row, visual: Visual) -> Sample:
        caption, video = row.text("sentence"), row.text("youtube_id")
        group = str(row.cells["recipe_type"])
        return Sample(id, visual, caption, self.prompts["question"], group=group, reference=video)

    def visual(self, table: Table, number: int, row: Row) -> Visual:
        return Video(self._folder.find(row.text("video_path")), frames=self.frames)

    def score(self, prediction: str, sample: Sample) -> Mapping[str, float]:
        return {}

    def summarise(self, scored: Sequence[Scored]) -> list[Metric]:
        captions = [Caption(prediction=s.prediction, references=[s.target], video=str(s.reference)) for s in scored]
        per_video = [_metric(f"{name} per video", mean) for name, mean in per_video_scores(captions).items()]
        corpus = [_metric(name, mean) for name, mean in _corpus(captions).items()]
        both = [*corpus, *per_video] if self.scoring == "strict" else [*per_video, *corpus]
        return sorted(both, key=lambda metric: not metric.name.startswith("CIDEr"))

    def check_files(self) -> None:
        self._folder.check()
        require_scorers()

    @cached_property
    def _folder(self) -> VideoFolder:
        remedy = "download YouCookIIVideos.zip from lmms-lab/YouCook2, unpack it, and write dataset.videos=FOLDER."
        return video_folder(self.videos, "YouCookIIVideos/YouCookIIVideos", remedy)


def _corpus(captions: Sequence[Caption]) -> dict[str, Mean]:
    """The metrics over all captions; their errors by leaving out videos."""
    whole, videos = corpus_scores(captions), [caption.video for caption in captions]
    errors = jackknife_stderr(lambda kept: corpus_scores([captions[n] for n in kept]), videos)
    return {name: Mean(whole[name], errors[name] if errors else None, len(captions)) for name in whole}


def _metric(name: str, mean: Mean) -> Metric:
    """From the scorers' hundredfold to the record's scale."""
    stderr = None if mean.stderr is None else mean.stderr / 100
    return Metric(name, mean.value / 100, stderr, mean.n, True, {}, unit="")
