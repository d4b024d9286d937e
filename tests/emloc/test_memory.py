"""Memory files: the round trip, and every way in which a file can be wrong."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from emloc import EMLoC, Memory, UserError
from emloc.backbones.base import Backbone
from tests.support.lively import demonstrations, lively_backbone, queries


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return lively_backbone(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def memory(backbone: Backbone) -> Memory:
    return EMLoC(delta=0.05, chunk_size=3).compress(backbone, demonstrations(7))


def test_save_and_load_give_the_same_memory_and_answers(backbone: Backbone, memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "task.safetensors"
    memory.save(path)
    loaded = Memory.load(path, backbone)
    assert (loaded.offset, loaded.tokens_seen, loaded.lengths) == (memory.offset, memory.tokens_seen, memory.lengths)
    assert len(set(loaded.lengths)) > 1, "layers of different lengths are what must survive"
    for ours, theirs in zip(loaded.layers, memory.layers, strict=True):
        assert torch.equal(ours.keys, theirs.keys)
        assert torch.equal(ours.values, theirs.values)
        assert torch.equal(ours.index, theirs.index)
    asked = queries(6)
    assert backbone.answer(asked, loaded, max_new_tokens=5) == backbone.answer(asked, memory, max_new_tokens=5)
    assert list(tmp_path.iterdir()) == [path]


def test_sizes(memory: Memory) -> None:
    entry = 2 * 16 * 4  # KV heads x head size x bytes of a float32
    assert memory.nbytes == sum(memory.lengths) * entry * 2
    assert memory.mean_length == sum(memory.lengths) / 4


def test_another_models_memory_is_refused(memory: Memory, tmp_path: Path) -> None:
    memory.save(tmp_path / "task.safetensors")
    other = lively_backbone(tmp_path / "other", seed=5)
    with pytest.raises(UserError, match="was made by another one"):
        Memory.load(tmp_path / "task.safetensors", other)


def test_damaged_missing_and_foreign_files_are_refused(backbone: Backbone, memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "task.safetensors"
    memory.save(path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:5], b"", b"not a memory at all, but long enough to look at"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            Memory.load(path, backbone)
    with pytest.raises(UserError, match="there is no file"):
        Memory.load(tmp_path / "nowhere.safetensors", backbone)
    save_file({"weight": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match="of format emloc-memory-2"):
        Memory.load(tmp_path / "foreign.safetensors", backbone)


def test_a_place_that_cannot_be_written_is_refused(memory: Memory, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="writable place"):
        memory.save(tmp_path / "no" / "such" / "folder.safetensors")


def test_a_flipped_bit_in_the_tensors_is_noticed(backbone: Backbone, memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "task.safetensors"
    memory.save(path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="damaged"):
        Memory.load(path, backbone)


def ragged(memory: Memory) -> Memory:
    """The first entries of every KV head of the upper two layers, of the first head one fewer."""
    keep = [tuple(torch.arange(2 + head) for head in range(len(layer.lengths))) for layer in memory.layers[2:]]
    return memory.select([None, None, *keep])


def test_heads_of_different_lengths_are_packed_and_kept_apart(memory: Memory) -> None:
    small = ragged(memory)
    assert [layer.counts for layer in small.layers[:2]] == [None, None]
    assert small.lengths[2:] == [2.5, 2.5]
    for layer, whole in zip(small.layers[2:], memory.layers[2:], strict=True):
        assert layer.counts == (2, 3)
        for (keys, values, index), of in zip(layer.heads, whole.heads, strict=True):
            assert torch.equal(keys, of[0][: len(keys)])
            assert torch.equal(values, of[1][: len(keys)])
            assert torch.equal(index, of[2][: len(keys)])
    assert small.nbytes == sum(small.lengths) * 2 * 16 * 4 * 2
    assert small.layers[3].entry_bytes == 2 * 16 * 4 * 2


def test_layers_grow_and_are_taken_apart_head_by_head(memory: Memory) -> None:
    uneven, even = ragged(memory).layers[3], memory.layers[3]
    grown = uneven.append(even)
    assert grown.lengths == tuple(n + even.lengths[0] for n in uneven.lengths)
    back = grown.after(uneven)
    assert back.counts is None, "equally many again"
    assert torch.equal(back.keys, even.keys)
    assert torch.equal(back.index, even.index)
    none_of_it = tuple(torch.arange(0) for _ in even.lengths)
    assert even.select(none_of_it).append(uneven).lengths == uneven.lengths


def test_a_memory_with_uneven_heads_is_saved_answers_and_is_no_cache_of_transformers(
    backbone: Backbone, memory: Memory, tmp_path: Path
) -> None:
    small = ragged(memory)
    small.save(tmp_path / "task.safetensors")
    loaded = Memory.load(tmp_path / "task.safetensors", backbone)
    assert [layer.counts for layer in loaded.layers] == [layer.counts for layer in small.layers]
    asked = queries(6)
    answers = backbone.answer(asked, small, max_new_tokens=5)
    assert backbone.answer(asked, loaded, max_new_tokens=5) == answers
    assert answers == [
        backbone.decode(backbone.generate(query, small, max_new_tokens=5)[0].tolist()) for query in asked
    ]
    assert answers != backbone.answer(asked, memory, max_new_tokens=5)
    with pytest.raises(UserError, match=r"heads have equally many entries.*backbone\.generate"):
        small.to_cache()
