"""Compiles plain Python loops with numba, which is imported only when something is compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


def compile_kernels(*kernels: Callable) -> SimpleNamespace:
    """Compile functions to machine code; return them under their own names."""
    return SimpleNamespace(**{kernel.__name__: compile_kernel(kernel) for kernel in kernels})


def compile_kernel(kernel: Callable) -> Any:
    """Compile a function to machine code that releases the GIL, and cache it on disk if possible."""
    import numba

    try:
        return numba.njit(cache=True, nogil=True)(kernel)
    except RuntimeError as error:  # there is no folder that the cache could be written to
        warnings.warn(f"{kernel.__name__} is compiled anew by each process: {error}", stacklevel=2)
        return numba.njit(nogil=True)(kernel)
