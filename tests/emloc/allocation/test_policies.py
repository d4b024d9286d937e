"""FastGen's sets of tokens, head by head, against the rule written out; and which tokens are special."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from emloc import AnswerAttention, Policies, UserError, load_backbone
from emloc.allocation.base import Share
from emloc.backbones.base import Backbone
from emloc.backbones.token_sets import punctuation_ids, template_ids
from emloc.loading import TINY
from emloc.passes import prefill
from emloc.prompt import TokenKind
from emloc.region import Measure, Probes, Region
from emloc.rows import concatenate
from tests.support.lively import demonstrations, lively_backbone


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return lively_backbone(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def region(backbone: Backbone) -> Region:
    rows, empty = backbone.encode(demonstrations(5)), backbone.empty_memory()
    return Region(backbone, prefill(backbone, concatenate([backbone.system_row(), *rows]), empty), empty, Probes(rows))


def kept(policies: Policies, scores: Sequence[Tensor], region: Region) -> list[list[list[int]]]:
    share = Share(0, region.chunk.tokens, region.chunk.tokens)
    decision = policies.decide(scores, share, Measure(region))
    return [[head.tolist() for head in layer] for layer in decision.kept if layer is not None]


def places(region: Region, ids: frozenset[int]) -> set[int]:
    row = region.chunk.row
    pairs = enumerate(zip(row.ids.tolist(), row.kinds.tolist(), strict=True))
    return {place for place, (token, kind) in pairs if token in ids and kind != TokenKind.IMAGE}


def drawn(region: Region) -> list[Tensor]:
    """Scores that are more or less uneven, and of which special tokens have more or less."""
    special = torch.zeros(region.chunk.tokens)
    special[list(places(region, template_ids(region.backbone)))] = 1
    generator = torch.Generator().manual_seed(0)
    return [
        torch.rand(2, region.chunk.tokens, generator=generator) ** power * (1 - special * taken)
        for power in (0.2, 2, 6)
        for taken in (0.0, 0.6, 0.9, 1.0)
    ]


@pytest.mark.parametrize("recovered", [0.0, 0.3, 0.5, 0.6, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("source", ["model", "drawn"])
def test_the_first_set_that_holds_enough_is_kept(
    source: str, recovered: float, backbone: Backbone, region: Region
) -> None:
    scores = AnswerAttention().scores(region) if source == "model" else drawn(region)
    tokens = region.chunk.tokens
    special, marks = places(region, template_ids(backbone)), places(region, punctuation_ids(backbone))
    part, taken = int(0.3 * tokens), set()
    for layer, choice in zip(scores, kept(Policies(recovered=recovered), scores, region), strict=True):
        for head, chosen in zip(layer.tolist(), choice, strict=True):
            frequent = set(sorted(range(tokens), key=head.__getitem__, reverse=True)[:part])
            local = set(range(tokens - part, tokens))
            sets = [special, special | marks, special | frequent, special | frequent | local, set(range(tokens))]
            enough = [sum(head[at] for at in one) > recovered * sum(head) for one in sets[:-1]]
            place = [*enough, True].index(True)
            assert chosen == sorted(sets[place])
            taken.add(place)
    if source == "drawn" and recovered in (0.5, 0.6, 0.8):
        assert len(taken) > 2, "heads differ"
    assert recovered < 1 or taken == {4}, "no set holds more than everything"


def test_a_head_that_looks_at_punctuation_keeps_it(backbone: Backbone, region: Region) -> None:
    special, marks = places(region, template_ids(backbone)), places(region, punctuation_ids(backbone))
    assert marks
    assert not marks & special
    scores = torch.full((2, region.chunk.tokens), 1e-3)
    scores[0, list(marks)] = 10.0
    scores[1, list(special)] = 10.0
    (layer,) = kept(Policies(), [scores], region)
    assert layer == [sorted(special | marks), sorted(special)]


def test_tokens_that_always_stay_are_kept_beside_the_sets(backbone: Backbone, region: Region) -> None:
    special = places(region, template_ids(backbone))
    other = next(place for place in range(region.chunk.tokens) if place not in special)
    scores = torch.full((2, region.chunk.tokens), 1e-3)
    scores[:, list(special)] = 1.0
    scores[:, other] = torch.inf
    (layer,) = kept(Policies(), [scores], region)
    assert layer == [sorted({*special, other})] * 2


def test_a_head_without_any_score_keeps_everything(region: Region) -> None:
    tokens = region.chunk.tokens
    assert kept(Policies(), [torch.zeros(2, tokens)], region) == [[[*range(tokens)]] * 2]


def test_special_tokens_are_those_of_the_template() -> None:
    """As the reference lists them for Qwen2-VL, which has the same chat format: its ids, by their texts."""
    tiny = load_backbone(TINY, device="cpu")
    names = {tiny.tokenizer.decode([token]).strip(" ") for token in template_ids(tiny)}
    markers = {"<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"}
    assert names == markers | {"system", "user", "assistant", "\n", "You", "are", "a", "helpful"}
    assert {tiny.tokenizer.decode([token]) for token in punctuation_ids(tiny)} == {",", ".", "?", "!"}


@pytest.mark.parametrize("option", ["recovered", "frequent", "local"])
def test_impossible_shares_are_refused(option: str) -> None:
    with pytest.raises(UserError, match=rf"{option} to be a number from 0 to 1, but got 1\.5"):
        Policies(**{option: 1.5})
