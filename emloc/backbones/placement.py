"""Where the parts of a model are: models larger than one device are spread by accelerate, or kept on disk.

accelerate hangs hooks on modules. A hook moves a module's input to where the module runs, and fetches weights that are
kept elsewhere (in RAM or on disk) for the time of a call; until then they are on the device `meta`, without values.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def runs_on(module: nn.Module) -> torch.device:
    """The device that a module computes on."""
    for part in module.modules():
        device = getattr(getattr(part, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    return next(module.parameters()).device


def weights_of(module: nn.Module) -> Iterator[Tensor]:
    """The weights of a module with their values, in the order of `module.parameters()`.

    What is kept elsewhere is fetched part by part, and held no longer than by whoever asked for it.
    """
    for part in module.modules():
        hook = getattr(part, "_hf_hook", None)
        if hook is None or not getattr(hook, "offload", False):
            yield from part.parameters(recurse=False)
            continue
        hook.pre_forward(part)
        try:
            yield from part.parameters(recurse=False)
        finally:
            hook.post_forward(part, None)
