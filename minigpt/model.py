"""GPT-2 by hand: embeddings -> blocks -> final norm -> tied head.

Every shape comment in this project uses one alphabet:
    B  sequences in a batch        H  attention heads
    T  tokens in a sequence        D  channels of one head, C / H
    C  channels of the model       V  tokens in the vocabulary
    S  slots of a key/value cache  r  rank of a LoRA adapter

Module names are those of the released GPT-2 weights (wte, h.0.attn.c_attn, ...), so that weight
and adapter files need no table of names. Linears store (out, in) as PyTorch does; the released
files store the transpose, which `minigpt.weights` turns.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt.config import GPTConfig
from minigpt.fast.linear import Linear, linear


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a token sees itself and what stands before it."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = Linear(config.n_embd, 3 * config.n_embd)  # q, k and v in one product
        self.c_proj = Linear(config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cache=None) -> Tensor:
        B, T, C = x.shape
        qkv = self.c_attn(x).view(B, T, 3, self.n_head, C // self.n_head)  # (B, T, 3, H, D)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        mask = None
        if cache is not None:
            k, v, mask = cache.append(k, v)  # (B, H, S, D) twice, (B, 1, T, S)
        y = attend(q, k, v, mask, self.dropout.p if self.training else 0.0)  # (B, H, T, D)
        y = y.transpose(1, 2).reshape(B, T, C)  # heads side by side again
        return self.dropout(self.c_proj(y))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """softmax(q k' / sqrt(D)) v, of q (B, H, T, D) over k and v (B, H, S, D): (B, H, T, D).

    `mask` (B, 1, T, S) says who may look where; None is causal, with T = S. `dropout` is the
    probability with which a weight of the softmax is dropped.
    """
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, dropout_p=dropout
        )
    # Written out, because PyTorch's fused attention is slow on CPUs: its backward, and all in bf16.
    T, S = q.size(2), k.size(2)
    hidden = q.new_ones(T, S, dtype=torch.bool).triu(1) if mask is None else ~mask
    bias = q.new_zeros(hidden.shape).masked_fill(hidden, -math.inf)
    q = q / math.sqrt(q.size(3))
    # A new token alone: in bf16 a product with one column takes half the time of one with one row.
    scores = (k @ q.transpose(2, 3)).transpose(2, 3) if T == 1 else q @ k.transpose(2, 3)
    return F.dropout((scores + bias).softmax(dim=-1), dropout) @ v  # over scores (B, H, T, S)


class MLP(nn.Module):
    """Two linears with the tanh form of GELU between them, as the released weights were trained."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.c_fc(x), approximate="tanh")  # (B, T, 4C)
        return self.dropout(self.c_proj(x))  # (B, T, C)


class Block(nn.Module):
    """Attention, then MLP; each reads the normed residual stream and adds to it."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cache=None) -> Tensor:
        x = x + self.attn(self.ln_1(x), cache)
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """A GPT-2 language model (Radford et al., 2019).

    Weights are drawn from `generator`, or from torch's default generator when none is given.
    """

    def __init__(self, config: GPTConfig, *, generator: torch.Generator | None = None):
        super().__init__()
        self.config = config
        device = torch.get_default_device()
        with torch.device("meta"):  # PyTorch's own initialisation would draw from the global RNG
            self.wte = nn.Embedding(config.vocab_size, config.n_embd)
            self.wpe = nn.Embedding(config.n_positions, config.n_embd)
            self.dropout = nn.Dropout(config.dropout)
            self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
            self.ln_f = nn.LayerNorm(config.n_embd)
        self.to_empty(device=device)
        if device.type != "meta":  # a shape without numbers, for weights that come from a file
            self._initialise(generator)

    @torch.no_grad()
    def _initialise(self, generator: torch.Generator | None) -> None:
        """GPT-2's own: 0.02 everywhere, less where blocks write to the residual stream."""
        residual_std = 0.02 / math.sqrt(2 * self.config.n_layer)  # 2 n_layer terms are summed
        for name, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                std = residual_std if name.endswith("c_proj") else 0.02
                module.weight.normal_(std=std, generator=generator)
            if isinstance(module, nn.Linear):
                module.bias.zero_()
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()  # weight one, bias zero

    def hidden(self, ids: Tensor, cache=None) -> Tensor:
        """Token numbers (B, T) to final hidden states (B, T, C), one step short of logits.

        A loss sends only the positions that it scores through `head`: for a one-token answer that
        saves the (B, T, V) logits, which cost more memory than the rest of the model together.
        With a `minigpt.cache.KVCache` the ids continue the sequences that the cache holds.
        Raises ValueError when the sequence is longer than the model's `n_positions`.
        """
        T = ids.size(1)
        if cache is None and self.config.n_positions < T:
            raise ValueError(
                f"a sequence of {T} tokens is longer than the model's context; "
                f"expected at most {self.config.n_positions}"
            )
        positions = torch.arange(T, device=ids.device) if cache is None else cache.positions(T)
        x = self.dropout(self.wte(ids) + self.wpe(positions))  # (B, T, C)
        for i, block in enumerate(self.h):
            x = block(x, None if cache is None else cache.layers[i])
        return self.ln_f(x)

    def head(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., C) to logits (..., V), with the token embedding as the matrix."""
        return linear(hidden, self.wte.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Token numbers (B, T) to logits (B, T, V)."""
        return self.head(self.hidden(ids))
