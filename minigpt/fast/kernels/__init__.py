"""Fused operations that `minigpt.compile` puts in place of chains of PyTorch's.

Each is a PyTorch operator with a reference in plain PyTorch, which CPUs and tests run, a CUDA
kernel for fp32 and bf16 that computes in fp32, and a backward that is such an operator too.
"""

from minigpt.fast.kernels.gelu import bias_gelu
from minigpt.fast.kernels.layer_norm import add_layer_norm

__all__ = ["add_layer_norm", "bias_gelu"]
