"""A video condensed for one question: against the method written out plainly, and what it promises."""

from pathlib import Path
from typing import Any

import pytest
import torch

from emloc import EMLoCVideo, LayerSearch, Memory, NoPruning, Query, Reply, UserError, Video
from emloc.allocation.layer_search import layer_groups
from emloc.backbones.base import Backbone
from emloc.divergence import LN2
from emloc.passes import prefill
from emloc.prompt import TokenKind
from emloc.rows import Row, concatenate
from tests.support import plain_video
from tests.support.lively import demonstrations, lively_backbone, random_image
from tests.support.videos import write_video

LAYERS = 5
FRAMES, WINDOW = 20, 8  # windows of 4, 4 and 2 temporal steps
SEARCH: dict[str, Any] = {"ratios": (0.1, 0.3, 0.6), "group": 2}
JS_TOKENS = 6
QUESTION = "What happens in the end?"


def method_with(**search: Any) -> EMLoCVideo:
    """The method under test, with these options of its search in place of `SEARCH`."""
    return EMLoCVideo(allocation=LayerSearch(**{**SEARCH, **search}), window=WINDOW, js_tokens=JS_TOKENS)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    backbone = lively_backbone(tmp_path_factory.mktemp("checkpoint"), layers=LAYERS)
    backbone.set_visual_tokens(8)
    return backbone


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    path = write_video(tmp_path_factory.mktemp("videos") / "noise.mp4", 40, size=(48, 32), noise=True)
    return Video(path, FRAMES)


def prompt_of(backbone: Backbone, query: Query, *, system: bool) -> tuple[Row, range]:
    """The whole prompt as one row, and where its visual tokens are."""
    row = concatenate([*([backbone.system_row()] if system else []), *backbone.encode([query])])
    visual = (row.kinds == TokenKind.IMAGE).nonzero().flatten().tolist()
    return row, range(visual[0], visual[-1] + 1)


def plainly(backbone: Backbone, query: Query, memory: Memory, delta: float, new_tokens: int) -> plain_video.PlainResult:
    row, visual = prompt_of(backbone, query, system=not memory.tokens_seen)
    caches = [(layer.keys.double(), layer.values.double()) for layer in memory.layers]
    return plain_video.condense(
        backbone,
        row,
        visual,
        window_tokens=len(visual) // (FRAMES // 2) * (WINDOW // 2),
        ratios=SEARCH["ratios"],
        delta=delta,
        groups=[[3, 4], [1, 2], [0]],
        js_tokens=JS_TOKENS,
        start=(caches, memory.offset),
        new_tokens=new_tokens,
    )


@pytest.mark.parametrize(("shots", "delta"), [(0, 0.03), (0, 0.01), (2, 0.0015)])
def test_decisions_memory_and_answer_are_those_of_the_plain_method(
    backbone: Backbone, video: Video, shots: int, delta: float
) -> None:
    method, query = method_with(delta=delta), Query(video, QUESTION)
    memory = method.compress(backbone, demonstrations(shots))
    expected = plainly(backbone, query, memory, delta, 6)
    trace, tail = method.condense(backbone, query, memory)
    assert len(trace.chunks) == len(expected.tried) == 3
    start = memory.tokens_seen
    for number, (chunk, tried) in enumerate(zip(trace.chunks, expected.tried, strict=True)):
        assert [(c.layer, c.ratio, c.tokens, c.accepted) for c in chunk.candidates] == [(*t[:3], t[4]) for t in tried]
        assert [c.js for c in chunk.candidates] == pytest.approx([t[3] for t in tried], abs=1e-6)
        for layer, kept in zip(trace.memory.layers, expected.kept[number], strict=True):
            inside = [head[(head >= start) & (head < start + chunk.tokens)] - start for head in layer.index]
            assert [head.tolist() for head in inside] == kept
        start += chunk.tokens
    assert trace.memory.offset == expected.offset
    (reply,) = method.answer(backbone, [query], memory, max_new_tokens=6, batch_size=1)
    assert reply.text == backbone.tokenizer.decode(expected.answer, skip_special_tokens=True)
    decisions = [candidate.accepted for chunk in trace.chunks for candidate in chunk.candidates]
    assert len(set(decisions)) == 2, "both decisions must occur, or this test says little"
    assert backbone.tokenizer.decode(tail.ids).startswith(QUESTION)


@pytest.mark.parametrize("shots", [0, 3])
@pytest.mark.parametrize("settings", [{"ratios": (1.0,), "delta": LN2}, {"ratios": (0.1,), "delta": 0.0}])
def test_windows_without_pruning_are_one_plain_forward(
    backbone: Backbone, video: Video, shots: int, settings: dict
) -> None:
    """Every ratio of 1 accepted, or every other one rejected."""
    method, demos, query = method_with(**settings), demonstrations(shots), Query(video, QUESTION)
    memory = NoPruning(chunk_size=2).compress(backbone, demos)
    (reply,) = method.answer(backbone, [query], memory, max_new_tokens=8, batch_size=4)
    assert [reply.text] == backbone.answer([query], memory, max_new_tokens=8)
    assert reply.own is not None
    assert set(reply.own.tokens_kept_per_layer) == {reply.own.tokens_full}
    trace, tail = method.condense(backbone, query, memory)
    row, _ = prompt_of(backbone, query, system=not shots)
    whole = prefill(backbone, row.first(len(row) - len(tail)), memory)
    assert trace.memory.offset == whole.offset
    for ours, before, new in zip(trace.memory.layers, memory.layers, whole.layers, strict=True):
        torch.testing.assert_close(ours.keys, before.append(new).keys, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(ours.values, before.append(new).values, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("shots", [0, 2])
def test_the_question_follows_the_video_where_it_would_in_the_whole_prompt(
    backbone: Backbone, video: Video, shots: int
) -> None:
    memory = NoPruning().compress(backbone, demonstrations(shots))
    query = Query(video, QUESTION)
    trace, tail = method_with(delta=0.6).condense(backbone, query, memory)
    row, visual = prompt_of(backbone, query, system=not shots)
    first = visual.stop + 1
    assert torch.equal(tail.ids, row.ids[first:])
    assert trace.memory.offset == memory.offset + int(row.positions[0, first])
    assert trace.memory.mean_length < trace.memory.tokens_seen == memory.tokens_seen + first


@pytest.mark.parametrize(("frames", "tokens"), [(5, [1]), (8, [1]), (9, [1, 1]), (16, [1, 1]), (21, [1, 1, 1])])
def test_windows_cover_the_video_and_the_last_may_be_short(
    backbone: Backbone, video: Video, frames: int, tokens: list[int]
) -> None:
    query = Query(Video(video.path, frames), QUESTION)
    trace, tail = method_with(delta=0.3).condense(backbone, query)
    row, visual = prompt_of(backbone, query, system=True)
    step = len(visual) // ((frames + 1) // 2)
    sizes = [4 * step] * (len(tokens) - 1)
    sizes.append(len(visual) - sum(sizes))
    sizes[0] += visual.start
    sizes[-1] += 1
    assert [chunk.tokens for chunk in trace.chunks] == sizes
    assert sum(sizes) == len(row) - len(tail) == len(trace.raw)


def test_the_trace_adds_up(backbone: Backbone, video: Video) -> None:
    method, steps = method_with(delta=0.1), []
    memory = method.compress(backbone, demonstrations(3))
    trace, _ = method.condense(backbone, Query(video, QUESTION), memory, progress=lambda *done: steps.append(done))
    assert steps == [(done, 3 * LAYERS) for done in range(1, 3 * LAYERS + 1)]
    assert trace.before == memory.tokens_seen
    assert len(trace.raw) == len(trace.owners)
    assert set(trace.owners.tolist()) == {0}
    counts = trace.layer_counts()
    for layer, length in enumerate(trace.memory.lengths):
        here = [count for count in counts if count.layer == layer]
        assert sum(count.tokens_kept for count in here) == pytest.approx(length - memory.tokens_seen)
        assert all(c.tokens_kept == pytest.approx(c.image_kept + c.question_kept + c.answer_kept) for c in here)
    assert sum(count.image_kept for count in counts) > sum(count.question_kept for count in counts) > 0
    row, _ = prompt_of(backbone, Query(video, QUESTION), system=False)
    assert torch.equal(trace.raw.kinds, row.kinds[: len(trace.raw)])
    assert torch.equal(trace.raw.positions, row.positions[:, : len(trace.raw)])


def test_groups_are_decided_from_the_top_and_share_a_count(backbone: Backbone, video: Video) -> None:
    trace, _ = method_with(delta=0.1).condense(backbone, Query(video, QUESTION))
    for number, chunk in enumerate(trace.chunks):
        tried = [candidate.layer for candidate in chunk.candidates]
        assert tried == sorted(tried, reverse=True)
        assert set(tried) == {3, 1, 0}
        kept = [c.tokens_kept for c in trace.layer_counts() if c.chunk == number]
        assert kept[3] == kept[4]
        assert kept[1] == kept[2]
        assert chunk.js <= 0.1
    assert layer_groups(28, order="top_down", size=EMLoCVideo().allocation.group)[0] == [21, 22, 23, 24, 25, 26, 27]


def test_what_is_kept_depends_on_the_question(backbone: Backbone, video: Video) -> None:
    method = method_with(delta=0.6)
    memories = [method.condense(backbone, Query(video, question))[0].memory for question in (QUESTION, "Why?")]
    layers = zip(*(memory.layers for memory in memories), strict=True)
    assert any(not torch.equal(one.index, other.index) for one, other in layers)


def test_replies_are_in_order_and_questions_share_a_video(
    backbone: Backbone, video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Videos, one of them asked about twice, an image, and no visual; as if each had been asked alone."""
    method = method_with(delta=0.1)
    memory = method.compress(backbone, demonstrations(2))
    other = Video(video.path, 6)
    asked = [
        Query(random_image(1), "What?"), Query(video, QUESTION), Query(video, "Why?"), Query(None, "Who?"),
        Query(other, QUESTION),
    ]  # fmt: skip
    singly = [method.answer(backbone, [query], memory, max_new_tokens=5, batch_size=1)[0] for query in asked]
    encoded = []
    plain = backbone.opening_row
    monkeypatch.setattr(backbone, "opening_row", lambda query: encoded.append(query.visual) or plain(query))
    replies = method.answer(backbone, asked, memory, max_new_tokens=5, batch_size=32)
    assert replies == singly
    assert encoded == [video, other]
    assert [reply.own is None for reply in replies] == [True, False, False, True, False]
    assert replies[0] == Reply(replies[0].text)
    assert replies[4].own.tokens_full < replies[1].own.tokens_full


def test_the_reply_names_the_worst_window(backbone: Backbone, video: Video) -> None:
    method, query = method_with(delta=0.1), Query(video, QUESTION)
    (reply,) = method.answer(backbone, [query], backbone.empty_memory(), max_new_tokens=2, batch_size=1)
    trace, _ = method.condense(backbone, query)
    assert reply.own is not None
    assert reply.own.js == max(chunk.js for chunk in trace.chunks) > min(chunk.js for chunk in trace.chunks)
    assert (reply.own.tokens_full, reply.own.tokens_kept_per_layer) == (
        len(trace.raw), trace.memory.lengths,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"window": 0}, "window to be a whole number from 1 up, but got 0"),
        ({"window": 4.0}, "window to be a whole number from 1 up, but got 4.0"),
        ({"js_tokens": 0}, "js_tokens to be a whole number from 1 up, but got 0"),
        ({"js_tokens": float("nan")}, "js_tokens to be a whole number from 1 up, but got nan"),
    ],
)
def test_impossible_settings_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        EMLoCVideo(**options)


def test_impossible_queries_are_refused(backbone: Backbone, video: Video, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="multiple of 2 frames"):
        EMLoCVideo(window=7).condense(backbone, Query(video, "?"))
    with pytest.raises(UserError, match="Expected a query about a video, but query 'q' has none"):
        EMLoCVideo().condense(backbone, Query(random_image(0), "?", "q"))
    with pytest.raises(UserError, match=r"gone\.mp4 does not exist"):
        EMLoCVideo().condense(backbone, Query(Video(tmp_path / "gone.mp4"), "?"))
