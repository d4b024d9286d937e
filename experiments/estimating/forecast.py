"""What a run is going to need, from its checked configuration: the checkpoint's configuration and readers, the data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from omegaconf import DictConfig

from emloc.attention import choose_kernel, plain_kernel
from emloc.backbones.base import Backbone
from emloc.loading import converted_bytes, resolve_device
from emloc.methods.base import Method
from emloc.prompt import Demonstration, Query, load_image
from emloc.video import Video
from experiments.datasets.base import Dataset, Sample
from experiments.datasets.codewords import AnswerCode
from experiments.estimating.forwards import Forwards, forwards
from experiments.estimating.memory import Estimate, Plan, estimate
from experiments.estimating.sizes import Context, ModelSize, Queries, Rows
from experiments.running.evaluation import spread_out
from experiments.setup.building import outline_backbone
from experiments.setup.settings import Settings


@dataclass(frozen=True)
class Wanted:
    """A run that is asked for: its checked parts, everything but the weights."""

    model: DictConfig
    settings: Settings
    method: Method
    dataset: Dataset
    chosen: Sequence[Sample]  # the demonstrations

    def opened(self, count: int) -> "Wanted":
        """The same, with the images of `count` demonstrations open: a run looks at these first, and reads them once.

        UserError if one cannot be read.
        """
        chosen = [*self.chosen]
        for at in spread_out(range(len(chosen)), count):
            visual = chosen[at].visual
            if visual is not None and not isinstance(visual, Video):
                chosen[at] = replace(chosen[at], visual=load_image(visual))
        return replace(self, chosen=chosen)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run will need.

    `counted` of its demonstrations were tokenised, the others are taken to be like them. `own_contexts`: the method
    condenses a context per query besides, which is not estimated.
    """

    device: torch.device
    dtype: torch.dtype
    context: Context
    queries: Queries
    counted: int
    own_contexts: bool
    foreseen: bool
    memory: Estimate
    forwards: Forwards


def forecast(wanted: Wanted, *, process: int, sample: int, read_queries: bool = True) -> Forecast:
    """Estimate a run that is made in a process of `process` bytes, from at most `sample` demonstrations and queries.

    Without `read_queries` the images of queries are not opened, but taken to be like a demonstration's.

    Raises
    ------
    NotAtHandError
        If the checkpoint is not on this machine.
    UserError
        If it cannot be used, or the dataset cannot be used with it.
    """
    backbone = outline_backbone(wanted.model, wanted.settings, wanted.dataset)
    device = resolve_device(wanted.settings.device)
    code = AnswerCode.for_classes(wanted.dataset.classes, backbone.label_words, wanted.settings.seed)
    shown = wanted.method.demonstrated([wanted.dataset.solved(item, code=code) for item in wanted.chosen])
    context = _context(backbone, wanted.method, shown, sample)
    asked = _shown(wanted, read=read_queries)
    opening = 0 if context.chunks else context.opening
    queries = _queries(backbone, wanted, asked, code, opening=opening, sample=sample)
    plan = Plan(
        model=ModelSize.of(backbone),
        method=wanted.method,
        context=context,
        queries=queries,
        heldout=_heldout(backbone, wanted, asked, code, sample),
        plain=choose_kernel(device.type, backbone.dtype, backbone.attn).kernel is plain_kernel,
        # An accelerator gets them as they are wanted: files are read on the CPU.
        converted=converted_bytes(wanted.model.path, backbone.dtype) if device.type == "cpu" else 0,
        glibc=device.type == "cpu" and Plan.glibc,
    )
    return Forecast(
        device=device,
        dtype=backbone.dtype,
        context=context,
        queries=queries,
        counted=min(sample, len(shown)),
        own_contexts=wanted.method.own_contexts,
        foreseen=wanted.method.foreseen,
        memory=estimate(plan, process=process if device.type == "cpu" else 0),
        forwards=forwards(wanted.method, backbone.n_layers, context, queries),
    )


def _context(backbone: Backbone, method: Method, shown: Sequence[Demonstration], sample: int) -> Context:
    rows = Rows.of(backbone, spread_out(shown, sample), len(shown))
    return Context.of(method, rows, opening=len(backbone.system_row()))


def _shown(wanted: Wanted, *, read: bool) -> Callable[[Sample], Sample]:
    """What is tokenised in place of a query's sample: itself, or the same text with an image that is open already."""
    if read or not wanted.chosen:
        return lambda sample: sample
    (middle,) = spread_out(wanted.chosen, 1)  # `opened` has opened it, as its count is odd
    return lambda sample: replace(sample, visual=middle.visual)


def _queries(
    backbone: Backbone,
    wanted: Wanted,
    seen: Callable[[Sample], Sample],
    code: AnswerCode,
    *,
    opening: int,
    sample: int,
) -> Queries:
    """The queries that are asked; `opening` tokens of a system turn are in front of each where there is no context."""
    settings, dataset = wanted.settings, wanted.dataset
    asked = _usable(spread_out(dataset.samples(), settings.limit))
    items = [dataset.query(seen(item)) for item in spread_out(asked, sample)]
    if wanted.method.own_contexts:  # what they show is condensed first, and only their text is run as a batch
        items = [Query(None, item.question) for item in items]
    rows = Rows.of(backbone, items, min(settings.batch_size, len(asked)))
    choices = dataset.choices(code) if settings.answer == "rank" else ()
    return Queries(
        count=len(asked),
        batch=Rows(tuple(length + opening for length in rows.lengths), rows.answers, rows.visual),
        new_tokens=dataset.max_new_tokens,
        choices=tuple(len(backbone.answer_ids(choice)) for choice in choices),
    )


def _heldout(
    backbone: Backbone, wanted: Wanted, seen: Callable[[Sample], Sample], code: AnswerCode, sample: int
) -> Rows:
    settings, dataset = wanted.settings, wanted.dataset
    chosen = _usable(spread_out(dataset.samples(), settings.heldout_js)) if settings.heldout_js else []
    solved = [dataset.solved(seen(item), code=code) for item in spread_out(chosen, sample)]
    return Rows.of(backbone, solved, min(settings.batch_size, len(chosen)))


def _usable(samples: Sequence[Sample]) -> Sequence[Sample]:
    return [item for item in samples if not item.problem]
