"""One linear layer with a low-rank adapter beside it."""

import math

import torch
from torch import Tensor, nn


class LoRALinear(nn.Module):
    """A frozen linear layer plus a small trainable correction (Hu et al., 2021, arXiv 2106.09685).

        y = W x + b + scaling * B A dropout(x)        W (out, in), A (r, in), B (out, r)

    Fine-tuning moves W by some (out, in) matrix. LoRA bets that a matrix of rank r is enough and
    learns its two factors: r (in + out) numbers in place of in * out, and gradients and optimiser
    state for those alone.

    B starts at zero, so at step 0 the layer is exactly its base. A must not be zero as well: the
    gradient of B is proportional to A x and that of A to B's transpose, so two zeros would never
    move. A is drawn Kaiming-uniform with a = sqrt(5), that is, from +-1/sqrt(in).

    `scaling` is alpha / r, meant to let one alpha and one learning rate serve every rank. It
    shrinks the correction too much as r grows, so that large ranks learn no more than small ones;
    alpha / sqrt(r) keeps its size (rank-stabilised LoRA, Kalajdzievski, 2023, arXiv 2312.03732).

    The layer has two states. `enabled`: whether the correction counts. `merged`: whether it has
    been added into W, so that a forward pass costs what the base costs. Only `merge`, `unmerge` and
    `cast_base` change W; a forward pass never does. What would mix the two up raises RuntimeError:
    merging twice or while disabled, unmerging what is not merged, disabling or casting while
    merged, and a forward pass in training mode while merged, since no gradient could reach A and B.

    A is drawn from `generator`, a CPU generator, or from torch's default one when none is given;
    drawing on the CPU in fp32 gives one seed one adapter on every device and in every precision.
    """

    def __init__(
        self,
        base: nn.Linear,
        rank: int,
        alpha: float,
        dropout: float = 0.0,
        *,
        rank_stabilised: bool = False,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        self.rank, self.alpha, self.rank_stabilised = rank, alpha, rank_stabilised
        self.scaling = alpha / (math.sqrt(rank) if rank_stabilised else rank)
        self.base = base.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        A = torch.empty(rank, base.in_features, dtype=torch.float32)
        nn.init.kaiming_uniform_(A, a=math.sqrt(5), generator=generator)
        self.lora_A = _linear(A.to(base.weight))
        self.lora_B = _linear(base.weight.new_zeros(base.out_features, rank))
        self._enabled = True
        self._unmerged_weight: Tensor | None = None  # W as it was before merge, to give back
        self.train(base.training)  # else a model in eval mode would get adapters that drop

    @property
    def merged(self) -> bool:
        """Whether the correction is now part of the base weight."""
        return self._unmerged_weight is not None

    @property
    def enabled(self) -> bool:
        """Whether the correction counts; without it the layer is its base."""
        return self._enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        if self.merged and not value:
            raise RuntimeError("a merged adapter cannot be disabled; expected unmerge() before")
        self._enabled = value

    def extra_repr(self) -> str:
        """What `print(model)` says of the adapter: its size, its strength and its state."""
        state = "merged" if self.merged else "enabled" if self.enabled else "disabled"
        return f"rank={self.rank}, alpha={self.alpha:g}, scaling={self.scaling:g}, {state}"

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (..., in) to outputs (..., out)."""
        if self.merged and self.training:
            raise RuntimeError("a merged adapter cannot be trained; expected unmerge() or eval()")
        if self.merged or not self.enabled:
            return self.base(x.to(self.base.weight.dtype))
        return self.adapted(x)

    def adapted(self, x: Tensor) -> Tensor:
        """Return W x + b + scaling * B A dropout(x) for inputs (..., in): (..., out)."""
        W, A = self.base.weight, self.lora_A.weight
        if x.dtype == W.dtype == A.dtype or torch.is_autocast_enabled(x.device.type):
            return self.base(x) + self.scaling * self.lora_B(self.lora_A(self.dropout(x)))
        # An adapter in fp32 beside a base in bf16: each computes in its own type.
        y = self.base(x.to(W.dtype))
        correction = self.scaling * self.lora_B(self.lora_A(self.dropout(x.to(A.dtype))))
        return y + correction.to(y.dtype)

    def delta(self) -> Tensor:
        """scaling * B A, (out, in), in fp32 or better: what merging adds to the base weight."""
        dtype = torch.promote_types(self.base.weight.dtype, torch.float32)
        with torch.autocast(self.base.weight.device.type, enabled=False):
            return self.scaling * (self.lora_B.weight.to(dtype) @ self.lora_A.weight.to(dtype))

    @torch.no_grad()
    def cast_base(self, dtype: torch.dtype) -> None:
        """Keep the base in another type, and the adapter as it is. RuntimeError while merged."""
        if self.merged:
            raise RuntimeError("a merged base cannot be cast; expected unmerge() before")
        self.base.to(dtype)

    @torch.no_grad()
    def merge(self) -> None:
        """Add the correction into the base weight; the sum is made in fp32 and rounded once."""
        if self.merged:
            raise RuntimeError("the adapter is merged already; expected unmerge() before")
        if not self.enabled:
            raise RuntimeError("a disabled adapter cannot be merged; expected it enabled")
        self._unmerged_weight = self.base.weight.clone()
        self.base.weight.copy_(self.base.weight + self.delta())

    @torch.no_grad()
    def unmerge(self) -> None:
        """Give the base its weight back, bit for bit: from a copy, since W + D - D is not W."""
        if not self.merged:
            raise RuntimeError("the adapter is not merged; expected merge() before")
        self.base.weight.copy_(self._unmerged_weight)
        self._unmerged_weight = None


def _linear(weight: Tensor) -> nn.Linear:
    """A linear without bias around a given weight (out, in); nn.Linear would draw its own."""
    linear = nn.Linear(weight.size(1), weight.size(0), bias=False, device="meta")
    linear.weight = nn.Parameter(weight)
    return linear
