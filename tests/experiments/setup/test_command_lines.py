"""Command lines that cannot be used: each ends in one sentence and exit code 1, and leaves nothing behind."""

import re
from pathlib import Path

import pytest

from tests.experiments.setup.conftest import Command, left
from tests.support.runs import ROOT

METHODS, ALLOCATIONS, MODELS = (
    ", ".join(sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml")))
    for group in ("method", "method/allocation", "model")
)
NOT_EMPTY = "a text that is not empty"
_FIRST = "emloc.methods.attention_matching.AttentionMatching"
NO_CLASS = f"Expected method._target_ to name a class for method, such as {_FIRST}, but got"
RATIOS = "Expected ratios to be a list, each item a number above 0 and at most 1, but got"
TOP = (
    "answer, attn, batch_size, budget, chunk_size, dataset, delta, demonstrations, device, dtype, force, heldout_js, "
    "heldout_layers, limit, logger, method, model, on_error, probe, probes, ratios, save_kept, save_memory, scoring, "
    "seed, shots"
)

SENTENCES = {
    # groups and their nodes
    "method=null": f"Expected method to be one of {METHODS}, but got null.",
    "-m method=none,null": f"Expected method to be one of {METHODS}, but got none,null.",
    "model=null": f"Expected model to be one of {MODELS}, but got null.",
    "logger=null": "Expected logger to be one of none, wandb, but got null.",
    "~model": f"Expected model to be one of {MODELS}, but got null.",
    "method.allocation=3": f"Expected method/allocation to be one of {ALLOCATIONS}, but got 3.",
    "++method._target_=foo": f"{NO_CLASS} 'foo'.",
    "++method._target_=null": f"{NO_CLASS} null.",
    "++method._target_=emloc.nowhere.Foo": f"{NO_CLASS} 'emloc.nowhere.Foo'.",
    "-m ++method._target_=foo": f"{NO_CLASS} 'foo'.",
    "++method._partial_=true": (
        "Expected an option of method to be one of allocation, chunk_size, importance, probe, probes, refit; "
        "got '_partial_'."
    ),
    "++dataset._partial_=true": (
        "Expected an option of dataset to be one of demonstrations, max_new_tokens, question, visual_tokens; "
        "got '_partial_'."
    ),
    "logger.project=x": "Expected no option of logger; got 'project'.",
    # options of the runner
    "device=null": "Expected device to be auto, cpu, cuda, cuda:1, npu or mps, but got null.",
    "device=cpu:70": "Expected a device of this machine, but device=cpu:70 is not available here, .*; use device=auto.",
    "dtype=null": "Expected dtype to be one of auto, float32, bfloat16, float16, but got null.",
    "limit=true": "Expected limit to be a whole number from 1 up or null, but got True.",
    "~shots": "Expected a value for shots, but it was removed; leave ~shots out.",
    "~seed": "Expected a value for seed, but it was removed; leave ~seed out.",
    "++foo=1": f"Expected an option to be one of {TOP}; got 'foo'. Did you mean 'force'?",
    "-m ++foo=1,2": f"Expected an option to be one of {TOP}; got 'foo'. Did you mean 'force'?",
    # options of the model
    "model.name=null": f"Expected model.name to be {NOT_EMPTY}, but got null.",
    "model.name=''": f"Expected model.name to be {NOT_EMPTY}, but got ''.",
    "model.name=../../x": (
        "Expected model.name to be a name without slashes, as folders are called by it, but got '../../x'."
    ),
    "model.path=''": f"Expected model.path to be {NOT_EMPTY}, but got ''.",
    "model.path=5": f"Expected model.path to be {NOT_EMPTY}, but got 5.",
    "model.path=null": f"Expected model.path to be {NOT_EMPTY}, but got null.",
    "~model.visual_tokens": "Expected a value for model.visual_tokens, but it was removed; leave .* out.",
    "model.visual_tokens=0": (
        "Expected model.visual_tokens to be one of dataset, checkpoint or a whole number from 1 up, but got 0."
    ),
    "++model.foo=1": (
        "Expected an option of model to be one of device_map, load_kwargs, name, path, trust_remote_code, "
        "visual_tokens; got 'foo'."
    ),
    "model.load_kwargs={dtype:float16}": (
        "Expected model.load_kwargs to be arguments of from_pretrained that are no options of their own, as dtype, "
        "device_map and trust_remote_code are, but got dtype; write that option instead."
    ),
    "model.load_kwargs=3": "Expected model.load_kwargs to be names with a value each or null, but got 3.",
    "model.device_map=3": "Expected model.device_map to be auto, a device for each module, or null, but got 3.",
    "model.trust_remote_code=1": "Expected model.trust_remote_code to be true or false, but got 1.",
    "model.device_map=auto device=cpu": (
        "Expected device=auto beside device_map=auto, which says where each layer goes, but got device=cpu; leave one "
        "of them out."
    ),
    "attn=flash": "Expected attn to be one of auto, fused, plain, but got 'flash'.",
    "device=npu": (
        "Expected torch-npu for device=npu, but it is not installed; pip install torch-npu==.*, the version of your "
        "torch, beside Ascend's CANN toolkit."
    ),
    # options of components
    "method.allocation.group=1.5": (
        "Expected method.allocation.group to be a whole number from 1 up, but got 1.5."
    ),
    "method=emloc_video method.js_tokens=nan": (
        "Expected method.js_tokens to be a whole number from 1 up, but got nan."
    ),
    "ratios=0.1": f"{RATIOS} 0.1.",
    "ratios=[true]": f"{RATIOS} [True].",
    "demonstrations=''": "Expected demonstrations to be one of balanced, first, reference or null, but got ''.",
    "method=snapkv budget=true": "Expected budget to be a text or a number, but got True.",
    "method=snapkv budget=match:": "Expected budget=match:RUN, a run or its record.json, but RUN is empty.",
    "method=snapkv budget=match:nan.json": (
        "Expected budget=match: to name a finished run's record.json, but nan.json is not one .*; run the method to "
        "be matched first."
    ),
    "method=snapkv budget=match:text.json": (
        "Expected budget=match: to name a finished run's record.json, but text.json is not one .*; run the method to "
        "be matched first."
    ),
    "method=snapkv method.allocation.budget=abc": (
        "Expected method.allocation.budget to be a ratio in (0, 1] such as 0.2, tokens per layer such as 512, or "
        "match:PATH/record.json, but got 'abc'."
    ),
    "dataset.question={_target_:shutil.rmtree,path:nowhere}": (
        f"Expected dataset.question to be {NOT_EMPTY}, but got {{'_target_': 'shutil.rmtree', 'path': 'nowhere'}}."
    ),
    # places and arguments
    "hydra.run.dir=": "Expected hydra.run.dir to name a folder, but got ''; leave it out for one named after the run.",
    "-m hydra.sweep.dir=": (
        "Expected hydra.sweep.dir to name a folder, but got ''; leave it out for one named after the run."
    ),
    "hydra.run.dir=/proc/x": "Expected a place that can be written, but /proc/x: .*; choose one with hydra.run.dir=.*",
    "-m hydra.sweep.dir=/proc/x": "Expected a place that can be written, but /proc/x: .*; choose one with .*",
    "=4": "Expected options such as shots=50 or method=none, but '=4' cannot be read as one.",
    "--resolve": "Expected arguments that go together, but: The --resolve flag can only be used in conjunction with .*",
    "--run --multirun": "Expected arguments that go together, but: Only one of --run, --multirun, .*",
    "+experiment=fig3_delta": (
        "Expected -m for a sweep, but got +experiment=fig3_delta without it; write python run.py -m "
        "+experiment=fig3_delta"
    ),
}  # fmt: skip


@pytest.fixture
def records(tmp_path: Path) -> list[str]:
    """Records that no budget can be taken from."""
    for name, tokens in (("nan.json", "NaN"), ("text.json", '"40"')):
        (tmp_path / name).write_text(f'{{"context": {{"tokens_kept_mean": {tokens}}}}}')
    return ["nan.json", "text.json"]


@pytest.mark.parametrize(("line", "sentence"), SENTENCES.items(), ids=SENTENCES)
def test_a_bad_command_line(line: str, sentence: str, command: Command, tmp_path: Path, records: list[str]) -> None:
    done = command(*line.split())
    expected = re.escape(sentence).replace(r"\.\*", ".*")
    assert re.fullmatch(expected, done.err.removesuffix("\n"))
    assert (done.code, done.out) == (1, "")
    assert not left(tmp_path, records)


def test_a_dataset_that_is_null(command: Command) -> None:
    assert re.fullmatch(
        r"Expected dataset to be one of banking77, .*, youcook2, but got null\.\n", command("dataset=null").err
    )
