"""GPT-2 by hand: embeddings -> blocks -> final norm -> tied head.

Every shape comment in this project uses one alphabet:
    B  sequences in a batch        H  attention heads
    T  tokens in a sequence        D  channels of one head, C / H
    C  channels of the model       V  tokens in the vocabulary
    S  slots of a key/value cache  r  rank of a LoRA adapter
    N  sequences that are scored   R  input rows, which sequences may share
    P  tokens that are scored      L  blocks of the model

In losses on pairs B counts pairs, which are two sequences each.

Module names are those of the released GPT-2 weights (wte, h.0.attn.c_attn, ...), so that weight
and adapter files need no table of names. Linears store (out, in) as PyTorch does; the released
files store the transpose, which `minigpt.weights` turns.
"""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt.config import GPTConfig


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a token sees itself and what stands before it.

    Vaswani et al. (2017), arXiv 1706.03762, section 3.2. With a cache, the keys and values of what
    the model has read are kept and not computed again (`minigpt.cache`).
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)  # q, k and v in one product
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.weight_dropout = nn.Dropout(config.dropout)  # of the attention weights
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cache=None) -> Tensor:
        B, T, C = x.shape
        qkv = self.c_attn(x).view(B, T, 3, self.n_head, C // self.n_head)  # (B, T, 3, H, D)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        mask = None
        if cache is not None:
            k, v, mask = cache.append(k, v)  # (B, H, S, D) twice, (B, 1, T, S)
        y = self.attend(q, k, v, mask)  # (B, H, T, D)
        y = y.transpose(1, 2).reshape(B, T, C)  # heads side by side again
        return self.dropout(self.c_proj(y))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Return softmax(q k' / sqrt(D)) v (equation 1 of the paper), (B, H, T, D).

        q is (B, H, T, D); k and v are (B, H, S, D). `mask` (B, 1, T, S) is true where a token may
        look; None is causal, with T = S.
        """
        T, D = q.shape[2:]
        if mask is None:
            mask = q.new_ones(T, T, dtype=torch.bool).tril()
        scores = q @ k.transpose(2, 3) / math.sqrt(D)  # (B, H, T, S)
        weights = scores.masked_fill(~mask, -math.inf).softmax(dim=-1)  # (B, H, T, S)
        return self.weight_dropout(weights) @ v


class MLP(nn.Module):
    """Two linears with GELU between them (Hendrycks and Gimpel, 2016, arXiv 1606.08415).

    GELU has an exact form and this one by tanh, with which the released weights were trained.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.c_fc(x), approximate="tanh")  # (B, T, 4C)
        return self.dropout(self.c_proj(x))  # (B, T, C)


class Block(nn.Module):
    """Attention, then MLP; each reads the normed residual stream and adds to it.

    The norm stands before each of them ("pre-norm", Radford et al., 2019, section 2.3), so that
    nothing stands in the way of the sum that runs from the embeddings to the head.
    """

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
        self.companions: dict[str, bytes] = {}  # what lay beside its weights: minigpt.companions
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
        """Draw with standard deviation 0.02, and less where blocks write to the residual stream.

        The less is the paper's (Radford et al., 2019, section 2.3), all of it as transformers has
        it. OpenAI's own code takes 0.01 for positions, and 0.02 for every projection.
        """
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
        `cache` says where tokens stand and whom they see: a `minigpt.cache.KVCache` when
        generating, whose sequences the ids continue; `objectives.Shared` for pairs in one row,
        which keeps nothing; None for plain causal rows.
        Raises ValueError when the sequence is longer than the model's `n_positions`.
        """
        x = self.embed(ids, cache)
        for i, block in enumerate(self.h):
            x = block(x, None if cache is None else cache.layer(i))
        return self.ln_f(x)

    def embed(self, ids: Tensor, cache=None) -> Tensor:
        """What the first block reads, tokens plus positions: (B, T) -> (B, T, C); see `hidden`."""
        T = ids.size(1)
        if cache is None and self.config.n_positions < T:
            raise ValueError(
                f"a sequence of {T} tokens is longer than the model's context; "
                f"expected at most {self.config.n_positions}"
            )
        positions = torch.arange(T, device=ids.device) if cache is None else cache.advance(T)
        return self.dropout(self.wte(ids) + self.wpe(positions))

    def states(self, ids: Tensor, row: Tensor, position: Tensor, cache=None) -> Tensor:
        """Return the hidden states at P places alone, in these rows and positions: (P, C)."""
        return self.hidden(ids, cache)[row, position]

    def head(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., C) to logits (..., V), with the token embedding as the matrix."""
        return F.linear(hidden, self.wte.weight)

    def log_prob(self, hidden: Tensor, target: Tensor, *, even: bool = False) -> Tensor:
        """Return log p(target) in nats of the token after each state: (P, C), (P,) -> (P,).

        The log-softmax is taken in fp32 (or better) whatever the model computes in. `even` says
        that the loss will weigh all P tokens alike, as SFT's does. Faster classes make use of it;
        the result is the same either way.
        """
        logits = self.head(hidden)  # (P, V)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return -F.cross_entropy(logits, target, reduction="none")

    def forward(self, ids: Tensor) -> Tensor:
        """Token numbers (B, T) to logits (B, T, V)."""
        return self.head(self.hidden(ids))

    def sampling(self) -> AbstractContextManager:
        """What `minigpt.generate` samples within: nothing here, see `minigpt.accelerate`."""
        return nullcontext()
