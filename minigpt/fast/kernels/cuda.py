"""CUDA C++ that is compiled while the program runs, by NVRTC: no nvcc, no Triton, no C++ compiler.

NVRTC is a library that comes with PyTorch. `torch.cuda._compile_kernel` would call it as well, but
asks for the headers of an installed CUDA toolkit, which these kernels do not need and most machines
do not have; so the compiling is done here and PyTorch loads and launches the result.
"""

import ctypes
import functools
from importlib import resources

import torch
from torch import Tensor

TYPES = {torch.float32: "float", torch.bfloat16: "bf16"}
Names = tuple[tuple[str, torch.dtype | float], ...]
BLOCKS_PER_PROCESSOR = 8  # enough that some compute while others wait for memory


def fits(*tensors: Tensor) -> bool:
    """Whether the kernels take these: fp32 or bf16, not empty, and rows of whole groups of four."""
    return all(
        tensor.dtype in TYPES and tensor.numel() > 0 and tensor.size(-1) % 4 == 0
        for tensor in tensors
    )


def aligned(tensor: Tensor) -> Tensor:
    """The tensor, or a copy, as reads of 16 bytes need it: contiguous, from a multiple of 16."""
    tensor = tensor.contiguous()
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()


def processors(device: torch.device) -> int:
    """How many streaming multiprocessors a GPU has."""
    return torch.cuda.get_device_properties(device).multi_processor_count


def launch(
    file: str,
    name: str,
    names: dict[str, torch.dtype | float],
    grid: tuple[int, int],
    threads: int,
    arguments: list[Tensor | int],
) -> None:
    """Run kernel `name` of `file` on a grid of blocks of that many threads.

    `names` are the types and constants that the file leaves open. A tensor arrives in the kernel as
    a pointer and an int as int; a float would as float or double, depending on PyTorch's version.
    """
    device = arguments[0].device
    with torch.cuda.device(device):
        kernel = _load(file, name, tuple(names.items()), device.index)
        kernel(grid=(*grid, 1), block=(threads, 1, 1), args=arguments)


def source(file: str, names: Names) -> str:
    """The CUDA C++ of a file, after what all files share and the names that it leaves open."""
    folder = resources.files(__package__)
    common, code = (folder.joinpath(part).read_text() for part in ("common.cuh", file))
    lines = [
        f"constexpr float {name} = {value};\n"
        if isinstance(value, float)
        else f"typedef {TYPES[value]} {name};\n"
        for name, value in names
    ]
    return common + "".join(lines) + code


def compile_source(code: str, architecture: str, nvrtc: ctypes.CDLL) -> bytes:
    """Machine code (a cubin) for an architecture such as "sm_90", made by the library `nvrtc`.

    Raises RuntimeError with the compiler's messages when it refuses.
    """
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    options = [f"--gpu-architecture={architecture}".encode(), b"--std=c++17"]
    if nvrtc.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"minigpt.cu", 0, None, None):
        raise RuntimeError("NVRTC cannot begin to compile; expected a working CUDA installation")
    failed = nvrtc.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*options)
    )
    kind = "ProgramLog" if failed else "CUBIN"
    getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size))
    result = ctypes.create_string_buffer(size.value)
    getattr(nvrtc, f"nvrtcGet{kind}")(program, result)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    if failed:
        raise RuntimeError(f"NVRTC refused a kernel for {architecture}:\n{result.value.decode()}")
    return result.raw


@functools.cache
def _load(file: str, name: str, names: Names, device: int):
    """A kernel, ready to be launched on the current device, whose index keys the cache."""
    from torch.cuda._utils import _cuda_load_module, _get_nvrtc_library

    major, minor = torch.cuda.get_device_capability(device)
    cubin = compile_source(source(file, names), f"sm_{major}{minor}", _get_nvrtc_library())
    return _cuda_load_module(cubin, [name])[name]
