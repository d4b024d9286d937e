"""Likelihoods of given answers on a memory: how a model picks one of a few classes without being free to say others."""

from collections.abc import Sequence

import torch
from torch import Tensor

from emloc.answering import Answerer, QueryRun, query_rows
from emloc.memory import Memory
from emloc.prompt import Query


@torch.inference_mode()
def likelihoods(
    backbone: Answerer,
    queries: Sequence[Query],
    choices: Sequence[Sequence[int]],
    memory: Memory | None = None,
    *,
    batch_size: int = 16,
) -> Tensor:
    """Log-likelihood (Q, K) in nats of each of K answers to each of Q queries, float32.

    Parameters
    ----------
    choices
        The token ids of every answer, with the tokens that end it: "Niger" is then no beginning of "Nigeria".

    A query is run once, and every answer on top of it; answers of one query never see each other.
    """
    memory = memory or backbone.empty_memory()
    found = [torch.empty(0, len(choices))]
    for start in range(0, len(queries), batch_size):
        run = QueryRun(backbone, query_rows(backbone, queries[start : start + batch_size], memory), memory)
        first = backbone.logits(run.start()).log_softmax(-1)  # (B, V)
        found.append(torch.stack([_likelihood(backbone, run, first, list(ids)) for ids in choices], dim=1).cpu())
    return torch.cat(found)


def _likelihood(backbone: Answerer, run: QueryRun, first: Tensor, ids: list[int]) -> Tensor:
    """(B,): the sum of the log-probabilities of these tokens behind every query; `first` is what comes next there."""
    total = first[:, ids[0]]
    if len(ids) == 1:
        return total
    tokens = torch.tensor(ids, device=first.device)
    logits = backbone.logits(run.peek(tokens[:-1]).flatten(0, 1)).view(len(first), len(ids) - 1, -1)
    following = logits.log_softmax(-1).gather(-1, tokens[1:].expand(len(first), -1)[..., None])
    return total + following.sum((1, 2))
