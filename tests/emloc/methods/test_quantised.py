"""The full context in a quantised cache: rounded as KIVI's layout says, measured, counted and labelled."""

import math
from pathlib import Path

import pytest
import torch

from emloc import Memory, Quantised, UserError
from emloc.backbones.base import Backbone
from emloc.quantising import Bits, Quantisation
from tests.support.lively import SHOTS, demonstrations, queries

pytest_plugins = ["tests.support.lively_fixtures"]
BITS: tuple[Bits, ...] = (8, 4, 2)


def naive(line: list[float], bits: int, group: int) -> tuple[list[float], list[float]]:
    """A line of numbers quantised and back, number by number, and the step at each."""
    found, steps = [], []
    for start in range(0, len(line), group):
        part = line[start : start + group]
        step = (max(part) - min(part)) / (2**bits - 1)
        found += [min(part) + (round((number - min(part)) / step) if step else 0) * step for number in part]
        steps += [step] * len(part)
    return found, steps


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("group", [1, 5, 64])
def test_round_trips_are_those_of_a_plain_loop(bits: Bits, group: int) -> None:
    lines = torch.randn(7, 23, generator=torch.Generator().manual_seed(0)) * 10 - 3
    quantisation = Quantisation(bits, group)
    for ours in (quantisation.values(lines), quantisation.keys(lines.T).T):
        for line, given in zip(lines.tolist(), ours.tolist(), strict=True):
            expected, steps = naive(line, bits, group)
            assert given == pytest.approx(expected, abs=1e-4)
            bounds = zip(line, given, steps, strict=True)
            assert all(abs(before - after) <= step / 2 + 1e-5 for before, after, step in bounds)


def test_groups_of_one_value_and_of_nothing_stay() -> None:
    quantisation = Quantisation(2, 4)
    same = torch.full((3, 6), 1.25)
    assert torch.equal(quantisation.values(same), same)
    assert quantisation.keys(torch.empty(0, 6)).shape == quantisation.values(torch.empty(0, 6)).shape == (0, 6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loses_half_a_step_and_its_own_rounding(dtype: torch.dtype) -> None:
    lines = (torch.randn(20, 64, generator=torch.Generator().manual_seed(0)) * 3).to(dtype)
    ours, exact = Quantisation(8, 64).values(lines), lines.double()
    step = (exact.amax(1) - exact.amin(1)) / 255
    room = step / 2 + 4 * torch.finfo(dtype).eps * exact.abs().amax(1)
    assert ours.dtype == dtype
    assert ((ours.double() - exact).abs() <= room[:, None]).all()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("group", [5, 64])
def test_bytes_are_those_of_codes_steps_and_zero_points(bits: Bits, group: int) -> None:
    tokens, channels = (7, 130), 16
    expected = 0
    for count in tokens:
        for lines, length in ((channels, count), (count, channels)):  # keys by channel, values by token
            for start in range(0, length, group):
                members = min(group, length - start)
                expected += lines * (math.ceil(members * bits / 8) + 2 * 4)
    assert Quantisation(bits, group).nbytes(tokens, channels=channels, element=4) == expected


def test_large_groups_approach_the_bits() -> None:
    """At 64 numbers a group int4 takes 4 + 2 * 16 / 64 bits a number beside a half-precision cache's 16."""
    whole = 2 * 6400 * 128 * 2
    assert Quantisation(4, 64).nbytes([6400], channels=128, element=2) / whole == pytest.approx(4.5 / 16)
    assert Quantisation(8, 64).nbytes([6400], channels=128, element=2) / whole == pytest.approx(8.5 / 16)


@pytest.mark.parametrize("bits", BITS)
def test_the_memory_is_the_full_one_rounded(bits: Bits, backbone: Backbone, full: Memory) -> None:
    memory = Quantised(bits=bits, group=24, chunk_size=4).compress(backbone, demonstrations(SHOTS))
    quantisation = Quantisation(bits, 24)
    assert memory.quantisation == quantisation
    assert (memory.offset, memory.tokens_seen, memory.lengths) == (full.offset, full.tokens_seen, full.lengths)
    for layer, whole in zip(memory.layers, full.layers, strict=True):
        for (keys, values, index), (whole_keys, whole_values, whole_index) in zip(
            layer.heads, whole.heads, strict=True
        ):
            torch.testing.assert_close(keys, quantisation.keys(whole_keys))
            torch.testing.assert_close(values, quantisation.values(whole_values))
            assert torch.equal(index, whole_index)
    heads, channels = full.layers[0].keys.shape[0], full.layers[0].keys.shape[-1]
    one = quantisation.nbytes([full.tokens_seen] * heads, channels=channels, element=4)
    assert memory.nbytes == backbone.n_layers * one < full.nbytes


def test_fewer_bits_diverge_more_in_fewer_bytes(backbone: Backbone, full: Memory) -> None:
    traces = [Quantised(bits=bits, chunk_size=4).trace(backbone, demonstrations(SHOTS)) for bits in BITS]
    divergences = [max(chunk.js for chunk in trace.chunks) for trace in traces]
    assert 0 < divergences[0] < divergences[1] < divergences[2]
    sizes = [full.nbytes, *(trace.memory.nbytes for trace in traces)]
    assert sizes == sorted(sizes, reverse=True)
    assert all(trace.deciding.layer_forwards == 3 * backbone.n_layers for trace in traces)
    assert all(trace.measuring.layer_forwards == 3 * 2 * backbone.n_layers for trace in traces)


def test_files_keep_the_label_and_the_answers(backbone: Backbone, tmp_path: Path) -> None:
    memory = Quantised(bits=4, chunk_size=4).compress(backbone, demonstrations(SHOTS))
    memory.save(tmp_path / "memory.safetensors")
    loaded = Memory.load(tmp_path / "memory.safetensors", backbone)
    assert (loaded.quantisation, loaded.nbytes) == (memory.quantisation, memory.nbytes)
    assert (tmp_path / "memory.safetensors").stat().st_size > memory.nbytes, "it is written dequantised"
    asked = queries(4)
    assert backbone.answer(asked, loaded, max_new_tokens=4) == backbone.answer(asked, memory, max_new_tokens=4)


def test_a_quantised_memory_is_not_pruned_or_extended(backbone: Backbone) -> None:
    memory = Quantised(chunk_size=4).compress(backbone, demonstrations(2))
    with pytest.raises(UserError, match="quantise it last"):
        memory.select([None] * backbone.n_layers)
    with pytest.raises(UserError, match="quantise it last"):
        memory.extend(memory.layers, offset=0, tokens=1)


def test_impossible_settings_are_refused_on_construction() -> None:
    with pytest.raises(UserError, match="bits to be one of 2, 4, 8, but got 3"):
        Quantised(bits=3)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="group to be a whole number from 1 up, but got 0"):
        Quantised(group=0)
