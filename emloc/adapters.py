"""LoRA adapters (arXiv 2106.09685) of PEFT inside a backbone's decoder layers, for the time of a block.

Our attention takes the place of transformers' behind the projections, which are still called as modules. So PEFT's
layers in their place are run in training and in answering alike, as plain transformers would run them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from emloc.backbones.base import Backbone
from emloc.errors import UserError, nearest

_ADAPTER = "lora_"  # in the name of every parameter that PEFT adds


def check_peft() -> None:
    """UserError if PEFT is not installed."""
    if find_spec("peft") is None:
        raise UserError("Expected PEFT to be installed for method=lora, but it is not; pip install 'emloc[lora]'.")


@dataclass(frozen=True)
class Adapters:
    """What adapters are like: their rank, the factor `alpha` / `rank` of what they add, and the layers they go to."""

    rank: int
    alpha: float
    targets: tuple[str, ...]

    @classmethod
    def of(cls, backbone: Backbone, *, rank: int, alpha: float, targets: Sequence[str] | None) -> "Adapters":
        """With targets that the model's layers have, None being all; UserError for others."""
        known = linear_names(backbone)
        for name in targets or ():
            if name not in known:
                raise UserError(
                    f"Expected targets to be among the linear parts of this model's layers ({', '.join(known)}), but "
                    f"got {name!r}.{nearest(name, known)}"
                )
        return cls(rank, alpha, tuple(targets or known))

    @contextmanager
    def inside(self, backbone: Backbone, values: Mapping[str, Tensor] | None = None) -> Iterator[dict[str, Tensor]]:
        """Put adapters into the decoder's layers; yields their parameters by name, and takes them out again.

        Without `values` they are new, drawn from torch's generator, and change nothing yet. They are float32 whatever
        the weights are: steps of training are too small for half precision.
        """
        import peft

        _ = backbone.fingerprint  # kept once computed: with adapters inside it would be another
        decoder = backbone.decoder
        trainable = {name: weight.requires_grad for name, weight in decoder.named_parameters()}
        settings = peft.LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=self._paths(backbone))
        tuner = peft.LoraModel(decoder, settings, "default")
        try:
            yield _filled(decoder, values)
        finally:
            tuner.unload()
            for name, weight in decoder.named_parameters():
                weight.requires_grad_(trainable[name])

    def _paths(self, backbone: Backbone) -> list[str]:
        """The full names of the parts, in the decoder: PEFT would look for short ones anywhere in it."""
        names = {module: name for name, module in backbone.decoder.named_modules()}
        parts = (module for layer in backbone.layers for module in layer.modules() if isinstance(module, nn.Linear))
        return [names[part] for part in parts if names[part].rpartition(".")[2] in self.targets]


def linear_names(backbone: Backbone) -> list[str]:
    """What the linear parts of the decoder's layers are called, such as `q_proj`."""
    parts = backbone.layers[0].named_modules()
    return [name.rpartition(".")[2] for name, module in parts if isinstance(module, nn.Linear)]


def _filled(decoder: Any, values: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    found = {name: weight for name, weight in decoder.named_parameters() if _ADAPTER in name}
    for name, weight in found.items():
        weight.data = (weight.data if values is None else values[name]).to(weight.device, torch.float32)
    return found
