"""Launches the project's CUDA kernels on the CPU: the same source and arguments, through g++."""

import ctypes
import functools
import subprocess
import tempfile
from pathlib import Path

from torch import Tensor

from minigpt.fast.kernels import cuda

HEADER = Path(__file__).parent / "cuda_on_cpu.h"
RUN = """
extern "C" void run(unsigned x, unsigned y, unsigned threads, void** arguments) {
    launch(%s, {x, y}, threads, arguments);
}
"""


def launch(file, name, names, grid, threads, arguments) -> None:
    """In the place of `cuda.launch`."""
    values = [_value(argument) for argument in arguments]
    pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
    _build(file, name, tuple(names.items())).run(*grid, threads, pointers)


def _value(argument: Tensor | int):
    """The C value that PyTorch makes of an argument for a CUDA kernel."""
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_int(argument)


@functools.cache
def _build(file: str, name: str, names: cuda.Names) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        code, library = Path(folder, "kernel.cpp"), Path(folder, "kernel.so")
        code.write_text(HEADER.read_text() + cuda.source(file, names) + RUN % name)
        options = ["-std=c++17", "-O1", "-shared", "-fPIC", "-pthread", "-Wall", "-Wextra"]
        subprocess.run(["g++", *options, str(code), "-o", str(library)], check=True)
        return ctypes.CDLL(str(library))
