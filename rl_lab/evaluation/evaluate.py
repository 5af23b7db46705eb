"""Evaluates a policy on seeded episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rl_lab.agent import Policy
from rl_lab.environments.vectors import VectorEnv, mask_of, merge_masks
from rl_lab.evaluation.statistics import iqm
from rl_lab.seeding import seed_of
from rl_lab.types import Array, Obs, State


class Interrupted(Exception):
    """An evaluation was stopped before its end, at the request of its caller."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of E episodes. Episode e is the same for every number of environments."""

    returns: Array  # float64 [E]: undiscounted, of the environment's own rewards
    lengths: Array  # int64 [E]: steps
    discounted_returns: Array  # float64 [E]
    predicted_values: Array  # float64 [E]: the policy's value of the first observation; nan if it has none
    capped: Array  # bool [E]: cut at max_steps, where the environment had not ended the episode

    def figures(self) -> dict[str, float]:
        """Return the scalars for a row of metrics."""
        out = {
            "eval_return_mean": float(self.returns.mean()),
            "eval_return_iqm": iqm(self.returns),
            "eval_return_std": float(self.returns.std()),
            "eval_length_mean": float(self.lengths.mean()),
            "eval_discounted_return_mean": float(self.discounted_returns.mean()),
            "eval_capped_episodes": int(self.capped.sum()),
        }
        if not np.isnan(self.predicted_values).any():
            out["eval_predicted_value_mean"] = float(self.predicted_values.mean())
        return out


def evaluation_seed(seed: int, episode: int) -> int:
    """Return the seed with which evaluation episode `episode` of a run starts."""
    return seed_of(seed, "eval", episode)


def evaluate(
    policy: Policy,
    envs: VectorEnv,
    *,
    episodes: int,
    seed: int,
    gamma: float = 1.0,
    max_steps: int = 100_000,
    should_stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Play seeded episodes: environment i of W plays episodes i, i + W, ...

    Args:
        episodes: how many to play, E.
        seed: the run's seed, from which those of the episodes follow.
        gamma: discount of `discounted_returns`.
        max_steps: an episode is cut here and marked as capped.
        should_stop: asked before every step.

    Raises:
        Interrupted: `should_stop` returned True.
    """
    width = envs.num_envs
    numbers = np.arange(width)  # the episode that each environment plays
    table = _EpisodeTable(episodes, gamma)
    obs, info = envs.reset(seed=[evaluation_seed(seed, int(e)) for e in numbers])
    state, mask, is_first = policy.initial_state(width), mask_of(info), np.ones(width, np.bool_)
    while (numbers < episodes).any():
        if should_stop():
            raise Interrupted
        if is_first.any():
            table.predict(numbers, is_first, _value(policy, obs, state, is_first, mask))
        decision = policy.act(obs, state, is_first, mask)
        obs, reward, terminated, truncated, info = envs.step(decision.action)
        state, mask = decision.state, mask_of(info)
        done = terminated | truncated
        is_first = table.add(numbers, reward, done, max_steps)
        if is_first.any():
            numbers = numbers + width * is_first
            obs, mask = _next_episodes(envs, numbers, is_first, mask, seed)
    return table.evaluation()


def _next_episodes(
    envs: VectorEnv, numbers: Array, over: Array, mask: Array | None, seed: int
) -> tuple[Obs, Array | None]:
    """Start the next episodes where `over`; return the observations and masks.

    Environments that have no episode left play on, from seeds of their own, and are ignored.
    """
    seeds = [evaluation_seed(seed, int(e)) if o else None for e, o in zip(numbers, over, strict=True)]
    obs, info = envs.reset(seed=seeds, options={"reset_mask": over})
    return obs, merge_masks(over, mask_of(info), mask)


def _value(policy: Policy, obs: Obs, state: State, is_first: Array, mask: Array | None) -> Array:
    """Return the policy's own estimate of the value, float [N]; nan if it has none."""
    seen = policy.inspect(obs, state, is_first, mask)
    if "value" in seen:
        return seen["value"]
    if "q_values" in seen:
        return seen["q_values"].max(axis=-1)
    return np.full(len(is_first), np.nan)


class _EpisodeTable:
    """Accumulates the results of episodes that N environments play."""

    def __init__(self, episodes: int, gamma: float):
        self._returns, self._discounted = np.zeros(episodes), np.zeros(episodes)
        self._lengths = np.zeros(episodes, np.int64)
        self._predicted = np.full(episodes, np.nan)
        self._capped = np.zeros(episodes, np.bool_)
        self._gamma = gamma

    def predict(self, numbers: Array, is_first: Array, values: Array) -> None:
        live = is_first & (numbers < len(self._returns))
        self._predicted[numbers[live]] = values[live]

    def add(self, numbers: Array, reward: Array, done: Array, max_steps: int) -> Array:
        """Add a step to each environment's episode; return which episodes are over, bool [N]."""
        live = numbers < len(self._returns)
        mine = numbers[live]
        self._returns[mine] += reward[live]
        self._discounted[mine] += self._gamma ** self._lengths[mine] * reward[live]
        self._lengths[mine] += 1
        capped = np.zeros_like(done)
        capped[live] = (self._lengths[mine] >= max_steps) & ~done[live]
        self._capped[numbers[capped]] = True
        return done | capped

    def evaluation(self) -> Evaluation:
        return Evaluation(self._returns, self._lengths, self._discounted, self._predicted, self._capped)
