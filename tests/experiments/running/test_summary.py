"""The table that a run prints."""

from dataclasses import replace

from experiments.records.schema import ContextSize, Divergence
from experiments.running.summary import summary
from tests.support.records import RECORD


def test_table_shows_the_figures() -> None:
    table = summary(RECORD)
    for text in (
        "87.5 %",
        "(n = 1,000, standard error 1.2)",
        "6,600 -> 1,320.5",
        "5.00x",
        "0.00420",
        "limit 0.005",
        "nothing was pruned",
    ):
        assert text in table
    starts = {line.index(line.split("  ", 2)[2].strip()) for line in table.splitlines()[1:]}
    assert len(starts) == 1, "the values stand in one column"


def test_table_of_a_run_without_context_and_with_one_query() -> None:
    record = replace(
        RECORD,
        metric=replace(RECORD.metric, stderr=None, n=1),
        context=ContextSize(0, 0.0, [0, 0], None, 0, 0),
        js=Divergence(None, [], None),
        notes=[],
    )
    assert "standard error" not in summary(record)
    assert "no context" in summary(record)
