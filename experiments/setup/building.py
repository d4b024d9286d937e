"""From a node of the configuration to the object it describes."""

import inspect
import typing
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from importlib import import_module
from typing import Any

from omegaconf import DictConfig, OmegaConf

from emloc.backbones.base import Backbone
from emloc.loading import load_backbone, outline
from experiments.datasets.base import Dataset
from experiments.setup.nodes import TARGET, checked, is_class_path, wrong_target
from experiments.setup.settings import ModelOptions, Settings


def build(node: DictConfig, group: str, kind: type) -> Any:
    """The object of a node with `_target_`: a `kind`, built from the node's options.

    Nodes within the node are built where the class has a component as an option, such as a method its allocation.
    Hydra's `instantiate` is not used: it would call whatever function any `_target_` names, wherever it is, so that a
    configuration from somebody else could run anything.

    Raises
    ------
    UserError
        If the node names no class of this kind, or the class cannot use an option; see `nodes.checked`.
    """
    cls = _class(node, group, kind)
    parts = {
        option: build(node[option], f"{group}/{option}", part)
        for option, part in _components(cls)
        if OmegaConf.is_dict(node.get(option))
    }
    return checked(cls, node, group.replace("/", "."), **parts)


def _class(node: DictConfig, group: str, kind: type) -> type:
    target = node.get(TARGET)
    found = _located(target) if is_class_path(target) else None
    if not isinstance(found, type) or not issubclass(found, kind) or inspect.isabstract(found):
        raise wrong_target(node, group)
    return found


def _located(target: str) -> Any:
    """What a path names, None if there is nothing; what goes wrong within the module is its author's to see."""
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name, None)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):  # the module is there, but one that it imports is not
            raise
        return None


def _components(cls: type) -> Iterator[tuple[str, type]]:
    """The options of a class that are components themselves, with their base class."""
    for option, hint in typing.get_type_hints(cls).items():
        for part in typing.get_args(hint) or (hint,):
            if isinstance(part, type) and is_dataclass(part):
                yield option, part


def build_backbone(model: DictConfig, settings: Settings, dataset: Dataset) -> Backbone:
    """The model that the configuration names, with images sized for the dataset or as the configuration says."""
    return _built(load_backbone, model, settings, dataset)


def outline_backbone(model: DictConfig, settings: Settings, dataset: Dataset) -> Backbone:
    """As `build_backbone`, without weights; see `emloc.loading.outline`."""
    return _built(outline, model, settings, dataset)


def _built(load: Callable[..., Backbone], model: DictConfig, settings: Settings, dataset: Dataset) -> Backbone:
    options = checked(ModelOptions, model, "model")
    named = {"dataset": dataset.visual_tokens, "checkpoint": None}
    # None leaves it to the checkpoint's image processor.
    tokens = named[options.visual_tokens] if isinstance(options.visual_tokens, str) else options.visual_tokens
    return load(
        options.path,
        device=settings.device,
        dtype=settings.dtype,
        attn=settings.attn,
        visual_tokens=tokens,
        device_map=options.device_map,
        load_kwargs=options.load_kwargs,
        trust_remote_code=options.trust_remote_code,
    )
