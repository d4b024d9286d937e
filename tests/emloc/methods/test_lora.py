"""Fine-tuning by LoRA: it computes what plain transformers with PEFT does, learns, and leaves the model as it was."""

import copy
import itertools
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import Tensor

from emloc import Demonstration, LoRA, NoPruning, Query, UserError
from emloc.adapters import linear_names
from emloc.backbones.base import Backbone
from emloc.fine_tuning import Schedule, answer_loss
from emloc.methods.lora import Adapted
from emloc.passes import run_rows
from emloc.prompt import TokenKind
from emloc.rows import RowBatch, concatenate
from tests.support.lively import ANSWERS, demonstrations, lively_backbone, queries

SHOTS = 6
TEXTS = [Demonstration(None, "What?" * (1 + n % 3), ANSWERS[n % 3]) for n in range(5)]


@pytest.fixture
def backbone(tmp_path: Path) -> Backbone:
    return lively_backbone(tmp_path / "checkpoint", layers=2)


def learned(backbone: Backbone, **options: Any) -> Adapted:
    memory = LoRA(**{"rank": 2, "epochs": 2, "batch_size": 4, **options}).compress(backbone, demonstrations(SHOTS))
    assert isinstance(memory, Adapted)
    return memory


def plain_peft(backbone: Backbone, weights: Mapping[str, Tensor]) -> Any:
    """A copy of the model as a user of plain transformers and PEFT would adapt it, with these adapters."""
    parts = {name.partition(".lora_")[0] for name in weights}
    names = [name for name, _ in backbone.model.named_modules() if any(name.endswith(part) for part in parts)]
    config = peft.LoraConfig(r=2, lora_alpha=16, target_modules=[name for name in names if "visual" not in name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks for an attribute that transformers renames
        model = peft.get_peft_model(copy.deepcopy(backbone.model), config)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            ((_, value),) = [pair for pair in weights.items() if name.endswith(f".{pair[0]}")]
            weight.data.copy_(value)
    return model


def opened(backbone: Backbone, demos: list[Demonstration]) -> list[Any]:
    return [concatenate([backbone.system_row(), row]) for row in backbone.encode(demos)]


def test_logits_are_those_of_plain_transformers_with_the_same_adapters(backbone: Backbone) -> None:
    memory = learned(backbone, learning_rate=0.01)
    assert memory.adapters is not None
    model, empty = plain_peft(backbone, memory.weights), backbone.empty_memory()
    for row in opened(backbone, TEXTS):
        batch = RowBatch.stack([row])
        with memory.adapters.inside(backbone, memory.weights):
            ours = backbone.logits(run_rows(backbone, batch, empty)[0])
        with torch.inference_mode():
            plain = model(input_ids=row.ids[None]).logits[0]
        torch.testing.assert_close(ours, plain, atol=2e-3, rtol=1e-3)
        without = backbone.logits(run_rows(backbone, batch, empty)[0])
        assert (ours - without).abs().max() > 0.1, "the adapters must matter, or this test could not fail"


def test_loss_and_gradients_are_those_of_plain_transformers(backbone: Backbone) -> None:
    memory = learned(backbone, learning_rate=0.01)
    assert memory.adapters is not None
    model, rows = plain_peft(backbone, memory.weights), opened(backbone, TEXTS[:1])
    with memory.adapters.inside(backbone, memory.weights) as weights:
        ours = answer_loss(backbone, rows)
        ours.backward()
        gradients = {name: weight.grad for name, weight in weights.items()}
    labels = rows[0].ids.where(rows[0].kinds == TokenKind.ANSWER, -100)
    labels[int((labels != -100).nonzero()[0])] = -100  # it is the header's last token, which only predicts
    plain = model(input_ids=rows[0].ids[None], labels=labels[None]).loss
    plain.backward()
    torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)
    assert len(gradients) == 2 * 2 * len(linear_names(backbone))
    for name, weight in model.named_parameters():
        if "lora_" in name:
            ((_, gradient),) = [pair for pair in gradients.items() if name.endswith(f".{pair[0]}")]
            assert gradient is not None
            torch.testing.assert_close(gradient, weight.grad, atol=1e-4, rtol=1e-3)


def test_rows_of_a_batch_do_not_see_each_other(backbone: Backbone) -> None:
    rows = opened(backbone, demonstrations(3))
    counts = [int(row.answers.sum()) - 1 for row in rows]
    singly = sum(answer_loss(backbone, [row]) * count for row, count in zip(rows, counts, strict=True)) / sum(counts)
    torch.testing.assert_close(answer_loss(backbone, rows), singly, atol=1e-4, rtol=1e-4)


def state(backbone: Backbone) -> list[Any]:
    """Everything that adapters might leave behind: modules, weights, what is trained of them, and attributes."""
    weights = [(name, id(weight), weight.requires_grad) for name, weight in backbone.model.named_parameters()]
    modules = [(name, id(module), set(vars(module))) for name, module in backbone.model.named_modules()]
    return [weights, modules, [weight.clone() for weight in backbone.model.parameters()]]


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_backbone_is_left_as_it_was(interrupted: bool, backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone.model.lm_head.requires_grad_(True)  # a model that came in by from_model may have such weights
    backbone.layers[1].mlp.requires_grad_(True)
    demos, asked = demonstrations(SHOTS), queries(4)
    *places, weights = state(backbone)
    memory = NoPruning().compress(backbone, demos)
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            LoRA(rank=2, epochs=2).trace(backbone, demos, progress=stop)
    else:
        adapted = learned(backbone, learning_rate=0.01)
        LoRA().answer(backbone, asked, adapted, max_new_tokens=3, batch_size=2)
        LoRA().choose(backbone, asked, list(ANSWERS), adapted, batch_size=2)
    *places_after, weights_after = state(backbone)
    assert places_after == places
    assert all(map(torch.equal, weights, weights_after))
    again = NoPruning().compress(backbone, demos)
    for one, other in zip(memory.layers, again.layers, strict=True):
        assert torch.equal(one.keys, other.keys)
        assert torch.equal(one.values, other.values)
    assert backbone.fingerprint == lively_twin(backbone)


def lively_twin(backbone: Backbone) -> str:
    """The fingerprint of the same model, computed afresh."""
    del backbone.__dict__["fingerprint"]
    return backbone.fingerprint


def stop(done: int, total: int) -> None:
    raise KeyboardInterrupt


def test_training_depends_on_its_seed_alone(backbone: Backbone) -> None:
    drawn = torch.random.get_rng_state()
    first = learned(backbone)
    assert torch.equal(torch.random.get_rng_state(), drawn), "what others draw is not changed"
    torch.manual_seed(99)
    again, other = learned(backbone), learned(backbone, seed=1)
    assert all(torch.equal(first.weights[name], again.weights[name]) for name in first.weights)
    assert not all(torch.equal(first.weights[name], other.weights[name]) for name in first.weights)


@pytest.mark.parametrize("attn", ["fused", "plain"])
def test_demonstrations_are_learned(attn: Any, backbone: Backbone) -> None:
    backbone.attn = attn
    demos = demonstrations(SHOTS)
    method = LoRA(rank=8, epochs=60, learning_rate=5e-3, batch_size=3)
    trace = method.trace(backbone, demos)
    asked = [Query(item.visual, item.question) for item in demos]
    replies = method.answer(backbone, asked, trace.memory, max_new_tokens=20, batch_size=4)
    assert [reply.text for reply in replies] == [item.answer for item in demos]
    chosen = method.choose(backbone, asked, list(ANSWERS), trace.memory, batch_size=4)
    assert [reply.text for reply in chosen] == [item.answer for item in demos]
    assert backbone.answer(asked, max_new_tokens=20) != [item.answer for item in demos], "it did not know them before"
    assert trace.trained is not None
    assert trace.trained.last_loss < 0.1 < trace.trained.first_loss


def test_what_is_told_of_the_training(backbone: Backbone) -> None:
    trace = LoRA(rank=3, epochs=2, batch_size=4, targets=("q_proj", "down_proj")).trace(backbone, demonstrations(SHOTS))
    layer = backbone.layers[0]
    linear = (layer.self_attn.q_proj, layer.mlp.down_proj)
    parameters = 2 * 3 * sum(part.in_features + part.out_features for part in linear)
    assert trace.trained is not None
    assert (trace.trained.parameters, trace.trained.bytes) == (parameters, 4 * parameters)
    assert (trace.trained.epochs, trace.trained.steps) == (2, 4)
    assert trace.deciding.layer_forwards == 4 * 2
    assert trace.deciding.seconds > 0
    assert (trace.memory.tokens_seen, trace.memory.nbytes) == (0, 0)


def test_half_precision_is_trained_in_float32(tmp_path: Path) -> None:
    backbone = lively_backbone(tmp_path, layers=2)
    backbone.model.to(torch.bfloat16)
    memory = learned(backbone)
    assert {weight.dtype for weight in memory.weights.values()} == {torch.float32}
    assert len(LoRA().answer(backbone, queries(2), memory, max_new_tokens=2, batch_size=2)) == 2


def test_the_schedule_sees_every_row_once_an_epoch() -> None:
    schedule = Schedule(epochs=3, learning_rate=1e-3, batch_size=4, seed=0)
    batches = [*schedule.batches(10)]
    assert [len(batch) for batch in batches] == [4, 4, 2] * 3
    assert len(batches) == schedule.steps(10)
    epochs = [[*itertools.chain(*batches[at : at + 3])] for at in (0, 3, 6)]
    assert all(sorted(epoch) == [*range(10)] for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_the_learning_rate_rises_and_falls() -> None:
    schedule = Schedule(epochs=1, learning_rate=1e-3, batch_size=1, seed=0)
    factors = [schedule.factor(step, 50) for step in range(51)]
    assert factors[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert factors[-1] == pytest.approx(0)
    assert schedule.factor(0, 1) == 1, "a single step is a whole one"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rank": 0}, "rank to be a whole number from 1 up, but got 0"),
        ({"alpha": 0}, "alpha to be a number above 0, but got 0"),
        ({"epochs": 1.5}, "epochs to be a whole number from 1 up, but got 1.5"),
        ({"learning_rate": 0.0}, "learning_rate to be a number above 0 and at most 1, but got 0.0"),
        ({"batch_size": 0}, "batch_size to be a whole number from 1 up, but got 0"),
        ({"targets": "q_proj"}, "targets to be one of all or a list, each item a text that is not empty"),
        ({"targets": []}, "targets to name a part of the layers, or to be all, but got none"),
        ({"seed": -1}, "seed to be a whole number from 0 up, but got -1"),
    ],
)
def test_impossible_settings_are_refused_on_construction(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        LoRA(**options)


def test_without_peft_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("emloc.adapters.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"PEFT to be installed for method=lora, but it is not; pip install 'emloc\[lo"):
        LoRA()


def test_what_cannot_be_done_is_refused(backbone: Backbone, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\(q_proj, .*down_proj\), but got 'q_prj'. Did you mean 'q_proj'"):
        LoRA(targets=["q_prj"]).compress(backbone, demonstrations(1))
    with pytest.raises(UserError, match="the memory that lora made"):
        LoRA().answer(backbone, queries(1), backbone.empty_memory(), max_new_tokens=2, batch_size=1)
    with pytest.raises(UserError, match="leave save_memory out"):
        learned(backbone).save(tmp_path / "memory.safetensors")
    other = lively_backbone(tmp_path / "other", layers=2, seed=5)
    with pytest.raises(UserError, match="that lora made with this model"):
        LoRA().answer(other, queries(1), learned(backbone), max_new_tokens=2, batch_size=1)
