"""`attention_matching`: keep the keys that are attended to most, refit their values (Attention Matching, 2602.16284).

`rms_attention` x `global_threshold` x `values`: arXiv 2602.16284 in its fast form (its best keys, no matching pursuit).

Differences:
- **No biases.** The published method adds a bias to the logit of every kept key, so that the attention to the chunk as
  a whole stays the same (its `nobeta` variant has none). Entries of a memory here have none: keys, attention kernels,
  the memory file and the cache for transformers would all have to carry it, and no key gives the same effect exactly.
  The values are fitted to the whole output of a head, earlier memory and the row itself included, instead of the
  chunk's part of it, so they make up for some of that mass.
- How many keys a head keeps comes from one threshold on the scores, as in the published `global` variant. Its default
  are budgets per head that were searched for each model beforehand.
- Least squares have a ridge, are judged on probes left out, and a chunk where they do not help keeps its own values.
- The stretch that is compacted includes the system turn and the chat markers.
"""

from dataclasses import dataclass
from typing import ClassVar

from emloc.allocation.base import Allocation
from emloc.allocation.global_threshold import GlobalThreshold
from emloc.importance.base import Importance
from emloc.importance.rms_attention import RmsAttention
from emloc.methods.base import Method
from emloc.refit.base import Refit
from emloc.refit.values import Values


@dataclass(frozen=True, kw_only=True)
class AttentionMatching(Method):
    """The tokens with the largest root mean square of attention, their values fitted to the outputs of the whole."""

    name: ClassVar[str] = "attention_matching"
    importance: Importance | None = RmsAttention()  # noqa: RUF009 (frozen)
    allocation: Allocation | None = GlobalThreshold()  # noqa: RUF009 (frozen)
    refit: Refit | None = Values()  # noqa: RUF009 (frozen)
