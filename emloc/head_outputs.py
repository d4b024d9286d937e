"""What the outputs of attention heads lose with tokens: pure functions of what the tokens of probe rows saw.

A head's output at a query position is o = sum_j p_j v_j over everything the position sees. Without the tokens g it is
(o - sum_g p_j v_j) / (1 - m), m = sum_g p_j, so it moves by (m o - sum_g p_j v_j) / (1 - m), exactly. For a single
token that is p / (1 - p) (o - v) (DropKV, kvpress pull request 285).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from emloc.attention import fold_groups, unfold_groups

# Of 1 - m: where less attention is left, float32 does not know what it goes to. The output then moves from o to an
# unknown one, which is taken to be as long as the outputs are on average, and unrelated to o.
_LEAST_LEFT = 1e-3
_PEAK = 0.99  # attention above this is treated by itself: there, |v - o|^2 multiplied out would cancel to noise
_BLOCK = 4096  # query positions whose attention is formed at a time: bounds the largest temporary


@dataclass(frozen=True)
class Seen:
    """What the tokens of probe rows saw at one layer, padding included; Q = B x G x T, as `fold_groups` has them."""

    queries: Tensor  # (H_kv, Q, D) float32, rotated
    outputs: Tensor  # (H_kv, Q, D) float32, of the attention over memory, chunk and the row itself
    lse: Tensor  # (H_kv, Q) float32, log-sum-exp of all logits of a position
    scaling: float
    batch: int

    @classmethod
    def of(cls, queries: Tensor, outputs: Tensor, lse: Tensor, *, kv_heads: int, scaling: float) -> "Seen":
        """From queries and outputs (B, H_q, T, D) and lse (B, H_q, T)."""
        folded = (fold_groups(part.float(), kv_heads) for part in (queries, outputs, lse[..., None]))
        return cls(next(folded), next(folded), next(folded)[..., 0], scaling, len(queries))

    def marked(self, rows: Tensor) -> Tensor:
        """(Q,) bool: the positions of the tokens marked in `rows` (B, T), in every head of a group."""
        groups = self.queries.shape[1] // rows.numel()
        return rows[:, None].expand(-1, groups, -1).flatten()

    def only(self, rows: Tensor) -> "Seen":
        """The same at the tokens marked in `rows` (B, T)."""
        at = self.marked(rows)
        return replace(self, queries=self.queries[:, at], outputs=self.outputs[:, at], lse=self.lse[:, at])

    def attention(self, head: int, keys: Tensor, at: slice = slice(None)) -> Tensor:
        """Weights (q, N) of one KV head's query positions on keys (N, D)."""
        return torch.exp((self.queries[head, at] @ keys.float().T) * self.scaling - self.lse[head, at, None])

    def blocks(self, head: int, keys: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """As `attention`, and these positions' outputs (q, D), some positions at a time."""
        for at in self.stretches():
            yield self.attention(head, keys, at), self.outputs[head, at]

    def stretches(self) -> Iterator[slice]:
        """All query positions, some at a time."""
        for start in range(0, self.queries.shape[1], _BLOCK):
            yield slice(start, start + _BLOCK)


def leave_one_out(seen: Seen, keys: Tensor, values: Tensor) -> Tensor:
    """How much a head's output moves if one token alone is removed: (H_kv, N) for keys and values (H_kv, N, D).

    The sum over query positions of (p / (1 - p))^2 |v - o|^2.
    """
    pairs = zip(keys, values.float(), strict=True)
    return torch.stack([_leave_one_out(seen, head, *pair) for head, pair in enumerate(pairs)])


def _leave_one_out(seen: Seen, head: int, keys: Tensor, values: Tensor) -> Tensor:
    moved, usual = torch.zeros(len(keys), device=keys.device), _mean_square(seen.outputs[head])
    for attention, outputs in seen.blocks(head, keys):
        peaks = (attention > _PEAK).nonzero(as_tuple=True)
        moved.index_add_(0, peaks[1], _moved_by_one(attention[peaks], values[peaks[1]], outputs[peaks[0]], usual))
        weights = (attention / (1 - attention)).square().masked_fill(attention > _PEAK, 0)  # (q, N)
        # |v - o|^2, multiplied out: no tensor of positions x tokens x D is formed.
        moved += weights.sum(0) * values.square().sum(-1)
        moved += weights.T @ outputs.square().sum(-1) - 2 * (values * (weights.T @ outputs)).sum(-1)
    return moved.clamp_min(0)


def _moved_by_one(attention: Tensor, values: Tensor, outputs: Tensor, usual: Tensor) -> Tensor:
    """How far outputs (n, D) move without a token of attention (n,) and values (n, D) each: squared, (n,)."""
    left = 1 - attention
    known = (attention / left.clamp_min(_LEAST_LEFT)).square() * (values - outputs).square().sum(-1)
    return torch.where(left < _LEAST_LEFT, values.square().sum(-1) + usual, known)


def _mean_square(outputs: Tensor) -> Tensor:
    """The mean squared length of outputs (Q, D)."""
    return outputs.square().sum(-1).mean()


def removal_curves(
    seen: Seen, keys: Tensor, values: Tensor, order: Tensor, counts: Sequence[int]
) -> Tensor:  # (H_kv, R)
    """How much a head's output moves if only the first `counts` tokens of `order` stay, the sum over query positions.

    Parameters
    ----------
    keys, values
        (H_kv, N, D)
    order
        (H_kv, N), each head's tokens from the most to the least important.
    counts
        R ascending numbers of tokens that stay.
    """
    heads = range(len(keys))
    return torch.stack([_curve(seen, h, keys[h][order[h]], values[h][order[h]].float(), counts) for h in heads])


def _curve(seen: Seen, head: int, keys: Tensor, values: Tensor, counts: Sequence[int]) -> Tensor:
    bounds = [*counts, len(keys)]
    moved, usual = torch.zeros(len(counts), device=keys.device), _mean_square(seen.outputs[head])
    for attention, outputs in seen.blocks(head, keys):
        mass, removed = torch.zeros_like(outputs[:, 0]), torch.zeros_like(outputs)
        for place in reversed(range(len(counts))):  # from few removed to many: the sets are nested
            segment = attention[:, bounds[place] : bounds[place + 1]]
            mass = mass + segment.sum(-1)
            removed = removed + segment @ values[bounds[place] : bounds[place + 1]]
            left = 1 - mass
            change = (mass[:, None] * outputs - removed) / left.clamp_min(_LEAST_LEFT)[:, None]
            lost = outputs.square().sum(-1) + usual
            moved[place] += torch.where(left < _LEAST_LEFT, lost, change.square().sum(-1)).sum()
    return moved


@dataclass(frozen=True)
class Fit:
    """Values that make up for what is missing, and the outputs they give."""

    values: Tensor  # (E, D) of all KV heads, head after head
    outputs: Tensor  # (B, H_q, T, D) float32


def refit_values(
    seen: Seen, heads: Sequence[tuple[Tensor, Tensor]], teacher: Seen, *, real: Tensor, fitted_on: Tensor, ridge: float
) -> Fit:
    """Change each KV head's values so that its outputs come near the teacher's, by ridge least squares.

    Parameters
    ----------
    seen
        Of the pruned model, padding included.
    heads
        Keys and values (K, D) that each KV head keeps.
    teacher
        Of the whole region, at the real tokens alone.
    real, fitted_on
        (B, T) bool, tokens of the rows, and those of them that are fitted.
    ridge
        Weight of the change of the values, as a share of the mean diagonal of the normal equations.
    """
    at = seen.marked(fitted_on)
    wanted = teacher.outputs[:, at[seen.marked(real)]]
    outputs, found = seen.outputs.clone(), []
    for head, (keys, values) in enumerate(heads):
        attention = seen.attention(head, keys)
        change = _least_squares(attention[at], wanted[head] - seen.outputs[head, at], ridge)
        new = (values.float() + change).to(values.dtype)  # rounded as it will be stored, and so are its effects
        outputs[head] += attention @ (new.float() - values.float())
        found.append(new)
    return Fit(torch.cat(found), unfold_groups(outputs, seen.batch, real.shape[1]))


def _least_squares(attention: Tensor, missing: Tensor, ridge: float) -> Tensor:
    """The change (K, D) of values that minimises |attention change - missing|^2 + ridge |change|^2."""
    normal = attention.T @ attention
    weight = ridge * normal.diagonal().mean() + torch.finfo(torch.float32).tiny if len(normal) else 0.0
    return torch.linalg.solve(normal + weight * torch.eye(len(normal), device=normal.device), attention.T @ missing)
