"""Models that cannot be used: one exact sentence and exit code 1 each, before any weights are read."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from emloc import UserError, load_backbone
from emloc.attention import choose_kernel
from emloc.backbones import families
from emloc.loading import check_dtype
from experiments.setup.problems import explain
from tests.support.families import FAMILIES
from tests.support.runs import execute, image_folder

BY_NAME = {str(family): family for family in FAMILIES}
SUPPORTED = ", ".join(sorted(families()))


class Bad(NamedTuple):
    """A checkpoint spoilt in one way, and what `python run.py model.path=FOLDER` says about it."""

    sentence: str
    family: str = "llama"
    spoil: Callable[[Path], None] = lambda folder: None
    options: tuple[str, ...] = ()


def settings(**changes: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def without(pattern: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for path in folder.glob(pattern):
            path.unlink()

    return spoil


def other_tokenizer(folder: Path) -> None:
    tokenizer = BY_NAME["smolvlm"].tokenizer()
    tokenizer.chat_template = BY_NAME["qwen2_5_vl"].template
    tokenizer.save_pretrained(folder)


BAD = {
    "family": Bad(
        f"Expected a checkpoint of a supported family ({SUPPORTED}), but FOLDER is 'llava_next'. Did you mean "
        "'llava_onevision'?",
        spoil=settings(model_type="llava_next"),
    ),
    "chat template": Bad(
        "Expected a checkpoint with a chat template, but this one has none; take an instruction-tuned model, or set "
        "tokenizer.chat_template and hand the loaded model to Backbone.from_model.",
        spoil=without("chat_template*"),
    ),
    "tokenizer": Bad(
        "Expected a complete checkpoint, but FOLDER has no tokenizer (tokenizer.json); download it again.",
        spoil=without("*token*"),
    ),
    "image tokens": Bad(
        "Expected a tokenizer that writes <|image_pad|> as token NUMBER, as the model has it, but this one writes "
        "NUMBERS; use the tokenizer of the same checkpoint.",
        family="qwen2_5_vl",
        spoil=other_tokenizer,
    ),
    "visual tokens": Bad(
        "Expected no visual_tokens, for llama reads text only, but got 64; leave it out, or choose a model that reads "
        "images.",
        options=("model.visual_tokens=64",),
    ),
    "code of its own": Bad(
        "Expected trust_remote_code=true for FOLDER, which comes with program code of its own, but got false; read "
        "that code first, then set it.",
        spoil=settings(model_type="own_thing", auto_map={"AutoConfig": "own.OwnConfig"}),
    ),
    "no fused kernel": Bad(
        "Expected attn to be auto or plain, as the fused kernel of cpu fails here with float32, but got attn=fused.",
        options=("attn=fused",),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_one_sentence_and_nothing_is_loaded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, folder = BAD[name], tmp_path / "model"
    BY_NAME[bad.family].save(folder)
    bad.spoil(folder)
    without("*.safetensors")(folder)  # whoever reads the weights first says that they are missing
    if name == "no fused kernel":
        choose_kernel.cache_clear()  # another test of this process may have found the kernel to be right
        monkeypatch.setattr("emloc.attention._agrees", lambda *_: False)
    data = image_folder(tmp_path / "data")
    with pytest.raises(UserError) as caught:
        execute(
            "dataset=image_folder", f"dataset.root={data}", "shots=2", f"model.path={folder}", "device=cpu",
            f"hydra.run.dir={tmp_path / 'run'}", *bad.options,
        )  # fmt: skip
    expected = re.escape(bad.sentence.replace("FOLDER", str(folder)))
    assert re.fullmatch(expected.replace("NUMBERS", r"\[.*\]").replace("NUMBER", r"\d+"), str(caught.value))
    assert explain(caught.value) == str(caught.value)
    assert not (tmp_path / "run").exists()


def test_images_for_a_text_model(tmp_path: Path) -> None:
    BY_NAME["llama"].save(tmp_path / "model")
    data = image_folder(tmp_path / "data")
    with pytest.raises(UserError) as caught:
        execute(
            "dataset=image_folder", f"dataset.root={data}", "shots=2", f"model.path={tmp_path / 'model'}",
            "device=cpu", f"hydra.run.dir={tmp_path / 'run'}",
        )  # fmt: skip
    assert str(caught.value) == (
        "Expected a model that reads images, but llama reads text only; choose another model, or questions without "
        "images."
    )
    assert not (tmp_path / "run").exists()


def test_more_than_the_models_positions(tmp_path: Path) -> None:
    BY_NAME["llama"].save(tmp_path / "model")
    settings(max_position_embeddings=64)(tmp_path / "model")
    with pytest.raises(UserError) as caught:
        execute(
            "dataset=cities", "shots=10", f"model.path={tmp_path / 'model'}", "device=cpu", "limit=2",
            f"hydra.run.dir={tmp_path / 'run'}",
        )  # fmt: skip
    assert re.fullmatch(
        r"Expected at most 64 positions, what this model was made for, but context and query take \d+; use fewer "
        r"demonstrations, shorter ones, or fewer visual tokens per image\.",
        str(caught.value),
    )
    assert not (tmp_path / "run").exists()


def test_a_type_that_the_device_cannot_compute_with() -> None:
    """No type of ours fails on a CPU; an 8-bit one does."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        check_dtype(torch.device("cpu"), dtype)
    with pytest.raises(UserError) as caught:
        check_dtype(torch.device("cpu"), torch.float8_e4m3fn)
    assert re.fullmatch(
        r"Expected a dtype that cpu can compute with, but float8_e4m3fn fails there \(.*\); use dtype=float32\.",
        str(caught.value),
    )


def test_code_of_a_checkpoint_is_not_run_unasked(tmp_path: Path) -> None:
    """And is run, if asked for."""
    settings_file = {"model_type": "own_thing", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (tmp_path / "config.json").write_text(json.dumps(settings_file))
    ran = tmp_path / "ran"
    (tmp_path / "own.py").write_text(
        f"from pathlib import Path\nPath({str(ran)!r}).touch()\nfrom transformers import PretrainedConfig\n\n\n"
        "class OwnConfig(PretrainedConfig):\n    model_type = 'own_thing'\n"
    )
    with pytest.raises(UserError, match="Expected trust_remote_code=true"):
        load_backbone(tmp_path, device="cpu")
    assert not ran.exists()
    with pytest.raises(UserError, match=r"supported family .* is 'own_thing'"):
        load_backbone(tmp_path, device="cpu", trust_remote_code=True)
    assert ran.exists()
