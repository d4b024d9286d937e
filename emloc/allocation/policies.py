"""`policies`: in every KV head the cheapest of a few sets of tokens that holds enough of the attention (FastGen).

FastGen (arXiv 2310.01801) looks at what a head attends to: special tokens, punctuation, tokens that are often attended
to, the most recent ones, or everything. This is the EMLoC paper's baseline (reference variant 8), with its sets, their
order and its constants:

    special; special + punctuation; special + frequent; special + frequent + local; everything

The first set that holds more than `recovered` (0.6) of a head's attention is kept. Special tokens are those that turns
are written with: markers, role names, line ends, the words of the system message. User text that has one of these
tokens counts as well, as in the reference.

Differences from the reference: it stores the heads of a layer as caches of their own and cannot run after the first
chunk; the masses are a share of what goes to the chunk, which its own code means and does not compute. From FastGen:
punctuation goes on into its later sets, its threshold is on the attention map of the prompt itself, and its cache goes
on dropping tokens while it generates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from emloc.allocation.base import Allocation, Decision, Share
from emloc.backbones.token_sets import punctuation_ids, template_ids
from emloc.options import Range
from emloc.region import Measure
from emloc.rows import Row

_Part = Annotated[float, Range(0, 1)]


@dataclass(frozen=True, kw_only=True)
class Policies(Allocation):
    """Per KV head the first set of tokens whose scores are more than the share `recovered` of all: see the file's head.

    Any importance will do whose scores count as masses. Tokens that always stay are kept beside that.

    Parameters
    ----------
    recovered
        Share of a head's scores that a set has to hold.
    frequent, local
        Shares of the tokens that are in the sets of those names: the best-scored, and the last.
    """

    recovered: _Part = 0.6
    frequent: _Part = 0.3
    local: _Part = 0.3

    def decide(self, scores: Sequence[Tensor], share: Share, measure: Measure) -> Decision:
        row, backbone = measure.region.chunk.row, measure.region.backbone
        special, marks = (_among(row, ids) for ids in (template_ids(backbone), punctuation_ids(backbone)))
        kept = [[self._cheapest(head, special, marks) for head in layer] for layer in scores]
        return Decision([tuple(head.nonzero()[:, 0] for head in layer) for layer in kept])

    def _cheapest(self, scores: Tensor, special: Tensor, marks: Tensor) -> Tensor:
        """(N,) bool: the tokens of one head that stay, out of scores (N,)."""
        always = scores.isinf()
        masses = scores.double().clamp_min(0).masked_fill(always, 0)
        frequent, count = torch.zeros_like(special), int(self.frequent * len(scores))
        frequent[masses.topk(count).indices] = True
        local = torch.arange(len(scores), device=scores.device) >= len(scores) - int(self.local * len(scores))
        for kept in (special, special | marks, special | frequent, special | frequent | local):
            if masses[kept].sum() > self.recovered * masses.sum():
                return kept | always
        return torch.ones_like(special)


def _among(row: Row, ids: frozenset[int]) -> Tensor:
    """(T,) bool: the row's tokens with one of these ids, which visual tokens do not have."""
    return torch.isin(row.ids, torch.tensor(sorted(ids), device=row.ids.device))
