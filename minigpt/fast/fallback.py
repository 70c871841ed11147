"""What makes a class a fast one, and when it has to do as the plain one does."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as torch_module

_PLAIN_TENSORS = (Tensor, nn.Parameter)


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


def hooked(*modules: nn.Module) -> bool:
    """Return whether somebody waits for a call of one of the modules, which must then be called."""
    return torch_module._has_any_global_hook() or any(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        for module in modules
    )
