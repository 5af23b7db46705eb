"""Functions of bare tensors, compiled once in a process for all that are alike."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Hashable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from rl_lab.td import map_leaves

# A call's own cost counts: at 64-64 these options take two fifths off a gradient step. They spare torch from
# checking the tensors on every call (`compiled` goes by their kind) and whether the CPU runs what it says.
OPTIONS: dict[str, Any] = {"cpp_wrapper": True, "size_asserts": False, "cpp.vec_isa_ok": True}
if hasattr(torch.compiler, "skip_all_guards_unsafe"):  # newer than the oldest torch that we take
    OPTIONS["guard_filter_fn"] = torch.compiler.skip_all_guards_unsafe
_COMPILED: dict[Hashable, Callable[..., Any]] = {}


def compiled(key: Hashable, make: Callable[[], FunctionType]) -> Callable[..., Any]:
    """Compile once in a process for all networks and batches alike; torch keeps it on disk for the next process."""
    if key not in _COMPILED:
        call = make()
        call.__code__ = call.__code__.replace()  # torch finds what it compiled by the code object
        _COMPILED[key] = torch.compile(call, fullgraph=True, dynamic=False, options=OPTIONS)
    return _COMPILED[key]


def kind_of(batch: Any) -> Hashable:
    """Return what compiled code takes for granted of a named tuple of trees: structure, shapes, strides, dtypes,
    device and threads.
    """
    kinds: list[Hashable] = [torch.get_num_threads()]
    for name, field in zip(batch._fields, batch, strict=True):
        kinds.append(name)
        map_leaves(lambda leaf: kinds.append((leaf.shape, leaf.stride(), leaf.dtype, leaf.device)), field)
    return tuple(kinds)


def has_compiler() -> bool:
    """Say whether torch.compile would find its C++ compiler: $CXX, or the system's usual one."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    return shutil.which(os.environ.get("CXX") or usual) is not None


def bare_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters by name, without a graph; they share the module's memory."""
    return {name: p.detach() for name, p in module.named_parameters()}


def calling(module: nn.Module, weights: dict[str, Tensor]) -> Callable[..., Any]:
    """Return the module as a function with these weights in place of its own."""
    return lambda *inputs: torch.func.functional_call(module, weights, inputs)
