"""torch.compile for training and decoding, on CUDA kernels that are not Triton's.

TorchDynamo turns a function into a graph of operations. Our backend, "minigpt",

1. puts the operators of `kernels/` in the place of the chains that they fuse and leaves all else to
   the kernels that PyTorch brings along (cuBLASLt, flash or cuDNN attention);
2. has AOTAutograd differentiate the result;
3. captures forward and backward as CUDA graphs, so that each costs the CPU one launch.

On the CPU the operators have their reference implementations and nothing is captured.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, fx
from torch.nn.functional import pad

from minigpt.errors import InputError
from minigpt.model import GPT

Backend = Literal["minigpt", "inductor", "eager"]
BACKENDS = get_args(Backend)
SHAPES = 256  # how many shapes of one function are compiled; PyTorch gives up after 8, and warns
ROWS, TOKENS = 8, 16  # buckets of `compile_model`: inputs are padded to multiples of these

Compilable = TypeVar("Compilable", bound=Callable)


def compile(function: Compilable, backend: str | None = None) -> Compilable:
    """A function, method or module that computes the same, faster once it has seen a shape.

    Compile what is called: a training step calls `model.hidden`, so compiling `model` would do
    nothing for it. Each shape is compiled and, on CUDA, captured by itself: let lengths come in a
    few buckets. What a captured function returns, the gradients of its parameters included, is
    overwritten by its next call. To add up gradients over several calls, let `.grad` be there
    before the first: `zero_grad(set_to_none=False)`.

    `backend` is one of BACKENDS: "minigpt", described above; "inductor", PyTorch's own, which
    generates Triton on CUDA and C++ on the CPU; "eager", which gives the function back as it is.
    None is "minigpt" on a machine with an NVIDIA GPU, else "eager". Raises InputError for others.
    """
    backend = _checked(backend)
    if backend == "eager":
        return function
    _prepare_dynamo()
    return torch.compile(function, backend=backend, dynamic=False)


def compile_model(model: GPT, backend: str | None = None) -> None:
    """Compile what training and evaluation call, `model.hidden`, in place.

    Batches come in many shapes, so inputs are padded to buckets; causal attention hides padding on
    the right, and rows know nothing of each other. Sampling, which has a cache, stays as it is.
    `backend` is that of `compile`.
    """
    if _checked(backend) != "eager":
        model.hidden = _Bucketed(model, backend)


class _Bucketed:
    """`GPT.hidden`, compiled, for ids of any shape (B, T)."""

    def __init__(self, model: GPT, backend: str | None):
        self.model, self.backend = model, backend
        self.hidden = type(model).hidden.__get__(model)
        self.compiled = compile(self.hidden, backend)

    def __call__(self, ids: Tensor, cache=None) -> Tensor:
        (B, T), n_positions = ids.shape, self.model.config.n_positions
        if cache is not None or n_positions < T:  # which `hidden` refuses in its own words
            return self.hidden(ids, cache)
        longest = min(T + -T % TOKENS, n_positions)
        return self.compiled(pad(ids, (0, longest - T, 0, -B % ROWS)))[:B, :T]

    def __reduce__(self):
        """A copy is compiled anew: what is compiled for a model would go on calling it."""
        return _Bucketed, (self.model, self.backend)


def triton_kernels(run: Callable[[], object]) -> list[str]:
    """Names of the Triton kernels that `run` launches on the GPU, in replayed graphs as well.

    The list is empty for everything that the backend "minigpt" compiled. Kernels are known by the
    prefix that TorchInductor gives to all that it generates.
    """
    with torch.profiler.profile() as profile:
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    names = {event.name for event in profile.events()}
    return sorted(name for name in names if name.startswith("triton_"))


def _checked(backend: str | None) -> str:
    """The backend, chosen where it is None; InputError for an unknown one."""
    if backend is None:
        nvidia = torch.cuda.is_available() and torch.version.cuda is not None  # or else AMD's
        return "minigpt" if nvidia else "eager"
    if backend not in BACKENDS:
        raise InputError(f"there is no backend {backend!r}; expected one of {', '.join(BACKENDS)}")
    return backend


@functools.cache
def _prepare_dynamo() -> None:
    """Make the backend known to torch.compile; only now, as TorchDynamo takes seconds to import."""
    from torch._dynamo import config
    from torch._dynamo.backends.registry import register_backend
    from torch._inductor.cudagraph_trees import reset_cudagraph_trees

    _backend.reset = reset_cudagraph_trees  # torch.compiler.reset() then frees what was captured
    register_backend(_backend, name="minigpt")
    config.recompile_limit = max(config.recompile_limit, SHAPES)


def _backend(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> Callable:
    """What torch.compile calls: a graph and example inputs, to a function of such inputs."""
    from torch._dynamo.backends.common import aot_autograd
    from torch._dynamo.backends.debugging import boxed_nop

    from minigpt.fast.cuda_graphs import capturing
    from minigpt.fast.kernels.fuse import fuse

    fuse(graph)
    on_cuda = any(isinstance(tensor, Tensor) and tensor.is_cuda for tensor in inputs)
    compilers = capturing() if on_cuda else {"fw_compiler": boxed_nop}
    return aot_autograd(**compilers)(graph, inputs)
