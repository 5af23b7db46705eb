"""The weights of K equal networks in joint tensors [K, ...], and gradient steps on all of them at once.

`torch.func.vmap` turns the arithmetic of one network into that of all. Each network goes on as it was, since its own
weights and its optimiser's state are rows of the joint tensors: what acts, saves or evaluates needn't know of others.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rl_lab.nn.encoders import has_convolutions
from rl_lab.problem import Problem
from rl_lab.trees import leaves_of, map_leaves
from rl_lab.updates.compiling import signature_of, traced, with_weights
from rl_lab.updates.gradients import Clip, flush_subnormals

Gradients = dict[str, Tensor]
_TRACED: dict[Hashable, Any] = {}


STACKABLE_VALUES: dict[str, Any] = {
    "memory": "none", "dropout": 0.0, "normalise_observations": False, "random_shift": 0, "l1": 0.0, "l2": 0.0,
    "weight_decay": 0.0,
}  # fmt: skip
"""The only values with which networks learn together: their weights are all that they have of their own."""


def refuse_stacking(config: Any, problem: Problem, **more: Any) -> str | None:
    """Return why agents of this configuration can't learn as one program (one line), or None if they can.

    Convolutions are left to GPUs: on a CPU nothing is gained by those of several networks at once,
    and Atari's first layer takes longer.

    Args:
        more: further fields, each with the only value that is allowed.
    """
    for name, value in (STACKABLE_VALUES | more).items():
        if (given := getattr(config, name)) != value:
            return f"{name} {given!r} can't be batched (allowed: {value!r})"
    space = problem.spec.observation_space
    if problem.device == "cpu" and has_convolutions(config.encoder, space, config.channels):
        return (
            f"encoder {config.encoder!r} has convolutions, which take longer as one program on device 'cpu' "
            "(allowed: device 'cuda')"
        )
    return None


class Stack:
    """K equal networks and their optimisers, joined.

    From now on the weights of each network are views of row k of the joint ones, and so is its optimiser's state once
    there is one.

    Args:
        networks: of the same structure; the values of their weights are kept.
        optimisers: each one's own, which is no longer asked to step.
        make_optimiser: makes the one that steps, given parameters; it must treat each entry of a weight by itself.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        optimisers: Sequence[torch.optim.Optimizer],
        make_optimiser: Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer],
    ):
        self._networks, self._optimisers = list(networks), list(optimisers)
        self.weights = stack_weights(networks)
        self.parameters = [nn.Parameter(weight) for weight in self.weights.values()]  # the same memory
        self.optimiser = make_optimiser(self.parameters)
        self._shared = False  # whether the networks' own optimisers show the joint state

    def apply(self, gradients: Gradients, number: int) -> None:
        """Let the optimiser take gradient step `number` with gradients [K, ...] by name."""
        for parameter, gradient in zip(self.parameters, gradients.values(), strict=True):
            alike = gradient.stride() == parameter.stride()  # which torch's fused optimisers rely on
            parameter.grad = gradient if alike else torch.empty_like(parameter).copy_(gradient)
        self.optimiser.step()
        flush_subnormals(self.optimiser, number)
        self.share_state()

    def share_state(self) -> None:
        """Let the networks' own optimisers show their rows of the joint state, once there is one."""
        if self._shared:
            return
        for k, optimiser in enumerate(self._optimisers):
            own = [p for group in optimiser.param_groups for p in group["params"]]
            for parameter, joint in zip(own, self.parameters, strict=True):
                state = self.optimiser.state[joint]
                optimiser.state[parameter] = {n: _row(x, joint, k) for n, x in state.items()}
        self._shared = True

    def release(self, k: int) -> None:
        """Give network k and its optimiser memory of their own: they stay as they are now."""
        release_weights(self._networks[k])
        optimiser = self._optimisers[k]
        for parameter, state in list(optimiser.state.items()):
            optimiser.state[parameter] = {n: _copied(x) for n, x in state.items()}


def _row(value: Any, joint: Tensor, k: int) -> Any:
    """Return network k's part of a joint parameter's state: a row of it, or what all networks share."""
    rows = isinstance(value, Tensor) and value.shape == joint.shape
    return value[k] if rows else value


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def stack_weights(networks: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Return the joint weights [K, ...] of equal networks, by name, of which their own become views."""
    parameters = [dict(network.named_parameters()) for network in networks]
    joint = {name: torch.stack([own[name].detach() for own in parameters]) for name in parameters[0]}
    for k, own in enumerate(parameters):
        for name, parameter in own.items():
            parameter.data = joint[name][k]
    return joint


def release_weights(network: nn.Module) -> None:
    """Give a network memory of its own again."""
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()


# Arithmetic on all networks ----------------------------------------------------------------------------


def over_networks(function: Callable[..., Any], trees: tuple[Any, ...], shared: int) -> Callable[..., Any]:
    """Return a function of K networks' trees, given one of a single network's; its outputs are [K, ...].

    Args:
        function: takes trees of tensors.
        trees: examples of its arguments, whose tensors are [K, ...], but for the first `shared` arguments.
        shared: how many arguments, from the first on, are the same for all networks.
    """

    def joint(*arguments: Any) -> Any:
        same, own = arguments[:shared], arguments[shared:]

        def single(*leaves: Tensor) -> Any:
            rest = iter(leaves)
            return function(*same, *map_leaves(lambda _: next(rest), own))

        return torch.func.vmap(single)(*leaves_of(own))

    return joint


def traced_call(
    key: Hashable, function: Callable[..., Sequence[Tensor]], *trees: Any
) -> Callable[..., Sequence[Tensor]]:
    """Return a function of the leaves of trees as a program of torch's operations, which passes on no gradients.

    It is traced once for each key and signature: `vmap` itself would take longer than the arithmetic.
    """
    key = key, signature_of(trees)
    if key not in _TRACED:
        graph = traced(function, *trees)
        graph.graph.eliminate_dead_code()
        graph.recompile()
        _TRACED[key] = _script(graph, tuple(map(torch.clone, leaves_of(trees))))
    return _TRACED[key]


def joint_forward(network: nn.Module, stack: Stack) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Return a function from obs [K, N, ...] to what each of K memoryless networks makes of them, [K, N, ...] each.

    Args:
        network: provides the structure of the networks; its last output, a carry, is left out.
    """

    def single(weights: dict[str, Tensor], obs: Tensor) -> list[Tensor]:
        return list(with_weights(network, weights)(obs)[:-1])

    device, key = stack.parameters[0].device, ("forward", repr(network))

    def run(obs: np.ndarray) -> list[np.ndarray]:
        trees = stack.weights, torch.as_tensor(obs, device=device)
        call = traced_call(key, over_networks(single, trees, 0), *trees)
        with torch.no_grad():
            return [output.cpu().numpy() for output in call(*leaves_of(trees))]

    return run


def _script(graph: torch.fx.GraphModule, examples: tuple[Tensor, ...]) -> Callable[..., Sequence[Tensor]]:
    """Return a graph as a TorchScript program, or as it is if one of its operations can't be part of such a program.

    Args:
        examples: of its arguments, which it may change.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter(
            "ignore"
        )  # about values that the operations might depend on, and TorchScript's age
        try:
            program = torch.jit.trace(graph, examples, check_trace=False)
        except RuntimeError:  # the backward pass of layer normalisation, for one
            return graph
    return _unfused(program) if examples[0].is_cuda else program


def _unfused(program: Callable[..., Sequence[Tensor]]) -> Callable[..., Sequence[Tensor]]:
    """Return a program whose operations TorchScript doesn't fuse into kernels of its own: those round otherwise."""

    def call(*leaves: Tensor) -> Sequence[Tensor]:
        with torch.jit.fuser("none"):
            return program(*leaves)

    return call


def norms_of(gradients: Gradients) -> Tensor:
    """Return the norm of each network's gradients, [K], given [K, ...] by name."""
    each = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients.values()]
    return torch.linalg.vector_norm(torch.stack(each), dim=0)


def clip_stacked(gradients: Gradients, clip: Clip) -> Tensor:
    """Clip each network's gradients [K, ...] by name, in the dict; return their norms [K] before scaling.

    It does for each network what `gradients.clip_gradients` does.
    """
    if clip.value is not None:
        for name, gradient in gradients.items():
            gradients[name] = gradient.clamp(-clip.value, clip.value)
    norm = norms_of(gradients)
    if clip.normalise:
        scale = torch.where(norm > 0, clip.length / norm, 0.0)
    elif clip.norm is not None and not bool((norm + 1e-6 <= clip.norm).all()):
        scale = (clip.norm / (norm + 1e-6)).clamp(max=1.0)
    else:
        return norm
    for name, gradient in gradients.items():
        gradients[name] = gradient * scale.view(-1, *[1] * (gradient.ndim - 1))
    return norm
