"""Functions of plain tensors, compiled ahead of time.

What is compiled is kept on disk under a hash of its operations, so that each user of a machine compiles it only once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rl_lab.storage.errors import NotWritten
from rl_lab.storage.files import sha256
from rl_lab.trees import leaves_of, map_leaves
from rl_lab.updates.compile_process import CompilationStopped, compile_in_process
from rl_lab.updates.libraries import (
    VARIABLE,
    cannot_keep,
    find_library,
    keep_library,
    library_folder,
    torch_folder,
)

CompiledCall = Callable[[list[Tensor]], list[Tensor]]

# Callers keep the tensors' signature in the key of `compiled`, so torch needn't check sizes on every call.
INDUCTOR_OPTIONS: dict[str, Any] = {"size_asserts": False, "cpp.vec_isa_ok": True}
_COMPILED: dict[Hashable, CompiledCall] = {}


def never() -> bool:
    """Return False: nothing asks to stop."""
    return False


def compiled(
    key: Hashable,
    function: Callable[..., Sequence[Tensor]],
    *trees: Any,
    should_stop: Callable[[], bool] = never,
) -> CompiledCall:
    """Return a compiled function of trees of tensors, which is called with the list of their leaves.

    The function may write into the tensors. It is traced once per process for each key, and compiled once per
    user of a machine for each trace.

    Args:
        key: identifies the function and the signature of its tensors.
        trees: examples of the arguments; only their signature counts.
        should_stop: asked many times a second while it is compiled.

    Raises:
        UsageError: the compiled code can't be written to its folder.
        CompilationStopped: `should_stop` said so.
        CompilationFailed: the compiler failed.
    """
    if key not in _COMPILED:
        _COMPILED[key] = _load_or_compile(function, trees, should_stop)
    return _COMPILED[key]


def signature_of(tree: Any) -> Hashable:
    """Return what compiled code relies on: the tree's structure, its tensors' layouts, and the number of threads."""
    return torch.get_num_threads(), _signature_of(tree)


def _signature_of(tree: Any) -> Hashable:
    if isinstance(tree, Tensor):
        return tree.shape, tree.stride(), tree.dtype, tree.device
    if isinstance(tree, dict):  # in the dict's own order, which is that of the leaves
        return tuple((key, _signature_of(part)) for key, part in tree.items())
    return None if tree is None else (type(tree), *map(_signature_of, tree))


def has_compiler() -> bool:
    """Return whether torch would find a C++ compiler: $CXX, or the system's usual one."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    return shutil.which(os.environ.get("CXX") or usual) is not None


def bare_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters, of any shapes, by name, detached from autograd; they share the module's memory."""
    return {name: p.detach() for name, p in module.named_parameters()}


def with_weights(module: nn.Module, weights: dict[str, Tensor]) -> Callable[..., Any]:
    """Return a function that calls the module with these weights in place of its own."""
    return lambda *inputs: torch.func.functional_call(module, weights, inputs)


# Tracing, compiling, loading -------------------------------------------------------------------------


def _load_or_compile(
    function: Callable[..., Sequence[Tensor]], trees: tuple[Any, ...], should_stop: Callable[[], bool]
) -> CompiledCall:
    leaves = _fresh_leaves(trees)
    graph = _trace(function, trees, leaves)
    name = _digest(graph, leaves)
    try:
        library = find_library(name) or keep_library(name, _compile(graph, leaves, should_stop))
    except (OSError, NotWritten) as error:
        raise cannot_keep(library_folder(), error) from error
    # A private class of torch: its public loader leaves a copy of the package behind in every process.
    from torch._C._aoti import AOTIModelContainerRunnerCpu

    return AOTIModelContainerRunnerCpu(str(library), 1).run


def traced(function: Callable[..., Sequence[Tensor]], *trees: Any) -> torch.fx.GraphModule:
    """Return a function of trees of tensors as torch's operations on their leaves, uncompiled."""
    return _trace(function, trees, _fresh_leaves(trees))


def _fresh_leaves(trees: tuple[Any, ...]) -> list[Tensor]:
    """Return tensors like the leaves: among those given, two may share memory, which tracing would take for a rule."""
    return [
        torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device) for x in leaves_of(trees)
    ]


def _trace(
    function: Callable[..., Sequence[Tensor]], trees: tuple[Any, ...], leaves: list[Tensor]
) -> torch.fx.GraphModule:
    """Return the function as a graph of torch's operations on the leaves."""
    from torch.fx.experimental.proxy_tensor import make_fx  # slow to import

    def flat(*leaves: Tensor) -> list[Tensor]:
        rest = iter(leaves)
        return list(function(*map_leaves(lambda _: next(rest), trees)))

    with torch.no_grad():
        return make_fx(flat, tracing_mode="fake")(*leaves)


def _digest(traced: torch.fx.GraphModule, leaves: list[Tensor]) -> str:
    """Return the library's name: a hash of the operations, the tensors' signatures, options, torch and processor."""
    constants = [
        (name, signature_of(value), sha256(value.numpy().tobytes())) for name, value in traced.named_buffers()
    ]
    parts = (
        traced.code,
        constants,
        signature_of(tuple(leaves)),
        INDUCTOR_OPTIONS,
        torch.__version__,
        _processor(),
    )
    return sha256(repr(parts).encode())


def _processor() -> str:
    """Return the processor's capabilities: code compiled for a more capable processor wouldn't run here."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    flags = sorted({line for line in lines if line.startswith(("flags", "Features"))})
    return torch.backends.cpu.get_cpu_capability() + hashlib.sha256("".join(flags).encode()).hexdigest()


def refuse_cache_folder() -> str | None:
    """Return why torch can't use its folder for compiled code, or None if it can.

    Making any torch optimiser needs this folder, even if nothing is compiled.
    """
    folder = torch_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{VARIABLE} {str(folder)!r}: {error.strerror} (allowed: a folder that can be written)"
    return None


def _compile(traced: torch.fx.GraphModule, leaves: list[Tensor], should_stop: Callable[[], bool]) -> bytes:
    """Compile the graph and return its library.

    Raises:
        CompilationStopped: `should_stop` said so.
        CompilationFailed: the compiler failed.
        OSError: the file system refused.
    """
    if should_stop():
        raise CompilationStopped
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch warns about its own internals
        exported = torch.export.export(traced, tuple(leaves))
        return compile_in_process(exported, INDUCTOR_OPTIONS, library_folder(), should_stop)
