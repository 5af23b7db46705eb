"""What is known of a bandit's arms, how it is learned from pulls, and how the next arm is explored.

Each class holds its live arrays in `weights`; `scores` [A] says which arm is best, and `choose` explores.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from rl_lab.policies import Choose, legal, random_tie
from rl_lab.types import Array, UsageError

from .config import GradientConfig, MeanFields, ThompsonConfig, UCBConfig


class Arms(Protocol):
    """What is known of the arms."""

    weights: dict[str, Array]
    are_values: bool  # whether scores are in units of reward

    def scores(self) -> Array:
        """Return what the greedy policy takes the largest of, [A]."""

    def choose(self, scores: Array, mask: Array | None) -> Array:
        """Return an arm for each row of scores [N, A], exploring among legal ones (mask bool [N, A]), int64 [N]."""

    def learn(self, action: Array, reward: Array, mask: Array | None) -> float:
        """Learn from pulls [N], one after the other; return the mean size of their errors."""


class MeanArms:
    """The mean reward of each arm, over all pulls or recent ones; explores by chance ties alone."""

    are_values = True

    def __init__(self, config: MeanFields, count: int, rng: np.random.Generator):
        self._step_size = config.step_size
        self.weights = {"value": np.full(count, config.initial_value), "pulls": np.zeros(count, np.int64)}
        self.choose: Choose = random_tie(rng)

    def scores(self) -> Array:
        """Return the estimated mean of each arm, [A]."""
        return self.weights["value"]

    def learn(self, action: Array, reward: Array, mask: Array | None) -> float:
        """Move each pulled arm's estimate towards its reward; return the mean size of the errors."""
        value, pulls = self.weights["value"], self.weights["pulls"]
        total = 0.0
        for arm, paid in zip(action, reward, strict=True):
            pulls[arm] += 1
            error = paid - value[arm]
            value[arm] += error * (1.0 / pulls[arm] if self._step_size is None else self._step_size)
            total += abs(error)
        return total / len(action)


class UpperConfidenceArms(MeanArms):
    """Explores the arm whose mean could be the highest: untried ones first, then by mean + c sqrt(ln t / n).

    Auer, Cesa-Bianchi and Fischer (2002), "Finite-time Analysis of the Multiarmed Bandit Problem",
    https://link.springer.com/article/10.1023/A:1013689704352; Sutton and Barto, 2nd ed., section 2.7, where t is the
    number of the pull to be made. Among environments that choose together, each counts the choices before its own.
    """

    def __init__(self, config: UCBConfig, count: int, rng: np.random.Generator):
        super().__init__(config, count, rng)
        self._confidence, self._tie = config.confidence, random_tie(rng)
        self.choose = self._upper

    def _upper(self, scores: Array, mask: Array | None) -> Array:
        pulls = self.weights["pulls"].astype(np.float64)
        chosen = np.zeros(len(scores), np.int64)
        for i in range(len(scores)):
            one = self._tie((scores[i] + self._bonus(pulls))[None], None if mask is None else mask[i : i + 1])
            chosen[i] = one[0]
            pulls[one[0]] += 1
        return chosen

    def _bonus(self, pulls: Array) -> Array:
        """Return the bonus of each arm, [A]; infinite for untried ones."""
        bonus = self._confidence * np.sqrt(np.log(pulls.sum() + 1.0) / np.maximum(pulls, 1.0))
        return np.where(pulls == 0, np.inf, bonus)


class PreferenceArms:
    """Preferences, whose softmax is the probability of each arm; they climb the gradient of the expected reward.

    Sutton and Barto, 2nd ed., section 2.8; the baseline is the mean of the rewards before this one.
    """

    are_values = False

    def __init__(self, config: GradientConfig, count: int, rng: np.random.Generator):
        self._step_size, self._has_baseline, self._rng = config.step_size, config.baseline, rng
        self.weights = {
            "preference": np.zeros(count),
            "reward_mean": np.zeros(1),
            "pulls": np.zeros(1, np.int64),
        }

    def scores(self) -> Array:
        """Return the preference of each arm, [A]."""
        return self.weights["preference"]

    def choose(self, scores: Array, mask: Array | None) -> Array:
        """Draw an arm for each row from the softmax of its preferences, int64 [N]."""
        sums = np.cumsum(softmax(scores, mask), axis=1)
        sums /= sums[:, -1:]
        return (sums <= self._rng.random(len(sums))[:, None]).sum(axis=1)

    def learn(self, action: Array, reward: Array, mask: Array | None) -> float:
        """Climb by the mean gradient of pulls that were drawn together times their number; return the mean error."""
        preference, mean, pulls = (self.weights[name] for name in ("preference", "reward_mean", "pulls"))
        probability = softmax(np.broadcast_to(preference, (len(action), len(preference))), mask)
        error = np.zeros(len(action))
        for i, paid in enumerate(reward):
            before = mean[0] if pulls[0] else paid
            error[i] = paid - before if self._has_baseline else paid
            pulls[0] += 1
            mean[0] += (paid - mean[0]) / pulls[0]
        direction = (
            np.eye(len(preference))[action] - probability
        )  # of the logarithm of the probability, [N, A]
        preference += self._step_size * (error @ direction)
        return float(np.abs(error).mean())


def softmax(scores: Array, mask: Array | None) -> Array:
    """Return the probabilities [N, A] of scores [N, A]; 0 where the mask (bool [N, A]) is False."""
    allowed = legal(scores, mask)
    weight = np.exp(allowed - allowed.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)


class PosteriorArms:
    """The posterior of each arm's mean reward; explores the arm that is best in a draw from it.

    Thompson (1933), "On the Likelihood that One Unknown Probability Exceeds Another in View of the Evidence of Two
    Samples", https://www.jstor.org/stable/2332286; Russo et al. (2018), "A Tutorial on Thompson Sampling",
    https://arxiv.org/abs/1707.02038.
    """

    are_values = True

    def __init__(self, config: ThompsonConfig, count: int, rng: np.random.Generator):
        self._config, self._rng = config, rng
        self.weights = {"reward_sum": np.zeros(count), "pulls": np.zeros(count, np.int64)}

    def scores(self) -> Array:
        """Return the posterior mean of each arm, [A]."""
        if self._config.rewards == "normal":
            return self.normal()[0]
        successes, failures = self.beta()
        return successes / (successes + failures)

    def normal(self) -> tuple[Array, Array]:
        """Return the mean and the standard deviation of each arm's normal posterior, [A] each."""
        config = self._config
        prior, noise = config.prior_std**-2, config.noise_std**-2
        precision = prior + noise * self.weights["pulls"]
        mean = (prior * config.prior_mean + noise * self.weights["reward_sum"]) / precision
        return mean, precision**-0.5

    def beta(self) -> tuple[Array, Array]:
        """Return both parameters of each arm's beta posterior, [A] each."""
        successes = self.weights["reward_sum"]
        failures = self.weights["pulls"] - successes
        return self._config.prior_successes + successes, self._config.prior_failures + failures

    def choose(self, scores: Array, mask: Array | None) -> Array:
        """Draw the arms' means for each row, and return the arm that is best in each draw, int64 [N]."""
        if self._config.rewards == "normal":
            drawn = self._rng.normal(*self.normal(), size=scores.shape)
        else:
            drawn = self._rng.beta(*self.beta(), size=scores.shape)
        return legal(drawn, mask).argmax(axis=1)

    def learn(self, action: Array, reward: Array, mask: Array | None) -> float:
        """Update the posterior; return the mean distance of the rewards from the posterior means before.

        Raises:
            UsageError: a reward is neither 0 nor 1, with bernoulli rewards.
        """
        other = (reward != 0) & (reward != 1)
        if self._config.rewards == "bernoulli" and other.any():
            raise UsageError(
                f"rewards 'bernoulli' of bandit-thompson must be 0 or 1, got {reward[other][0]} (allowed: normal)"
            )
        error = float(np.abs(reward - self.scores()[action]).mean())
        np.add.at(self.weights["reward_sum"], action, reward)
        np.add.at(self.weights["pulls"], action, 1)
        return error
