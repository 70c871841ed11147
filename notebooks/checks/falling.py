"""The checks of notebook 4."""

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor

from checks.verdict import check, expect, given, small_model
from objectives import dpo_loss, dpo_weight, make_batch, sequence_logps


@check
def check_change_of_chosen(yours: Callable[[Tensor, Tensor, float, float, float], float]) -> str:
    """Compare a predicted change of log p(chosen) with that of one step of gradient descent."""
    for pair in ([[5, 9, 2], [5, 1, 7]], [[8, 3], [8, 4]], [[6, 6, 1], [2, 2, 2]]):
        model = copy.deepcopy(small_model()).double().requires_grad_(True)
        batch, beta, rate = make_batch([[3, 4]] * 2, pair), 0.5, 1e-6
        chosen, rejected = sequence_logps(model, batch)
        margin = torch.tensor(1.5, dtype=torch.float64)
        g_c, g_r = (
            torch.cat([g.flatten() for g in grads])
            for grads in (
                torch.autograd.grad(logp, [*model.parameters()], retain_graph=True)
                for logp in (chosen, rejected)
            )
        )
        reference = chosen.detach() - margin / beta, rejected.detach()
        dpo_loss(chosen, rejected, *reference, beta=beta).loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= rate * parameter.grad
            right = float(sequence_logps(model, batch)[0] - chosen)
        found = float(
            given(yours(g_c, g_r, float(dpo_weight(margin)), beta, rate), "your function")
        )
        expect(
            found * right > 0,
            f"you expect log p(chosen) to go {'up' if found > 0 else 'down'}; it does not",
        )
        expect(
            math.isclose(found, right, rel_tol=0.02),
            f"you expect a change of {found:.3g} nats; the step makes {right:.3g}",
        )
    return "one step of gradient descent does what you say, to 2 %"


@check
def check_beta_for_budget(yours: Callable[[dict[float, float], float], float]) -> str:
    """Check the smallest beta whose KL is within a budget."""
    kls = {0.5: 0.02, 0.05: 0.4, 0.1: 0.2, 2.0: 0.001}
    for budget, right in ((0.25, 0.1), (0.02, 0.5), (1.0, 0.05)):
        found = given(yours(kls, budget), "your function")
        expect(
            found == right,
            f"for a budget of {budget} nats per token you take beta {found}; "
            f"expected {right}, the smallest that keeps to it, of {kls}",
        )
    return "the boldest beta that keeps to the budget"
