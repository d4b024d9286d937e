"""The paper's claims, measured: each with its number, its interval over seeds, and what follows from it.

    python -m analysis.claims FOLDER... [--out FILE] [--margin 1]

Reads the records (and layers.csv) of all runs in and below the folders, and bundles. Prints one Markdown table per
dataset, model and metric, or writes it to FILE. Notes below each table say which runs are missing for a claim, and
which were not compared and why.

A number is a mean over seeds with its 95 % t-interval, of differences between runs of the same seed on the same
demonstrations. A verdict follows from the interval alone: the claim holds if all of it is on the claim's side of its
threshold, does not hold if all of it is on the other side, and cannot be told if the threshold is inside.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.pages.tables import Cell, Table, markdown
from analysis.runs.checks import check
from analysis.runs.layers import KINDS, per_layer, totals
from analysis.runs.load import Loaded, load_finished
from analysis.runs.paired import UNCERTAIN, Estimate, apart, halves, paired, rank_correlation, verdict
from analysis.runs.seeds import CELL, CONFIDENCE, SETTING, several
from analysis.runs.wording import with_delta

METHOD = "emloc"  # the claims are about it
FULL = "none"  # keeps everything
FIXED = ("snapkv", "pyramidkv")  # schedules that do not depend on the model's answers
MARGIN = 1.0  # hundredths of the score; a smaller loss counts as none
EQUAL = 0.01  # contexts whose lengths differ by a larger share are not compared
SHORTER = 2.0  # several times less context is at least this many times less
TREND = -0.5  # a rank correlation nearer to 0 is no trend over the layers, however precisely it is measured
_EXPLAINED = (
    f"Numbers: mean over seeds ± half the {100 * CONFIDENCE:g} % t-interval, of differences within a seed. "
    f"A difference of scores is positive if {METHOD} is better."
)


@dataclass(frozen=True)
class Finding:
    """One row: a claim about a setting, the number that decides it, and what follows."""

    claim: str
    setting: str
    number: str
    estimate: Estimate
    verdict: str


Part = Finding | str  # a row, or a sentence about what cannot be said


def findings(cell: pd.DataFrame, layers: pd.DataFrame, margin: float = MARGIN) -> list[Part]:
    """All rows and sentences of one dataset, model and metric; `cell` has its runs, `layers` the layers of all runs."""
    mine = _settings(cell[cell["method"] == METHOD])
    if not mine:
        return [f"Missing: no run of {METHOD}, which the claims are about."]
    pruned = [runs for runs in mine if (runs["tokens_kept"] < runs["tokens_full"]).any()]
    return [
        *kept_accuracy(mine, cell, margin),
        *(part for method in FIXED for part in better(mine, cell, method)),
        *upper_layers(pruned, per_layer(layers)),
        *images_first(pruned, layers),
        *([] if pruned else [f"Missing for (c) and (d): no run of {METHOD} pruned anything."]),
    ]


def _settings(runs: pd.DataFrame) -> list[pd.DataFrame]:
    return [group for _, group in runs.groupby(SETTING, dropna=False, sort=True)]


def _name(runs: pd.DataFrame) -> str:
    row = runs.iloc[0]
    return f"{row['label']}, {row['shots']} shots{with_delta(row['delta'])}"


def kept_accuracy(mine: list[pd.DataFrame], cell: pd.DataFrame, margin: float) -> Iterator[Part]:
    """Claim (a): the score is kept at several times less context."""
    full, alone = _settings(cell[cell["method"] == FULL]), []
    for runs in mine:
        matches = [pairs for others in full if len(pairs := paired(runs, others))]
        alone += [] if matches else [_name(runs)]
        yield from (_kept(runs, pairs, margin) for pairs in matches)
    if alone:
        yield f"Missing for (a): no run of {FULL} on the demonstrations of {'; '.join(alone)}."


def _kept(runs: pd.DataFrame, pairs: pd.DataFrame, margin: float) -> Finding:
    estimate = Estimate.of(pairs["gain"])
    shorter = (pairs["tokens_kept_2"] / pairs["tokens_kept_1"]).mean()
    applies = shorter >= SHORTER
    return Finding(
        claim=f"(a) the score drops by less than {margin:g} at several times less context",
        setting=_name(runs),
        number=f"{_difference(pairs, estimate)}, {shorter:.1f} times shorter",
        estimate=estimate,
        verdict=verdict(estimate, -margin, upwards=True)
        if applies
        else f"does not apply (less than {SHORTER:g} times shorter)",
    )


def _difference(pairs: pd.DataFrame, estimate: Estimate) -> str:
    points = " points" if pairs["unit_1"].iloc[0] == "%" else ""
    return f"{METHOD} - {pairs['label_2'].iloc[0]}: {estimate.text('.2f')}{points}"


def better(mine: list[pd.DataFrame], cell: pd.DataFrame, method: str) -> Iterator[Part]:
    """Claim (b): better than a fixed schedule at equal length; other lengths are refused."""
    fixed, alone = _settings(cell[cell["method"] == method]), []
    if not fixed:
        yield f"Missing for (b): no run of {method}."
        return
    for runs in mine:
        pairs = [pairs for others in fixed if len(pairs := paired(runs, others))]
        # By the worst seed: means can be equal although no pair is.
        equal = [one for one in pairs if apart(one) <= EQUAL]
        yield from (_better(runs, one) for one in equal)
        alone += [] if equal else [f"{_name(runs)} ({_lengths(runs, pairs)})"]
    if alone:
        yield (
            f"Not compared with {method}, because no run of it on the same demonstrations has the same context length "
            f"(within {100 * EQUAL:g} %): {'; '.join(alone)}."
        )


def _lengths(runs: pd.DataFrame, pairs: list[pd.DataFrame]) -> str:
    tokens = f"{runs['tokens_kept'].mean():,.0f} tokens"
    if not pairs:
        return f"{tokens}, no run on the same demonstrations"
    return f"{tokens}, the nearest has {min(pairs, key=apart)['tokens_kept_2'].mean():,.0f}"


def _better(runs: pd.DataFrame, pairs: pd.DataFrame) -> Finding:
    estimate = Estimate.of(pairs["gain"])
    tokens = " and ".join(f"{pairs[f'tokens_kept_{side}'].mean():,.0f}" for side in (1, 2))
    return Finding(
        claim=f"(b) better than {pairs['method_2'].iloc[0]} at equal length",
        setting=_name(runs),
        number=f"{_difference(pairs, estimate)}, {tokens} tokens",
        estimate=estimate,
        verdict=verdict(estimate, 0, upwards=True),
    )


def upper_layers(pruned: list[pd.DataFrame], rows: pd.DataFrame) -> Iterator[Part]:
    """Claim (c): the higher a layer, the fewer tokens it keeps. `rows` as `per_layer` gives them."""
    for runs in pruned:
        mine = rows[rows["run_id"].isin(runs["run_id"])]
        yield from _upper_layers(_name(runs), [group for _, group in mine.groupby("run_id")])
    yield from _without_layers("(c)", pruned, rows)


def _upper_layers(name: str, of_runs: list[pd.DataFrame]) -> Iterator[Part]:
    if not of_runs:
        return
    flat = not any(several(one["tokens_kept"]) for one in of_runs)
    alike = f"{UNCERTAIN} (every layer keeps the same)" if flat else ""
    trend = Estimate.of(pd.Series([rank_correlation(one) for one in of_runs]))
    claim = f"(c) the higher a layer, the less it keeps (correlation below {TREND:g})"
    number = f"rank correlation of layer and kept ratio: {trend.text('.2f')}"
    yield Finding(claim, name, number, trend, alike or verdict(trend, TREND, upwards=False))
    means = pd.DataFrame([halves(one.sort_values("layer")) for one in of_runs])
    change = Estimate.of(means["upper"] - means["lower"])
    tokens = f"{means['upper'].mean():,.1f} and {means['lower'].mean():,.1f} tokens per layer"
    number = f"upper - lower half: {change.text('.1f')} ({tokens})"
    claim = "(c) the upper half of the layers keeps less than the lower"
    yield Finding(claim, name, number, change, alike or verdict(change, 0, upwards=False))


def _without_layers(claim: str, pruned: list[pd.DataFrame], rows: pd.DataFrame) -> Iterator[str]:
    known = set(rows["run_id"])
    lacking = {_name(runs): sorted(set(runs["run_id"]) - known) for runs in pruned}
    missing = [f"{name} ({', '.join(runs)})" for name, runs in lacking.items() if runs]
    if missing:
        yield f"Missing for {claim}: no layers.csv of {'; '.join(missing)}."


def images_first(pruned: list[pd.DataFrame], layers: pd.DataFrame) -> Iterator[Part]:
    """Claim (d): of image tokens a smaller share is kept than of the others.

    Question tokens are all that are neither in an image nor in an answer; answer tokens are protected by the method.
    """
    rows = per_layer(layers)
    counted = rows.merge(totals(layers), on=["dataset", "model", "demonstrations_id"])
    unknown = []
    for runs in pruned:
        yield from _images_first(_name(runs), counted[counted["run_id"].isin(runs["run_id"])])
        without = set(runs["run_id"]) & set(rows["run_id"]) - set(counted["run_id"])
        unknown += [f"{_name(runs)} ({', '.join(sorted(without))})"] if without else []
    yield from _without_layers("(d)", pruned, rows)
    if unknown:
        yield f"Missing for (d): no run of {FULL}, which shows how many tokens there are, for {'; '.join(unknown)}."


def _images_first(name: str, rows: pd.DataFrame) -> Iterator[Part]:
    if rows.empty:
        return
    sums = rows.groupby("run_id").sum(numeric_only=True)
    if not sums["image_total"].any():
        yield f"Not asked for (d): the context of {name} has no images."
        return
    shares = pd.DataFrame({kind: 100 * sums[f"{kind}_kept"] / sums[f"{kind}_total"] for kind in KINDS})
    kept = ", ".join(f"{kind} {shares[kind].mean():.1f} %" for kind in KINDS)
    for other in KINDS[1:]:
        estimate = Estimate.of(shares["image"] - shares[other])
        claim = f"(d) image tokens are pruned before {other} tokens"
        number = f"share kept, image - {other}: {estimate.text('.1f')} points ({kept})"
        yield Finding(claim, name, number, estimate, verdict(estimate, 0, upwards=False))


def table(title: str, parts: list[Part]) -> Table:
    """The findings as a table, the sentences as its notes."""
    rows = [part for part in parts if isinstance(part, Finding)]
    return Table(
        title=title,
        headers=["claim", "setting", "measured", "seeds", "verdict"],
        rows=[
            [*map(Cell, (row.claim, row.setting, row.number, str(row.estimate.seeds))), Cell(row.verdict, bold=True)]
            for row in rows
        ],
        names=5,
        notes=[f"- {sentence}" for sentence in [_EXPLAINED, *(part for part in parts if isinstance(part, str))]],
    )


def claims(loaded: Loaded, margin: float = MARGIN) -> str:
    """All of it in Markdown: a table for every dataset, model and metric, and the problems of the runs."""
    tables = [
        table(_title(*key), findings(cell, loaded.layers, margin)) for key, cell in loaded.runs.groupby(CELL, sort=True)
    ]
    problems = "".join(f"- {problem}\n" for problem in [*loaded.problems, *check(loaded)])
    texts = [f"### {one.title}\n\n{markdown(one)}" for one in tables]
    return "\n".join([*texts, *([f"### Caveats\n\n{problems}"] if problems else [])])


def _title(dataset: str, model: str, metric: str, queries: int) -> str:
    return f"{dataset}, {model}, {metric}, {queries:,} queries"


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code is 1 if there is no finished run, or FILE cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m analysis.claims", description="The paper's claims, measured.")
    parser.add_argument("folders", nargs="+", help="run folders, or folders that hold some")
    parser.add_argument("--out", type=Path, help="the file to write (default: standard output)")
    parser.add_argument("--margin", type=float, default=MARGIN, help="points of score whose loss counts as none")
    options = parser.parse_args(arguments)
    loaded = load_finished(options.folders)
    if loaded is None:
        return 1
    return _written(claims(loaded, options.margin), options.out)


def _written(text: str, path: Path | None) -> int:
    if path is None:
        print(text, end="")
        return 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"The claims cannot be written ({error}); choose another file with --out FILE.", file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
