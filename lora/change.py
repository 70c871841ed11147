"""What training did to each weight matrix: the change itself, and how low its rank is.

LoRA bets that fine-tuning changes a weight by a matrix of low rank. The singular values tell: a
change whose first r of them hold nearly all of its energy is one that rank r could have made.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lora.dora import DoRALinear
from lora.injection import adapted_layers, lora_layers
from lora.layer import LoRALinear
from minigpt.errors import InputError


@torch.no_grad()
def delta(model: nn.Module, base: nn.Module | None = None) -> dict[str, Tensor]:
    """Return the change of each linear's weight under its full name: (out, in), fp32 or better.

    Without `base` the changes are those that the model's adapters make, LoRA's or DoRA's, merged
    and disabled ones too. With `base` they are what the model's weights have that the base's have
    not, over all linears of two models without adapters. Embeddings and norms are left out.
    Raises RuntimeError for a model without adapters where no base is given, and InputError for a
    base that the model cannot be compared with.
    """
    if base is None:
        return {name: layer.delta() for name, layer in adapted_layers(model).items()}
    if lora_layers(model) or lora_layers(base):
        raise InputError(
            "a model with adapters was given beside a base; expected two models without, "
            "or the one with adapters alone"
        )
    ours, theirs = _weights(model), _weights(base)
    shapes, expected = ({n: tuple(w.shape) for n, w in each.items()} for each in (ours, theirs))
    if shapes != expected:
        name = next(n for n in {**shapes, **expected} if shapes.get(n) != expected.get(n))
        raise InputError(
            f"{name} is {shapes.get(name, 'absent')} in the model and "
            f"{expected.get(name, 'absent')} in the base; expected two models of one shape"
        )
    return {name: _wide(ours[name]) - _wide(theirs[name]) for name in ours}


@dataclass(frozen=True)
class Spectrum:
    """A matrix (out, in) as its singular values, the largest first, and their directions.

    There are K = min(out, in) of them; a LoRA layer has K = r, as all others are zero.
    """

    values: Tensor  # (K,)
    left: Tensor  # (out, K), orthonormal columns
    right: Tensor  # (K, in), orthonormal rows

    @property
    def energy(self) -> Tensor:
        """The share of the sum of squares that the first k values hold, at k - 1: (K,), 0 to 1.

        It is 0 for a change that is zero everywhere.
        """
        squares = self.values.square().cumsum(0)
        return squares / squares[-1].clamp(min=torch.finfo(squares.dtype).tiny)

    def truncate(self, k: int) -> Tensor:
        """Return the nearest matrix (out, in) of rank `k`, by the sum of squared differences.

        It is the first `k` terms of the sum (Eckart and Young, 1936). Raises InputError unless
        `k` is from 0 to K.
        """
        if not 0 <= k <= len(self.values):
            raise InputError(f"k is {k}; expected a rank from 0 to {len(self.values)}")
        return (self.left[:, :k] * self.values[:k]) @ self.right[:k]


@torch.no_grad()
def spectrum(change: Tensor | LoRALinear) -> Spectrum:
    """Return the singular values and directions of a change (out, in), or of what a layer makes.

    Those of a LoRA layer come from its factors: with B = Q R and A' = P S the change is
    scaling * Q (R S') P', and R S' is but (r, r). DoRA's change has no such factors. Raises
    InputError for a tensor that is no matrix or not finite.
    """
    if isinstance(change, LoRALinear) and not isinstance(change, DoRALinear):
        Q, R = torch.linalg.qr(_wide(change.lora_B.weight))  # (out, r), (r, r)
        P, S = torch.linalg.qr(_wide(change.lora_A.weight).T)  # (in, r), (r, r)
        left, values, right = torch.linalg.svd(change.scaling * R @ S.T)
        return Spectrum(values, Q @ left, right @ P.T)
    matrix = change.delta() if isinstance(change, LoRALinear) else _wide(change)
    if matrix.dim() != 2 or not matrix.isfinite().all():
        raise InputError(
            f"the change has the shape {tuple(matrix.shape)} and the largest element "
            f"{matrix.abs().max() if matrix.numel() else 'none'}; expected a finite (out, in)"
        )
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return Spectrum(values, left, right)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {n: m.weight for n, m in model.named_modules() if isinstance(m, nn.Linear)}


def _wide(tensor: Tensor) -> Tensor:
    """Return a tensor in fp32, or better where it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
