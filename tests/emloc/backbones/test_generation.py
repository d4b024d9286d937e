"""transformers' own generation on a memory, against our answers and against stock generation on the whole context."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria, TextStreamer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from emloc import Demonstration, EMLoC, Memory, NoPruning, Query, UserError
from emloc.answering import answer_batch
from emloc.backbones.base import Backbone
from emloc.passes import run_rows
from emloc.rows import RowBatch
from tests.support.families import FAMILIES, Family
from tests.support.lively import random_image

READ = [family for family in FAMILIES if str(family) in ("llama", "qwen2_vl", "qwen3_vl", "smolvlm")]


@pytest.fixture(scope="module", params=READ, ids=str)
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


@pytest.fixture(scope="module")
def backbone(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return family.lively(tmp_path_factory.mktemp("checkpoint"))


def shown(backbone: Backbone, seed: int) -> Any:
    return random_image(seed, size=(24, 16)) if backbone.reads else None


def demonstrations(backbone: Backbone) -> list[Demonstration]:
    return [Demonstration(shown(backbone, n), f"What is {n}?", ("red", "a green bird")[n % 2]) for n in range(4)]


@pytest.fixture(scope="module")
def query(backbone: Backbone) -> Query:
    return Query(shown(backbone, 9), "And this?")


@pytest.fixture(scope="module")
def pruned(backbone: Backbone) -> Memory:
    """Layers of unequal lengths."""
    traces = (EMLoC(delta).compress(backbone, demonstrations(backbone)) for delta in (0.02, 0.05, 0.1, 0.2, 0.3))
    return next(memory for memory in traces if len(set(memory.lengths)) > 1)


def text(backbone: Backbone, ids: Tensor) -> str:
    return backbone.decode([token for token in ids.tolist() if token not in backbone.end_ids])


@pytest.mark.parametrize("whole", [False, True], ids=["pruned", "zero_shot"])
def test_greedy_is_our_answer(backbone: Backbone, query: Query, pruned: Memory, whole: bool) -> None:
    memory = None if whole else pruned
    (ids,) = backbone.generate(query, memory, do_sample=False, max_new_tokens=8)
    assert [text(backbone, ids)] == answer_batch(backbone, [query], memory, max_new_tokens=8)
    assert len(ids) <= 8


def test_beams_are_those_of_stock_generation_on_the_whole_context(
    family: Family, backbone: Backbone, query: Query
) -> None:
    demos = demonstrations(backbone)
    memory = NoPruning().compress(backbone, demos)
    settings: dict[str, Any] = {"num_beams": 3, "num_return_sequences": 2, "max_new_tokens": 6, "do_sample": False}
    ours = backbone.generate(query, memory, **settings)
    inputs = family.stock_inputs(backbone, [*demos, query])
    theirs = backbone.model.generate(**inputs, **settings)[:, inputs["input_ids"].shape[1] :]
    assert ours.tolist() == theirs.tolist()


def test_beams_on_a_pruned_memory(backbone: Backbone, query: Query, pruned: Memory) -> None:
    """The best beam is at least as likely as the greedy answer, and scores are those of its tokens."""
    settings: dict[str, Any] = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, "length_penalty": 0.0}
    found = backbone.generate(query, pruned, num_beams=4, output_scores=True, return_dict_in_generate=True, **settings)
    greedy = backbone.generate(query, pruned, output_logits=True, return_dict_in_generate=True, **settings)
    steps = torch.stack(greedy.logits)[:, 0].log_softmax(-1)
    assert found.sequences.shape == (1, 5)
    free = steps.index_fill(1, torch.tensor(sorted(backbone.end_ids)), -torch.inf)
    likelihood = free.gather(1, greedy.sequences[0][:, None]).sum().item()
    assert found.sequences_scores.item() >= likelihood - 1e-3


def test_sampling_is_drawn_from_the_memorys_distribution(backbone: Backbone, query: Query, pruned: Memory) -> None:
    settings: dict[str, Any] = {"temperature": 10.0, "top_k": 0, "return_dict_in_generate": True}
    torch.manual_seed(0)
    drawn = backbone.generate(
        query, pruned, do_sample=True, num_return_sequences=4000, max_new_tokens=1, output_scores=True, **settings
    )
    expected = drawn.scores[0][0].softmax(-1)
    (row,) = backbone.encode([query])
    ours = backbone.logits(run_rows(backbone, RowBatch.stack([row], offset=pruned.offset), pruned)[0, -1:])[0]
    torch.testing.assert_close(expected, (ours / 10).softmax(-1), atol=1e-4, rtol=1e-3)
    counts = torch.bincount(drawn.sequences[:, 0], minlength=len(expected))
    assert (counts / 4000 - expected).abs().sum() / 2 < 0.15  # total variation; that of 300 equal tokens would be 0.11
    several = backbone.generate(query, pruned, do_sample=True, num_return_sequences=20, max_new_tokens=4, **settings)
    assert len({tuple(ids) for ids in several.sequences.tolist()}) > 5


class Only(LogitsProcessor):
    """Forbids all tokens but one; remembers what it was shown."""

    def __init__(self, token: int) -> None:
        self.token = token
        self.seen: list[int] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        self.seen = input_ids[0].tolist()
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([self.token]), 0.0)


class After(StoppingCriteria):
    """Stops at this many tokens, those of the query among them."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:  # type: ignore[override]
        return torch.full((len(input_ids),), input_ids.shape[1] >= self.length)


def test_processors_criteria_streamers_and_configurations(
    backbone: Backbone, query: Query, pruned: Memory, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = backbone.encode([query])
    (token,) = backbone.tokenizer("!", add_special_tokens=False).input_ids
    only, streamer = Only(token), TextStreamer(backbone.tokenizer, skip_prompt=True)
    ids = backbone.generate(
        query, pruned, logits_processor=[only], stopping_criteria=[After(len(row) + 3)], streamer=streamer,
        generation_config=GenerationConfig(max_new_tokens=20, do_sample=False),
    )  # fmt: skip
    assert ids.tolist() == [[token] * 3]
    assert only.seen == [*row.ids.tolist(), token, token]
    assert capsys.readouterr().out == "!!!\n"


def test_prompt_lookup_is_greedy(backbone: Backbone, pruned: Memory) -> None:
    """Several tokens at once behind the cache, some of which are taken back."""
    query = Query(None, "What is this? What is this? What is")
    plain = backbone.generate(query, pruned, do_sample=False, max_new_tokens=10)
    assert (
        backbone.generate(query, pruned, do_sample=False, max_new_tokens=10, prompt_lookup_num_tokens=3).tolist()
        == plain.tolist()
    )


def test_nothing_stays_patched(backbone: Backbone, query: Query, pruned: Memory) -> None:
    before = dict(ALL_ATTENTION_FUNCTIONS), backbone.text_config._attn_implementation
    assert before[1] == "sdpa"
    settings = backbone.model.generation_config.to_dict()
    backbone.generate(query, pruned, num_beams=2, max_new_tokens=3)
    with pytest.raises(ValueError, match="nonsense"):
        backbone.generate(query, pruned, nonsense=1)
    assert (dict(ALL_ATTENTION_FUNCTIONS), backbone.text_config._attn_implementation) == before
    assert backbone.model.generation_config.to_dict() == settings


def test_a_query_beyond_the_models_positions(backbone: Backbone, pruned: Memory) -> None:
    with pytest.raises(UserError, match="at most 4096 positions"):
        backbone.generate(Query(None, "What? " * 3000), pruned)
