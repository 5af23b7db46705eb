"""Evaluates a policy on seeded episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rl_lab.agent import Policy
from rl_lab.checks import count, shown
from rl_lab.environments.masks import mask_of, merge_masks
from rl_lab.environments.vectors import VectorEnv
from rl_lab.evaluation.statistics import iqm
from rl_lab.evaluation.step_budget import StepBudget
from rl_lab.seeding import seed_of
from rl_lab.types import Array, Obs, State, UsageError


class Interrupted(Exception):
    """An evaluation was stopped before its end, at the request of its caller."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of E episodes. Episode e is the same for every number of environments.

    Where the steps in all ran out, episodes are among them in the order of their number, up to the one in which it
    happened.
    """

    returns: Array  # float64 [E]: undiscounted, of the environment's own rewards
    lengths: Array  # int64 [E]: steps
    discounted_returns: Array  # float64 [E]
    predicted_values: Array  # float64 [E]: the policy's value of the first observation; nan if it has none
    capped: Array  # bool [E]: cut off, where the environment had not ended the episode
    gamma: float  # of `discounted_returns`
    limit: str | None = None  # which limit cut episodes off, in words; None if none did

    def figures(self) -> dict[str, Any]:
        """Return the scalars for a row of metrics, and as `eval_limit` in words what cut episodes off."""
        out: dict[str, Any] = {
            "eval_return_mean": float(self.returns.mean()),
            "eval_return_iqm": iqm(self.returns),
            "eval_return_std": float(self.returns.std()),
            "eval_length_mean": float(self.lengths.mean()),
            "eval_discounted_return_mean": float(self.discounted_returns.mean()),
            "eval_capped_episodes": int(self.capped.sum()),
        }
        if self.limit is not None:
            out["eval_limit"] = self.limit
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
    gamma: float | None = None,
    max_steps: int = 100_000,
    total_steps: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """Play seeded episodes: environment i of W plays episodes i, i + W, ...

    What is reported doesn't depend on W. The steps in all are spent on the episodes in the order of their number:
    each has what those before it left over, the one that meets the limit is cut there, and those after it are left
    out. Environments that play ahead are cut by the same rule afterwards. So the vector takes at most
    `total_steps` steps, in which its W environments take at most W * total_steps.

    Args:
        episodes: how many to play, E.
        seed: the run's seed, from which those of the episodes follow.
        gamma: discount of `discounted_returns`; by default the `eval_gamma` of the run, if the policy is that of a run
            (from `load_policy`, `learn` or `resume`), else 1. The result names it.
        max_steps: an episode is cut here and marked as capped.
        total_steps: steps of all episodes together, counted in the order of their number. The episode that is
            open when they run out is cut and marked as capped; None for no such limit.
        should_stop: asked before every step.

    Raises:
        Interrupted: `should_stop` returned True.
        UsageError: a number that isn't allowed, or no vector of environments.
    """
    episodes, max_steps = count("episodes", episodes), count("max_steps", max_steps)
    seed = count("seed", seed, least=0)
    total_steps = None if total_steps is None else count("total_steps", total_steps)
    gamma = getattr(policy, "eval_gamma", 1.0) if gamma is None else gamma
    if not 0 <= gamma <= 1:
        raise UsageError(f"gamma must lie in [0, 1], got {gamma}")
    if not hasattr(envs, "num_envs"):
        raise UsageError(f"envs must be a vector of environments as make_envs makes it, got {shown(envs)}")
    width = envs.num_envs
    numbers = np.arange(width)  # the episode that each environment plays
    may_run_out = total_steps is not None and total_steps < episodes * max_steps
    table = _EpisodeTable(episodes, gamma, total_steps if may_run_out else None)
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
        if table.has_met_limit():
            break
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

    def __init__(self, episodes: int, gamma: float, total_steps: int | None):
        self._returns, self._discounted = np.zeros(episodes), np.zeros(episodes)
        self._lengths = np.zeros(episodes, np.int64)
        self._predicted = np.full(episodes, np.nan)
        self._over, self._capped = np.zeros(episodes, np.bool_), np.zeros(episodes, np.bool_)
        self._gamma = gamma
        self._budget = None if total_steps is None else StepBudget(total_steps, episodes)

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
        self._over[mine] = (done | capped)[live]
        if self._budget is not None:
            self._budget.record(mine, reward[live])
        return done | capped

    def has_met_limit(self) -> bool:
        """Return whether the steps in all have run out, whatever else is played."""
        return self._budget is not None and self._budget.has_run_out(self._lengths, self._over)

    def evaluation(self) -> Evaluation:
        """Return the results, cut where the steps in all ran out."""
        reported, limit = len(self._returns), None
        if self._budget is not None and self._budget.has_run_out(self._lengths, self._over):
            reported, limit = self._cut(self._budget)
        columns = (self._returns, self._lengths, self._discounted, self._predicted, self._capped)
        returns, lengths, discounted, predicted, capped = (column[:reported] for column in columns)
        if limit is None and capped.any():
            limit = f"{lengths[capped].max()} steps an episode"
        return Evaluation(returns, lengths, discounted, predicted, capped, self._gamma, limit)

    def _cut(self, budget: StepBudget) -> tuple[int, str]:
        """Cut the episode in which the steps ran out; return how many are reported, and the limit in words."""
        number, steps = budget.episode, budget.left
        if steps:
            rewards = budget.rewards(number)
            self._lengths[number], self._capped[number] = steps, True
            self._returns[number] = np.cumsum(rewards)[-1]  # added up in the order of the steps, as above
            self._discounted[number] = np.cumsum(self._gamma ** np.arange(steps) * rewards)[-1]
        reported = number + (steps > 0)
        of = len(self._returns)
        return reported, f"{budget.total} steps in all, after which {reported} of {of} episodes had begun"
