"""Plain classes out, fast classes in, and back.

A fast class is a subclass of the plain one that has the same parameters and computes the same, so
a swap is a change of the module's class: parameters, state dict, hooks, training mode and all that
refers to the module stay as they are. What a fast class cannot do, it does as the plain one does.
"""

from collections.abc import Sequence

from minigpt.fast.attention import FastAttention
from minigpt.fast.compiling import Backend, compile_model
from minigpt.fast.fallback import Fast
from minigpt.fast.linear import FastLinear
from minigpt.fast.model import FastGPT
from minigpt.model import GPT


def accelerate(model: GPT, more: Sequence[type[Fast]] = (), *, backend: Backend = "eager") -> None:
    """Make a model faster, in place; what it computes stays the same up to rounding.

    `more` are fast classes of other packages: `lora.FUSED` for a model with adapters. A module of
    another class, a subclass of the user's included, stays as it is. `backend` is how
    `model.hidden` is compiled after that, see `compile_model`. Raises InputError for an unknown
    backend.
    """
    fast = {cls.plain: cls for cls in (FastLinear, FastAttention, FastGPT, *more)}
    for module in model.modules():
        module.__class__ = fast.get(type(module), type(module))
    compile_model(model, backend)


def decelerate(model: GPT) -> None:
    """Give a model its plain classes back, in place."""
    vars(model).pop("hidden", None)  # what compile_model has put there
    for module in model.modules():
        if isinstance(module, Fast):
            module.__class__ = type(module).plain
