"""LoRA with the length of each row of the weight trained apart from its direction."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora.layer import LoRALinear


class DoRALinear(LoRALinear):
    """A LoRALinear that also learns how long each row is (Liu et al., 2024, arXiv 2402.09353).

        y = g (W + scaling * B A) x + b,    g = m / ||W + scaling * B A||        g, m (out,)

    Full fine-tuning turns the rows of W without stretching them much, or the reverse; LoRA does
    both or neither. Here B A only turns a row, and its length is m, a number per output that is
    trained at the same time. (The paper's columns are the rows of nn.Linear's (out, in) weight.)

    m starts as the lengths of W's rows, so that g is 1 and the layer exactly its base at step 0,
    also once `cast_base` has rounded W. The gradient takes ||...|| for a constant (section 4.3):
    the product B A, (out, in), is then needed for that norm alone, and nothing of its size is kept
    for the backward pass. Every forward pass computes the norm anew; `merge` before generating
    saves that.

    Made, merged, unmerged and switched off like any LoRALinear.
    """

    def __init__(self, base: nn.Linear, *args: Any, **kwargs: Any):
        super().__init__(base, *args, **kwargs)
        m = self._row_norms().to(self.lora_A.weight.dtype)
        self.lora_magnitude_vector = nn.Parameter(m)  # by PEFT's name

    def adapted(self, x: Tensor) -> Tensor:
        """Return the formula above for inputs (..., in): (..., out)."""
        W, A, dropped = self.base.weight, self.lora_A.weight, self.dropout(x)
        y = self.base(x.to(W.dtype))
        Wx = self._base_product(y, dropped.to(W.dtype))
        g, BAx = self._gain(), self.lora_B(self.scaling * self.lora_A(dropped.to(A.dtype)))
        # g - 1 on what y has already, as PEFT does it: exactly y for g = 1 and B = 0, and dropout
        # thins out the correction only. Under autocast g is fp32 and y is not.
        return y + ((g - 1) * Wx + g * BAx).to(y.dtype)

    def _base_product(self, y: Tensor, x: Tensor) -> Tensor:
        """W x (..., out), where y is what the base gave for x before dropout."""
        return F.linear(x, self.base.weight)

    @torch.no_grad()
    def cast_base(self, dtype: torch.dtype) -> None:
        """Keep the base in another type; m follows the lengths of W's rows, lest g changes."""
        g = self._gain()
        super().cast_base(dtype)
        self.lora_magnitude_vector.copy_(g * self._row_norms())

    def delta(self) -> Tensor:
        """g (W + scaling * B A) - W, (out, in), in fp32 or better: what merging adds to W."""
        return self._gain().unsqueeze(1) * self._turned() - self._base_weight()

    def _gain(self) -> Tensor:
        """g (out,), whose gradient reaches m alone."""
        m = self.lora_magnitude_vector
        return m / self._row_norms().to(m.dtype)  # rounded as m is, lest g at step 0 is not 1

    @torch.no_grad()
    def _row_norms(self) -> Tensor:
        """||W + scaling * B A|| of each row, (out,), in fp32 or better."""
        norms = torch.linalg.vector_norm(self._turned(), dim=1)
        return norms.detach()  # from forward-mode derivatives too

    def _turned(self) -> Tensor:
        """W + scaling * B A, (out, in), in fp32 or better."""
        return self._base_weight() + super().delta()

    def _base_weight(self) -> Tensor:
        """W, also while the base holds the merged weight in its place."""
        return self._unmerged_weight if self.merged else self.base.weight
