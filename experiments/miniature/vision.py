"""First stage: the vision tower alone, taught to place drawings of one class close together.

Every drawing of a batch is classified by all the others, as an attention head would do it: a softmax over cosine
similarities of averaged tokens, summed over the drawings of its own class (leave-one-out matching).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

from experiments.miniature.images import MERGE, Pool, dress, patches

GRID = 8  # patches a side


def _rope(tower: Qwen2VisionTransformerPretrainedModel) -> tuple[Tensor, Tensor]:
    """The tower's rotary cosines and sines for one 8 x 8 image in merge order, each (64, head size)."""
    rows, columns = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    order = [p.view(GRID // MERGE, MERGE, GRID // MERGE, MERGE).transpose(1, 2).flatten() for p in (rows, columns)]
    hidden = tower.patch_embed.proj.weight
    return tower.rotary_pos_emb(hidden, torch.stack(order).to(hidden.device).T)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


def encode(tower: Qwen2VisionTransformerPretrainedModel, images: Tensor) -> Tensor:
    """Patches (N, 64, 96) -> visual tokens (N, 16, hidden): the stock tower's forward, all images as one batch.

    The stock forward attends image by image in a loop, which is most of its time for small images.
    """
    hidden = images @ tower.patch_embed.proj.weight.flatten(1).T
    cos, sin = (t.to(hidden.dtype) for t in _rope(tower))
    for block in tower.blocks:
        qkv = block.attn.qkv(block.norm1(hidden)).unflatten(-1, (3, block.attn.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(_rotate(q, cos, sin).to(v.dtype), _rotate(k, cos, sin).to(v.dtype), v)
        hidden = hidden + block.attn.proj(mixed.transpose(1, 2).flatten(2))
        hidden = hidden + block.mlp(block.norm2(hidden))
    merged = tower.merger.ln_q(hidden).view(len(images), -1, tower.merger.hidden_size)
    return tower.merger.mlp(merged)


def summary(tokens: Tensor) -> Tensor:
    """What a uniform attention head collects of an image, of length 1: (N, 16, H) -> (N, H)."""
    scaled = tokens.float() * torch.rsqrt(tokens.float().pow(2).mean(-1, keepdim=True) + 1e-6)
    return F.normalize(scaled.mean(1), dim=-1)


def matching_loss(features: Tensor, classes: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Leave-one-out matching of unit vectors (N, H) with class numbers (N,): loss and hit rate of the nearest."""
    logits = (features @ features.T) * scale
    logits = logits.masked_fill(torch.eye(len(logits), dtype=torch.bool, device=logits.device), -1e4)
    same = classes[:, None] == classes[None, :]
    loss = logits.logsumexp(1) - logits.masked_fill(~same, -1e4).logsumexp(1)
    hits = same.gather(1, logits.argmax(1, keepdim=True)).float().mean()
    return loss.mean(), hits


def batch(pool: Pool, ways: int, shots: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Patches (ways * shots, 64, 96) and class numbers of one episode, all images dressed alike."""
    classes = torch.randperm(len(pool), generator=generator)[:ways].repeat_interleave(shots)
    images = pool.images[pool.draw(classes, generator)].float()
    return patches(dress(images, generator)), classes


class Matcher(nn.Module):
    """The vision tower with a learned temperature (which only training needs)."""

    def __init__(self, tower: Qwen2VisionTransformerPretrainedModel) -> None:
        super().__init__()
        self.tower = tower
        self.log_scale = nn.Parameter(torch.tensor(2.3))

    def loss(self, images: Tensor, classes: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Matching loss of patches (N, 64, 96) of one episode."""
        with torch.autocast(images.device.type, torch.bfloat16):
            tokens = encode(self.tower, images)
        loss, hits = matching_loss(summary(tokens), classes, self.log_scale.exp())
        return loss, {"loss": loss.item(), "hits": hits.item(), "scale": self.log_scale.exp().item()}
