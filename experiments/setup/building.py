"""From a node of the configuration to the object it describes."""

from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from emloc.backbones.base import Backbone
from emloc.errors import UserError
from emloc.loading import load_backbone
from experiments.datasets.base import Dataset
from experiments.setup.settings import Settings


def build(node: DictConfig, group: str) -> Any:
    """The object of a node with `_target_`; the one place that calls Hydra's instantiate.

    Raises
    ------
    UserError
        As the object raises it, or if it cannot take the node's options.
    """
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, TypeError | ValueError):
            options = {key: node[key] for key in map(str, node) if key != "_target_"}
            raise UserError(f"Expected options that {group} can use, but got {options}: {cause}.") from error
        raise


def build_backbone(model: DictConfig, settings: Settings, dataset: Dataset) -> Backbone:
    """The model that the configuration names, with images sized for the dataset or as the configuration says."""
    tokens = _visual_tokens(model.visual_tokens, dataset)
    return load_backbone(model.path, device=settings.device, dtype=settings.dtype, visual_tokens=tokens)


def _visual_tokens(wanted: object, dataset: Dataset) -> int | None:
    """Visual tokens per image; None: as the checkpoint's image processor decides."""
    named = {"dataset": dataset.visual_tokens, "checkpoint": None}
    if isinstance(wanted, str) and wanted in named:
        return named[wanted]
    if isinstance(wanted, int) and not isinstance(wanted, bool) and wanted > 0:
        return wanted
    raise UserError(f"Expected model.visual_tokens to be dataset, checkpoint or a number above 0, but got {wanted!r}.")
