"""Token scores against a softmax written out position by position."""

import torch
from torch import Tensor

from emloc.scores import chunk_attention, pool_scores, protect, top_indices

ROWS, HEADS, KV_HEADS, TOKENS, CHUNK, DIM = 2, 4, 2, 6, 13, 8
AT = torch.tensor([[2, 3, 5], [4, 5, 0]])
COUNTED = torch.tensor([[True, True, True], [True, True, False]])


def expected_mass(q: Tensor, own: Tensor, chunk: Tensor, scaling: float) -> Tensor:
    mass = torch.zeros(KV_HEADS, CHUNK, dtype=torch.float64)
    for row in range(ROWS):
        for slot, position in enumerate(AT[row].tolist()):
            if not COUNTED[row, slot]:
                continue
            for head in range(HEADS):
                kv = head // (HEADS // KV_HEADS)
                keys = torch.cat([chunk[kv], own[row, kv, : position + 1]])
                mass[kv] += (keys @ q[row, head, position] * scaling).double().softmax(0)[:CHUNK]
    return mass


def test_mass_of_answer_positions_over_chunk_and_own_row() -> None:
    q, own, chunk = (
        torch.randn(ROWS, HEADS, TOKENS, DIM),
        torch.randn(ROWS, KV_HEADS, TOKENS, DIM),
        torch.randn(KV_HEADS, CHUNK, DIM),
    )
    picked = q.gather(2, AT[:, None, :, None].expand(-1, HEADS, -1, DIM))
    visible = torch.arange(TOKENS) <= AT[..., None]
    ours = chunk_attention(picked, own, chunk, visible=visible, counted=COUNTED, scaling=0.3)
    torch.testing.assert_close(ours.double(), expected_mass(q, own, chunk, 0.3), atol=1e-6, rtol=1e-5)


def test_pooling_divides_by_the_width_at_the_borders_too() -> None:
    pooled = pool_scores(torch.tensor([[5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 10.0]]))
    torch.testing.assert_close(pooled, torch.tensor([[1.0, 1.0, 1.0, 0.0, 2.0, 2.0, 2.0]]))


def test_answers_come_first_but_not_absolutely() -> None:
    answers = torch.tensor([False, True, True, True, False])
    scores = protect(torch.tensor([[9.0, 1.0, 3.0, 2.0, 8.0], [9.0, 3.0, 1.0, 2.0, 8.0]]), answers)
    assert top_indices(scores, 2).tolist() == [[2, 3], [1, 3]]  # more answers than places: the best of them
    assert top_indices(scores, 4).tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]  # ascending: context order
