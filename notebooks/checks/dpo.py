"""The checks of notebook 3."""

from collections.abc import Callable

import torch
from torch import Tensor

from checks.verdict import check, expect, given
from objectives import dpo_loss


def _pairs(n: int, scale: float = 3.0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return tuple(-20 + scale * torch.randn(n, generator=generator) for _ in range(4))


@check
def check_dpo_loss(yours: Callable[..., Tensor]) -> str:
    """Compare a loss of four log-probs and beta with `objectives.dpo_loss`."""
    logps = _pairs(5)
    found = given(yours(*logps, 0.3), "your function")
    right = dpo_loss(*logps, beta=0.3).loss
    expect(
        tuple(found.shape) == (5,),
        f"the loss has the shape {tuple(found.shape)}; expected one value a pair, (5,)",
    )
    swapped = dpo_loss(logps[1], logps[0], logps[3], logps[2], beta=0.3).loss
    expect(not torch.allclose(found, swapped), "chosen and rejected have changed places")
    expect(
        torch.allclose(found, right, atol=1e-5),
        f"the first pair's loss is {found[0]:.4f}; expected {right[0]:.4f}",
    )
    far = _pairs(5, scale=1e4)
    expect(
        torch.allclose(yours(*far, 0.3), dpo_loss(*far, beta=0.3).loss, rtol=1e-4),
        "far apart it is no longer finite (torch has a log-sigmoid that stays so)",
    )
    return "the same losses as objectives.dpo_loss, far from 0 as well"


@check
def check_swapped(yours: Callable[[Tensor], Tensor]) -> str:
    """Check the loss of pairs whose sides are swapped, made from their loss alone."""
    chosen, rejected, *reference = _pairs(6)
    loss = dpo_loss(chosen, rejected, *reference, beta=0.3).loss
    right = dpo_loss(rejected, chosen, *reversed(reference), beta=0.3).loss
    found = given(yours(loss), "your function")
    expect(
        torch.allclose(found, right, atol=1e-4),
        f"a pair with the loss {loss[0]:.3f} has {right[0]:.3f} when swapped, "
        f"not {float(found[0]):.3f}",
    )
    return "a classifier's two answers share one probability: p and 1 - p"


@check
def check_best_margin(yours: Callable[[float], float]) -> str:
    """Check where the loss with label smoothing is least, against a search over margins."""
    margins = torch.linspace(-8, 8, 160_001, dtype=torch.float64)
    zeros = torch.zeros_like(margins)
    for smoothing in (0.05, 0.1, 0.3):
        found = float(given(yours(smoothing), "your function"))
        losses = dpo_loss(margins, zeros, zeros, zeros, beta=1.0, label_smoothing=smoothing).loss
        right = float(margins[losses.argmin()])
        expect(
            abs(found - right) < 1e-3,
            f"with a smoothing of {smoothing} the loss is least at a margin of {right:.3f}, "
            f"not at {found:.3f}",
        )
    return "the margin at which sigmoid(margin) is 1 - smoothing"
