"""No option without effect: what nothing in a run reads is refused, in a sweep what no job of it reads."""

from pathlib import Path

import pytest

from emloc import UserError
from experiments.setup.unread import check_known, check_run, check_sweep
from tests.experiments.setup.conftest import Command, left
from tests.support.runs import composed

pytest_plugins = ["tests.support.run_fixtures"]

CHUNKED = (
    "method=attention_matching,emloc,emloc_plus,emloc_video,expected_attention,fastgen,fewer_shots,keydiff,kvzip,none,"
    "pyramidinfer,pyramidkv,quantised,random,snapkv,streaming"
)
BUDGETED = (
    "method=attention_matching,expected_attention,fewer_shots,keydiff,kvzip,pyramidinfer,pyramidkv,random,rices,snapkv,"
    "streaming (and method/allocation=cosine,global_threshold,pyramid,uniform)"
)
LIMITED = "method=emloc,emloc_plus (and method/allocation=layer_search,water_filling)"
SEARCHED = "method=emloc (and method/allocation=layer_search)"
PRUNING = (
    "method=attention_matching,emloc,emloc_plus,emloc_video,expected_attention,fastgen,keydiff,kvzip,pyramidinfer,"
    "pyramidkv,random,snapkv,streaming"
)
SCORED = (
    "dataset=illusionvqa_comprehension,illusionvqa_soft_localization,mme_realworld_lite,ok_vqa,screenspot,video_mme,"
    "youcook2"
)
SIZED = "qwen2_5_vl_3b,qwen2_5_vl_7b,qwen2_vl_2b,qwen2_vl_7b,qwen3_vl_2b,qwen3_vl_4b,qwen3_vl_8b"


def check(*arguments: str) -> None:
    config = composed(*arguments)
    check_run(config, config.hydra)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            "method=emloc_video delta=0.02",
            "nothing reads delta=0.02 with method=emloc_video, which has its own method.allocation.delta; "
            f"delta is read by {LIMITED}",
        ),
        ("method=none delta=0.02", f"nothing reads delta=0.02 with method=none; delta is read by {LIMITED}"),
        (
            "method=snapkv method/allocation=video_search ratios=[0.5]",
            "nothing reads ratios=[0.5] with method=snapkv, which has its own method.allocation.ratios; "
            f"ratios is read by {SEARCHED}",
        ),
        ("budget=abc", f"nothing reads budget=abc with method=emloc; budget is read by {BUDGETED}"),
        (
            "method=zero_shot chunk_size=5",
            f"nothing reads chunk_size=5 with method=zero_shot; chunk_size is read by {CHUNKED}",
        ),
        ("scoring=strict", f"nothing reads scoring=strict with dataset=digits; scoring is read by {SCORED}"),
        (
            "method=none method/importance=window",
            f"nothing reads method/importance=window with method=none; method/importance is read by {PRUNING}",
        ),
        (
            "dataset.visual_tokens=4",
            "nothing reads dataset.visual_tokens=4 with model=tiny, which has its own model.visual_tokens; "
            f"dataset.visual_tokens is read by model={SIZED} (and model.visual_tokens=dataset)",
        ),
        (
            "delta=0.1 method.allocation.delta=0.2",
            "nothing reads delta=0.1, as method.allocation.delta is given too; leave one of them out",
        ),
        ("++delta=0.1 method=none", f"nothing reads delta=0.1 with method=none; delta is read by {LIMITED}"),
    ],
)
def test_what_nothing_reads(arguments: str, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        check(*arguments.split())
    assert str(caught.value) == f"Expected an option that this run reads, but {reason}."


@pytest.mark.parametrize(
    "arguments",
    [
        "delta=0.1 ratios=[0.5] chunk_size=3 demonstrations=first",
        "method=snapkv method/allocation=layer_search delta=0.1",
        "method=emloc method/importance=window method/allocation=pyramid budget=30",
        "method=none method.chunk_size=4",
        "model.visual_tokens=dataset dataset.visual_tokens=4",
        "dataset=ok_vqa scoring=strict",
        "model=qwen2_vl_7b dataset.visual_tokens=4",
        "shots=3 seed=1 limit=4 batch_size=2 force=true hydra.run.dir=x logger=wandb",
        "+mine=0.2 delta=${mine}",
        "method=zero_shot +mine=2 batch_size=${mine}",
    ],
)
def test_what_is_read(arguments: str) -> None:
    check(*arguments.split())


def test_the_run_beside_reads_what_its_method_reads() -> None:
    beside = "budget=match:${run_beside:emloc}"
    check("method=snapkv", beside, "delta=0.1", "ratios=[0.5]")
    with pytest.raises(UserError, match=r"nothing reads delta=0\.1 with method=snapkv"):
        check("method=snapkv", "budget=0.1", "delta=0.1")


def test_an_option_of_the_users_own_has_to_be_used() -> None:
    for used in (["+mine=0.2", "delta=${mine}"], ["+mine='1,2'", "+hydra.sweeper.params={seed:'${mine}'}"]):
        config = composed(*used)
        check_known(config, config.hydra)
    config = composed("+mine=0.2")
    with pytest.raises(UserError, match=r"Expected an option to be one of answer, attn, batch_size, .*; got 'mine'"):
        check_known(config, config.hydra)


def jobs(*lines: str) -> None:
    check_sweep([composed(*line.split()) for line in lines])


def test_in_a_sweep_one_job_that_reads_an_option_is_enough() -> None:
    jobs("method=none delta=0.1", "method=emloc delta=0.1")
    jobs("method=none method/importance=answers", "method=snapkv method/importance=answers")
    with pytest.raises(UserError) as caught:
        jobs("method=none delta=0.1", "method=zero_shot delta=0.1", "method=none delta=0.2")
    assert str(caught.value) == (
        "Expected an option that a job of this sweep reads, but nothing reads delta with method=none,zero_shot; "
        f"delta is read by {LIMITED}."
    )


def test_a_sweep_is_refused_before_its_first_job(command: Command, tmp_path: Path) -> None:
    done = command("-m", "method=none,zero_shot", "delta=0.1,0.2")
    assert (done.code, done.out) == (1, "")
    assert "nothing reads delta with method=none,zero_shot" in done.err
    assert not left(tmp_path)


def test_jobs_of_a_sweep_that_do_not_read_an_option_coincide(command: Command, data: Path, checkpoint: Path) -> None:
    done = command(
        "-m", "method=none,emloc", "delta=0.1,0.2", "shots=2", "limit=2", "device=cpu", f"model.path={checkpoint}",
        "dataset=image_folder", f"dataset.root={data}",
    )  # fmt: skip
    assert done.code == 0
    assert done.out.splitlines()[-1].startswith("3 done, 0 failed, 1 skipped (finished before): ")
