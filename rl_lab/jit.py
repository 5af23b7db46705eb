"""Compiles plain Python loops with numba, which is imported only when something is compiled."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

from rl_lab.code_folders import make_private, refuse_beside, refuse_code_folder


def compile_kernels(*kernels: Callable) -> SimpleNamespace:
    """Compile functions to machine code; return them under their own names."""
    return SimpleNamespace(**{kernel.__name__: compile_kernel(kernel) for kernel in kernels})


def compile_kernel(kernel: Callable) -> Any:
    """Compile a function to machine code that releases the GIL, and cache it on disk if possible."""
    import numba

    try:
        cached = numba.njit(cache=True, nogil=True)(kernel)
        reason = _refuse_cache(Path(str(cached.stats.cache_path)), kernel)
    except (RuntimeError, OSError) as error:  # there is no folder that the cache could be written to
        reason = str(error)
    if reason is None:
        return cached  # nothing has been loaded yet: that comes with the first call
    warnings.warn(f"{kernel.__name__} is compiled anew by each process: {reason}", stacklevel=2)
    return numba.njit(nogil=True)(kernel)


def compile_linked(kernel: Callable, callees: Sequence[Callable]) -> Any:
    """Compile a function together with those that it calls, whichever files they stand in.

    numba looks only at the file of the function itself to see whether its cache is out of date. So the cache's name
    holds a hash of the callees' files.

    Args:
        callees: all functions that it calls, and those that these call in turn.
    """
    for callee in callees:
        _allow(callee)
    files = sorted({callee.__code__.co_filename for callee in callees})
    stamp = hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()[:12]
    linked = FunctionType(kernel.__code__, kernel.__globals__, kernel.__name__, kernel.__defaults__)
    linked.__module__, linked.__doc__ = kernel.__module__, kernel.__doc__
    linked.__qualname__ = f"{kernel.__qualname__}-{stamp}"
    return compile_kernel(linked)


@cache
def _allow(callee: Callable) -> None:
    """Let compiled functions call this one; it stays callable from Python."""
    from numba.extending import register_jitable

    register_jitable(callee)


def _refuse_cache(folder: Path, kernel: Callable) -> str | None:
    """Return why numba's cache may not be loaded (one line), or None if it may: its files can hold any code.

    A cache beside the source is as safe as the source, unless more users may write to it.

    Raises:
        OSError: the file system refused.
    """
    folder, source = folder.resolve(), Path(kernel.__code__.co_filename).resolve().parent
    if folder.parent == source:
        reason = refuse_beside(folder, source)
    else:
        make_private(folder)
        reason = refuse_code_folder(folder)
    return None if reason is None else f"its cache {str(folder)!r} {reason} (NUMBA_CACHE_DIR names another)"
