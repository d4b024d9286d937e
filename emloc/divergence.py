"""Jensen-Shannon divergence between two predictive distributions (paper section 3.3, the constraint of the search)."""

import math

import torch
from torch import Tensor

LN2 = math.log(2.0)


def js_divergence(reference: Tensor, candidate: Tensor) -> Tensor:
    """Mean Jensen-Shannon divergence over positions, in nats (0 .. ln 2), computed in float32.

    Parameters
    ----------
    reference, candidate
        Logits (A, V) at the same A positions, over the full vocabulary.

    Returns
    -------
    Tensor
        Scalar float32: mean over positions of (KL(p||m) + KL(q||m)) / 2 with m = (p + q) / 2.

    Everything stays in the log domain, so a probability that underflows to zero contributes zero, where the public
    reference gets NaN (bfloat16, logit range above 100).
    """
    log_p = reference.float().log_softmax(-1)
    log_q = candidate.float().log_softmax(-1)
    log_m = torch.logaddexp(log_p, log_q) - LN2
    return 0.5 * (_kl(log_p, log_m) + _kl(log_q, log_m)).mean()


def _kl(log_p: Tensor, log_m: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_m)).sum(-1)
