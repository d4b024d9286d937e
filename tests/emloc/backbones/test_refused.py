"""What a family cannot take, one sentence each, before anything is run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from emloc import Demonstration, NoPruning, Query, UserError, Video, load_backbone
from emloc.backbones.base import Backbone
from tests.support.families import FAMILIES, Family
from tests.support.lively import random_image

BY_NAME = {str(family): family for family in FAMILIES}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Backbone]:
    return lambda name: BY_NAME[name].lively(tmp_path_factory.mktemp(name))


def refused(message: str, action: Callable[[], Any]) -> None:
    with pytest.raises(UserError, match=message) as caught:
        action()
    assert "\n" not in str(caught.value)


def edit_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


@pytest.mark.parametrize("name", ["llama", "qwen3", "smolvlm"])
def test_a_checkpoint_without_a_tokenizer(name: str, tmp_path: Path) -> None:
    BY_NAME[name].save(tmp_path)
    for path in tmp_path.glob("*token*"):
        path.unlink()
    refused("Expected a complete checkpoint", lambda: load_backbone(tmp_path, device="cpu"))


@pytest.mark.parametrize("name", ["llama", "internvl3"])
def test_a_checkpoint_without_a_chat_template(name: str, tmp_path: Path) -> None:
    BY_NAME[name].save(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    refused("Expected a checkpoint with a chat template", lambda: load_backbone(tmp_path, device="cpu"))


def test_the_processors_chat_template_comes_first(tmp_path: Path) -> None:
    """Older multimodal checkpoints have it in a file of its own, and a text template in the tokenizer's."""
    family = BY_NAME["llava_onevision"]
    family.save(tmp_path)
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": family.template}))
    (tmp_path / "chat_template.jinja").write_text(BY_NAME["qwen2"].template)
    assert load_backbone(tmp_path, device="cpu").chat.image_token == "<image>"


def test_sliding_windows(tmp_path: Path) -> None:
    """Refused, unless the window is as long as the longest context, where it hides nothing."""
    BY_NAME["qwen2"].save(tmp_path)
    wide = {"layer_types": None, "use_sliding_window": True, "max_window_layers": 1, "sliding_window": 4096}
    assert load_backbone(edit_config(tmp_path, **wide), device="cpu").layers[1].self_attn.sliding_window == 4096
    edit_config(tmp_path, sliding_window=1024)
    refused("2 of its 3 layers use a sliding window of 1024", lambda: load_backbone(tmp_path, device="cpu"))


def test_rotations_that_change_with_the_length(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    edit_config(BY_NAME["llama"].save(tmp_path), rope_parameters=rope)
    refused("rope_type='dynamic' changes", lambda: load_backbone(tmp_path, device="cpu"))


def test_stretched_rotations_stretch_the_positions(tmp_path: Path) -> None:
    rope = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 4096}
    edit_config(BY_NAME["llama"].save(tmp_path), rope_parameters=rope)
    assert load_backbone(tmp_path, device="cpu").max_positions == 4 * 4096


@pytest.mark.parametrize("name", ["llama", "qwen2_vl"])
def test_more_than_the_models_positions(name: str, loaded: Callable[[str], Backbone]) -> None:
    backbone = loaded(name)
    long = [Demonstration(None, "What is this? " * 200, "A bird.")] * 8
    refused("at most 4096 positions.*take", lambda: NoPruning().compress(backbone, long))
    assert backbone.layer_forwards == 0
    memory = NoPruning().compress(backbone, long[:3])
    before = backbone.layer_forwards
    refused("at most 4096 positions.*take", lambda: backbone.answer([Query(None, "What? " * 2000)], memory))
    assert backbone.layer_forwards == before


def test_visual_tokens_that_are_not_the_models(loaded: Callable[[str], Backbone]) -> None:
    text, tiles = loaded("llama"), loaded("internvl3")
    refused("no visual_tokens, for llama reads text only", lambda: text.set_visual_tokens(64))
    refused("visual_tokens to be 4, as internvl", lambda: tiles.set_visual_tokens(64))
    tiles.set_visual_tokens(4)


@pytest.mark.parametrize("name", ["llama", "qwen3_vl", "smolvlm"])
def test_videos_where_they_are_not_read(name: str, loaded: Callable[[str], Backbone]) -> None:
    query = Query(Video(Path("no such file"), 4), "?")
    backbone = loaded(name)
    refused("a model that reads videos, but", lambda: backbone.encode([query]))
    refused("a model that reads videos, but", lambda: backbone.opening_row(query))


def test_image_tokens_that_do_not_match_images(loaded: Callable[[str], Backbone]) -> None:
    backbone = loaded("qwen2_5_vl")
    query = Query(random_image(1), "?")
    (row,) = backbone.encode([query])
    visual = next(iter(backbone.visual_features([[random_image(1)]])))
    refused(
        "one visual token for every feature.* has 4 tokens for 8 features of 2 visuals",
        lambda: backbone.build_row(row.ids, row.kinds, [visual, visual]),
    )
    other = BY_NAME["smolvlm"].tokenizer()
    other.chat_template = BY_NAME["qwen2_5_vl"].template
    refused(
        "a tokenizer that writes <|image_pad|> as token".replace("|", r"\|"),
        lambda: Backbone.from_model(backbone.model, other, backbone.image_processor),
    )


def test_families_that_are_not_supported(tmp_path: Path) -> None:
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=20))
    refused(
        r"supported family \(internvl, llama, .*smolvlm\), but this GPT2LMHeadModel is 'gpt2'",
        lambda: Backbone.from_model(model, BY_NAME["llama"].tokenizer()),
    )
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava_next"}))
    refused("is 'llava_next'. Did you mean 'llava_onevision'", lambda: load_backbone(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3"}))
    refused(r"\(internvl, .*\), but .* is 'gemma3', and most of its layers see only", lambda: load_backbone(tmp_path))


def test_loading_leaves_a_given_models_weights_alone(loaded: Callable[[str], Backbone]) -> None:
    """A model handed over may be in training elsewhere: no weight is frozen."""
    family: Family = BY_NAME["llama"]
    tokenizer = family.tokenizer()
    config = AutoConfig.for_model("llama", **family.config(len(tokenizer), tokenizer.convert_tokens_to_ids))
    model = AutoModelForCausalLM.from_config(config)
    backbone = Backbone.from_model(model, tokenizer)
    backbone.answer([Query(None, "What?")], max_new_tokens=2)
    assert all(weight.requires_grad for weight in model.parameters())
    assert not any(weight.requires_grad for weight in loaded("llama").model.parameters())
