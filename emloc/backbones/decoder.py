"""Running a model's decoder layers with attention of our own; what all families share of it.

Only the files of this package know transformers' internals.
"""

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from emloc.attention import Attn, LayerAttention, choose_kernel
from emloc.backbones.placement import runs_on, weights_of
from emloc.errors import UserError
from emloc.memory import Memory, MemoryLayer

_ATTENTION_NAME = "emloc"
_VOCABULARY_BLOCK = 16384  # rows of the output matrix turned to float32 at a time
_CHANGING_ROTATIONS = ("dynamic", "longrope")  # their angles depend on how long the text is so far


class Decoder(ABC):
    """A stock transformers model, layer by layer.

    Attributes
    ----------
    attn
        Which attention kernel runs: `auto`, `fused` or `plain`; see `emloc.attention.choose_kernel`.
    layer_forwards
        Decoder layers run so far (a batch counts once): the cost that methods are compared by.
    """

    def __init__(self, model: Any, *, attn: Attn = "auto") -> None:
        self.model = model.eval()
        self.attn = attn
        self.layer_forwards = 0
        _check_layers(self)

    # -- what a family provides

    @property
    @abstractmethod
    def decoder(self) -> Any:
        """The transformers module with `layers`, `norm` and `rotary_emb`."""

    @property
    def text_config(self) -> Any:
        """The decoder's configuration."""
        return self.model.config.get_text_config(decoder=True)

    def rotation(self, hidden: Tensor, positions: Tensor) -> Any:
        """What the layers take as `position_embeddings` for positions (P, B, T); here of the first axis."""
        return self.decoder.rotary_emb(hidden, positions[0])

    # -- facts

    @property
    def layers(self) -> nn.ModuleList:
        """Decoder layers, bottom to top."""
        return self.decoder.layers

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.layers)

    @property
    def weights_origin(self) -> str | None:
        """Where the weights come from, if that is not where their name says; see `emloc.smollm2`."""
        return getattr(self.model.config, "weights_origin", None)

    @property
    def device(self) -> torch.device:
        """Where rows, last hidden states and logits are; layers of a large model may be on others."""
        return runs_on(self.model.get_output_embeddings())

    @property
    def layer_devices(self) -> tuple[torch.device, ...]:
        """Where each layer runs, and has its part of the memory."""
        return tuple(runs_on(layer) for layer in self.layers)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights and of the memory."""
        return self.model.get_output_embeddings().weight.dtype

    @property
    def attention_kernels(self) -> list[str]:
        """Which attention kernels the layers use and why; UserError if `attn` asks for one that a device lacks."""
        types = dict.fromkeys(device.type for device in self.layer_devices)
        return [choose_kernel(device, self.dtype, self.attn).why for device in types]

    @property
    def output_matrix(self) -> Tensor:
        """(V, C), the weights that turn hidden states into logits."""
        (matrix,) = weights_of(self.model.get_output_embeddings())
        return matrix

    @property
    def max_positions(self) -> int:
        """Positions that the model was made for, with the stretch that its configuration asks for."""
        config = self.text_config
        rope = getattr(config, "rope_parameters", None) or {}
        stretched = rope.get("factor", 1) * (rope.get("original_max_position_embeddings") or 0)
        return max(config.max_position_embeddings, int(stretched))

    @functools.cached_property
    def fingerprint(self) -> str:
        """Identifies weights and architecture, the same for every dtype and device they are loaded in."""
        config = self.text_config
        digest = hashlib.sha256(f"{config.model_type}/{config.num_hidden_layers}/{config.num_key_value_heads}".encode())
        for weight in (*weights_of(self.layers[0]), *weights_of(self.layers[-1])):
            sample = weight.detach().flatten()[:256].to("cpu", torch.bfloat16)
            digest.update(sample.view(torch.int16).numpy().tobytes())
        return digest.hexdigest()[:16]

    def output_projection(self, layer: int) -> Tensor:
        """(C, H_q D): what takes the outputs of a layer's query heads to the residual stream, without its bias."""
        block: Any = self.layers[layer]
        (weight, *_) = weights_of(block.self_attn.o_proj)  # and a bias in some families
        return weight.detach()

    def head_gains(self, layer: int) -> Tensor:
        """(H_kv,) float32: how much squared output of a KV head's query heads grows on its way to the residual stream.

        The mean over directions, |W_O|_F^2 / (G D) of the columns of its G query heads.
        """
        by_channel = self.output_projection(layer).float().square().sum(0)
        return by_channel.view(self.text_config.num_key_value_heads, -1).mean(-1).to(self.device)

    def empty_memory(self) -> Memory:
        """A memory of nothing, at position 0."""
        config = self.text_config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        entries = torch.empty(config.num_key_value_heads, 0, head_dim, dtype=self.dtype)
        index = torch.empty(config.num_key_value_heads, 0, dtype=torch.int32)
        layers = (MemoryLayer(entries.to(at), entries.to(at), index.to(at)) for at in self.layer_devices)
        return Memory(tuple(layers), 0, 0, self.fingerprint)

    def check_positions(self, count: int) -> None:
        """UserError if a context with its query takes more positions than the model was made for."""
        if count > self.max_positions:
            raise UserError(
                f"Expected at most {self.max_positions} positions, what this model was made for, but context and query "
                f"take {count}; use fewer demonstrations, shorter ones, or fewer visual tokens per image."
            )

    # -- running layers

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings (T, C) of ids (T,)."""
        return self.model.get_input_embeddings()(ids).to(self.device)

    def final_norm(self, hidden: Tensor) -> Tensor:
        """The norm in front of the output matrix."""
        return self.decoder.norm(hidden)

    @contextmanager
    def attention_override(self) -> Iterator[None]:
        """Route this decoder's attention to the `emloc` argument of its layers; everything is restored on exit.

        transformers looks attention functions up by name in a registry. The name lives there, and in this model's
        configuration, only inside the block; other models and this one's vision tower are never touched.
        """
        config = self.text_config
        before = config._attn_implementation
        ALL_ATTENTION_FUNCTIONS[_ATTENTION_NAME] = _attention_door
        config._attn_implementation = _ATTENTION_NAME
        try:
            yield
        finally:
            config._attn_implementation = before
            ALL_ATTENTION_FUNCTIONS.pop(_ATTENTION_NAME, None)

    @torch.inference_mode()
    def run_layers(
        self,
        hidden: Tensor,  # (B, T, C), input of layer `start`
        positions: Tensor,  # (P, B, T)
        attention: LayerAttention,
        *,
        start: int = 0,
        inputs: list[Tensor] | None = None,
        added: Tensor | None = None,  # (K, B, T, C)
    ) -> Tensor:
        """Run layers `start`..L-1 and return (B, T, C) before the final norm; `inputs` collects each layer's input.

        `added` comes on top of the outputs of the lowest K layers, as far as they are run: inputs collected have it.
        Where layers are on several devices, accelerate's hooks take each layer's input along, and the result comes
        back to `device`; the inputs collected stay where they were made.
        """
        return self.forward_layers(hidden, positions, attention, start=start, inputs=inputs, added=added)

    def forward_layers(
        self,
        hidden: Tensor,
        positions: Tensor,
        attention: LayerAttention,
        *,
        start: int = 0,
        inputs: list[Tensor] | None = None,
        added: Tensor | None = None,
    ) -> Tensor:
        """As `run_layers`, in the caller's gradient mode: training goes the very way that answering goes."""
        rotation = self.rotation(hidden, positions)
        with self.attention_override():
            for number, layer in enumerate(self.layers[start:], start=start):
                if inputs is not None:
                    inputs.append(hidden)
                hidden = layer(hidden, attention_mask=None, position_embeddings=rotation, emloc=attention)
                if added is not None and number < len(added):
                    hidden = hidden + added[number].to(hidden.device)
                self.layer_forwards += 1
        return hidden.to(self.device)

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """Float32 logits (N, V) of hidden states (N, C) before the final norm.

        Products are formed in float32 whatever the weights' type: divergences near delta are decided by them.
        """
        return self.forward_logits(hidden)

    def forward_logits(self, hidden: Tensor) -> Tensor:
        """As `logits`, in the caller's gradient mode."""
        normed = self.final_norm(hidden).float().to(self.device)
        blocks = self.output_matrix.split(_VOCABULARY_BLOCK)
        return torch.cat([normed @ block.float().T for block in blocks], dim=-1)


def _check_layers(decoder: Decoder) -> None:
    """UserError if a layer forgets, or turns keys by angles that change later: both need the cache as a whole."""
    # Llama's attention has no such attribute.
    windows = [getattr(layer.self_attn, "sliding_window", None) for layer in decoder.layers]
    narrow = [window for window in windows if window is not None and window < decoder.max_positions]
    if narrow:
        raise UserError(
            f"Expected a model with full attention, but {len(narrow)} of its {len(windows)} layers use a sliding "
            f"window of {min(narrow)} tokens; choose another model."
        )
    kind = (getattr(decoder.text_config, "rope_parameters", None) or {}).get("rope_type", "default")
    if kind in _CHANGING_ROTATIONS:
        raise UserError(
            f"Expected a model whose rotary angles are fixed, but rope_type={kind!r} changes them with the length of "
            "the text; set rope_type to yarn or linear in its configuration, or choose another model."
        )


def _attention_door(
    module: Any, query: Tensor, key: Tensor, value: Tensor, _mask: Tensor | None, *, scaling: float, **extra: Any
) -> tuple[Tensor, None]:
    """The function that transformers' attention modules call inside `attention_override`."""
    return extra["emloc"](module.layer_idx, query, key, value, scaling), None
