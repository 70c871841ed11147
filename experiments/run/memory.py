"""The memory of the process: how much it took, and that what a step frees is there for the next."""

import ctypes
import platform
import re
import sys
from pathlib import Path

import torch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # names and numbers of glibc's malloc.h


def keep_freed_memory() -> None:
    """Tell the C library to keep what is freed, for the whole process; Linux with glibc only.

    A training step frees its gradients and activations, and the next one asks for the same again.
    Large blocks otherwise go back to the system in between, which has to find and clear them anew,
    page by page: with GPT-2 124M on a CPU that takes as long as a good part of the arithmetic.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)  # large blocks too come from the heap
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # which never shrinks


def peak_memory_mib(device: str = "cpu") -> float:
    """The most memory that this process has held, in MiB: of a CUDA device, or of the machine."""
    if torch.device(device).type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return round(int(found[1]) / 2**10, 1)  # Linux; getrusage also counts the launching process
    if sys.platform == "win32":
        return round(_peak_on_windows() / 2**20, 1)
    import resource  # which Windows does not have

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, others kibibytes
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def _peak_on_windows() -> int:
    """The PeakWorkingSetSize of this process's PROCESS_MEMORY_COUNTERS, in bytes."""
    counters = (ctypes.c_size_t * 9)(72)  # their size stands in the first of 72 bytes
    this_process = ctypes.c_void_p(-1)
    ctypes.windll.kernel32.K32GetProcessMemoryInfo(this_process, ctypes.byref(counters), 72)
    return counters[1]
