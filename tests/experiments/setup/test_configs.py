"""Every file of conf/ composes, and describes something that can be built; names and folders follow from it."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from emloc import Method, UserError
from emloc.importance.answers import Answers
from emloc.importance.window import Window
from experiments.datasets.base import Dataset
from experiments.records.names import NOT_IDENTITY
from experiments.running.loggers import Logger
from experiments.setup.building import build
from experiments.setup.choices import load
from experiments.setup.matching import located
from experiments.setup.naming import identity, run_name, sweep_name
from experiments.setup.settings import ModelOptions, Settings
from tests.matrix import METHODS
from tests.support.runs import ROOT, composed

CONF = ROOT / "conf"
CHOICES = [
    (group, path.stem)
    for group in ("model", "dataset", "method", "logger")
    for path in sorted((CONF / group).glob("*.yaml"))
]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes(group: str, choice: str) -> None:
    config = composed(f"{group}={choice}")
    OmegaConf.to_container(config[group], resolve=True, throw_on_missing=True)
    assert Settings.of(config).shots == 200


@pytest.mark.parametrize("choice", [choice for group, choice in CHOICES if group == "method"])
def test_every_method_is_built_and_has_one_name(choice: str) -> None:
    config = composed(f"method={choice}")
    method = build(config.method, "method", Method)
    assert method.name == choice
    assert run_name(config).startswith(f"{choice}-digits-tiny-200-")


def test_every_method_has_its_configuration() -> None:
    published = {method.name for method in METHODS if type(method).__module__ == f"emloc.methods.{method.name}"}
    assert published == {choice for group, choice in CHOICES if group == "method"}


@pytest.mark.parametrize("choice", [choice for group, choice in CHOICES if group == "method"])
def test_method_defaults_are_those_of_the_library(choice: str) -> None:
    node = composed(f"method={choice}").method
    assert build(node, "method", Method) == get_class(node["_target_"])()


@pytest.mark.parametrize("choice", [choice for group, choice in CHOICES if group == "dataset"])
def test_every_dataset_has_the_name_and_the_options_of_its_class(choice: str) -> None:
    node = composed(f"dataset={choice}").dataset
    dataset = get_class(node["_target_"])
    assert issubclass(dataset, Dataset)
    assert dataset.name == choice
    assert {str(key) for key in node} == {"_target_"} | {field.name for field in fields(dataset)}


@pytest.mark.parametrize("choice", [choice for group, choice in CHOICES if group == "model"])
def test_every_model_says_where_it_is_and_how_images_are_sized(choice: str) -> None:
    model = composed(f"model={choice}").model
    assert model.name == choice
    assert {str(key) for key in model} == {field.name for field in fields(ModelOptions)}


def test_every_option_of_the_configuration_is_read_by_the_runner_or_passed_on() -> None:
    top = {str(key) for key in composed() if key not in ("hydra", "model", "dataset", "method", "logger")}
    text = "".join(path.read_text() for path in CONF.glob("*/**/*.yaml"))
    assert top - {field.name for field in fields(Settings)} == {option for option in top if f": ${{{option}}}" in text}


@pytest.mark.parametrize("choice", [choice for group, choice in CHOICES if group == "method"])
def test_a_choice_is_loaded_as_hydra_composes_it(choice: str) -> None:
    whole = OmegaConf.to_container(composed(f"method={choice}").method, resolve=False)
    assert OmegaConf.to_container(load("method", choice), resolve=False) == whole


def test_delta_reaches_the_method_that_has_one() -> None:
    assert composed("delta=0.02").method.allocation.delta == 0.02
    assert composed("delta=0.02", "method=none").method.allocation is None


def test_folder_is_named_after_the_run() -> None:
    config = composed("delta=0.02", "shots=50", "model.path=/models/My model")
    folder = OmegaConf.select(config, "hydra.run.dir")
    assert folder == f"outputs/{run_name(config)}"
    assert run_name(config).rpartition("-")[0] == "emloc-digits-My_model-50-0.02"


def test_hash_is_of_what_a_result_depends_on() -> None:
    name = run_name(composed())
    for same in (
        "device=cpu",
        "attn=plain",
        "model.device_map=auto",
        "batch_size=1",
        "force=true",
        "hydra.run.dir=x",
        "save_memory=true",
        "save_kept=true",
        "logger=wandb",
    ):
        assert run_name(composed(same)) == name
    others = [
        "seed=1",
        "limit=5",
        "dtype=float32",
        "model.path=x",
        "model.load_kwargs={revision:main}",
        "model.trust_remote_code=true",
        "method.chunk_size=5",
        "dataset.question=Why?",
        "delta=0.1",
    ]
    assert len({run_name(composed(other)) for other in others} | {name}) == 1 + len(others)
    assert not NOT_IDENTITY & set(identity(composed()))


def test_delta_does_not_name_a_run_that_has_no_use_for_it() -> None:
    assert run_name(composed("method=none", "delta=0.1")) == run_name(composed("method=none"))
    assert "-na-" in run_name(composed("method=none"))


@pytest.mark.parametrize("same", [[], ["seed=1"], ["delta=0.02"], ["shots=5"], ["method.chunk_size=5"]])
def test_run_beside_is_the_other_methods_run_with_the_same_options(same: list[str]) -> None:
    matched = composed("method=snapkv", "budget=match:${run_beside:emloc}", *same)
    assert matched.method.allocation.budget == f"match:{run_name(composed('method=emloc', *same))}"
    assert run_name(matched) != run_name(composed("method=snapkv", *same))
    of_emloc = composed("method=emloc", "budget=match:${run_beside:emloc}", *same)
    assert of_emloc.budget == matched.method.allocation.budget


@pytest.mark.parametrize(
    "importance",
    [
        ["method/importance=answers"],
        ["method/importance=window"],
        ["method/importance=window", "method.importance.window=8"],
    ],
)
def test_run_beside_has_the_importance_that_the_command_line_chooses(importance: list[str]) -> None:
    matched = composed("method=snapkv", "budget=match:${run_beside:emloc}", *importance)
    assert matched.method.allocation.budget == f"match:{run_name(composed('method=emloc', *importance))}"
    task = OmegaConf.masked_copy(matched, [str(key) for key in matched if key != "hydra"])
    HydraConfig.instance().set_config(matched)  # as during a job, which gets its configuration without Hydra's part
    assert task.method.allocation.budget == matched.method.allocation.budget


def test_run_beside_keeps_its_own_importance_otherwise() -> None:
    matched = composed("method=snapkv", "budget=match:${run_beside:emloc}", "method.importance.window=8")
    assert matched.method.allocation.budget == f"match:{run_name(composed('method=emloc'))}"


@pytest.mark.parametrize("method", ["fewer_shots", "rices"])
def test_a_method_with_a_budget_of_its_own_matches_the_run_beside_it(method: str, tmp_path: Path) -> None:
    matched = composed(f"method={method}", "budget=match:${run_beside:emloc}", "seed=1")
    beside = run_name(composed("method=emloc", "seed=1"))
    assert matched.method.budget == f"match:{beside}"
    (tmp_path / beside).mkdir()
    record = tmp_path / beside / "record.json"
    record.write_text("{}")
    assert located(matched.method, tmp_path).budget == f"match:{record}"
    with pytest.raises(
        InterpolationResolutionError, match=f"a method without a budget, such as emloc, but got {method}"
    ):
        run_name(composed("method=snapkv", f"budget=match:${{run_beside:{method}}}"))


def test_run_beside_a_method_that_there_is_not() -> None:
    with pytest.raises(
        InterpolationResolutionError, match=r"Expected method to be one of .*; got 'emlok'\. Did you mean"
    ):
        run_name(composed("method=snapkv", "budget=match:${run_beside:emlok}"))


def test_runs_with_a_budget_cannot_be_matched() -> None:
    with pytest.raises(
        InterpolationResolutionError, match="a method without a budget, such as emloc, but got pyramidkv"
    ):
        run_name(composed("method=snapkv", "budget=match:${run_beside:pyramidkv}"))


def test_budget_counts_for_the_methods_that_have_one() -> None:
    assert run_name(composed("budget=0.5")) == run_name(composed())
    assert run_name(composed("method=snapkv", "budget=0.5")) != run_name(composed("method=snapkv"))


def test_every_logger_is_built() -> None:
    for choice in (choice for group, choice in CHOICES if group == "logger"):
        assert isinstance(build(composed(f"logger={choice}").logger, "logger", Logger), Logger)


def test_sweep_is_named_after_its_overrides() -> None:
    assert sweep_name(["shots=10,20", "method=emloc,none"]) == "method=emloc,none__shots=10,20"
    assert sweep_name([]) == "default"
    long = [f"+option{number}=value" for number in range(50)]
    assert len(sweep_name(long)) < 120
    assert sweep_name(long) != sweep_name([*long, "more=1"])
    assert Path(sweep_name(["dataset.root=/data/a b"])).name == sweep_name(["dataset.root=/data/a b"])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["method.chunk_size=x"], "Expected method.chunk_size to be a whole number from 1 up, but got 'x'."),
        (["chunk_size=x"], "Expected chunk_size to be a whole number from 1 up, but got 'x'."),
        (["delta=x"], "Expected delta to be a number from 0 to 0.6931 (nats, at most ln 2), but got 'x'."),
        (
            ["method.allocation.delta=1"],
            "Expected method.allocation.delta to be a number from 0 to 0.6931 (nats, at most ln 2), but got 1.",
        ),
        (
            ["method=pyramidkv", "method.allocation.beta=0"],
            "Expected method.allocation.beta to be a number from 1 up, but got 0.",
        ),
        (
            ["method/importance=window", "method.importance.kernel=4"],
            "Expected method.importance.kernel to be an odd number, but got 4.",
        ),
        (
            ["+method.chunksize=4"],
            "Expected an option of method to be one of allocation, chunk_size, importance, probe, probes, refit; "
            "got 'chunksize'. "
            "Did you mean 'chunk_size'?",
        ),
        (
            ["+method.allocation.budget=4"],
            "Expected an option of method.allocation to be one of delta, group, order, ratios; got 'budget'. "
            "Did you mean 'delta'?",
        ),
        (
            ["+method.delta=0.1"],
            "Expected an option of method to be one of allocation, chunk_size, importance, probe, probes, refit; "
            "got 'delta'. "
            "It has moved; write method.allocation.delta.",
        ),
        (
            ["+method.observe=probes"],
            "Expected an option of method to be one of allocation, chunk_size, importance, probe, probes, refit; "
            "got 'observe'. "
            "It has moved; write method/importance=answers or window.",
        ),
    ],
)
def test_options_that_do_not_fit_are_named_as_they_are_written(overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        build(composed(*overrides).method, "method", Method)


@pytest.mark.parametrize(
    "target",
    [
        "emloc.methods.emloc",
        "emloc.nowhere.EMLoC",
        "emloc.importance.answers.Answers",
        "shutil.rmtree",
        ".x.Y",
        "a..B",
        "",
    ],
)
def test_a_target_that_is_no_method_is_not_called(target: str) -> None:
    with pytest.raises(UserError, match=r"Expected method\._target_ to name a class for method, such as") as caught:
        build(composed(f"method._target_='{target}'").method, "method", Method)
    assert repr(target) in str(caught.value)


def test_a_module_that_cannot_be_imported_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_method.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        build(composed("method._target_=my_method.Mine").method, "method", Method)


def test_a_method_from_elsewhere_is_built_with_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other_method.py").write_text("from emloc import Method\n\n\nclass Mine(Method):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    method = build(composed("method._target_=other_method.Mine", "method/importance=window").method, "method", Method)
    assert type(method).__module__ == "other_method"
    assert method.importance == Window()
    assert (
        build(composed("method=snapkv", "method/importance=answers").method, "method", Method).importance == Answers()
    )


def test_nothing_within_an_option_is_called(tmp_path: Path) -> None:
    node = composed(f"+dataset.question={{_target_:pathlib.Path.touch,self:{tmp_path}/x}}").dataset
    with pytest.raises(
        UserError, match=r"Expected dataset\.question to be a text that is not empty, but got {'_target_'"
    ):
        build(node, "dataset", Dataset)
    assert not list(tmp_path.iterdir())
