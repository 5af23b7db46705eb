"""SB3's policies as the lab's: they act deterministically, and those with a memory carry it from step to step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rl_lab.environments.zero_based import from_zero_based, to_zero_based
from rl_lab.types import Array, Decision, EnvSpec, Obs, State

from .normalising import Normaliser

UNCHANGED = Normaliser()


class SB3Policy:
    """Acts deterministically by one of SB3's policies, which see discrete spaces as beginning at 0.

    Args:
        policy: SB3's.
        spec: of the environment.
        normaliser: turns observations into what the policy has learned from.
    """

    def __init__(self, policy: Any, spec: EnvSpec, normaliser: Normaliser = UNCHANGED):
        self._policy, self._observations, self._actions = policy, spec.observation_space, spec.action_space
        self._normaliser = normaliser

    def initial_state(self, num_envs: int) -> State:
        """Return (), as these policies remember nothing."""
        return ()

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Return SB3's deterministic actions [N, ...]; SB3 ignores the mask."""
        action = self._policy.predict(self._seen(obs), deterministic=True)[0]
        return Decision(from_zero_based(self._actions, action))

    @torch.no_grad()
    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return `q_values` [N, A] for DQN and QR-DQN, `atoms` [N, A, K] too for QR-DQN, `value` [N] for the others.

        Atoms are quantiles in rising order, all equally likely; the action values are their means. Everything is on
        the scale of the environment's own rewards.
        """
        tensor, _ = self._policy.obs_to_tensor(self._seen(obs))
        scale = self._normaliser.value_scale
        if hasattr(self._policy, "q_net"):
            return {"q_values": self._policy.q_net(tensor).cpu().numpy() * scale}
        if hasattr(self._policy, "quantile_net"):
            quantiles = self._policy.quantile_net(tensor)  # [N, K, A]
            atoms = quantiles.transpose(1, 2).sort(dim=-1).values
            return {
                "q_values": quantiles.mean(dim=1).cpu().numpy() * scale,
                "atoms": atoms.cpu().numpy() * scale,
            }
        return {"value": self._policy.predict_values(tensor)[:, 0].cpu().numpy() * scale}

    def _seen(self, obs: Obs) -> Obs:
        return self._normaliser.observations(to_zero_based(self._observations, obs))


class SB3DrawingPolicy(SB3Policy):
    """Draws from the distribution of one of SB3's stochastic policies over Discrete actions."""

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Return actions [N] drawn with torch's global generator, as SB3 draws them."""
        drawn = self._policy.predict(self._seen(obs), deterministic=False)[0]
        return Decision(from_zero_based(self._actions, drawn))

    @torch.no_grad()
    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return `value` [N] and `probabilities` [N, A]."""
        tensor, _ = self._policy.obs_to_tensor(self._seen(obs))
        drawn = self._policy.get_distribution(tensor).distribution.probs
        return super().inspect(obs, state, is_first, mask) | {"probabilities": drawn.cpu().numpy()}


class RecurrentSB3Policy(SB3Policy):
    """Acts deterministically by a policy of sb3-contrib with an LSTM.

    The carry is (h, c) of the actor's LSTM and (h, c) of the critic's, each float32 [N, layers, size]. The policy
    itself zeroes it where `is_first`.
    """

    def initial_state(self, num_envs: int) -> State:
        """Return a carry of zeros."""
        layers, _, size = self._policy.lstm_hidden_state_shape
        return tuple(np.zeros((num_envs, layers, size), np.float32) for _ in range(4))

    @torch.no_grad()
    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Return SB3's deterministic actions [N, ...] and the next carry; SB3 ignores the mask."""
        from sb3_contrib.common.recurrent.type_aliases import RNNStates

        self._policy.set_training_mode(False)
        tensor, _ = self._policy.obs_to_tensor(self._seen(obs))
        h, c, critic_h, critic_c = map(self._to_sb3, state)
        actions, _, _, after = self._policy.forward(
            tensor, RNNStates((h, c), (critic_h, critic_c)), self._starts(is_first), deterministic=True
        )
        taken = actions.cpu().numpy().reshape(-1, *self._policy.action_space.shape)
        if isinstance(self._actions, spaces.Box):
            taken = np.clip(taken, self._actions.low, self._actions.high)
        parts = tuple(part.swapaxes(0, 1).cpu().numpy() for part in (*after.pi, *after.vf))
        return Decision(from_zero_based(self._actions, taken), parts)

    @torch.no_grad()
    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return `value` [N] on the scale of the environment's own rewards."""
        tensor, _ = self._policy.obs_to_tensor(self._seen(obs))
        critic = tuple(map(self._to_sb3, state[2:]))  # ignored by a critic without an LSTM
        values = self._policy.predict_values(tensor, critic, self._starts(is_first))
        return {"value": values[:, 0].cpu().numpy() * self._normaliser.value_scale}

    def _to_sb3(self, part: Array) -> torch.Tensor:
        """Return a part of the carry, [N, layers, size], as SB3 keeps it: [layers, N, size]."""
        return torch.from_numpy(part).swapaxes(0, 1).contiguous().to(self._policy.device)

    def _starts(self, is_first: Array) -> torch.Tensor:
        return torch.from_numpy(is_first).float().to(self._policy.device)
