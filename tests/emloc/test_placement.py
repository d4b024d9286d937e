"""Models on several devices, or partly on disk: the same memory, answers and fingerprint as on one device."""

from pathlib import Path
from typing import Any

import pytest
import torch

from emloc import EMLoC, EMLoCPlus, Memory, SnapKV, Uniform, UserError, load_backbone
from emloc.backbones.base import Backbone
from emloc.passes import Probe, prefill
from emloc.rows import concatenate
from tests.support.families import FAMILIES, Family
from tests.support.lively import demonstrations, queries
from tests.support.pretended import HERE, THERE, Pretended, spread

BY_NAME = {str(family): family for family in FAMILIES}
pytest.importorskip("accelerate")


def loaded(family: Family, folder: Path) -> tuple[Backbone, Backbone]:
    """The same checkpoint twice, for `plain` attention: two devices have no fused kernel here."""
    family.save(folder)
    one, other = (load_backbone(folder, device="cpu", attn="plain") for _ in range(2))
    return one, other


def turns(backbone: Backbone) -> tuple[list[Any], list[Any]]:
    shown, asked = demonstrations(5), queries(3)
    if not backbone.reads:
        return [type(x)(None, x.question, x.answer) for x in shown], [type(x)(None, x.question) for x in asked]
    return shown, asked


def same(one: Memory, other: Memory) -> bool:
    return one.lengths == other.lengths and all(
        torch.equal(a.keys, b.keys.cpu()) and torch.equal(a.index, b.index.cpu())
        for a, b in zip(one.layers, other.layers, strict=True)
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="pretended devices are for machines without real ones")
@pytest.mark.parametrize("name", ["llama", "qwen2_vl", "qwen3_vl", "smolvlm"])
def test_layers_on_two_devices(name: str, tmp_path: Path) -> None:
    one, other = loaded(BY_NAME[name], tmp_path)
    shown, asked = turns(one)
    with spread(other, above=2):
        assert (other.device, other.layer_devices) == (HERE, (HERE, HERE, THERE))
        assert other.fingerprint == one.fingerprint
        for method in (EMLoC(0.02), EMLoCPlus(0.05), SnapKV(allocation=Uniform(budget=0.5))):
            memory, spread_out = method.compress(one, shown), method.compress(other, shown)
            assert tuple(layer.keys.device for layer in spread_out.layers) == other.layer_devices
            assert same(memory, spread_out)
            said = one.answer(asked, memory, max_new_tokens=4)
            assert other.answer(asked, spread_out, max_new_tokens=4) == said
        generated = one.generate(asked[0], memory, max_new_tokens=4)
        assert other.generate(asked[0], spread_out, max_new_tokens=4).tolist() == generated.tolist()
        memory.save(tmp_path / "memory.safetensors")
        read = Memory.load(tmp_path / "memory.safetensors", other)
        assert tuple(layer.keys.device for layer in read.layers) == other.layer_devices


@pytest.mark.skipif(torch.cuda.is_available(), reason="pretended devices are for machines without real ones")
def test_pretended_devices_do_not_mix(tmp_path: Path) -> None:
    """The instrument itself: what the test above would report."""
    _, other = loaded(BY_NAME["llama"], tmp_path)
    shown, _ = turns(other)
    with spread(other, above=2):
        with pytest.raises(RuntimeError, match="all tensors to be on the same device"):
            torch.ones(2, device=HERE) + torch.ones(2, device=THERE)
        rows = other.encode(shown)
        chunk = prefill(other, concatenate(rows), other.empty_memory())
        moved = [Pretended(layer.keys.held, HERE) for layer in chunk.layers]  # type: ignore[attr-defined]
        kept = [layer.key_values._replace(keys=keys) for layer, keys in zip(chunk.layers, moved, strict=True)]
        with pytest.raises(RuntimeError, match=r"on the same device|not on the expected device"):
            Probe(other, rows, other.empty_memory(), chunk).rerun(0, kept)


@pytest.mark.parametrize("name", ["llama", "qwen3_vl"])
def test_layers_on_disk(name: str, tmp_path: Path) -> None:
    """One decoder layer and the output matrix are read from disk whenever they are needed."""
    one, _ = loaded(BY_NAME[name], tmp_path / "model")
    layers = next(path for path, module in one.model.named_modules() if module is one.layers)
    places = device_map(one, layers) | {f"{layers}.1": "disk", "lm_head": "disk"}
    other = load_backbone(
        tmp_path / "model", device_map=places, load_kwargs={"offload_folder": str(tmp_path / "disk")}, attn="plain"
    )
    assert {weight.device.type for weight in other.layers[1].parameters()} == {"meta"}
    assert {device.type for device in (other.device, *other.layer_devices)} == {"cpu"}
    assert other.fingerprint == one.fingerprint
    shown, asked = turns(one)
    memory, from_disk = EMLoC(0.02).compress(one, shown), EMLoC(0.02).compress(other, shown)
    assert same(memory, from_disk)
    assert other.answer(asked, from_disk, max_new_tokens=4) == one.answer(asked, memory, max_new_tokens=4)


def device_map(backbone: Backbone, layers: str) -> dict[str, str | int]:
    """Every layer, and every other module with weights or buffers, on the CPU."""
    named = [*backbone.model.named_parameters(), *backbone.model.named_buffers()]
    modules = {name.rpartition(".")[0] for name, _ in named}
    depth = layers.count(".") + 2
    return {".".join(name.split(".")[:depth]) if name.startswith(layers) else name: "cpu" for name in modules}


def test_auto_gives_the_same_backbone(tmp_path: Path) -> None:
    one, _ = loaded(BY_NAME["llama"], tmp_path)
    other = load_backbone(tmp_path, device_map="auto", attn="plain")
    assert other.layer_devices == one.layer_devices
    assert other.dtype == torch.float32
    shown, _ = turns(one)
    assert same(EMLoC(0.02).compress(one, shown), EMLoC(0.02).compress(other, shown))


def test_a_device_beside_a_device_map(tmp_path: Path) -> None:
    BY_NAME["llama"].save(tmp_path)
    with pytest.raises(UserError, match=r"Expected device=auto beside device_map=auto, .* but got device=cpu"):
        load_backbone(tmp_path, device="cpu", device_map="auto")


def test_without_accelerate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    BY_NAME["llama"].save(tmp_path)
    monkeypatch.setattr("emloc.loading.find_spec", lambda name: None)
    with pytest.raises(UserError, match="accelerate to be installed for device_map, but it is not; pip install accel"):
        load_backbone(tmp_path, device_map="auto")
