"""Every file of conf/ composes, and describes something that can be built; names and folders follow from it."""

from dataclasses import fields
from pathlib import Path

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from emloc import Method, UserError
from experiments.datasets.base import Dataset
from experiments.setup.building import build
from experiments.setup.naming import NOT_IDENTITY, identity, run_name, sweep_name
from experiments.setup.settings import Settings
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
    method = build(config.method, "the method")
    assert isinstance(method, Method)
    assert method.name == choice
    assert run_name(config).startswith(f"{choice}-digits-tiny-200-")


def test_every_method_has_its_configuration() -> None:
    assert {method.name for method in METHODS} == {choice for group, choice in CHOICES if group == "method"}


@pytest.mark.parametrize("choice", [choice for group, choice in CHOICES if group == "method"])
def test_method_defaults_are_those_of_the_library(choice: str) -> None:
    node = composed(f"method={choice}").method
    assert build(node, "the method") == get_class(node["_target_"])()


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
    assert model.path
    assert model.visual_tokens in ("dataset", "checkpoint")


def test_every_setting_of_the_configuration_is_read() -> None:
    top = {str(key) for key in composed() if key not in ("hydra", "model", "dataset", "method", "logger")}
    assert top == {field.name for field in fields(Settings)}


def test_delta_reaches_the_method_that_has_one() -> None:
    assert composed("delta=0.02").method.delta == 0.02
    assert "delta" not in composed("delta=0.02", "method=none").method


def test_folder_is_named_after_the_run() -> None:
    config = composed("delta=0.02", "shots=50", "model.path=/models/My model")
    folder = OmegaConf.select(config, "hydra.run.dir")
    assert folder == f"outputs/{run_name(config)}"
    assert run_name(config).rpartition("-")[0] == "emloc-digits-My_model-50-0.02"


def test_hash_is_of_what_a_result_depends_on() -> None:
    name = run_name(composed())
    for same in (
        "device=cpu",
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
    assert matched.method.budget == f"match:{run_name(composed('method=emloc', *same))}"
    assert run_name(matched) != run_name(composed("method=snapkv", *same))
    assert composed("method=emloc", "budget=match:${run_beside:emloc}", *same).budget == matched.method.budget


def test_runs_with_a_budget_cannot_be_matched() -> None:
    with pytest.raises(InterpolationResolutionError, match="not to pyramidkv"):
        run_name(composed("method=snapkv", "budget=match:${run_beside:pyramidkv}"))


def test_budget_counts_for_the_methods_that_have_one() -> None:
    assert run_name(composed("budget=0.5")) == run_name(composed())
    assert run_name(composed("method=snapkv", "budget=0.5")) != run_name(composed("method=snapkv"))


def test_every_logger_is_built() -> None:
    for choice in (choice for group, choice in CHOICES if group == "logger"):
        assert hasattr(build(composed(f"logger={choice}").logger, "the logger"), "log")


def test_sweep_is_named_after_its_overrides() -> None:
    assert sweep_name(["shots=10,20", "method=emloc,none"]) == "method=emloc,none__shots=10,20"
    assert sweep_name([]) == "default"
    long = [f"+option{number}=value" for number in range(50)]
    assert len(sweep_name(long)) < 120
    assert sweep_name(long) != sweep_name([*long, "more=1"])
    assert Path(sweep_name(["dataset.root=/data/a b"])).name == sweep_name(["dataset.root=/data/a b"])


def test_options_that_do_not_fit_are_named() -> None:
    with pytest.raises(UserError, match=r"the method.*'chunk_size': 'x'"):
        build(composed("method.chunk_size=x").method, "the method")
    with pytest.raises(UserError, match="budgett"):
        build(composed("+method.budgett=x").method, "the method")
