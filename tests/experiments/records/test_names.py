"""What a run is called: by what its result depends on, and by nothing else."""

from typing import Any

import pytest

from experiments.records import names
from experiments.records.names import NEUTRAL, RUN_NAME, flat, identity, run_name
from experiments.setup.naming import plain
from tests.support.runs import composed


def config(*overrides: str) -> dict[str, Any]:
    return plain(composed(*overrides))


def with_option(given: dict[str, Any], value: object) -> dict[str, Any]:
    """The configuration as if the method had one more option."""
    return {**given, "method": {**given["method"], "refit": value}}


def test_an_option_added_later_renames_nothing_while_it_is_neutral(monkeypatch: pytest.MonkeyPatch) -> None:
    before = config()
    monkeypatch.setattr(names, "NEUTRAL", {**NEUTRAL, "method.refit": "none"})
    assert run_name(with_option(before, "none")) == run_name(before)
    assert run_name(with_option(before, None)) == run_name(before)
    assert run_name(with_option(before, "values")) != run_name(before)


def test_an_option_without_a_neutral_value_counts() -> None:
    assert run_name(with_option(config(), "none")) != run_name(config())


@pytest.mark.parametrize("option", NEUTRAL)
def test_every_neutral_value_is_that_of_an_option_and_its_default(option: str) -> None:
    """So that a row that is misspelt, or no longer true, is noticed."""
    found = [given for given in (config(), config("method=emloc_plus")) if option in dict(flat(given))]
    assert dict(flat(found[0]))[option] == NEUTRAL[option]
    assert option not in dict(flat(identity(found[0])))


@pytest.mark.parametrize("switch", ["allocation.heads=equal", "allocation.head_weight=false", "refit.crossfit=false"])
def test_a_switch_that_is_thrown_names_the_run(switch: str) -> None:
    usual = run_name(config("method=emloc_plus"))
    assert run_name(config("method=emloc_plus", f"method.{switch}")) != usual
    assert run_name(config("method=emloc_plus", "probes=5")) != usual


def test_names_can_be_read_again() -> None:
    for overrides, delta in (["delta=1e-05"], "1e-05"), (["method=snapkv"], "na"), (["delta=0.02"], "0.02"):
        found = RUN_NAME.fullmatch(run_name(config(*overrides)))
        assert found is not None
        assert found["delta"] == delta


@pytest.mark.parametrize("method", ["none", "zero_shot"])
def test_what_a_method_does_not_read_does_not_name_its_run(method: str) -> None:
    plain_name = run_name(config(f"method={method}"))
    for unread in ("method/importance=window", "method/allocation=uniform"):
        assert run_name(config(f"method={method}", unread)) == plain_name


def test_importance_and_allocation_name_a_run() -> None:
    crossed = {
        run_name(config("method=emloc", f"method/importance={importance}", f"method/allocation={allocation}"))
        for importance in ("answers", "window")
        for allocation in ("uniform", "pyramid", "layer_search")
    }
    assert len(crossed) == 6
    assert run_name(config("method=emloc")) in crossed
