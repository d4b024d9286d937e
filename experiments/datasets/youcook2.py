"""YouCook2: one sentence about a clip of a cooking video."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from emloc.options import Count
from emloc.prompt import Visual
from experiments.datasets.base import Sample
from experiments.datasets.source import Row
from experiments.datasets.videos import PublishedVideos
from experiments.metrics import Caption, corpus_scores, per_video_scores, require_scorers
from experiments.metrics.breakdown import Scored, jackknife_stderr
from experiments.records.schema import Mean, Metric


@dataclass(frozen=True, kw_only=True)
class YouCook2(PublishedVideos):
    """3,179 clips of the validation split, the whole of each file; 3,079 are evaluated.

    Captions are scored together, so that a single answer has no score. Every metric is given twice: as the mean over
    videos of the metric within each video's clips, which the public implementation reports and `scoring=reference`
    puts first, and on the corpus, which is what the literature reports and `scoring=strict` puts first.
    """

    name: ClassVar[str] = "youcook2"
    hub_id: ClassVar[str] = "lmms-lab/YouCook2"
    split: ClassVar[str] = "val"
    usual_folder: ClassVar[str] = "YouCookIIVideos/YouCookIIVideos"
    archive: ClassVar[str] = "YouCookIIVideos.zip from lmms-lab/YouCook2, unpack it"
    file_column: ClassVar[str] = "video_path"
    columns: ClassVar[tuple[str, ...]] = ("sentence", "video_path", "youtube_id", "recipe_type")
    wording: ClassVar[Mapping[str, str]] = {"question": "Describe in one sentence what is done in this clip."}

    rows: Count | None = 3179
    max_new_tokens: Count = 128
    visual_tokens: Count | None = 256

    def sample(self, id: str, row: Row, visual: Visual) -> Sample:
        caption, video = row.text("sentence"), row.text("youtube_id")
        group = str(row.cells["recipe_type"])
        return Sample(id, visual, caption, self.prompts["question"], group=group, reference=video)

    def score(self, prediction: str, sample: Sample) -> Mapping[str, float]:
        return {}

    def summarise(self, scored: Sequence[Scored]) -> list[Metric]:
        captions = [Caption(prediction=s.prediction, references=[s.target], video=str(s.reference)) for s in scored]
        per_video = [_metric(f"{name} per video", mean) for name, mean in per_video_scores(captions).items()]
        corpus = [_metric(name, mean) for name, mean in _corpus(captions).items()]
        both = [*corpus, *per_video] if self.scoring == "strict" else [*per_video, *corpus]
        return sorted(both, key=lambda metric: not metric.name.startswith("CIDEr"))

    def check_files(self) -> None:
        super().check_files()
        require_scorers()


def _corpus(captions: Sequence[Caption]) -> dict[str, Mean]:
    """The metrics over all captions; their errors by leaving out videos."""
    whole, videos = corpus_scores(captions), [caption.video for caption in captions]
    errors = jackknife_stderr(lambda kept: corpus_scores([captions[n] for n in kept]), videos)
    return {name: Mean(whole[name], errors[name] if errors else None, len(captions)) for name in whole}


def _metric(name: str, mean: Mean) -> Metric:
    """From the scorers' hundredfold to the record's scale."""
    stderr = None if mean.stderr is None else mean.stderr / 100
    return Metric(name, mean.value / 100, stderr, mean.n, True, {}, unit="")
