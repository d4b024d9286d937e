"""Every family against plain transformers on the same weights: one row per family, one test per promise."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from emloc import Demonstration, EMLoC, Memory, NoPruning, Query, UserError, load_backbone
from emloc.answering import generate, query_rows
from emloc.backbones.base import Backbone
from emloc.divergence import js_divergence
from emloc.passes import Probe, prefill, run_rows
from emloc.prompt import TokenKind
from emloc.rows import RowBatch, concatenate
from tests.support.families import FAMILIES, Family, cache_name
from tests.support.lively import random_image

ANSWERS = ("red", "a green bird", "blue, not grey")
WORDS = ("And", "What is", "bird, green", "not grey,", "Who says", "??")
SIZES = ((16, 16), (24, 16), (16, 40), (40, 24))


@pytest.fixture(scope="module", params=FAMILIES, ids=str)
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


@pytest.fixture(scope="module")
def backbone(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return family.lively(tmp_path_factory.mktemp("checkpoint"))


def image(backbone: Backbone, seed: int) -> Any:
    """An image, of one of several sizes; None for models that read text only."""
    return random_image(seed, size=SIZES[seed % len(SIZES)]) if backbone.reads else None


def demonstrations(backbone: Backbone, count: int = 5) -> list[Demonstration]:
    """One of them without an image."""
    shown = [None if n == 1 else image(backbone, n) for n in range(count)]
    return [Demonstration(shown[n], f"What is {n}?" * (1 + n % 3), ANSWERS[n % 3]) for n in range(count)]


def queries(backbone: Backbone, count: int = 4) -> list[Query]:
    shown = [image(backbone, 10 + n) for n in range(count - 1)]
    return [*(Query(one, f"{WORDS[n]} this?") for n, one in enumerate(shown)), Query(None, "Without an image?")]


def test_chunks_without_pruning_equal_one_plain_forward(family: Family, backbone: Backbone) -> None:
    demos, (query, *_) = demonstrations(backbone), queries(backbone)
    with torch.inference_mode():
        plain = backbone.model(**family.stock_inputs(backbone, [*demos, query]), use_cache=True)
    (row,) = query_rows(backbone, [query], memory := NoPruning(chunk_size=2).compress(backbone, demos))
    for kept, theirs in zip(memory.layers, plain.past_key_values.layers, strict=True):
        assert kept.length == theirs.keys.shape[2] - len(row)
        torch.testing.assert_close(kept.keys, theirs.keys[0, :, : kept.length], atol=5e-4, rtol=1e-3)
        torch.testing.assert_close(kept.values, theirs.values[0, :, : kept.length], atol=5e-4, rtol=1e-3)
    ours = logits(backbone, row, memory)
    torch.testing.assert_close(ours, plain.logits[0, -len(row) :], atol=5e-3, rtol=1e-3)
    assert (ours - logits(backbone, row, backbone.empty_memory())).abs().max() > 0.1, "the context must matter"


def logits(backbone: Backbone, row: Any, memory: Memory) -> Tensor:
    return backbone.logits(run_rows(backbone, RowBatch.stack([row], offset=memory.offset), memory)[0])


def test_sizes_are_known_without_running_the_model(backbone: Backbone) -> None:
    items = [*demonstrations(backbone), *queries(backbone)]
    for kinds, row in zip(backbone.token_kinds(items), backbone.encode(items), strict=True):
        assert kinds.tolist() == row.kinds.tolist()


def test_turns_are_those_of_the_chat_template(family: Family, backbone: Backbone) -> None:
    """Token by token, with and without images, in the middle and at the end."""
    demos, asked = demonstrations(backbone), queries(backbone)
    for query in (asked[0], asked[-1]):
        row = concatenate([backbone.system_row(), *backbone.encode([*demos, query])])
        assert row.ids.tolist() == family.stock_inputs(backbone, [*demos, query])["input_ids"][0].tolist()
    zero_shot = query_rows(backbone, asked[-1:], backbone.empty_memory())[0]
    assert zero_shot.ids.tolist() == family.stock_inputs(backbone, asked[-1:])["input_ids"][0].tolist()


def test_answer_tokens_are_the_answer_and_what_predicts_it(family: Family, backbone: Backbone) -> None:
    for demo, row in zip(demonstrations(backbone), backbone.encode(demonstrations(backbone)), strict=True):
        marked = backbone.tokenizer.decode(row.ids[row.answers])
        opening = backbone.chat.answer_open.rstrip(" ")
        assert marked == f"{opening}{backbone.chat.answer_indent}{demo.answer}{family.turn_end}"
        assert len(backbone.tokenizer(opening, add_special_tokens=False).input_ids) == 1
        assert int((row.kinds == TokenKind.IMAGE).sum()) > 0 or demo.visual is None


@pytest.mark.parametrize("shots", [0, 4])
def test_answers_equal_generate_on_the_whole_context(family: Family, backbone: Backbone, shots: int) -> None:
    demos = demonstrations(backbone, shots)
    asked = queries(backbone) if shots or family.name != "llava_onevision" else queries(backbone)[-1:]
    memory = NoPruning(chunk_size=2).compress(backbone, demos) if shots else backbone.empty_memory()
    ours = generate(backbone, query_rows(backbone, asked, memory), memory, max_new_tokens=6)
    for query, ids in zip(asked, ours, strict=True):
        inputs = family.stock_inputs(backbone, [*demos, query])
        whole = backbone.model.generate(**inputs, max_new_tokens=6, do_sample=False)
        continued = whole[0, inputs["input_ids"].shape[1] :].tolist()
        assert ids == [token for token in continued if token not in backbone.end_ids]
    assert len(asked) == 1 or len({tuple(ids) for ids in ours}) > 1


def test_divergence_equals_that_of_stock_layers_over_the_pruned_cache(family: Family, backbone: Backbone) -> None:
    """The trace's JS of a chunk of which every layer keeps another number of tokens."""
    demos = demonstrations(backbone)
    traces = (EMLoC(delta).trace(backbone, demos) for delta in (0.02, 0.05, 0.1, 0.2, 0.3, 0.4))
    trace = next(trace for trace in traces if len(set(trace.memory.lengths)) > 1)
    pruned, whole = trace.memory, NoPruning().compress(backbone, demos)
    at = [backbone.encode([demo])[0].answers for demo in demos]
    found = [
        torch.cat([stock_logits(family, backbone, demo, memory)[here] for demo, here in zip(demos, at, strict=True)])
        for memory in (whole, pruned)
    ]
    expected = js_divergence(*found).item()
    assert expected > 1e-4
    assert trace.chunks[0].js == pytest.approx(expected, rel=0.02, abs=1e-5)


def stock_logits(family: Family, backbone: Backbone, demo: Demonstration, memory: Memory) -> Tensor:
    """Logits (T, V) of a demonstration behind a memory, by transformers' own layers, attention and cache.

    What goes into the lowest layer, and what is added behind it, is caught on its way in the whole model.
    """
    opening = len(backbone.system_row())
    given: dict[str, Any] = {}
    hook = backbone.decoder.register_forward_pre_hook(lambda _, __, inputs: given.update(inputs), with_kwargs=True)
    with torch.inference_mode():
        # Only the first one counts: plain LLaVA-OneVision reads a prompt of one image in another way.
        backbone.model(**family.stock_inputs(backbone, [demo, *demonstrations(backbone)]))
        hook.remove()
        length = len(backbone.encode([demo])[0])
        embeds = given.get("inputs_embeds")
        embeds = backbone.model.get_input_embeddings()(given["input_ids"]) if embeds is None else embeds
        places = given["position_ids"] if given.get("position_ids") is not None else torch.arange(embeds.shape[1])
        places = places[..., opening : opening + length] - opening + memory.offset
        at = slice(opening, opening + length)
        rotation = backbone.decoder.rotary_emb(embeds, places if places.dim() > 1 else places[None])
        hidden, cache = embeds[:, at], memory.to_cache()
        for number, layer in enumerate(backbone.layers):
            hidden = layer(
                hidden, attention_mask=causal(length, memory.lengths[number]), position_embeddings=rotation,
                use_cache=True, **{cache_name(layer): cache},
            )  # fmt: skip
            deep = given.get("deepstack_visual_embeds")
            if deep is not None and number < len(deep):
                mask = given["visual_pos_masks"][0, at]
                hidden[0, mask] += deep[number][: int(mask.sum())]
        return backbone.model.get_output_embeddings()(backbone.decoder.norm(hidden))[0]


def causal(length: int, before: int) -> Tensor:
    """(1, 1, T, before + T): what transformers adds to attention logits."""
    return torch.full((length, before + length), -1e9).triu(before + 1)[None, None]


def test_reruns_from_every_layer_equal_the_teacher(backbone: Backbone) -> None:
    rows = backbone.encode(demonstrations(backbone))
    chunk = prefill(backbone, concatenate(rows), backbone.empty_memory())
    probe = Probe(backbone, rows, backbone.empty_memory(), chunk)
    for start in range(backbone.n_layers):
        again = probe.rerun(start, [layer.key_values for layer in chunk.layers])
        torch.testing.assert_close(again, probe.reference, atol=1e-4, rtol=1e-4)


def test_answers_do_not_depend_on_the_batch(backbone: Backbone) -> None:
    memory = EMLoC(0.02).compress(backbone, demonstrations(backbone))
    asked = queries(backbone, 7)
    singly = backbone.answer(asked, memory, max_new_tokens=5, batch_size=1)
    assert backbone.answer(asked, memory, max_new_tokens=5, batch_size=7) == singly
    assert backbone.answer(asked, memory, max_new_tokens=5, batch_size=3) == singly
    assert len(set(singly)) > 2


def test_images_decide_what_is_said_or_are_refused(backbone: Backbone) -> None:
    asked = [Query(random_image(seed), "What is this?") for seed in (1, 2)]
    if not backbone.reads:
        with pytest.raises(UserError, match=r"a model that reads images, but .* reads text only"):
            backbone.encode(asked)
        return
    rows = backbone.encode(asked)
    one, other = (logits(backbone, row, backbone.empty_memory())[-1] for row in rows)
    assert (one - other).abs().max() > 0.1


def test_memories_survive_saving(backbone: Backbone, tmp_path: Path) -> None:
    memory = EMLoC(0.02).compress(backbone, demonstrations(backbone))
    memory.save(tmp_path / "memory.safetensors")
    loaded = Memory.load(tmp_path / "memory.safetensors", backbone)
    assert (loaded.lengths, loaded.offset) == (memory.lengths, memory.offset)
    for kept, read in zip(memory.layers, loaded.layers, strict=True):
        assert torch.equal(kept.keys, read.keys)
        assert torch.equal(kept.values, read.values)
    asked = queries(backbone)
    assert backbone.answer(asked, loaded, max_new_tokens=5) == backbone.answer(asked, memory, max_new_tokens=5)


def test_half_precision(family: Family, tmp_path: Path) -> None:
    """Images, layers and memory in bfloat16, logits in float32."""
    backbone = load_backbone(family.save(tmp_path), device="cpu", dtype="bfloat16")
    memory = EMLoC(0.02).compress(backbone, demonstrations(backbone))
    assert {layer.keys.dtype for layer in memory.layers} == {torch.bfloat16}
    (row,) = backbone.encode(queries(backbone)[:1])
    assert logits(backbone, row, memory).dtype == torch.float32
    assert len(backbone.answer(queries(backbone), memory, max_new_tokens=2)) == 4


def test_a_model_that_is_loaded_already(family: Family, backbone: Backbone) -> None:
    given = Backbone.from_model(backbone.model, backbone.tokenizer, backbone.image_processor)
    assert type(given) is type(backbone)
    asked = queries(backbone)
    memory = NoPruning().compress(given, demonstrations(backbone))
    assert given.answer(asked, memory, max_new_tokens=5) == backbone.answer(asked, memory, max_new_tokens=5)
    if family.processor is not None:
        with pytest.raises(UserError, match="Expected an image processor"):
            Backbone.from_model(backbone.model, backbone.tokenizer)
