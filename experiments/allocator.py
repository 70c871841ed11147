"""Memory that a step frees is there for the next step."""

import ctypes
import platform

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
