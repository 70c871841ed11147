"""The checks of notebook 2."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import nn

from checks.verdict import check, expect, given
from lora import LoRALinear


@check
def check_lora_layer(yours: type[nn.Module]) -> str:
    """Compare a LoRA layer with parameters A (r, in) and B (out, r) with `lora.LoRALinear`."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = nn.Linear(6, 5)
        theirs = LoRALinear(nn.Linear(6, 5), rank=2, alpha=8.0)
        mine = yours(base, 2, 8.0)
        x = torch.randn(3, 6)
    shapes = {name: tuple(p.shape) for name, p in mine.named_parameters(recurse=False)}
    expect(
        shapes == {"A": (2, 6), "B": (5, 2)},
        f"the parameters are {shapes or 'still to be made'}; expected A (r, in) and B (out, r)",
    )
    expect(torch.allclose(given(mine(x), "forward"), base(x)), "at step 0 it is not its base")
    expect(bool(mine.A.abs().sum() > 0), "A is zero, and so is B: nothing would ever move")
    trained = {name for name, p in mine.named_parameters() if p.requires_grad}
    expect(trained == {"A", "B"}, f"{', '.join(sorted(trained))} would train; expected A and B")
    theirs.base.load_state_dict(base.state_dict())
    with torch.no_grad():
        mine.B.fill_(0.1)
        theirs.lora_A.weight.copy_(mine.A)
        theirs.lora_B.weight.copy_(mine.B)
    expect(
        torch.allclose(mine(x), theirs(x), atol=1e-5),
        "with the same A and B it says other than lora.LoRALinear (which factor scales B A?)",
    )
    return "it computes what lora.LoRALinear computes, and trains A and B alone"


@check
def check_zero_gradients(yours: Mapping[str, set[str]]) -> str:
    """Check which of A and B get no gradient, for the three ways to begin, against autograd."""
    expect(bool(given(yours, "your table")), "your table is still to be written")
    for start, zero in {"B": {"B"}, "A": {"A"}, "both": {"A", "B"}}.items():
        factors = {name: torch.ones(2, 2) for name in "AB"} | {n: torch.zeros(2, 2) for n in zero}
        A, B = (factors[name].requires_grad_() for name in "AB")
        (B @ A @ torch.ones(2)).square().sum().sub((B @ A).sum()).backward()
        still = {name for name, factor in (("A", A), ("B", B)) if not factor.grad.any()}
        expect(start in yours and yours[start] is not ..., f"{start!r} is still open")
        expect(
            set(yours[start]) == still,
            f"with zeros in {start!r} autograd leaves {sorted(still) or 'none'} without a "
            f"gradient; you say {sorted(yours[start]) or 'none'}",
        )
    return "autograd agrees: two zeros never move, one zero does"


@check
def check_alpha(yours: Callable[[int, float], float]) -> str:
    """Check the alpha for a code that scales by alpha itself, not by alpha / r."""
    for rank, alpha in ((8, 16.0), (4, 4.0), (16, 8.0)):
        base = nn.Linear(20, 20, bias=False)
        elsewhere = float(given(yours(rank, alpha), "your function"))
        right = LoRALinear(base, rank=rank, alpha=alpha).scaling
        expect(
            math.isclose(elsewhere, right),
            f"for r = {rank} and alpha = {alpha:g} the other code needs {right:g}, "
            f"not {elsewhere:g}",
        )
    return "the same correction in both codes"
