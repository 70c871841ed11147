"""Captures what AOTAutograd compiled as CUDA graphs: a whole forward or backward in one launch.

PyTorch does the work ("CUDA graph trees": warm-up, one memory pool for all graphs, replay). It has
a backend "cudagraphs" too, which would do but for one thing: it takes parameters for inputs that
may move and copies all of them before every step.
"""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, fx


def capturing() -> dict[str, Callable]:
    """Compilers for AOTAutograd which capture the forward and the backward of one graph.

    A graph that cannot be captured, say because a part of it runs on the CPU, runs as it is, and
    PyTorch logs the reason.
    """
    from torch._dynamo.backends.cudagraphs import get_device_index
    from torch._dynamo.backends.debugging import boxed_nop
    from torch._inductor.compile_fx import get_static_input_idxs
    from torch._inductor.utils import count_tangents

    captured_on: list[int] = []  # the forward's device, once it is captured

    def forward(graph: fx.GraphModule, inputs: Sequence[Tensor], is_inference: bool) -> Callable:
        if _refused(graph):
            return boxed_nop(graph, inputs)
        captured_on.append(get_device_index(graph))
        parameters = get_static_input_idxs(0)
        return _capture(graph, inputs, parameters, is_backward=False, is_inference=is_inference)

    def backward(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> Callable:
        if not captured_on:
            return boxed_nop(graph, inputs)
        if _refused(graph):
            return _announced(boxed_nop(graph, inputs), captured_on[0])
        saved = range(count_tangents(graph))  # what the forward left in the pool, or parameters
        return _capture(graph, inputs, saved, is_backward=True, is_inference=False)

    return {
        "fw_compiler": partial(forward, is_inference=False),
        "inference_compiler": partial(forward, is_inference=True),
        "bw_compiler": backward,
    }


def _refused(graph: fx.GraphModule) -> bool:
    """Whether PyTorch finds something in the graph that cannot be captured; it logs what."""
    from torch._dynamo.backends.cudagraphs import check_for_skip
    from torch._inductor.cudagraph_utils import log_cudagraph_skip_and_bump_counter

    reason = check_for_skip(graph, num_fixed=0)
    if reason:
        log_cudagraph_skip_and_bump_counter(f"skipping cudagraphs due to {reason}")
    return bool(reason)


def _capture(
    graph: fx.GraphModule, inputs: Sequence[Tensor], static: Sequence[int], **kind: bool
) -> Callable:
    """The graph as a function that warms up, is captured and then replayed.

    `static` are the inputs that stay where they are; the others are copied to where they were.
    """
    from torch._dynamo.backends.cudagraphs import (
        find_input_mutations,
        get_device_index,
        get_stack_traces,
    )
    from torch._dynamo.backends.debugging import boxed_nop
    from torch._inductor.cudagraph_trees import cudagraphify_impl
    from torch._inductor.cudagraph_utils import get_placeholder_info

    replayed = cudagraphify_impl(
        boxed_nop(graph, inputs),
        inputs,
        static,
        device_index=get_device_index(graph),
        stack_traces=get_stack_traces(graph),
        placeholders=get_placeholder_info(graph.graph),
        mutated_input_idxs=find_input_mutations(graph.graph),
        **kind,
    )
    replayed._boxed_call = True  # it takes its inputs as a list, to free them as it goes
    return replayed


def _announced(run: Callable, device: int) -> Callable:
    """An uncaptured backward that tells the pool that the captured forward is over."""
    from torch._inductor.cudagraph_trees import get_manager

    def backward(inputs: list[Tensor]) -> list[Tensor]:
        get_manager(device, create_if_none_exists=False).set_to_running_backward()
        return run(inputs)

    backward._boxed_call = True
    return backward
