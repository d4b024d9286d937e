"""Two devices on a machine that has one: tensors that say they are elsewhere, and refuse to be mixed with others.

A tensor on a pretended device holds its numbers on the CPU. Every operation is checked as torch checks it for real
devices (all on one, but for numbers without axes from the CPU), done on the CPU, and its result is where its inputs
were. So code that leaves a tensor behind fails here as it would on two GPUs; how fast it is and how it rounds there
is not shown.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from emloc.backbones.base import Backbone

HERE, THERE = torch.device("cuda:0"), torch.device("cuda:1")  # without a GPU, or torch would take the real ones
_CPU = torch.device("cpu")


class Pretended(Tensor):
    """A tensor whose numbers are in `held`, on the CPU, and whose device is another one."""

    held: Tensor
    place: torch.device

    @staticmethod
    def __new__(cls, held: Tensor, place: torch.device) -> "Pretended":
        with torch.inference_mode(False):  # torch sets up views of weights, and cannot for a tensor made within it
            made = Tensor._make_wrapper_subclass(
                cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
                device="meta",  # to torch's own code, which would look for a driver of any other device
            )  # fmt: skip
        made.held, made.place = held, place
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is Tensor.to and len(args) > 1 and isinstance(args[1], Tensor):
            args = (args[0], args[1].device, args[1].dtype)  # before torch reads the device by itself
        if function in (Tensor.tolist, Tensor.numpy):
            assert function is Tensor.tolist, "numbers of a GPU have to be on the CPU first"
            return args[0].held.tolist()
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(op, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"Pretended({self.held!r}, {self.place})"


class _Mode(TorchDispatchMode):
    """Sends what makes a tensor on a pretended device, or moves one there, through `_run` as well."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(op, args, kwargs or {})


def _run(op: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    leaves = tree_flatten((args, kwargs))[0]
    asked = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
    place = asked[0] if asked else _common(op, [leaf for leaf in leaves if isinstance(leaf, Tensor)])
    held_args, held = tree_map_only(Pretended, lambda tensor: tensor.held, (args, kwargs))
    held_args, held = tree_map_only(torch.device, lambda _: _CPU, (held_args, held))
    found = op(*held_args, **held)
    if op._schema.name.endswith("_") and isinstance(args[0], Tensor):
        return args[0]  # in place
    if place == _CPU:
        return found
    return tree_map_only(Tensor, lambda tensor: Pretended(tensor, place), found)


def _common(op: Any, tensors: list[Tensor]) -> torch.device:
    """The one device of all tensors; RuntimeError if there are two, as on real ones."""
    if op is torch.ops.aten.copy_.default:
        return tensors[0].device
    places = {tensor.device for tensor in tensors if tensor.device != _CPU or tensor.dim()}
    if op is torch.ops.aten.index.Tensor:
        places -= {_CPU} if tensors[0].device != _CPU else set()  # indices may come from the CPU
    if len(places) > 1:
        raise RuntimeError(f"{op}: expected all tensors to be on the same device, but found {sorted(map(str, places))}")
    return next(iter(places), _CPU)


@contextmanager
def spread(backbone: Backbone, above: int) -> Iterator[None]:
    """The model as accelerate spreads it: layers from `above` up on a second device, all else on the first."""
    upper = {part for layer in backbone.layers[above:] for part in layer.modules()}
    for module in [*backbone.model.modules()]:
        place = THERE if module in upper else HERE
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = nn.Parameter(Pretended(weight.detach(), place), requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = Pretended(buffer, place)
        if module is not backbone.model:
            hook = AlignDevicesHook()
            add_hook_to_module(module, hook)
            hook.execution_device = place  # given at once, the hook would look for that device on this machine
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) then is a tensor of the CPU that is moved
    try:
        with patch.object(torch.cuda, "_lazy_init"), _Mode():
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
