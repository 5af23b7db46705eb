"""What a policy's predictions are worth: values against the returns that followed, action gaps, entropy.

It needs no model. The policy plays its evaluation episodes, and at each step what it says of itself (`inspect`) is kept
beside the discounted sum of the rewards that came. The last steps of an episode that was cut off are left out: what
would have come isn't known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rl_lab.agent import Policy
from rl_lab.environments.masks import mask_of
from rl_lab.environments.vectors import VectorEnv
from rl_lab.evaluation.evaluate import evaluation_seed
from rl_lab.types import Array

NEGLIGIBLE = 0.01  # weight of what came after a cut in the return of a step, up to which the step counts
BINS = 10  # of the reliability curve
TIE = 1e-6  # action gaps up to this are ties


@dataclass(frozen=True)
class ReliabilityBin:
    """Steps whose predicted values are near one another."""

    predicted: float
    """Mean predicted value."""
    realised: float
    """Mean realised return."""
    steps: int


@dataclass(frozen=True)
class Calibration:
    """What was found on the steps of some episodes."""

    episodes: int
    steps: int
    gamma: float
    """Discount of the realised returns."""
    predicts: bool
    """Whether the policy predicts values."""
    compared_steps: int
    """Steps whose predicted value could be compared with a realised return."""
    start_predicted: float | None
    """Mean predicted value at the start of those episodes that count from their start; None if there is none."""
    start_realised: float | None
    """Mean discounted return of the same episodes."""
    bias: float | None
    """Mean of predicted minus realised over the compared steps; None without predictions."""
    rmse: float | None
    """Root of the mean squared difference."""
    correlation: float | None
    """Pearson's, between predicted and realised; None where one of them is constant."""
    reliability: tuple[ReliabilityBin, ...]
    """Steps in order of their predicted values, in bins of equal size."""
    gap_mean: float | None
    """Mean difference between the largest and the second largest action value; None without action values."""
    gap_median: float | None
    ties: float | None
    """Share of steps on which these two are equal."""
    entropy_mean: float | None
    """Mean entropy in nats of the policy that collects steps, in the states met; None if it doesn't tell."""
    entropy_uniform: float | None
    """Entropy of choosing evenly among the legal actions in the same states."""


class _Steps:
    """The columns of what was seen, step by step."""

    def __init__(self) -> None:
        self.predicted: list[float] = []
        self.gap: list[float] = []
        self.entropy: list[float] = []
        self.uniform: list[float] = []
        self.realised: list[Array] = []  # one array per episode
        self.counts: list[Array] = []

    def see(self, told: dict[str, Array], drawn: dict[str, Array], mask: Array | None) -> None:
        """Keep what the policy, and the one that collects steps, say of one step (arrays of N = 1)."""
        q = told.get("q_values")
        value = told["value"][0] if "value" in told else q.max() if q is not None else np.nan
        self.predicted.append(float(value))
        if q is not None and np.isfinite(q).sum() > 1:
            second, first = np.sort(q[0])[-2:]
            self.gap.append(float(first - second))
        if (p := drawn.get("probabilities")) is not None:
            self.entropy.append(float(-np.sum(p * np.log(np.where(p > 0, p, 1.0)))))
            self.uniform.append(float(np.log(p.shape[1] if mask is None else mask.sum())))

    def close(self, rewards: list[float], gamma: float, terminated: bool) -> None:
        """End an episode with its rewards."""
        returns = np.zeros(len(rewards) + 1)
        for t in range(len(rewards) - 1, -1, -1):
            returns[t] = rewards[t] + gamma * returns[t + 1]
        self.realised.append(returns[:-1])
        left = np.arange(len(rewards), 0, -1)
        self.counts.append(np.full(len(rewards), True) if terminated else gamma**left <= NEGLIGIBLE)


def calibrate(
    policy: Policy,
    exploring: Policy | None,
    envs: VectorEnv,
    *,
    episodes: int,
    seed: int,
    gamma: float,
    max_steps: int,
    total_steps: int,
) -> Calibration:
    """Play evaluation episodes and compare what a policy predicts with what comes.

    Args:
        policy: plays.
        exploring: the policy that collects steps, whose entropy is taken in the states met; None if it isn't known.
        envs: a vector of one environment.
        episodes: how many to play.
        seed: the run's, from which those of its evaluation episodes follow.
        gamma: discount.
        max_steps: an episode is cut here.
        total_steps: no episode begins after so many steps.
    """
    steps, played = _Steps(), 0
    while played < episodes and len(steps.predicted) < total_steps:
        rewards, terminated = _play(policy, exploring, envs, evaluation_seed(seed, played), max_steps, steps)
        steps.close(rewards, gamma, terminated)
        played += 1
    return _summary(steps, gamma)


def _play(
    policy: Policy, exploring: Policy | None, envs: VectorEnv, seed: int, max_steps: int, steps: _Steps
) -> tuple[list[float], bool]:
    """Play one episode; return its rewards and whether it terminated."""
    obs, info = envs.reset(seed=[seed])
    state, is_first, rewards = policy.initial_state(1), np.ones(1, np.bool_), []
    other = () if exploring is None else exploring.initial_state(1)
    while True:
        mask = mask_of(info)
        drawn: dict[str, Array] = {}
        if exploring is not None:
            drawn = exploring.inspect(obs, other, is_first, mask)
            other = exploring.act(obs, other, is_first, mask).state if other else ()
        steps.see(policy.inspect(obs, state, is_first, mask), drawn, mask)
        decision = policy.act(obs, state, is_first, mask)
        obs, reward, terminated, truncated, info = envs.step(decision.action)
        state, is_first = decision.state, np.zeros(1, np.bool_)
        rewards.append(float(reward[0]))
        if terminated[0] or truncated[0] or len(rewards) >= max_steps:
            return rewards, bool(terminated[0])


def _summary(steps: _Steps, gamma: float) -> Calibration:
    predicted, realised = np.array(steps.predicted), np.concatenate(steps.realised)
    counts = np.concatenate(steps.counts) & np.isfinite(predicted)
    starts = np.cumsum([0, *(len(x) for x in steps.realised[:-1])])
    starts = starts[counts[starts]]
    error = (predicted - realised)[counts]
    return Calibration(
        episodes=len(steps.realised),
        steps=len(predicted),
        gamma=gamma,
        predicts=bool(np.isfinite(predicted).any()),
        compared_steps=int(counts.sum()),
        start_predicted=_mean(predicted[starts]),
        start_realised=_mean(realised[starts]),
        bias=_mean(error),
        rmse=None if not len(error) else float(np.sqrt(np.mean(error**2))),
        correlation=_correlation(predicted[counts], realised[counts]),
        reliability=reliability_curve(predicted[counts], realised[counts]),
        gap_mean=_mean(steps.gap),
        gap_median=None if not steps.gap else float(np.median(steps.gap)),
        ties=_mean(np.array(steps.gap) <= TIE),
        entropy_mean=_mean(steps.entropy),
        entropy_uniform=_mean(steps.uniform),
    )


def _mean(values: Any) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _correlation(x: Array, y: Array) -> float | None:
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(x, y)[0, 1])


def reliability_curve(predicted: Array, realised: Array, bins: int = BINS) -> tuple[ReliabilityBin, ...]:
    """Return bins of nearly equal size, in order of the predicted values [K]; fewer if there are fewer steps."""
    order = np.argsort(predicted, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return tuple(
        ReliabilityBin(float(predicted[part].mean()), float(realised[part].mean()), len(part))
        for part in parts
    )
