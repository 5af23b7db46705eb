"""Compiles plain Python loops with numba, which is imported only when something is compiled."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from rl_lab.code_folders import make_private, refuse_beside, refuse_code_folder


def compile_kernels(*kernels: Callable, calling: Iterable[ModuleType] = ()) -> SimpleNamespace:
    """Compile functions to machine code, as `compile_kernel` does; return them under their own names."""
    calling = tuple(calling)
    return SimpleNamespace(**{kernel.__name__: compile_kernel(kernel, calling) for kernel in kernels})


def compile_kernel(kernel: Callable, calling: Iterable[ModuleType] = (), **options: Any) -> Any:
    """Compile a function to machine code that releases the GIL, and cache it on disk if possible.

    Args:
        calling: other modules whose functions it calls. numba compares a cached function with its own file alone, so
            what is older than one of these is removed from the cache.
        options: of numba.njit.
    """
    import numba

    try:
        cached = numba.njit(cache=True, nogil=True, **options)(kernel)
        folder = Path(str(cached.stats.cache_path))
        reason = _refuse_cache(folder, kernel)
        if reason is None:
            _remove_outdated(folder, kernel, calling)
    except (RuntimeError, OSError) as error:  # there is no folder that the cache could be written to
        reason = str(error)
    if reason is None:
        return cached  # nothing has been loaded yet: that comes with the first call
    warnings.warn(f"{kernel.__name__} is compiled anew by each process: {reason}", stacklevel=2)
    return numba.njit(nogil=True, **options)(kernel)


def is_compiled(kernel: Any) -> bool:
    """Return whether a kernel of `compile_kernel` has its machine code already, in this process or on disk."""
    if kernel.signatures:
        return True
    folder, source = kernel.stats.cache_path, Path(kernel.__code__.co_filename)
    if folder is None:  # compiled anew by each process
        return False
    newest = max(
        (i.stat().st_mtime_ns for i in Path(folder).glob(f"{source.stem}.{kernel.__qualname__}-*.nbi")),
        default=0,
    )
    return newest > source.stat().st_mtime_ns


def _remove_outdated(folder: Path, kernel: Callable, calling: Iterable[ModuleType]) -> None:
    """Remove the cache's index of a function that was compiled before one of the modules it calls was changed.

    Raises:
        OSError: the file system refused.
    """
    changed = [Path(str(module.__file__)).stat().st_mtime_ns for module in calling]
    source = Path(kernel.__code__.co_filename).stem
    for index in folder.glob(f"{source}.{kernel.__qualname__}-*.nbi") if changed else ():
        if index.stat().st_mtime_ns < max(changed):
            index.unlink(missing_ok=True)


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
