"""Functions of plain tensors, compiled ahead of time.

What is compiled is kept on disk under a hash of its operations, so that each machine compiles it only once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Hashable, Sequence
from getpass import getuser
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rl_lab.storage.files import sha256
from rl_lab.trees import leaves_of, map_leaves
from rl_lab.types import UsageError

CompiledCall = Callable[[list[Tensor]], list[Tensor]]

# Callers keep the tensors' signature in the key of `compiled`, so torch needn't check sizes on every call.
INDUCTOR_OPTIONS: dict[str, Any] = {"size_asserts": False, "cpp.vec_isa_ok": True}
_COMPILED: dict[Hashable, CompiledCall] = {}


def compiled(key: Hashable, function: Callable[..., Sequence[Tensor]], *trees: Any) -> CompiledCall:
    """Return a compiled function of trees of tensors, which is called with the list of their leaves.

    The function may write into the tensors. It is traced once per process for each key, and compiled once per
    machine for each trace. The code is kept in the folder where torch keeps its own compiled code.

    Args:
        key: identifies the function and the signature of its tensors.
        trees: examples of the arguments; only their signature counts.

    Raises:
        UsageError: the compiled code can't be written to its folder.
    """
    if key not in _COMPILED:
        _COMPILED[key] = _load_or_compile(function, trees)
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


def _load_or_compile(function: Callable[..., Sequence[Tensor]], trees: tuple[Any, ...]) -> CompiledCall:
    leaves = [  # fresh ones: among those given, two may share memory, which tracing would take for a rule
        torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device) for x in leaves_of(trees)
    ]
    traced = _trace(function, trees, leaves)
    folder, name = _library_folder(), _digest(traced, leaves)
    try:
        library = _intact_library(folder, name) or _compile(traced, leaves, folder, name)
    except OSError as error:
        raise _cannot_keep(folder, error) from error
    # A private class of torch: its public loader leaves a copy of the package behind in every process.
    from torch._C._aoti import AOTIModelContainerRunnerCpu

    return AOTIModelContainerRunnerCpu(str(library), 1).run


def _intact_library(folder: Path, name: str) -> Path | None:
    """Return the library that was compiled before, or None if there is none with the bytes that were written."""
    held = folder.glob(f"{name}-*.so")
    return next((path for path in held if path.stem == f"{name}-{sha256(path.read_bytes())}"), None)


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
    folder = _torch_cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"TORCHINDUCTOR_CACHE_DIR {str(folder)!r}: {error.strerror} (allowed: a folder that can be written)"
    return None


def _torch_cache_folder() -> Path:
    return Path(
        os.environ.get("TORCHINDUCTOR_CACHE_DIR") or f"{tempfile.gettempdir()}/torchinductor_{getuser()}"
    )


def _library_folder() -> Path:
    """Return the folder of the lab's libraries, within torch's own cache.

    Raises:
        UsageError: the folder can't be created.
    """
    folder = _torch_cache_folder() / "rl_lab"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_keep(folder, error) from error
    return folder


def _cannot_keep(folder: Path, error: OSError) -> UsageError:
    return UsageError(
        f"TORCHINDUCTOR_CACHE_DIR: compiled code can't be kept in {str(folder)!r}: {error.strerror}"
        " (allowed: a folder with some MB of room, or compile 'no')"
    )


def _compile(traced: torch.fx.GraphModule, leaves: list[Tensor], folder: Path, name: str) -> Path:
    """Compile the graph, write the library under its name and the hash of its bytes, and return its path."""
    from torch._inductor import aoti_compile_and_package

    with tempfile.TemporaryDirectory() as made, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch warns about its own internals
        exported = torch.export.export(traced, tuple(leaves))
        package = str(Path(made) / "made.pt2")
        aoti_compile_and_package(exported, package_path=package, inductor_configs=dict(INDUCTOR_OPTIONS))
        with zipfile.ZipFile(package) as members:
            library = members.read(next(file for file in members.namelist() if file.endswith(".so")))
    path = folder / f"{name}-{sha256(library)}.so"
    with tempfile.NamedTemporaryFile(
        dir=folder, delete=False
    ) as file:  # another process may write the same path
        file.write(library)
    os.replace(file.name, path)
    return path
