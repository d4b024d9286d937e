"""What holds for every method, and what each promises."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from emloc import (
    Answers,
    EMLoC,
    Ensemble,
    Importance,
    LayerSearch,
    Memory,
    Method,
    NoPruning,
    Pyramid,
    SnapKV,
    Trace,
    Uniform,
    UserError,
    Window,
    ZeroShot,
)
from emloc.allocation.budget import Budgeted
from emloc.attention import fold_groups
from emloc.backbones.base import Backbone
from emloc.divergence import js_divergence
from emloc.memory import MemoryLayer
from emloc.passes import Probe, prefill, run_rows
from emloc.rows import Row, RowBatch, balanced, concatenate
from emloc.scores import window_attention
from tests.matrix import METHODS
from tests.support.lively import SHOTS, demonstrations, queries

pytest_plugins = ["tests.support.lively_fixtures"]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_memory_holds_raw_entries_in_context_order(method: Method, backbone: Backbone, full: Memory) -> None:
    result = method.trace(backbone, demonstrations(SHOTS))
    memory = result.memory
    shown = backbone.encode(demonstrations(SHOTS))[: sum(chunk.demonstrations for chunk in result.chunks)]
    assert shown == [] or len(shown) == SHOTS or method.name == "fewer_shots"
    assert memory.offset == spans(backbone, shown)
    assert memory.tokens_seen == (len(concatenate([backbone.system_row(), *shown])) if shown else 0)
    assert len(result.raw) == len(result.owners) == memory.tokens_seen
    for layer, whole in zip(memory.layers, full.layers, strict=True):
        for head, (keys, _, index) in enumerate(layer.heads):
            assert (index.diff() > 0).all(), "in order, and no token twice"
            one_prefill = method.scope == "context" or method.name in {"none", "fewer_shots"}
            if one_prefill and memory.quantisation is None:  # entries are those of one prefill over everything
                torch.testing.assert_close(keys, whole.keys[head][index.long()])


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_trace_adds_up(method: Method, backbone: Backbone) -> None:
    steps: list[tuple[int, int]] = []
    result = method.trace(backbone, demonstrations(SHOTS), progress=lambda done, total: steps.append((done, total)))
    counts = result.layer_counts()
    for layer, length in enumerate(result.memory.lengths):
        here = [count for count in counts if count.layer == layer]
        assert sum(c.tokens_kept for c in here) == pytest.approx(length)
        assert all(c.tokens_kept == pytest.approx(c.image_kept + c.question_kept + c.answer_kept) for c in here)
    assert sum(chunk.tokens for chunk in result.chunks) == result.memory.tokens_seen
    shown = sum(chunk.demonstrations for chunk in result.chunks)
    assert [chunk.demonstrations for chunk in result.chunks] == [min(4, shown - at) for at in range(0, shown, 4)]
    passes = len(result.chunks) if method.schedule is None else method.schedule.steps(SHOTS)
    total = passes * backbone.n_layers
    each = 1 if method.schedule is None else backbone.n_layers
    assert steps == [(done, total) for done in range(each, total + 1, each)]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_same_call_same_memory(method: Method, backbone: Backbone) -> None:
    first, second = (method.compress(backbone, demonstrations(SHOTS)) for _ in range(2))
    assert first.lengths == second.lengths
    for one, other in zip(first.layers, second.layers, strict=True):
        assert torch.equal(one.keys, other.keys)
        assert torch.equal(one.index, other.index)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_no_demonstrations_leave_an_empty_memory(method: Method, backbone: Backbone) -> None:
    result = method.trace(backbone, [])
    assert result.memory.lengths == [0] * backbone.n_layers
    asked = queries(3)
    assert backbone.answer(asked, result.memory) == backbone.answer(asked)


# Queries of rices share no memory, and those of lora are answered by another model than this.
@pytest.mark.parametrize("method", [m for m in METHODS if m.name not in {"rices", "lora"}], ids=str)
def test_replies_are_the_answers_on_the_memory(method: Method, backbone: Backbone) -> None:
    memory, asked = method.compress(backbone, demonstrations(SHOTS)), queries(5)
    replies = method.answer(backbone, asked, memory, max_new_tokens=4, batch_size=2)
    assert [reply.text for reply in replies] == backbone.answer(asked, memory, max_new_tokens=4)
    assert {reply.own for reply in replies} == {None}


@pytest.mark.parametrize("method", [m for m in METHODS if isinstance(m.allocation, Budgeted)], ids=str)
def test_budgets_are_kept_exactly(method: Method, backbone: Backbone) -> None:
    memory = method.compress(backbone, demonstrations(SHOTS))
    assert isinstance(method.allocation, Budgeted)
    assert memory.mean_length == pytest.approx(method.allocation.target(memory.tokens_seen), abs=0.5)


def test_zero_shot_ignores_demonstrations(backbone: Backbone) -> None:
    assert ZeroShot().compress(backbone, demonstrations(3)).tokens_seen == 0


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_reported_divergence_is_that_of_what_is_kept(method: Method, backbone: Backbone) -> None:
    """Recomputed from the final memory alone, whatever the method says of itself: the loop has to have measured it."""
    result = method.trace(backbone, demonstrations(SHOTS))
    expected = [
        recomputed(
            backbone,
            result,
            number,
            whole=method.scope == "context",
            probing=number if method.probe == "self" else (number + 1) % len(result.chunks),
            probes=4 if method.probes == "all" else method.probes,
        )
        for number in range(len(result.chunks))
    ]
    assert [chunk.js for chunk in result.chunks] == pytest.approx(expected, abs=1e-6)
    pruned = result.memory.lengths != [result.memory.tokens_seen] * backbone.n_layers
    if pruned or result.memory.quantisation is not None:
        assert any(chunk.js > 0 for chunk in result.chunks), "tokens went, and nothing is said to have changed"


def recomputed(backbone: Backbone, result: Trace, number: int, *, whole: bool, probing: int, probes: int) -> float:
    """JS divergence of the demonstrations of chunk `probing`: over the final memory against the teacher of a chunk.

    The teacher is the full memory where the context was decided as a `whole`; else it is the whole chunk, behind what
    was kept of the chunks before it.
    """
    turns = backbone.encode(demonstrations(SHOTS))[: sum(chunk.demonstrations for chunk in result.chunks)]
    groups = [turns[at : at + 4] for at in range(0, len(turns), 4)]
    if whole:
        teacher, final = NoPruning(chunk_size=4).trace_rows(backbone, turns).memory, result.memory
    else:
        start = sum(chunk.tokens for chunk in result.chunks[:number])
        opening = [backbone.system_row()] if number == 0 else []
        earlier = up_to(result.memory, start, offset=spans(backbone, turns[: 4 * number]))
        chunk = prefill(backbone, concatenate([*opening, *groups[number]]), earlier)
        teacher = earlier.extend(chunk.layers, offset=chunk.offset, tokens=chunk.tokens)
        final = up_to(result.memory, start + chunk.tokens, offset=chunk.offset)
    batch = RowBatch.stack(balanced(groups[probing], probes, seed=number), offset=teacher.offset)
    logits = [backbone.logits(run_rows(backbone, batch, memory)[batch.answers]) for memory in (teacher, final)]
    return js_divergence(*logits).item()


def test_held_out_probes_are_those_of_the_next_chunk(backbone: Backbone) -> None:
    rows = backbone.encode(demonstrations(SHOTS))
    chunks = EMLoC(chunk_size=4, probe="heldout").chunks(backbone, rows)
    assert [list(map(id, chunk.probes.rows)) for chunk in chunks] == [
        list(map(id, part)) for part in (rows[4:8], rows[8:], rows[:4])
    ]
    with pytest.raises(UserError, match="at least two chunks for probe=heldout, but 4 demonstrations are one"):
        EMLoC(chunk_size=4, probe="heldout").compress(backbone, demonstrations(4))


def test_some_probes_are_the_same_ones_at_every_call_and_of_all_answers(backbone: Backbone) -> None:
    rows = backbone.encode(demonstrations(SHOTS))  # three answers in turn
    once, again = (EMLoC(chunk_size=6, probes=3).chunks(backbone, rows) for _ in range(2))
    for one, other, group in zip(once, again, (rows[:6], rows[6:]), strict=True):
        chosen = [number for number, row in enumerate(group) if any(row is probe for probe in one.probes.rows)]
        assert sorted(number % 3 for number in chosen) == [0, 1, 2], "each answer once"
        assert [id(group[number]) for number in chosen] == list(map(id, one.probes.rows)), "in their order"
        assert list(map(id, one.probes.rows)) == list(map(id, other.probes.rows))
    assert EMLoC(chunk_size=6, probes=7).chunks(backbone, rows)[0].probes.rows == rows[:6], "all, where there are fewer"


def up_to(memory: Memory, tokens: int, *, offset: int) -> Memory:
    """What a memory held when it had seen so many tokens."""
    layers = tuple(
        MemoryLayer.of_heads(
            [
                (keys[index < tokens], values[index < tokens], index[index < tokens])
                for keys, values, index in layer.heads
            ]
        )
        for layer in memory.layers
    )
    return Memory(layers, offset, tokens, memory.fingerprint)


def spans(backbone: Backbone, turns: Sequence[Row]) -> int:
    """The next free position behind the system turn and these demonstrations; 0 if there are none."""
    return concatenate([backbone.system_row(), *turns]).span if turns else 0


def test_measuring_is_counted_apart_from_deciding(backbone: Backbone) -> None:
    layers, before = backbone.n_layers, backbone.layer_forwards
    searched = EMLoC(delta=0.02, chunk_size=4).trace(backbone, demonstrations(SHOTS))
    uniform = SnapKV(importance=Answers(), chunk_size=4).trace(backbone, demonstrations(SHOTS))
    window = SnapKV(importance=Window(window=8), chunk_size=4).trace(backbone, demonstrations(SHOTS))
    assert searched.measuring.layer_forwards == 0, "the search has measured the state that it ends with"
    assert (uniform.deciding.layer_forwards, uniform.measuring.layer_forwards) == (3 * 2 * layers, 3 * layers)
    assert (window.deciding.layer_forwards, window.measuring.layer_forwards) == (3 * layers, 3 * 2 * layers)
    spent = [cost.layer_forwards for one in (searched, uniform, window) for cost in (one.deciding, one.measuring)]
    assert sum(spent) == backbone.layer_forwards - before


def test_emloc_reports_the_divergence_of_what_it_keeps(backbone: Backbone) -> None:
    """Recomputed from the memory alone: probes of the first chunk over the pruned and over the whole chunk."""
    method = EMLoC(delta=0.02, chunk_size=4)
    demos = demonstrations(4)
    result = method.trace(backbone, demos)
    assert 0 < result.chunks[0].js <= 0.02
    rows = backbone.encode(demos)
    whole = NoPruning(chunk_size=4).compress(backbone, demos)
    batch = RowBatch.stack(rows, offset=whole.offset)
    logits = [backbone.logits(run_rows(backbone, batch, memory)[batch.answers]) for memory in (whole, result.memory)]
    assert js_divergence(*logits).item() == pytest.approx(result.chunks[0].js, abs=1e-6)


def test_emloc_keeps_less_as_delta_grows(backbone: Backbone) -> None:
    demos = demonstrations(SHOTS)
    lengths = [
        EMLoC(delta=delta, chunk_size=4).compress(backbone, demos).mean_length for delta in (0.0, 0.01, 0.1, 0.6)
    ]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > 2 * lengths[-1]


def test_emloc_takes_the_first_ratio_within_the_limit(backbone: Backbone) -> None:
    search = LayerSearch(delta=0.01, ratios=(0.1, 0.3, 0.7))
    result = EMLoC(allocation=search, chunk_size=4).trace(backbone, demonstrations(SHOTS))
    for chunk in result.chunks:
        for layer in range(backbone.n_layers):
            tried = [c for c in chunk.candidates if c.layer == layer]
            assert [c.ratio for c in tried] == [0.1, 0.3, 0.7][: len(tried)]
            assert all(not c.accepted and c.js > 0.01 for c in tried[:-1])
            assert tried[-1].accepted == (tried[-1].js <= 0.01)
            assert tried[-1].accepted or len(tried) == 3


def test_a_pruned_layer_reruns_like_a_memory_pruned_beforehand(backbone: Backbone) -> None:
    """The partial forward from a stored layer input equals a whole forward with the same entries."""
    rows = backbone.encode(demonstrations(4))
    chunk = prefill(backbone, concatenate(rows), backbone.empty_memory())
    probe = Probe(backbone, rows, backbone.empty_memory(), chunk)
    kept = [None, None, torch.arange(0, chunk.tokens, 3).expand(2, -1), torch.arange(5, 30).expand(2, -1)]
    layers = [part if index is None else part.select(index) for part, index in zip(chunk.layers, kept, strict=True)]
    partial, whole = (probe.rerun(start, [part.key_values for part in layers]) for start in (2, 0))
    torch.testing.assert_close(partial, whole, atol=1e-4, rtol=1e-4)
    assert (partial - probe.reference).abs().max() > 0.1


def test_window_attention_is_causal_inside_the_window() -> None:
    queries_, keys = torch.randn(4, 3, 8), torch.randn(2, 10, 8)
    ours = window_attention(queries_, keys)
    expected = torch.zeros(2, 10)
    for head in range(4):
        for place in range(3):
            seen = keys[head // 2, : 10 - 3 + place + 1]
            expected[head // 2, : len(seen)] += (seen @ queries_[head, place] / 8**0.5).softmax(0)
    torch.testing.assert_close(ours, expected)
    assert fold_groups(queries_[None], 2).shape == (2, 6, 8)


def test_the_window_may_reach_over_chunks(backbone: Backbone) -> None:
    """The last chunk holds one demonstration, shorter than the window."""
    demos = demonstrations(SHOTS)
    wide = {"importance": Window(window=40), "allocation": Uniform(budget=0.5)}
    singly, at_once = (SnapKV(**wide, chunk_size=size).compress(backbone, demos) for size in (4, 100))
    for one, other in zip(singly.layers, at_once.layers, strict=True):
        assert torch.equal(one.index, other.index)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: EMLoC(delta=-0.1), "delta to be a number from 0 to 0.6931"),
        (lambda: EMLoC(delta=0.7), "delta to be a number from 0 to 0.6931"),
        (lambda: EMLoC(delta=float("nan")), "delta to be a number from 0 to 0.6931"),
        (lambda: EMLoC(0.01, allocation=Uniform()), "an allocation with a limit for delta=0.01"),
        (lambda: EMLoC(0.01, importance=None, allocation=None), "an allocation for delta=0.01, but got none"),
        (lambda: LayerSearch(ratios=(0.5, 0.2)), "ascending retention ratios"),
        (lambda: LayerSearch(ratios=(0.2, 0.2)), "ascending retention ratios"),
        (lambda: LayerSearch(ratios=(0.0, 0.2)), "a number above 0 and at most 1"),
        (lambda: LayerSearch(ratios=(0.2, 1.5)), "a number above 0 and at most 1"),
        (lambda: LayerSearch(ratios=(True,)), "a number above 0 and at most 1"),
        (lambda: LayerSearch(ratios=()), "ascending retention ratios"),
        (lambda: LayerSearch(group=1.5), "group to be a whole number from 1 up, but got 1.5"),
        (lambda: EMLoC(chunk_size=0), "chunk_size to be a whole number from 1 up, but got 0"),
        (lambda: Window(window=0), "window to be a whole number from 1 up"),
        (lambda: Window(kernel=4), "kernel to be an odd number, but got 4"),
        (lambda: Pyramid(beta=0.5), "beta to be a number from 1 up"),
        (lambda: Method(importance=Answers()), "both an importance and an allocation, or neither"),
        (lambda: EMLoC(importance="answers"), "importance to be one of the classes of emloc.importance or null"),
    ],
)
def test_impossible_settings_are_refused_on_construction(build: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build()  # type: ignore[operator]


def test_a_budget_below_the_window_is_refused_before_any_work(backbone: Backbone) -> None:
    before = backbone.layer_forwards
    with pytest.raises(UserError, match="at least 64 tokens, which always stay"):
        SnapKV(importance=Window(window=64), allocation=Uniform(budget=0.05)).compress(backbone, demonstrations(4))
    assert backbone.layer_forwards == before


@pytest.mark.parametrize("importance", [Window(window=30), Ensemble(window=26, sinks=4)], ids=str)
def test_what_always_stays_is_named_by_its_options(importance: Importance, backbone: Backbone) -> None:
    with pytest.raises(UserError, match=r"at least 30 tokens, which always stay .* lower window or sinks"):
        SnapKV(importance=importance, allocation=Uniform(budget=29)).compress(backbone, demonstrations(4))


def test_one_demonstration_is_enough(backbone: Backbone, tmp_path: Path) -> None:
    memory = EMLoC(delta=0.05).compress(backbone, demonstrations(1))
    memory.save(tmp_path / "one.safetensors")
    assert len(backbone.answer(queries(2), Memory.load(tmp_path / "one.safetensors", backbone))) == 2
