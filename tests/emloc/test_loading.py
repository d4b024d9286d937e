"""Loading checkpoints, and one sentence for each that cannot be loaded."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from emloc import UserError, load_backbone
from emloc.loading import resolve_device
from tests.support.checkpoints import make_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model", layers=2, label_words=["bado", "kimu"])


def test_loads_a_folder_ready_to_answer(checkpoint: Path) -> None:
    backbone = load_backbone(checkpoint, device="cpu")
    assert (backbone.n_layers, backbone.dtype, backbone.device.type) == (2, torch.float32, "cpu")
    assert backbone.label_words == ("bado", "kimu")
    assert not backbone.model.training
    assert not any(weight.requires_grad for weight in backbone.model.parameters())


def test_auto_dtype_is_float32_on_the_cpu_whatever_the_checkpoint(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, layers=2, dtype=torch.bfloat16)
    assert load_backbone(folder, device="cpu").dtype == torch.float32
    assert load_backbone(folder, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        load_backbone(tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no config"):
        load_backbone(tmp_path)


def test_a_hub_name_without_network(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded"):
        load_backbone("nobody/has-this-model")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"])
def test_incomplete_checkpoints(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    with pytest.raises(UserError, match="Expected a") as caught:
        load_backbone(checkpoint, device="cpu")
    assert str(checkpoint) in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "labels.json"])
def test_truncated_files(checkpoint: Path, name: str) -> None:
    path = checkpoint / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="Expected a") as caught:
        load_backbone(checkpoint, device="cpu")
    assert "\n" not in str(caught.value)


def test_missing_tensors_are_not_filled_with_random_numbers(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    del tensors[next(name for name in tensors if name.endswith("layers.1.self_attn.k_proj.weight"))]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 tensors are missing .*k_proj"):
        load_backbone(checkpoint, device="cpu")


def test_unsupported_families_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 1}))
    with pytest.raises(UserError, match=r"supported family \(.*qwen2_vl, qwen3,.*\), but .* is 'gpt2'"):
        load_backbone(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_thing"}))
    with pytest.raises(UserError, match="no_such_thing"):
        load_backbone(tmp_path)


@pytest.mark.parametrize("name", ["tpu-pod", "xyz", "cuda:99", "npu"])
def test_devices_that_are_not_there(name: str) -> None:
    with pytest.raises(UserError, match="device"):
        resolve_device(name)


def test_unknown_dtype(checkpoint: Path) -> None:
    with pytest.raises(UserError, match=r"dtype to be one of auto, .*Did you mean 'float16'"):
        load_backbone(checkpoint, dtype="flaot16")
