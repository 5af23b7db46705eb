"""Acting with several equal networks at once, in numpy: one product per layer instead of one per network and layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from torch import Tensor, nn

from rl_lab.nn.acting import Layer, in_sequence
from rl_lab.nn.actor_critic import ActorCritic
from rl_lab.nn.distributions import GaussianHead
from rl_lab.nn.layers import Flat
from rl_lab.nn.q_network import DuelingHead, QNetwork
from rl_lab.types import Array

JointOf = Callable[[Tensor], Array]  # a weight [...] of the first network -> those of all, [K, ...]


def joint_arrays(network: nn.Module, weights: dict[str, Tensor]) -> JointOf | None:
    """Return a function from a weight of a network to those of all, as views; None if they aren't on the CPU.

    Args:
        network: one of the networks.
        weights: those of all, [K, ...] by name.
    """
    if any(weight.device.type != "cpu" for weight in weights.values()):
        return None
    arrays = {id(own): weights[name].numpy() for name, own in network.named_parameters()}
    return lambda own: arrays[id(own)]


def joint_q_values(network: QNetwork, joint: JointOf) -> Layer | None:
    """Return obs [K, N, ...] -> q float32 [K, N, A] of K networks; None if a layer has no joint form in numpy."""
    return _sequence([*network.encoder.layers, network.head], joint)


def joint_outputs(network: ActorCritic, joint: JointOf) -> tuple[Layer, Layer] | None:
    """Return obs [K, N, ...] -> logits [K, N, A], and -> values [K, N], of K networks; None as for `joint_q_values`."""
    policy, value = network.policy_tower, network.value_tower or network.policy_tower
    if not isinstance(network.policy_head, nn.Linear) or isinstance(network.policy_head, GaussianHead):
        return None
    to_logits = _sequence([*policy.encoder.layers, network.policy_head], joint)
    to_value = _sequence([*value.encoder.layers, network.value_head], joint)
    if to_logits is None or to_value is None:
        return None
    return to_logits, lambda obs: to_value(obs)[..., 0]


def _sequence(modules: Iterable[nn.Module], joint: JointOf) -> Layer | None:
    return in_sequence([_joint_layer(module, joint) for module in modules])


def _joint_layer(module: nn.Module, joint: JointOf) -> Layer | None:
    """Return the form of K equal modules on inputs [K, N, ...], or None if there is none here."""
    if isinstance(module, nn.Linear):
        return _linear(joint(module.weight), joint(module.bias))
    if isinstance(module, nn.ReLU):
        return lambda x: np.maximum(x, 0.0, out=x)
    if isinstance(module, nn.Tanh):
        return lambda x: np.tanh(x, out=x)
    if isinstance(module, Flat):
        return lambda x: x.reshape(*x.shape[:2], -1).astype(np.float32, copy=False)
    if isinstance(module, DuelingHead):
        return _dueling(module, joint)
    return None


def _linear(weight: Array, bias: Array) -> Layer:
    w, b = weight.transpose(0, 2, 1), bias[:, None]  # views: [K, in, out], [K, 1, out]

    def linear(x: Array) -> Array:
        y = np.matmul(x, w)
        y += b
        return y

    return linear


def _dueling(head: DuelingHead, joint: JointOf) -> Layer | None:
    value, advantage = _sequence(head.value, joint), _sequence(head.advantage, joint)
    if value is None or advantage is None:
        return None

    def dueling(x: Array) -> Array:
        a = advantage(x)
        return value(x) + a - a.mean(axis=-1, keepdims=True)

    return dueling


class Prepared:
    """Outputs of K networks for the observations at hand, computed at once when the first of them is asked for.

    Args:
        compute: maps obs [K, N, ...] to outputs [K, N, ...].
        number: K.
    """

    def __init__(self, compute: Callable[[Array], Sequence[Array]], number: int):
        self._compute, self._number = compute, number
        self._obs: Array | None = None
        self._outputs: Sequence[Array] | None = None

    def look(self, observations: dict[int, Array]) -> None:
        """Take the observations [N, ...] of the networks that will be asked, by their numbers."""
        if self._obs is None:
            one = next(iter(observations.values()))
            self._obs = np.zeros((self._number, *one.shape), one.dtype)
        for k, obs in observations.items():
            self._obs[k] = obs
        self._outputs = None

    def outputs(self, k: int) -> tuple[Array, ...]:
        """Return the outputs [N, ...] of network k."""
        if self._outputs is None:
            assert self._obs is not None
            self._outputs = self._compute(self._obs)
        return tuple(part[k] for part in self._outputs)
