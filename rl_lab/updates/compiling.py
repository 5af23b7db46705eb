"""Functions of bare tensors, compiled ahead of time: once on a machine for all that come to the same operations."""

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

# `compiled` goes by the tensors' kind, so that torch needs not check them on every call.
OPTIONS: dict[str, Any] = {"size_asserts": False, "cpp.vec_isa_ok": True}
_COMPILED: dict[Hashable, CompiledCall] = {}


def compiled(key: Hashable, function: Callable[..., Sequence[Tensor]], *trees: Any) -> CompiledCall:
    """Compile a function of trees of tensors, to be called with a list of their leaves.

    The function may write into the tensors. It is traced once in a process for each key, and compiled once on a
    machine for each trace: the code is kept in the folder in which torch keeps its own.

    Args:
        key: what tells it apart from other functions, and the kind of its tensors from others.
    """
    if key not in _COMPILED:
        _COMPILED[key] = _load_or_compile(function, trees)
    return _COMPILED[key]


def kind_of(tree: Any) -> Hashable:
    """Return what compiled code takes for granted: shapes, strides, dtypes, device, threads, and each leaf's place."""
    return torch.get_num_threads(), _kind_of(tree)


def _kind_of(tree: Any) -> Hashable:
    if isinstance(tree, Tensor):
        return tree.shape, tree.stride(), tree.dtype, tree.device
    if isinstance(tree, dict):  # in its order, which is that of the leaves
        return tuple((key, _kind_of(part)) for key, part in tree.items())
    return None if tree is None else (type(tree), *map(_kind_of, tree))


def has_compiler() -> bool:
    """Say whether torch would find its C++ compiler: $CXX, or the system's usual one."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    return shutil.which(os.environ.get("CXX") or usual) is not None


def bare_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters by name, without a graph; they share the module's memory."""
    return {name: p.detach() for name, p in module.named_parameters()}


def calling(module: nn.Module, weights: dict[str, Tensor]) -> Callable[..., Any]:
    """Return the module as a function with these weights in place of its own."""
    return lambda *inputs: torch.func.functional_call(module, weights, inputs)


# Tracing, compiling, loading -------------------------------------------------------------------------


def _load_or_compile(function: Callable[..., Sequence[Tensor]], trees: tuple[Any, ...]) -> CompiledCall:
    leaves = [  # none of them another's twin, as those that are given may be this once
        torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device) for x in leaves_of(trees)
    ]
    traced = _trace(function, trees, leaves)
    folder, name = _folder(), _digest(traced, leaves)
    try:
        library = _sound_library(folder, name) or _compile(traced, leaves, folder, name)
    except OSError as error:
        raise _not_kept(folder, error) from error
    # A class of torch's own insides: what it has for packages leaves its copy of one behind in each process.
    from torch._C._aoti import AOTIModelContainerRunnerCpu

    return AOTIModelContainerRunnerCpu(str(library), 1).run


def _sound_library(folder: Path, name: str) -> Path | None:
    """Return the library that was compiled before, if its bytes are those that were written."""
    held = folder.glob(f"{name}-*.so")
    return next((path for path in held if path.stem == f"{name}-{sha256(path.read_bytes())}"), None)


def _trace(
    function: Callable[..., Sequence[Tensor]], trees: tuple[Any, ...], leaves: list[Tensor]
) -> torch.fx.GraphModule:
    """Return the function of leaves as a graph of torch's operations."""
    from torch.fx.experimental.proxy_tensor import make_fx  # slow to import

    def flat(*leaves: Tensor) -> list[Tensor]:
        rest = iter(leaves)
        return list(function(*map_leaves(lambda _: next(rest), trees)))

    with torch.no_grad():
        return make_fx(flat, tracing_mode="fake")(*leaves)


def _digest(traced: torch.fx.GraphModule, leaves: list[Tensor]) -> str:
    """Return the name of what is compiled: equal for equal operations on equal kinds with equal tools."""
    constants = [
        (name, kind_of(value), sha256(value.numpy().tobytes())) for name, value in traced.named_buffers()
    ]
    parts = (traced.code, constants, kind_of(tuple(leaves)), OPTIONS, torch.__version__, _processor())
    return sha256(repr(parts).encode())


def _processor() -> str:
    """Return what the processor can do; code for one that can more doesn't run here."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    flags = sorted({line for line in lines if line.startswith(("flags", "Features"))})
    return torch.backends.cpu.get_cpu_capability() + hashlib.sha256("".join(flags).encode()).hexdigest()


def refuse_folder() -> str | None:
    """Say why torch can't have its folder for compiled code, which any optimiser makes it ask for; None if it can."""
    folder = _torchs_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"TORCHINDUCTOR_CACHE_DIR {str(folder)!r}: {error.strerror} (allowed: a folder that can be written)"
    return None


def _torchs_folder() -> Path:
    return Path(
        os.environ.get("TORCHINDUCTOR_CACHE_DIR") or f"{tempfile.gettempdir()}/torchinductor_{getuser()}"
    )


def _folder() -> Path:
    """Return the folder beside torch's own compiled code."""
    folder = _torchs_folder() / "rl_lab"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_kept(folder, error) from error
    return folder


def _not_kept(folder: Path, error: OSError) -> UsageError:
    return UsageError(
        f"TORCHINDUCTOR_CACHE_DIR: compiled code can't be kept in {str(folder)!r}: {error.strerror}"
        " (allowed: a folder with some MB of room, or compile 'no')"
    )


def _compile(traced: torch.fx.GraphModule, leaves: list[Tensor], folder: Path, name: str) -> Path:
    """Write the library, named after what it does and its bytes, and return its path."""
    from torch._inductor import aoti_compile_and_package

    with tempfile.TemporaryDirectory() as made, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's, of its own insides
        exported = torch.export.export(traced, tuple(leaves))
        package = str(Path(made) / "made.pt2")
        aoti_compile_and_package(exported, package_path=package, inductor_configs=dict(OPTIONS))
        with zipfile.ZipFile(package) as members:
            library = members.read(next(file for file in members.namelist() if file.endswith(".so")))
    path = folder / f"{name}-{sha256(library)}.so"
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:  # another process may write the same
        file.write(library)
    os.replace(file.name, path)
    return path
