"""transformers' own generation on a memory: sampling, beams, streamers, logits processors, stopping criteria.

`GenerationMixin.generate` drives any model that gives logits for tokens behind a cache. Here that is a thin shell
around the backbone: what the query and the answer add is in an ordinary cache of transformers, which beams reorder,
while the memory, whose layers have unequal lengths, is read by our attention and shared by all beams. Nothing is
patched.
"""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from emloc.answering import Answerer, query_rows
from emloc.attention import attend
from emloc.memory import Memory
from emloc.prompt import Query
from emloc.rows import Row


def generate(backbone: Any, query: Query, memory: Memory | None = None, **settings: Any) -> Any:
    """Answers to one query behind a memory, by transformers' `generate`.

    Parameters
    ----------
    backbone
        A `Backbone`.
    memory
        None or an empty one: zero-shot, behind the system turn.
    settings
        What transformers' `generate` takes: `do_sample`, `num_beams`, `num_return_sequences`, `streamer`,
        `logits_processor`, `stopping_criteria`, `generation_config`, `max_new_tokens` (32 by default), ...

    Returns
    -------
    Tensor | ModelOutput
        The new tokens (R, T) of R answers, padded on the right, without the query's; with `return_dict_in_generate`
        what transformers returns, its `sequences` cut in the same way. Processors and criteria see the query's tokens
        as well, but not those of the memory.
    """
    memory = memory or backbone.empty_memory()
    (row,) = query_rows(backbone, [query], memory)
    backbone.check_positions(memory.offset + row.span)
    if not settings.keys() & {"max_length", "max_new_tokens", "generation_config"}:
        settings["max_new_tokens"] = 32
    found = _Generator(backbone, row, memory).generate(row.ids[None], **settings)
    if isinstance(found, Tensor):
        return found[:, len(row) :]
    found.sequences = found.sequences[:, len(row) :]
    return found


class _Generator(PreTrainedModel, GenerationMixin):
    """What transformers' generation needs of a model, logits for the tokens behind those in its cache; no weights."""

    def __init__(self, backbone: Any, row: Row, memory: Memory) -> None:
        config = copy.deepcopy(backbone.text_config)
        config._attn_implementation = "eager"  # checked against the class, which has no attention of its own
        super().__init__(config)
        self._backbone: Answerer = backbone
        self._row, self._memory = row, memory
        self.generation_config = copy.deepcopy(backbone.model.generation_config)
        self.generation_config.eos_token_id = sorted(backbone.end_ids)
        if self.generation_config.pad_token_id is None:
            known = backbone.tokenizer.pad_token_id
            self.generation_config.pad_token_id = min(backbone.end_ids) if known is None else known

    @property
    def device(self) -> torch.device:
        return self._row.ids.device

    @property
    def dtype(self) -> torch.dtype:
        return self._row.embeds.dtype

    def forward(
        self,
        input_ids: Tensor,
        past_key_values: Cache | None = None,
        cache: Cache | None = None,
        logits_to_keep: int = 0,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (B, T, V) of ids (B, T), behind the cache's tokens: first the query's, whose row has its images.

        `generate` calls the cache `past_key_values` up to transformers 5.23, and wants it back under that name.
        """
        name, held = ("past_key_values", past_key_values) if cache is None else ("cache", cache)
        assert held is not None, "generation runs with a cache"
        hidden = self._run(input_ids, held)[:, -logits_to_keep:]
        logits = self._backbone.logits(hidden.flatten(0, 1)).unflatten(0, hidden.shape[:2])
        return CausalLMOutputWithPast(logits=logits.expand(len(input_ids), -1, -1), **{name: held})

    def _run(self, ids: Tensor, cache: Cache) -> Tensor:
        """Hidden states (B, T, C); of the query alone (1, T, C), for its rows are all the same."""
        rows, done = len(ids), cache.get_seq_length()
        ids = ids if done else ids[:1]
        batch, length = ids.shape
        mask = torch.ones(length, done + length, dtype=torch.bool, device=ids.device).tril(done).expand(batch, -1, -1)

        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor, scaling: float) -> Tensor:
            if not done:
                cache.update(k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1), layer)
                return attend(
                    q, k, v, scaling=scaling, attn=self._backbone.attn, shared=[self._memory.layers[layer].key_values]
                )
            keys, values = cache.update(k, v, layer)
            shared = [self._memory.layers[layer].key_values]
            return attend(q, keys, values, scaling=scaling, attn=self._backbone.attn, shared=shared, own_mask=mask)

        prompt = self._row.part(done, done + length)
        embeds = prompt.embeds.expand(batch, -1, -1)
        added = None if prompt.added is None else prompt.added[:, None].expand(-1, batch, -1, -1)
        if len(prompt) < length:
            new = self._backbone.embed(ids[:, len(prompt) :].flatten()).unflatten(0, (batch, -1))
            embeds, added = torch.cat([embeds, new], dim=1), _padded(added, length)
        positions = self._positions(prompt, done, length).expand(-1, batch, -1)
        return self._backbone.run_layers(embeds, positions, attention, added=added)

    def _positions(self, prompt: Row, done: int, length: int) -> Tensor:
        """Positions (P, 1, length): the query's from the memory's offset on, then one by one."""
        answered = torch.arange(len(prompt), length, device=prompt.ids.device) + done - len(self._row)
        behind = (answered + self._row.span).expand(prompt.positions.shape[0], -1)
        return torch.cat([prompt.positions, behind], dim=1)[:, None] + self._memory.offset


def _padded(added: Tensor | None, length: int) -> Tensor | None:
    """What is added to the lowest layers (K, B, T, C), with nothing for the tokens up to `length`."""
    return None if added is None else torch.nn.functional.pad(added, (0, 0, 0, length - added.shape[2]))
