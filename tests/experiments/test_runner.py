"""A run from configuration to record: what it leaves, what it measures, and what it refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from emloc import Memory, UserError, load_backbone
from experiments.datasets.base import Sample
from experiments.datasets.codewords import AnswerCode
from experiments.datasets.imagenet100 import class_names
from experiments.datasets.ok_vqa import OKVQA
from experiments.records.schema import Divergence, Record
from experiments.running.evaluation import spread_out
from experiments.setup.problems import explain
from tests.support.checkpoints import make_checkpoint
from tests.support.runs import comparable, execute, lines, write_image

pytest_plugins = ["tests.support.run_fixtures"]

WORDS = ("one", "two", "three", "four")


def test_run_leaves_all_its_files(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = execute(*options)
    folder = tmp_path / "run"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "record.json", "predictions.jsonl", "layers.csv", "layers.png", "run.log",
        ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml", ".hydra/run.json",
    }  # fmt: skip
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "record.json")
    assert Record.read(folder / "record.json") == record
    stored = lines(folder)
    assert [line["id"] for line in stored] == [f"val/{name}/{n}.png" for name in ("cat", "dog") for n in range(6)]
    assert record.metric.value == pytest.approx(sum(float(str(line["score"])) for line in stored) / 12)
    assert record.metric.n == 12
    assert set(record.metric.parts) == {"cat", "dog"}


def test_same_command_gives_the_same_record(options: list[str], tmp_path: Path) -> None:
    first, again = execute(*options), execute(*options, f"hydra.run.dir={tmp_path / 'again'}")
    assert comparable(first) == comparable(again)
    assert (tmp_path / "run" / "layers.csv").read_text() == (tmp_path / "again" / "layers.csv").read_text()


def test_batch_size_changes_nothing(options: list[str], tmp_path: Path) -> None:
    execute(*options)
    execute(*options, "batch_size=12", f"hydra.run.dir={tmp_path / 'again'}")
    stored = [[{**line, "seconds": 0} for line in lines(tmp_path / name)] for name in ("run", "again")]
    assert stored[0] == stored[1]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (["shots=-1"], "shots"),
        (["shots=7"], "shots=7"),
        (["shots=many"], "'many'"),
        (["delta=-0.1"], "delta"),
        (["delta=0.7"], "ln 2"),
        (["ratios=[0.5,0.1]"], "Expected ratios to be ascending"),
        (["method.allocation.ratios=[0.5,1.1]"], r"method\.allocation\.ratios .* a number above 0 and at most 1"),
        (["ratios=[1e-9]"], "the largest, 1e-09, keeps none of the context's"),
        (["method.chunk_size=x"], "chunk_size"),
        (["limit=0"], "limit"),
        (["batch_size=0"], "batch_size"),
        (["heldout_js=-1"], "heldout_js"),
        (["seed=-1"], "seed"),
        (["force=maybe"], "force"),
        (["device=quantum"], "quantum"),
        (["dtype=float33"], "Did you mean 'float32'"),
        (["model.path=/nowhere/at/all"], "/nowhere/at/all"),
        (["model.visual_tokens=many"], "visual_tokens"),
        (["dataset.root=/nowhere"], "/nowhere"),
        (["method=snapkv", "budget=3"], "window"),
        (["method=snapkv", "budget=match:/nowhere"], "/nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    options: list[str], tmp_path: Path, bad: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        execute(*options, *bad)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("Expected") <= 1  # the object's own sentence, not wrapped in another
    assert not (tmp_path / "run").exists()


def test_a_finished_run_still_checks_its_options(options: list[str]) -> None:
    """Neither option names the run, so each command would find its record."""
    finished = execute(*options, "method=none")
    with pytest.raises(UserError, match=r"nothing reads delta=0\.1 with method=none"):
        execute(*options, "method=none", "delta=0.1")
    with pytest.raises(UserError, match="Expected batch_size to be a whole number from 1 up, but got 0"):
        execute(*options, "method=none", "batch_size=0")
    assert execute(*options, "method=none") == finished


def test_refused_input_does_not_remove_the_users_folder(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(UserError, match="batch_size"):
        execute(*options, "hydra.run.dir=.", "batch_size=0")
    assert (tmp_path / "empty").is_dir()


def test_unwritable_folder_is_one_sentence(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file in the way")
    with pytest.raises(OSError) as caught:
        execute(*options, f"hydra.run.dir={tmp_path / 'run' / 'below'}")
    assert "choose one with hydra.run.dir" in str(explain(caught.value))


def test_corrupt_demonstration_is_named(options: list[str], data: Path, tmp_path: Path) -> None:
    (data / "train" / "dog" / "2.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"dog/2\.png"):
        execute(*options)
    assert not (tmp_path / "run").exists()


def test_foreign_files_are_left_alone(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(UserError):
        execute(*options, "shots=-1")
    execute(*options, "force=true")
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_limit_is_spread_over_the_classes(options: list[str], tmp_path: Path) -> None:
    assert execute(*options, "limit=4").metric.n == 4
    assert [line["target"] for line in lines(tmp_path / "run")] == ["cat", "cat", "dog", "dog"]


def test_spread_out() -> None:
    samples = [Sample(str(number), Path(), "", "") for number in range(10)]
    assert [sample.id for sample in spread_out(samples, 3)] == ["1", "5", "8"]
    assert spread_out(samples, None) == spread_out(samples, 99) == samples


@pytest.fixture
def heldout(options: list[str], tmp_path: Path) -> Callable[..., Divergence]:
    """Figures on 5 held-out queries, of a run in a folder named after its method."""
    common = [option for option in options if "chunk_size" not in option]

    def measured(method: str, *more: str) -> Divergence:
        return execute(*common, f"method={method}", f"hydra.run.dir={tmp_path / method}", "heldout_js=5", *more).js

    return measured


def test_heldout_divergence(heldout: Callable[..., Divergence]) -> None:
    whole = heldout("none", "heldout_layers=true")
    assert whole.heldout_per_layer == pytest.approx([0, 0], abs=1e-6)
    assert (whole.agreement, whole.heldout_queries) == (1.0, 5)
    assert heldout("zero_shot").heldout_mean is None


def test_heldout_divergence_by_layers_begins_with_that_of_the_whole_memory(heldout: Callable[..., Divergence]) -> None:
    alone = heldout("emloc")
    assert alone.heldout_per_layer is None
    assert (alone.heldout_mean or 0) > 1e-6
    layers = heldout("emloc", "heldout_layers=true").heldout_per_layer or []
    assert layers[0] == pytest.approx(alone.heldout_mean, rel=1e-4)
    assert layers[0] != layers[1]


def test_heldout_figures_that_are_asked_for_later_extend_the_record(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = execute(*options)
    answers = (tmp_path / "run" / "predictions.jsonl").read_bytes()
    after = execute(*options, "heldout_js=4")
    assert (before.run_id, before.metric) == (after.run_id, after.metric)
    assert before.js.heldout_mean is None
    assert (after.js.heldout_mean or 0) > 0
    assert (tmp_path / "run" / "predictions.jsonl").read_bytes() == answers
    # Now they are there, for whoever asks for as many or fewer, or does not ask.
    monkeypatch.setattr("experiments.running.job.compute", None)
    assert execute(*options, "heldout_js=4") == execute(*options, "heldout_js=2") == execute(*options) == after


def test_baselines_are_those_of_the_queries_that_were_asked(options: list[str]) -> None:
    assert execute(*options, "limit=3").baselines == {"chance": 1 / 2, "majority": 2 / 3}


def test_zero_shot_record_has_no_compression(options: list[str]) -> None:
    record = execute(*[option for option in options if "chunk_size" not in option], "method=zero_shot")
    assert record.context.tokens_full == record.context.tokens_kept_mean == record.context.bytes_kept == 0
    assert record.context.compression is None
    assert record.js.delta is None


def test_run_without_demonstrations(options: list[str]) -> None:
    record = execute(*options, "shots=0")
    assert record.context.compression is None
    assert record.js.final_per_chunk == []


def test_nothing_pruned_is_noted(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    record = execute(*options, "method=snapkv", "budget=1.0", "method.importance.window=4")
    assert record.context.compression == 1.0
    assert record.notes
    assert record.notes[0] in capsys.readouterr().out


def test_saved_memory_can_be_used(options: list[str], checkpoint: Path, tmp_path: Path, answered: list[str]) -> None:
    execute(*options)
    record = execute(*options, "save_memory=true")  # compresses again, answers nothing again
    assert len(answered) == 12
    memory = Memory.load(tmp_path / "run" / "memory.safetensors", load_backbone(checkpoint, device="cpu"))
    assert memory.lengths == record.context.tokens_kept_per_layer
    assert memory.nbytes == record.context.bytes_kept


def test_code_words_are_recorded(options: list[str], tmp_path: Path) -> None:
    coded = make_checkpoint(tmp_path / "coded", layers=2, label_words=WORDS)
    record = execute(*options, f"model.path={coded}")
    assert record.answers.coded
    assert set(record.answers.words) == {"cat", "dog"}
    assert set(record.answers.words.values()) < set(WORDS)


def test_budget_can_match_another_run(options: list[str], tmp_path: Path) -> None:
    matched = execute(*options)
    budget = f"budget=match:{tmp_path / 'run' / 'record.json'}"
    window = "method.importance.window=4"
    record = execute(*options, "method=pyramidkv", budget, window, f"hydra.run.dir={tmp_path / 'other'}")
    assert record.context.tokens_kept_mean == pytest.approx(matched.context.tokens_kept_mean, abs=0.5)


def test_imagenet100_at_its_own_image_size(options: list[str], tmp_path: Path) -> None:
    for number, wnid in enumerate(class_names()):
        write_image(tmp_path / "imagenet" / "train" / wnid / "a.png", number)
        write_image(tmp_path / "imagenet" / "val" / wnid / "b.png", 1000 + number)
    here = [f"dataset.root={tmp_path / 'imagenet'}", "shots=100", "limit=10", "dataset.max_new_tokens=2"]
    small = execute(*options, "dataset=imagenet100", *here)
    large = execute(*options, "dataset=imagenet100", *here, "model.visual_tokens=9", f"hydra.run.dir={tmp_path / 'l'}")
    assert small.metric.name == "substring accuracy"
    assert small.metric.n == len(small.metric.parts) == 10  # each query is of another class
    assert large.context.tokens_full == small.context.tokens_full + 100 * (9 - 4)


def test_images_are_sized_for_the_dataset_on_request(options: list[str], tmp_path: Path) -> None:
    sizes = ["model.visual_tokens=dataset", "dataset.visual_tokens=9"]
    assert execute(*options, *sizes).context.tokens_full == (
        execute(*options, f"hydra.run.dir={tmp_path / 'other'}").context.tokens_full + 6 * (9 - 4)
    )


def test_ranked_answers_are_classes_and_another_run(options: list[str], tmp_path: Path) -> None:
    ranked = execute(*options, "answer=rank", f"hydra.run.dir={tmp_path / 'ranked'}")
    assert ranked.metric.n == 12
    assert {line["answer"] for line in lines(tmp_path / "ranked")} <= {"cat", "dog"}
    assert ranked.run_id != execute(*options, f"hydra.run.dir={tmp_path / 'written'}").run_id


def test_free_text_cannot_be_ranked() -> None:
    with pytest.raises(UserError, match="answers to ok_vqa are free text; write answer=generate"):
        OKVQA().choices(AnswerCode())


def test_fine_tuning_is_recorded_and_leaves_the_next_run_as_it_was(options: list[str], tmp_path: Path) -> None:
    before = execute(*options, "method=none", "force=true")
    chunkless = [option for option in options if "chunk_size" not in option and "hydra" not in option]
    tuned = execute(*chunkless, "method=lora", "method.epochs=2", f"hydra.run.dir={tmp_path / 'lora'}")
    assert (tuned.context.tokens_full, tuned.context.bytes_kept, tuned.context.compression) == (0, 0, None)
    assert tuned.trained["bytes"] == 4 * tuned.trained["parameters"] > 0
    assert (tuned.trained["epochs"], tuned.trained["steps"]) == (2, 2)
    assert tuned.layer_forwards == 2 * 2
    assert tuned.seconds.compress > 0
    assert tuned.notes == [note for note in tuned.notes if "parameters" in note and "the context is empty" in note]
    assert Record.read(tmp_path / "lora" / "record.json") == tuned
    assert before.trained == {}
    answers = lines(tmp_path / "run")
    assert comparable(execute(*options, "method=none", "force=true")) == comparable(before)
    assert [line["answer"] for line in lines(tmp_path / "run")] == [line["answer"] for line in answers]


def test_a_quantised_context_is_labelled_and_has_the_bytes_of_its_codes(options: list[str]) -> None:
    record = execute(*options, "method=quantised", "method.bits=4", "heldout_js=4")
    assert record.context.compression == 1
    assert record.context.bytes_full / 8 < record.context.bytes_kept < record.context.bytes_full / 4
    assert (record.js.heldout_mean or 0) > 0
    assert max(record.js.final_per_chunk) > 0
    assert [note for note in record.notes if "simulated: entries are rounded to 4 bits in groups of 64" in note]
