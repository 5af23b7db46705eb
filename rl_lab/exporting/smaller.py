"""Smaller policies: weights of 8 bits, small weights set to 0, and a small network that imitates the policy."""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rl_lab.checks import show_space
from rl_lab.datasets.record import record_dataset
from rl_lab.environments.actions import counts_of, leaf_spaces
from rl_lab.environments.make import make_env
from rl_lab.exporting.acting import ActingModule, NetworkScorer, Trained, read_trained
from rl_lab.exporting.files import quiet
from rl_lab.nn.ensembles import HeadsLinear, Prior
from rl_lab.storage.files import write_atomically
from rl_lab.training.launch import learn
from rl_lab.training.registry import config_of
from rl_lab.types import Array, UsageError

WEIGHTED = (nn.Linear, nn.Conv2d, nn.RNNBase, HeadsLinear)
NOT_ACTED_BY = ("weight_sigma", "bias")  # of noisy layers, and of several heads [H, out]
STUDENT_FIELDS = (
    "encoder",
    "channels",
    "pooling",
    "image_scale",
    "memory",
    "context",
    "normalise_observations",
)
QUANTISED = ("Conv", "Gemm", "MatMul")


# Weights of 8 bits ---------------------------------------------------------------------------------------


def write_int8(path: Path, whole: Path, calibration: Sequence[Mapping[str, Array]]) -> str:
    """Write an ONNX file with weights of 8 bits; return how, in a few words.

    A network without convolutions keeps its activations in float32 between layers and scales each by its own range
    (dynamic). With convolutions the ranges are those of recorded inputs (static).

    Args:
        calibration: inputs by name, of single steps.

    Raises:
        NotWritten: the file system refused.
    """
    import onnx
    from onnxruntime import quantization

    kinds = {node.op_type for node in onnx.load(whole).graph.node}
    with tempfile.TemporaryDirectory() as folder, quiet():
        made = str(Path(folder) / "int8.onnx")
        if "Conv" in kinds:
            quantization.quantize_static(
                str(whole),
                made,
                _Reader(calibration),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED),
                weight_type=quantization.QuantType.QInt8,
            )
            how = f"static, calibrated on {len(calibration)} observations"
        else:
            quantization.quantize_dynamic(
                str(whole), made, weight_type=quantization.QuantType.QInt8, per_channel=True
            )
            how = "dynamic"
        write_atomically(path, Path(made).read_bytes())
    return how


class _Reader:
    """Hands recorded inputs to onnxruntime's calibration, one after the other."""

    def __init__(self, inputs: Sequence[Mapping[str, Array]]):
        self._left = iter(inputs)

    def get_next(self) -> dict[str, Array] | None:
        return next((dict(item) for item in self._left), None)


# Pruning -------------------------------------------------------------------------------------------------


def pruned(trained: Trained, share: float) -> tuple[ActingModule, str]:
    """Return the policy's module with the smallest weights of each layer set to 0, and how many they are, in words.

    Biases, normalisations and the last layers of the head, which are small and decide, stay as they are.

    Raises:
        UsageError: `share` isn't in (0, 1), or there are no weights.
    """
    if not 0 < share < 1:
        raise UsageError(f"prune must be above 0 and below 1, got {share}")
    module = copy.deepcopy(trained.module)
    weights = _prunable(module)
    for weight in weights:
        count = int(share * weight.numel())
        smallest = weight.abs().flatten().argsort(stable=True)[:count]
        weight.view(-1)[smallest] = 0.0
    zeros, whole = sum(int((w == 0).sum()) for w in weights), sum(w.numel() for w in weights)
    return module, f"{zeros:,} of {whole:,} hidden weights are 0"


def require_network(trained: Trained, option: str) -> None:
    """Check that a policy has layers that can be made smaller.

    Raises:
        UsageError: it is a table, has no hidden layer, or is to be quantised with several heads.
    """
    if option == "--int8" and any(isinstance(module, HeadsLinear) for module in trained.module.modules()):
        raise UsageError("--int8 can't store the weights of several heads (allowed: without --int8)")
    if not _prunable(trained.module):
        raise UsageError(
            f"{option} needs a network with a hidden layer, which {trained.description.agent}'s policy isn't"
            f" (allowed: without {option})"
        )


def _prunable(module: ActingModule) -> list[torch.Tensor]:
    """Return the weights of all layers but the last ones, whose outputs decide."""
    if not isinstance(module.scorer, NetworkScorer):
        return []
    heads = module.scorer.head, *(m.head for m in module.modules() if isinstance(m, Prior))
    last = {layer for head in heads for layer in _last_layers(head)}
    layers = [m for m in module.modules() if isinstance(m, WEIGHTED) and id(m) not in last]
    return [weight for layer in layers for weight in _weights(layer)]


def _last_layers(head: nn.Module) -> set[int]:
    """Return the ids of the modules in a head that no other follows, in each of its streams."""
    followed = {
        id(m) for chain in head.modules() if isinstance(chain, nn.Sequential) for m in list(chain)[:-1]
    }
    return {id(m) for m in head.modules()} - followed


def _weights(layer: nn.Module) -> list[torch.Tensor]:
    """Return the weights that a layer acts by: without biases, and without the size of learned noise."""
    return [
        p.data for name, p in layer.named_parameters(recurse=False) if p.ndim > 1 and name not in NOT_ACTED_BY
    ]


# Distillation --------------------------------------------------------------------------------------------


def require_student(trained: Trained, hidden: Sequence[int]) -> None:
    """Check that a clone can imitate the policy.

    Raises:
        UsageError: it can't, or a width isn't positive.
    """
    if any(width < 1 for width in hidden):
        raise UsageError(f"distil needs widths of at least 1, got {' '.join(map(str, hidden))}")
    space = trained.problem.spec.action_space
    if any(counts_of(leaf) is None for leaf in leaf_spaces(space)):
        raise UsageError(
            f"--distil: clone imitates discrete actions alone, not {show_space(space)} (allowed: --int8, --prune)"
        )


def distil(trained: Trained, hidden: Sequence[int], folder: Path, *, episodes: int, steps: int) -> Trained:
    """Return a small network that imitates the policy: agent `clone` on episodes that the policy plays.

    Args:
        hidden: widths of its layers; with a memory the last one is the memory's too.
        folder: a new one, for the recorded episodes and the run.
        episodes: how many are recorded.
        steps: of the clone's training.

    Raises:
        UsageError: the folder holds a dataset or a run, or the clone can't take the action space.
        NotWritten: the file system refused.
    """
    config = trained.description.config
    record_dataset(
        trained.policy,
        partial(make_env, config.env_id, **config.env_arguments),
        folder / "episodes",
        episodes=episodes,
        seed=config.seed,
        max_episode_steps=config.eval_max_steps,
        provenance={"agent": trained.description.agent, "weights_sha256": trained.weights_sha256},
    )
    found = learn(
        "clone",
        config.env_id,
        **config.env_arguments,
        dataset=str(folder / "episodes"),
        run_dir=str(folder / "run"),
        seed=config.seed,
        total_steps=steps,
        eval_episodes=0,
        video_episodes=0,
        pictures=False,
        wandb="disabled",
        threads=config.threads,
        **_student_fields(trained, hidden),
    )
    return read_trained(found.run_dir)


def _student_fields(trained: Trained, hidden: Sequence[int]) -> dict[str, Any]:
    taken = {field.name for field in dataclasses.fields(config_of("clone"))}
    mine = trained.description.fields
    fields = {name: mine[name] for name in STUDENT_FIELDS if name in mine and name in taken}
    if fields.get("memory", "none") != "none":
        fields["memory_size"] = int(hidden[-1])
    if fields.get("memory") != "attention":
        fields.pop("context", None)
    return fields | {"hidden": tuple(int(width) for width in hidden)}
