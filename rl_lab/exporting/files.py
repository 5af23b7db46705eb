"""Writes acting modules as ONNX and TorchScript files, and runs these files as policies."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rl_lab.exporting.acting import ActingModule, Trained, example_inputs
from rl_lab.exporting.signature import Signature
from rl_lab.seeding import untouched_torch
from rl_lab.storage.files import write_atomically
from rl_lab.types import Array, Decision, Obs, State, UsageError

OPSET = 17  # of ONNX, which runtimes since 2022 know
NEEDED = ("onnx", "onnxruntime")


def require_packages() -> None:
    """Check that what writes and runs ONNX files is installed.

    Raises:
        UsageError: it isn't.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UsageError(
            f"--to onnx needs {' and '.join(missing)}, not installed"
            " (allowed: pip install 'rl_lab[export]', or --to torch)"
        )


def write_onnx(path: Path, trained: Trained, module: ActingModule | None = None) -> None:
    """Write a module as an ONNX file; equal modules give equal bytes.

    Raises:
        NotWritten: the file system refused.
    """
    buffer, signature = io.BytesIO(), trained.signature
    axes = {name: {0: "N"} for name in (*signature.names, *signature.outputs)}
    with quiet(), untouched_torch(), torch.no_grad():
        torch.onnx.export(
            trained.module if module is None else module,
            example_inputs(trained),
            buffer,  # type: ignore[arg-type]  # without the newer exporter it may be one
            input_names=signature.names,
            output_names=signature.outputs,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,  # the newer exporter fixes the batch size of torch's fused cells
        )
    write_atomically(path, buffer.getvalue())


def write_torch(path: Path, trained: Trained, module: ActingModule | None = None) -> None:
    """Write a module as a TorchScript file, which torch runs without the lab.

    Raises:
        NotWritten: the file system refused.
    """
    buffer = io.BytesIO()
    with quiet(), untouched_torch(), torch.no_grad():
        traced = torch.jit.trace(
            trained.module if module is None else module, example_inputs(trained), check_trace=False
        )
        torch.jit.save(torch.jit.freeze(traced.eval()), buffer)
    write_atomically(path, buffer.getvalue())


# Runs a file: maps inputs by name to the outputs in the order of the signature.
Runner = Callable[[Mapping[str, Array]], list[Array]]


def onnx_runner(path: Path, threads: int = 1) -> Runner:
    """Return what runs an ONNX file in onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    taken = {item.name for item in session.get_inputs()}  # an input that decides nothing may be missing
    return lambda inputs: session.run(None, {name: x for name, x in inputs.items() if name in taken})


def torch_runner(path: Path) -> Runner:
    """Return what runs a TorchScript file on the CPU."""
    with quiet():
        module: Any = torch.jit.load(str(path), map_location="cpu")

    @torch.no_grad()
    def run(inputs: Mapping[str, Array]) -> list[Array]:
        return [out.numpy() for out in module(*map(torch.from_numpy, inputs.values()))]

    return run


def runner_of(path: Path) -> Runner:
    """Return what runs a file, by its suffix."""
    return onnx_runner(path) if path.suffix == ".onnx" else torch_runner(path)


class ExportedPolicy:
    """Acts by an exported file, as evaluation and films take policies."""

    def __init__(self, run: Runner, signature: Signature):
        self._run, self._signature = run, signature

    def initial_state(self, num_envs: int) -> State:
        """Return a carry of zeros; () without one."""
        return tuple(np.zeros((num_envs, *part.shape), part.dtype) for part in self._signature.carry)

    def outputs(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> list[Array]:
        """Return actions, scores and the parts of the next carry."""
        return self._run(self._signature.arrays(obs, state, is_first, mask))

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Return the file's actions [N, ...]."""
        action, _, *carry = self.outputs(obs, state, is_first, mask)
        return Decision(action, tuple(carry))

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return nothing: a file knows no values on the scale of rewards."""
        return {}


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what tracer and quantiser say of every module, such as that constants are constant."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
