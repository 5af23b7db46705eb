"""The actor-critic network (policy and value behind one call), and the policy that acts with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.nn.acting import numpy_sequential
from rl_lab.nn.cores import make_core
from rl_lab.nn.distributions import Distribution, GaussianHead
from rl_lab.nn.encoders import Encoder, make_encoder
from rl_lab.nn.fields import NetworkFields
from rl_lab.nn.initialise import initialise
from rl_lab.nn.joint_distributions import JointHead
from rl_lab.nn.layers import Linear
from rl_lab.nn.normalise import ObservationNormaliser
from rl_lab.nn.recurrent import Carry, Core, Memoryless, features_over_time
from rl_lab.policies import Figures
from rl_lab.trees import map_leaves
from rl_lab.types import Array, Decision, Obs, State

# obs [N, ...], carry, is_first [N] -> distribution parameters, value float32 [N], next carry; all numpy
Outputs = Callable[[Obs, State, Array], tuple[Any, Array, State]]


class Tower(nn.Module):
    """An encoder followed by a core: maps observations to features."""

    def __init__(self, encoder: Encoder, core: Core):
        super().__init__()
        self.encoder, self.core = encoder, core

    def forward(self, obs: Any, state: Carry, is_first: Tensor | None) -> tuple[Tensor, Carry]:
        """Return features [B, F], or [T, B, F] where `is_first` is [T, B], and the next carry."""
        return features_over_time(self.encoder, self.core, obs, state, is_first)


class ActorCritic(nn.Module):
    """A policy and a value function: `parameters, value, state = network(obs, state, is_first)`.

    With is_first [B] it takes a single step: obs [B, ...] gives value [B]. With is_first [T, B] it unrolls:
    obs [T, B, ...] gives value [T, B]. It takes the carry before the first step and returns the one after the
    last. A memoryless network needs only the observations. Policy and value share one tower (`value` None),
    or have one each.
    """

    def __init__(
        self,
        policy: Tower,
        value: Tower | None,
        policy_head: nn.Module,
        value_head: nn.Module,
        normaliser: ObservationNormaliser | None = None,
    ):
        super().__init__()
        self.normaliser = normaliser  # of the observations
        self.policy_tower, self.value_tower = policy, value
        self.policy_head, self.value_head = policy_head, value_head

    @property
    def is_memoryless(self) -> bool:
        """Whether the outputs depend on the current observation alone."""
        return isinstance(self.policy_tower.core, Memoryless)

    def initial_state(self, batch: int) -> Carry:
        """Return the carry at the start of an episode, the policy's parts before the value's, each [B, ...]."""
        towers = [self.policy_tower] if self.value_tower is None else [self.policy_tower, self.value_tower]
        return tuple(part for tower in towers for part in tower.core.initial_state(batch))

    def forward(
        self, obs: Any, state: Carry = (), is_first: Tensor | None = None
    ) -> tuple[Any, Tensor, Carry]:
        """Return the distribution's parameters, the values [B] (or [T, B] where `is_first` is), and the next carry."""
        obs = obs if self.normaliser is None else self.normaliser(obs)
        if self.value_tower is None:
            features, state = self.policy_tower(obs, state, is_first)
            return self.policy_head(features), self.value_head(features).squeeze(-1), state
        half = len(state) // 2  # both towers have the same structure
        features, policy_state = self.policy_tower(obs, state[:half], is_first)
        valued, value_state = self.value_tower(obs, state[half:], is_first)
        value = self.value_head(valued).squeeze(-1)
        return self.policy_head(features), value, (*policy_state, *value_state)


def make_actor_critic(
    observation_space: spaces.Space,
    distribution: Distribution,
    fields: NetworkFields | None = None,
    *,
    share_encoder: bool = False,
) -> ActorCritic:
    """Make an actor-critic network for an observation space.

    `fields.initialisation` has gain sqrt(2) for encoders, 0.01 for the policy's head (nearly uniform at the start)
    and 1 for the value's, as in SB3.

    Args:
        fields: the network's; by default those of `NetworkFields`.
        share_encoder: one tower for policy and value.

    Raises:
        UsageError: the encoder can't take the space, or a name is unknown.
    """
    fields = fields or NetworkFields()

    def tower() -> Tower:
        encoder = make_encoder(fields, observation_space)
        core = make_core(fields, encoder.size)
        initialise(encoder, fields.initialisation, gain=2**0.5)
        initialise(core, fields.initialisation)
        return Tower(encoder, core)

    policy, value = tower(), None if share_encoder else tower()
    policy_head, value_head = distribution.make_head(policy.core.size), Linear(policy.core.size, 1)
    initialise(policy_head, fields.initialisation, gain=0.01)
    initialise(value_head, fields.initialisation, gain=1.0)
    normaliser = None
    if fields.normalise_observations:
        normaliser = ObservationNormaliser(observation_space, channels=fields.channels)
    network = ActorCritic(policy, value, policy_head, value_head, normaliser)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster convolutions


# Acting ----------------------------------------------------------------------------------------------


def make_acting_outputs(network: ActorCritic, device: torch.device) -> Outputs:
    """Return the live network as a function of numpy arrays, computed without torch where possible."""
    in_numpy = _numpy_outputs(network)
    if in_numpy is not None:
        return in_numpy

    @torch.no_grad()
    def outputs(obs: Obs, state: State, is_first: Array) -> tuple[Any, Array, State]:
        there = [
            map_leaves(lambda leaf: torch.as_tensor(leaf, device=device), tree)
            for tree in (obs, state, is_first)
        ]
        return map_leaves(lambda leaf: leaf.cpu().numpy(), network(*there))

    return outputs


def _numpy_outputs(network: ActorCritic) -> Outputs | None:
    """Return the network in numpy on views of its weights; None if it has convolutions, memory or another device."""
    if not network.is_memoryless or any(p.device.type != "cpu" for p in network.parameters()):
        return None
    policy, value = network.policy_tower, network.value_tower
    before = [] if network.normaliser is None else [network.normaliser]
    to_features = numpy_sequential([*before, *policy.encoder.layers])
    to_valued = to_features if value is None else numpy_sequential([*before, *value.encoder.layers])
    to_parameters, to_value = _numpy_head(network.policy_head), numpy_sequential([network.value_head])
    if to_features is None or to_valued is None or to_parameters is None or to_value is None:
        return None

    def outputs(obs: Obs, state: State, is_first: Array) -> tuple[Any, Array, State]:
        features = to_features(obs)
        parameters = to_parameters(features)
        valued = features if value is None else to_valued(obs)
        return parameters, to_value(valued)[:, 0], ()

    return outputs


def _numpy_head(head: nn.Module) -> Callable[[Array], Any] | None:
    """Return a policy's head as a function of numpy features [N, F], on views of its weights; None if it can't be."""
    if isinstance(head, JointHead):
        parts = [_numpy_head(part) for part in head.parts]
        chain = [part for part in parts if part is not None]
        return None if len(chain) < len(parts) else lambda features: tuple(part(features) for part in chain)
    to_parameters = numpy_sequential([head])
    if to_parameters is None or not isinstance(head, GaussianHead):
        return to_parameters
    deviations = head.log_std.detach().numpy()
    return lambda features: (to_parameters(features), deviations)


class StochasticPolicy:
    """Draws actions from a distribution with `rng`, or takes its mode if `rng` is None.

    Args:
        outputs: maps observations, carry and is_first to distribution parameters, values and the next carry.
        initial_state: returns the carry at the start of an episode; None for a memoryless network.
        reward_scale: the factor by which the rewards were multiplied that the network learned from.
        network: the module that computes the outputs; None if there is none.
        figures: further figures for `inspect`; None for none.
    """

    def __init__(
        self,
        outputs: Outputs,
        distribution: Distribution,
        initial_state: Callable[[int], State] | None = None,
        rng: np.random.Generator | None = None,
        reward_scale: Callable[[], float] = lambda: 1.0,
        *,
        network: ActorCritic | None = None,
        figures: Figures | None = None,
    ):
        self._outputs, self._distribution = outputs, distribution
        self._initial_state, self._rng = initial_state, rng
        self._reward_scale = reward_scale
        self.network, self._figures = network, figures

    def initial_state(self, num_envs: int) -> State:
        """Return the carry at the start of an episode; () for a memoryless network."""
        return () if self._initial_state is None else self._initial_state(num_envs)

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Choose an action [N, ...] for each observation; when drawing, pass on raw action, log_prob and value."""
        parameters, value, state = self._outputs(obs, state, is_first)
        if self._rng is None:
            return Decision(self._distribution.mode(parameters, mask), state)
        drawn = self._distribution.draw(parameters, self._rng, mask)
        extras = {"raw_action": drawn.raw, "log_prob": drawn.log_prob, "value": value}
        return Decision(drawn.action, state, extras)

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return `value` [N] in units of reward and the parameters of the distribution.

        These are `logits` [N, M], or `mean` and `std` [N, D], and if Discrete actions are drawn `probabilities` [N, A].
        """
        parameters, value, _ = self._outputs(obs, state, is_first)
        shown = {"value": value / self._reward_scale(), **self._distribution.figures(parameters, mask)}
        drawn = None if self._rng is None else self._distribution.probabilities(parameters, mask)
        if drawn is not None:
            shown["probabilities"] = drawn
        return shown if self._figures is None else shown | self._figures(obs, state, is_first)
