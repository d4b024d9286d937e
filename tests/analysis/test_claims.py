"""The claims on hand-made records: numbers worked out by hand, every verdict, and everything that is lacking named."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.claims import Finding, Part, claims, findings, main
from analysis.runs.load import Loaded, load
from analysis.runs.paired import Estimate, halves, paired, rank_correlation, verdict
from experiments.records.layers import COLUMNS

TOKENS = (60.0, 30.0, 10.0)  # image, question and answer tokens of the whole context
T_OF_TWO = 4.302653  # Student's t, two degrees of freedom, 95 %
Kinds = Sequence[tuple[float, float, float]]


def run(root: Path, method: str, seed: int, value: float, kept: Kinds, **changes: Any) -> Path:
    """A finished run of 100 tokens: `kept` are the image, question and answer tokens of every layer, bottom to top."""
    lengths = [sum(layer) for layer in kept]
    mean = sum(lengths) / len(lengths)
    name = f"{method}-{seed}-{len(list(root.iterdir())) if root.exists() else 0}"
    context = {
        "tokens_full": 100, "tokens_kept_mean": mean, "tokens_kept_per_layer": lengths, "compression": 100 / mean,
        "bytes_full": 100, "bytes_kept": 50,
    }  # fmt: skip
    metric = {"name": "accuracy", "value": value, "stderr": 0.01, "n": 100, "higher_is_better": True, "parts": {}}
    record = {
        "schema": 3, "status": "complete", "run_id": name, "shots": 10, "demonstrations_id": f"seed {seed}",
        "config": {
            "dataset": {"_target_": "datasets.digits.Digits"}, "model": {"name": "tiny"}, "shots": 10, "seed": seed,
            "method": {"_target_": f"methods.{method}.Method"},
        },
        "demonstrations": {"rule": "balanced", "ids": []}, "prompt_fingerprint": {}, "other_metrics": [], "skipped": {},
        "metric": {**metric, "unit": "%"}, "context": context,
        "js": {"delta": 0.005 if method == "emloc" else None, "final_per_chunk": [0.001], "heldout_mean": None},
        "layer_forwards": 1, "measuring_forwards": 1, "queries_per_second": 1,
        "seconds": {"load": 1, "compress": 1, "measure": 1, "query": 1},
        "peak_memory_bytes": 1, "device": "cpu", "dtype": "float32", "versions": {}, "git": None, "notes": [],
    }  # fmt: skip
    for key, change in changes.items():
        record[key].update(change) if isinstance(record[key], dict) else record.update({key: change})  # type: ignore[attr-defined]
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(record))
    with (folder / "layers.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([0, at, 100, sum(layer), sum(layer) / 100, 0.001, *layer, ""] for at, layer in enumerate(kept))
    return folder


def emloc(root: Path, values: Sequence[float], kept: Sequence[Kinds], **changes: Any) -> None:
    for seed, (value, layers) in enumerate(zip(values, kept, strict=True)):
        run(root, "emloc", seed, value, layers, **changes)


def flat(tokens: float, layers: int = 4) -> Kinds:
    return [(tokens - 20, 10.0, 10.0)] * layers


def everything(root: Path) -> Path:
    """Three seeds of every method: emloc keeps 40 tokens, fewer in upper layers."""
    kept = [
        [(40.0, 10.0, 10.0), (20.0, 20.0, 10.0), (10.0, 10.0, 10.0), (1.0, 9.0, 10.0)],
        [(40.0, 10.0, 10.0), (20.0, 20.0, 10.0), (1.0, 9.0, 10.0), (10.0, 10.0, 10.0)],
        [(40.0, 10.0, 10.0), (20.0, 20.0, 10.0), (10.0, 10.0, 10.0), (1.0, 9.0, 10.0)],
    ]
    emloc(root, (0.90, 0.92, 0.91), kept)
    for seed in range(3):
        run(root, "none", seed, (0.91, 0.92, 0.905)[seed], [TOKENS] * 4)
        run(root, "snapkv", seed, (0.70, 0.74, 0.72)[seed], flat(40.0))
        run(root, "pyramidkv", seed, (0.93, 0.95, 0.94)[seed], flat(40.0))
    return root


def parts(root: Path, margin: float = 1.0) -> list[Part]:
    loaded = load([root])
    assert loaded.problems == []
    return findings(loaded.runs, loaded.layers, margin)


def the(found: list[Part], *words: str) -> Finding:
    """The one row with all these words in its claim or its number."""
    rows = [one for one in found if isinstance(one, Finding) and all(word in one.claim + one.number for word in words)]
    assert len(rows) == 1, found
    return rows[0]


def sentence(found: list[Part], *words: str) -> str:
    texts = [one for one in found if isinstance(one, str) and all(word in one for word in words)]
    assert len(texts) == 1, found
    return texts[0]


def test_accuracy_kept(tmp_path: Path) -> None:
    everything(tmp_path)
    row = the(parts(tmp_path), "(a)")
    # Gains of -1, 0 and 0.5 points: a mean of -1/6 and a standard deviation of 0.763763.
    assert row.estimate.mean == pytest.approx(-1 / 6)
    assert row.estimate.half == pytest.approx(T_OF_TWO * 0.763763 / 3**0.5, rel=1e-5)
    assert row.number == "emloc - none: -0.17 ± 1.90 points, 2.5 times shorter"
    assert row.setting == "emloc, 10 shots, delta 0.005"
    assert row.estimate.seeds == 3
    assert row.verdict == "cannot be told (the interval contains -1)"
    assert the(parts(tmp_path, margin=2.5), "(a)").verdict == "holds"


def test_accuracy_lost(tmp_path: Path) -> None:
    emloc(tmp_path, (0.80, 0.81), [flat(40.0)] * 2)
    for seed in range(2):
        run(tmp_path, "none", seed, (0.90, 0.912)[seed], [TOKENS] * 4)
    assert the(parts(tmp_path), "(a)").verdict == "does not hold"


def test_less_context_is_part_of_the_claim(tmp_path: Path) -> None:
    emloc(tmp_path, (0.90, 0.91), [flat(60.0)] * 2)
    for seed in range(2):
        run(tmp_path, "none", seed, 0.9, [TOKENS] * 4)
    row = the(parts(tmp_path), "(a)")
    assert row.number.endswith("1.7 times shorter")
    assert row.verdict == "does not apply (less than 2 times shorter)"


def test_better_than_fixed_schedules(tmp_path: Path) -> None:
    everything(tmp_path)
    row = the(parts(tmp_path), "(b)", "better than snapkv")
    # Gains of 20, 18 and 19 points: a mean of 19 and a standard deviation of 1.
    assert (row.estimate.mean, row.estimate.half) == (pytest.approx(19), pytest.approx(T_OF_TWO / 3**0.5, rel=1e-5))
    assert row.number == "emloc - snapkv: +19.00 ± 2.48 points, 40 and 40 tokens"
    assert row.verdict == "holds"
    assert the(parts(tmp_path), "(b)", "better than pyramidkv").verdict == "does not hold"


def test_lower_scores_may_be_the_better_ones(tmp_path: Path) -> None:
    lower = {"metric": {"higher_is_better": False, "unit": "", "name": "loss"}}
    emloc(tmp_path, (0.70, 0.71), [flat(40.0)] * 2, **lower)
    for seed in range(2):
        run(tmp_path, "snapkv", seed, 0.9, flat(40.0), **lower)
    row = the(parts(tmp_path), "(b)", "snapkv")
    assert row.number == "emloc - snapkv: +19.50 ± 6.35, 40 and 40 tokens"
    assert row.verdict == "holds"


def test_unequal_lengths_are_refused(tmp_path: Path) -> None:
    emloc(tmp_path, (0.9, 0.8), [flat(40.0)] * 2)
    for seed, tokens in enumerate((40.0, 40.5)):  # 1.25 % in one seed is enough
        run(tmp_path, "snapkv", seed, 0.7, flat(tokens))
    found = parts(tmp_path)
    assert not [one for one in found if isinstance(one, Finding) and one.claim.startswith("(b)")]
    assert sentence(found, "Not compared with snapkv").endswith(
        "emloc, 10 shots, delta 0.005 (40 tokens, the nearest has 40)."
    )
    for seed in range(2):
        run(
            tmp_path,
            "snapkv",
            seed,
            0.7,
            flat(40.3),
            config={"budget": 40.3, "method": {"_target_": "a.snapkv.A", "allocation": {"_target_": "a.uniform.U"}}},
        )
    assert the(parts(tmp_path), "better than snapkv").estimate.mean == pytest.approx(15)


def test_upper_layers(tmp_path: Path) -> None:
    everything(tmp_path)
    trend, change = (the(parts(tmp_path), "(c)", word) for word in ("rank correlation", "upper - lower half"))
    # Kept: 60, 50, 30 and 20 tokens in seeds 0 and 2, 60, 50, 20 and 30 in seed 1: correlations of -1, -0.8 and -1.
    assert trend.estimate.mean == pytest.approx(-2.8 / 3)
    assert trend.estimate.half == pytest.approx(T_OF_TWO * 0.2 / 3, rel=1e-5)
    assert trend.verdict == "holds"
    assert change.number == "upper - lower half: -30.0 ± 0.0 (25.0 and 55.0 tokens per layer)"
    assert change.verdict == "holds"


def test_upper_layers_that_keep_more(tmp_path: Path) -> None:
    emloc(tmp_path, (0.9, 0.9), [[*flat(30.0), *flat(40.0)], [*flat(30.0), *flat(42.0)]])
    assert the(parts(tmp_path), "(c)", "upper - lower half").verdict == "cannot be told (the interval contains 0)"
    run(tmp_path, "emloc", 2, 0.9, [*flat(30.0), *flat(41.0)])
    assert the(parts(tmp_path), "(c)", "upper - lower half").verdict == "does not hold"


def test_equal_layers_say_nothing(tmp_path: Path) -> None:
    emloc(tmp_path, (0.9, 0.9), [flat(40.0)] * 2)
    for word in ("rank correlation", "upper - lower half"):
        assert the(parts(tmp_path), "(c)", word).verdict == "cannot be told (every layer keeps the same)"


def test_a_hump_is_no_trend(tmp_path: Path) -> None:
    emloc(tmp_path, (0.9, 0.9), [[*flat(30.0, 3), *flat(70.0, 1), *flat(60.0, 1), *flat(30.0, 3)]] * 2)
    trend, change = (the(parts(tmp_path), "(c)", word) for word in ("rank correlation", "upper - lower half"))
    # Ranks 3.5 six times, 8 and 7: a covariance of -0.5 in both seeds.
    assert trend.estimate.mean == pytest.approx(-0.5 / (42 * 24.5) ** 0.5)
    assert trend.verdict == "does not hold"
    assert change.verdict == "holds"  # the larger one of the two is in the lower half


def test_images_first(tmp_path: Path) -> None:
    everything(tmp_path)
    found = parts(tmp_path)
    # Of 240 image, 120 question and 40 answer tokens 71, 49 and 40 are kept, in every seed.
    question, answer = (the(found, "(d)", f"image - {kind}") for kind in ("question", "answer"))
    assert question.estimate.mean == pytest.approx(100 * (71 / 240 - 49 / 120))
    assert answer.estimate.mean == pytest.approx(100 * (71 / 240 - 1))
    assert "(image 29.6 %, question 40.8 %, answer 100.0 %)" in question.number
    assert (question.verdict, answer.verdict) == ("holds", "holds")


def test_texts_have_no_images_to_be_pruned_first(tmp_path: Path) -> None:
    emloc(tmp_path, (0.9, 0.9), [[(0.0, 10.0, 10.0)] * 4] * 2)
    for seed in range(2):
        run(tmp_path, "none", seed, 0.9, [(0.0, 90.0, 10.0)] * 4)
    text = claims(load([tmp_path]))
    assert "Not asked for (d): the context of emloc, 10 shots, delta 0.005 has no images." in text
    assert "nan" not in text


def test_images_last(tmp_path: Path) -> None:
    emloc(tmp_path, (0.9, 0.9), [[(60.0, 5.0, 10.0)] * 4] * 2)
    for seed in range(2):
        run(tmp_path, "none", seed, 0.9, [TOKENS] * 4)
    assert the(parts(tmp_path), "(d)", "image - question").verdict == "does not hold"
    assert the(parts(tmp_path), "(d)", "image - answer").verdict == "cannot be told (no difference in any seed)"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    emloc(tmp_path, (0.9, 0.9), [flat(40.0)] * 2)
    (tmp_path / "emloc-1-1" / "layers.csv").unlink()
    loaded = load([tmp_path])
    found = findings(loaded.runs, loaded.layers)
    assert "emloc, 10 shots, delta 0.005." in sentence(found, "Missing for (a): no run of none")
    assert sentence(found, "Missing for (b): no run of snapkv.")
    assert sentence(found, "Missing for (b): no run of pyramidkv.")
    assert "delta 0.005 (emloc-1-1)." in sentence(found, "Missing for (c): no layers.csv")
    assert "delta 0.005 (emloc-0-0)." in sentence(found, "Missing for (d): no run of none")
    assert the(found, "(c)", "upper - lower half").estimate.seeds == 1
    (tmp_path / "emloc-0-0" / "layers.csv").unlink()
    loaded = load([tmp_path])
    assert "(emloc-0-0, emloc-1-1)." in sentence(findings(loaded.runs, loaded.layers), "Missing for (c)")


def test_other_demonstrations_are_no_pair(tmp_path: Path) -> None:
    emloc(tmp_path, (0.9, 0.9), [flat(40.0)] * 2)
    for seed in range(2):
        run(tmp_path, "none", seed, 0.9, [TOKENS] * 4, demonstrations_id="others")
        run(tmp_path, "snapkv", seed, 0.7, flat(40.0), demonstrations_id="others")
    found = parts(tmp_path)
    assert sentence(found, "Missing for (a)")
    assert "(40 tokens, no run on the same demonstrations)" in sentence(found, "Not compared with snapkv")


def test_a_run_without_a_limit_is_named_without_one(tmp_path: Path) -> None:
    emloc(tmp_path, (0.9, 0.9), [flat(40.0)] * 2, js={"delta": None})
    assert the(parts(tmp_path), "(c)", "upper - lower half").setting == "emloc, 10 shots"


def test_nothing_to_say_without_the_method_or_without_pruning(tmp_path: Path) -> None:
    run(tmp_path / "other", "none", 0, 0.9, [TOKENS])
    assert parts(tmp_path / "other") == ["Missing: no run of emloc, which the claims are about."]
    run(tmp_path / "whole", "emloc", 0, 0.9, [TOKENS])
    assert sentence(parts(tmp_path / "whole"), "Missing for (c) and (d): no run of emloc pruned anything.")


@pytest.mark.parametrize(
    ("mean", "half", "upwards", "words"),
    [
        (1.0, 0.9, True, "holds"),
        (1.0, 0.9, False, "does not hold"),
        (-1.0, 0.9, False, "holds"),
        (1.0, 1.0, True, "cannot be told (the interval contains 0)"),
        (0.0, 0.0, True, "cannot be told (no difference in any seed)"),
        (1.0, float("nan"), True, "cannot be told (one seed)"),
    ],
)
def test_verdict(mean: float, half: float, upwards: bool, words: str) -> None:
    assert verdict(Estimate(mean, half, 2), 0, upwards=upwards) == words


def test_layers_of_an_odd_number() -> None:
    layers = pd.DataFrame({"layer": range(5), "tokens_before": 10.0, "tokens_kept": [5.0, 4.0, 9.0, 2.0, 1.0]})
    assert halves(layers) == {"lower": 4.5, "upper": 1.5}
    assert rank_correlation(layers) == pytest.approx(-0.7)  # squared differences of ranks 9 + 1 + 4 + 4 + 16 = 34


def test_pairs_are_of_one_seed(tmp_path: Path) -> None:
    everything(tmp_path)
    runs = load([tmp_path]).runs
    one, other = (runs[runs["method"] == method] for method in ("emloc", "none"))
    assert list(paired(one, other[other["seed"] == 1])["gain"]) == pytest.approx([0])


def test_every_dataset_has_its_table(tmp_path: Path) -> None:
    everything(tmp_path)
    run(tmp_path, "emloc", 0, 0.9, flat(40.0), config={"dataset": {"_target_": "datasets.glyphs.Glyphs"}})
    loaded: Loaded = load([tmp_path])
    text = claims(loaded)
    assert [line for line in text.splitlines() if line.startswith("### ")] == [
        "### digits, tiny, accuracy, 100 queries", "### glyphs, tiny, accuracy, 100 queries", "### Caveats",
    ]  # fmt: skip
    assert "There are runs of 2 datasets" in text
    assert "| (b) better than snapkv at equal length | emloc, 10 shots, delta 0.005 | emloc - snapkv: +19.00" in text


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everything(tmp_path / "runs")
    assert main([str(tmp_path / "runs"), "--margin", "2.5"]) == 0
    printed = capsys.readouterr().out
    assert "drops by less than 2.5 at several times less context" in printed
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path / "new" / "claims.md"), "--margin", "2.5"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'new' / 'claims.md'}\n"
    assert (tmp_path / "new" / "claims.md").read_text() == printed


def test_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere")]) == 1
    assert capsys.readouterr().err.startswith("Expected finished runs in ")
    everything(tmp_path / "runs")
    assert main([str(tmp_path / "runs"), "--out", str(tmp_path)]) == 1
    assert "choose another file with --out FILE" in capsys.readouterr().err
