"""What makes a class a fast one, and when it has to do as the plain one does."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as torch_module

from minigpt.model import MLP, Block

_PLAIN_TENSORS = (Tensor, nn.Parameter)
_KNOWN = (nn.Linear, nn.LayerNorm, nn.Dropout, MLP, Block)  # beside the fast ones


class Fast:
    """A class that computes what `plain`, from which it inherits, computes, and faster."""

    plain: ClassVar[type[nn.Module]]


def ordinary(*tensors: Tensor) -> bool:
    """Return whether the tensors are just numbers and nothing but autograd follows what they do.

    Tracing, `torch.func`, forward-mode derivatives, and modes that watch every operation (counting
    them, say) know PyTorch's own operations and not ours. torch.compile, which traces ours, is
    no such case.
    """
    if torch.compiler.is_compiling():
        return True
    return not (
        torch.jit.is_tracing()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or forward_ad._current_level >= 0
        or any(type(tensor) not in _PLAIN_TENSORS for tensor in tensors)
    )


def untouched(*modules: nn.Module) -> bool:
    """Return whether computing what the modules compute is as good as calling them.

    It is not where one is of a class that we do not know, or somebody has put a hook or another
    `forward` on it.
    """
    return not torch_module._has_any_global_hook() and all(
        (type(module) in _KNOWN or isinstance(module, Fast))
        and "forward" not in vars(module)
        and not (
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
        )
        for module in modules
    )


def drops(dropout: nn.Dropout) -> bool:
    """Return whether a dropout draws now, whatever the mode of the module around it."""
    return dropout.training and dropout.p > 0
