"""Equality with the public reference implementation, decision by decision, in float32.

The case in tests/data runs everywhere; EMLOC_REFERENCE names a folder with more (default: ../shared/reference).
"""

from functools import cache
from pathlib import Path

import pytest
import torch

from emloc import Answers, EMLoC, LayerSearch, NoPruning, Trace
from emloc.answering import generate
from emloc.passes import prefill, run_rows
from emloc.region import Probes, Region
from emloc.rows import RowBatch, concatenate
from tests.support.reference_case import ReferenceCase, case_folders

SCORES, JS, LOGITS = 1e-4, 1e-6, 5e-4  # absolute tolerances

pytestmark = pytest.mark.parametrize("folder", case_folders(), ids=lambda folder: folder.name)


@cache
def load(folder: Path) -> ReferenceCase:
    return ReferenceCase(folder)


@cache
def compressed(folder: Path) -> Trace:
    case = load(folder)
    rows = [row for chunk in range(len(case.result["chunks"])) for row in case.demonstrations(chunk)]
    search = LayerSearch(delta=case.result["delta"], ratios=tuple(case.result["ratios"]))
    method = EMLoC(allocation=search, chunk_size=case.chunk_size)
    case.backbone.layer_forwards = 0
    return method.trace_rows(case.backbone, rows)


def test_same_candidates_and_decisions(folder: Path) -> None:
    case = load(folder)
    for expected, chunk in zip(case.result["chunks"], compressed(folder).chunks, strict=True):
        tried = [(c.layer, c.tokens, c.accepted) for c in chunk.candidates]
        assert tried == [(t["layer"], t["k"], t["accepted"]) for t in expected["tried"]]


def test_same_divergences(folder: Path) -> None:
    case = load(folder)
    for expected, chunk in zip(case.result["chunks"], compressed(folder).chunks, strict=True):
        ours, theirs = [c.js for c in chunk.candidates], [t["js_f32"] for t in expected["tried"]]
        torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), atol=JS, rtol=0)
        accepted = [t["js_f32"] for t in expected["tried"] if t["accepted"]]
        assert chunk.js == pytest.approx(accepted[-1], abs=JS)


def test_same_memory(folder: Path) -> None:
    case, memory = load(folder), compressed(folder).memory
    last = case.result["chunks"][-1]
    assert memory.lengths == last["memory_len"]
    assert memory.offset == last["offset_after"]
    assert memory.tokens_seen == last["seen_tokens"]
    for number, layer in enumerate(memory.layers):
        order = case.arrays[f"mem_index_L{number}"].sort(-1)
        assert torch.equal(layer.index.long(), order.values)
        for name, ours in (("k", layer.keys), ("v", layer.values)):
            theirs = case.arrays.get(f"mem_{name}_L{number}")  # the small case stores the outer layers only
            if theirs is not None:
                theirs = theirs.gather(1, order.indices[..., None].expand_as(theirs))
                torch.testing.assert_close(ours, theirs, atol=LOGITS, rtol=0)


def test_same_scores_candidates_and_teacher(folder: Path) -> None:
    """Chunk by chunk, over the memory that our own decisions left."""
    case = load(folder)
    backbone, memory = case.backbone, case.backbone.empty_memory()
    for number, expected in enumerate(case.result["chunks"]):
        rows = case.demonstrations(number)
        chunk = prefill(backbone, concatenate([backbone.system_row()][number:] + rows), memory)
        assert torch.equal(chunk.row.ids, case.inputs[f"chunk{number}_input_ids"][0])
        assert torch.equal(chunk.row.positions, case.arrays[f"chunk{number}_position_ids"])
        assert torch.equal(chunk.row.answers.nonzero()[:, 0], case.arrays[f"chunk{number}_label_idx"])
        region = Region(backbone, chunk, memory, Probes(rows))
        probe, scores = region.probe, torch.stack(Answers().scores(region))
        torch.testing.assert_close(scores, case.arrays[f"chunk{number}_scores"], atol=SCORES, rtol=0)
        teacher = case.arrays[f"chunk{number}_teacher_logits"]
        torch.testing.assert_close(probe.reference, teacher, atol=LOGITS, rtol=0)
        for trial, tried in enumerate(expected["tried"]):
            theirs = case.arrays[f"chunk{number}_try{trial}_index"].sort(-1).values
            assert torch.equal(scores[tried["layer"]].topk(tried["k"]).indices.sort(-1).values, theirs)
        kept = [case.arrays[f"chunk{number}_kept_L{layer}"] for layer in range(backbone.n_layers)]
        layers = [whole.select(index) for whole, index in zip(chunk.layers, kept, strict=True)]
        memory = memory.extend(layers, offset=chunk.offset, tokens=chunk.tokens)


def test_same_statistics(folder: Path) -> None:
    case, result = load(folder), compressed(folder)
    counts = result.layer_counts()
    for number, expected in enumerate(case.result["chunks"]):
        here = [count for count in counts if count.chunk == number]
        kept = [sum(getattr(c, f"{kind}_kept") for c in here) for kind in ("image", "question", "answer")]
        assert kept == pytest.approx(expected["stats_img_ques_ans_pruned_kept"][3:])
        assert [c.tokens_kept for c in here] == expected["kept"]


def test_same_query_logits_and_answers(folder: Path) -> None:
    case, memory = load(folder), compressed(folder).memory
    for number, expected in enumerate(case.result["query"]):
        row = case.query(number)
        hidden = run_rows(case.backbone, RowBatch.stack([row], offset=memory.offset), memory)
        logits = case.backbone.logits(hidden[0])
        torch.testing.assert_close(logits, case.arrays[f"query{number}_logits"], atol=LOGITS, rtol=0)
        (ids,) = generate(case.backbone, [row], memory, max_new_tokens=6)
        assert ids == expected["greedy_ids"]


def test_full_memory_logits(folder: Path) -> None:
    case = load(folder)
    rows = [row for chunk in range(len(case.result["chunks"])) for row in case.demonstrations(chunk)]
    memory = NoPruning(chunk_size=case.chunk_size).trace_rows(case.backbone, rows).memory
    for number in range(len(case.result["query"])):
        batch = RowBatch.stack([case.query(number)], offset=memory.offset)
        logits = case.backbone.logits(run_rows(case.backbone, batch, memory)[0])
        torch.testing.assert_close(logits, case.arrays[f"query{number}_logits_full_memory"], atol=LOGITS, rtol=0)


def test_same_number_of_layer_forwards(folder: Path) -> None:
    """The exact search costs what the reference's does."""
    case = load(folder)
    compressed.cache_clear()
    compressed(folder)
    assert case.backbone.layer_forwards == sum(chunk["n_layer_forwards"] for chunk in case.result["chunks"])
