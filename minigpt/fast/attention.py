"""Attention as each kind of device does it best."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from minigpt.fast.fallback import Fast, untouched
from minigpt.model import CausalSelfAttention


class FastAttention(CausalSelfAttention, Fast):
    """PyTorch's fused attention on a GPU; on a CPU the products written out in their best order.

    On CPUs PyTorch's fused attention is slow: its backward, and all of it in bf16.
    """

    plain = CausalSelfAttention

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if not untouched(self.weight_dropout):
            return super().attend(q, k, v, mask)
        dropout = self.weight_dropout.p if self.weight_dropout.training else 0.0
        if q.device.type != "cpu":
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, dropout_p=dropout
            )
        T, S = q.size(2), k.size(2)
        hidden = q.new_ones(T, S, dtype=torch.bool).triu(1) if mask is None else ~mask
        bias = q.new_zeros(hidden.shape).masked_fill(hidden, -math.inf)
        q = q / math.sqrt(q.size(3))
        # A new token alone: in bf16 a product with one column takes half the time of one with one
        # row.
        scores = (k @ q.transpose(2, 3)).transpose(2, 3) if T == 1 else q @ k.transpose(2, 3)
        return F.dropout((scores + bias).softmax(dim=-1), dropout) @ v  # over scores (B, H, T, S)
