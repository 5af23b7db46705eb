"""The functions of this package as machine code."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from inspect import getmembers, isfunction
from types import ModuleType

from rl_lab.jit import compile_kernel
from rl_lab.mdp.learning import exploring, planning, records, rules, step_sizes, traces, windows

MODULES: tuple[ModuleType, ...] = (records, step_sizes, exploring, rules, traces, windows, planning)


@lru_cache(maxsize=1)
def make_callable() -> None:
    """Let compiled functions call those of this package; call it before compiling one that does."""
    from numba.extending import register_jitable

    for module in MODULES:
        for function in _own_functions(module):
            register_jitable(forceinline=True)(function)


def _own_functions(module: ModuleType) -> list[Callable]:
    return [f for _, f in getmembers(module, isfunction) if f.__module__ == module.__name__]


@lru_cache(maxsize=64)
def machine_code(function: Callable) -> Callable:
    """Return one of this package's functions as machine code, which learns the same numbers; it is compiled once."""
    make_callable()
    return compile_kernel(function, MODULES)
