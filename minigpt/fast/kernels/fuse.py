"""Finds the chains of operations in a graph that the kernels replace.

The graph is TorchDynamo's: calls of PyTorch's functions in the order of the program, before
autograd and autocast, so that a chain is what the model's source says and its backward comes from
the operator that replaces it.
"""

import operator

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from minigpt.fast.kernels.gelu import bias_gelu
from minigpt.fast.kernels.layer_norm import add_layer_norm


def fuse(module: fx.GraphModule) -> None:
    """Replace linear + GELU and sum + layer norm by `linear_gelu` and `residual_norm`, in place."""
    for node in list(module.graph.nodes):
        if node.target is F.gelu:
            _fuse_gelu(module.graph, node)
        elif node.target is F.layer_norm:
            _fuse_layer_norm(module.graph, node)
    module.graph.lint()
    module.recompile()


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """gelu(x W' + b): (..., C) to (..., 4C)."""
    return bias_gelu(F.linear(x, weight), bias)


def residual_norm(
    x: Tensor, branch: Tensor, weight: Tensor, bias: Tensor, eps: float, rounded: bool
) -> tuple[Tensor, Tensor]:
    """x + branch and its layer norm, both (..., C), in the types that PyTorch would give them.

    `rounded` says that whoever reads the norm rounds it to bf16 under autocast.
    """
    dtype, device = torch.promote_types(x.dtype, branch.dtype), x.device.type
    if torch.is_autocast_enabled(device):
        bf16 = rounded and torch.get_autocast_dtype(device) == torch.bfloat16
        dtype = torch.bfloat16 if bf16 else torch.promote_types(dtype, torch.float32)
    total, normed, _, _ = add_layer_norm(x, branch, weight, bias, eps, dtype)
    return total, normed


def _fuse_gelu(graph: fx.Graph, gelu: fx.Node) -> None:
    linear = gelu.args[0]
    if gelu.kwargs.get("approximate") != "tanh" or linear.target is not F.linear:
        return
    bias = linear.args[2] if len(linear.args) == 3 else None
    if bias is None or len(linear.users) > 1 or not _value(bias).requires_grad:
        return  # without a gradient for the bias there is nothing to save
    with graph.inserting_before(gelu):
        fused = graph.call_function(linear_gelu, linear.args)
    _replace(graph, gelu, fused)
    graph.erase_node(linear)


def _fuse_layer_norm(graph: fx.Graph, norm: fx.Node) -> None:
    if len(norm.args) != 5:  # as nn.LayerNorm passes them
        return
    total, shape, weight, bias, eps = norm.args
    if total.target is not operator.add or len(shape) != 1:
        return
    if not all(isinstance(node, fx.Node) for node in (*total.args, weight, bias)):
        return
    x, branch = total.args
    # The fused call stands where the sum stood, as others may read it before the norm; parameters
    # of the graph are there already.
    if _value(x).shape != _value(branch).shape or {weight.op, bias.op} != {"placeholder"}:
        return
    rounded = all(_rounds(user) for user in norm.users)
    with graph.inserting_before(total):
        fused = graph.call_function(residual_norm, (x, branch, weight, bias, eps, rounded))
        parts = [graph.call_function(operator.getitem, (fused, i)) for i in range(2)]
    for node, part in zip((norm, total), reversed(parts)):
        _replace(graph, node, part)


def _rounds(node: fx.Node) -> bool:
    """Whether a reader of a tensor rounds it to bf16 under autocast, as a linear does."""
    if node.target is F.linear:
        return True
    return (node.op, node.target) == ("call_method", "to") and node.args[1:] == (torch.bfloat16,)


def _replace(graph: fx.Graph, node: fx.Node, by: fx.Node) -> None:
    by.meta = dict(node.meta)  # the example value, and the line of source for messages
    node.replace_all_uses_with(by)
    graph.erase_node(node)


def _value(node: fx.Node) -> Tensor:
    """The tensor without numbers that TorchDynamo computed for a node."""
    return node.meta["example_value"]
