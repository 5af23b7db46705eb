"""The fields of the bandit learners, and the problems they refuse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from gymnasium import spaces

from rl_lab.checks import above, at_least, finite, flags, one_of, show_space, within
from rl_lab.environments.table_rows import count_rows
from rl_lab.mdp.model import TabularModel
from rl_lab.problem import Problem

SAME = 1e-9  # expected rewards and probabilities that differ by less are equal


@dataclass(frozen=True)
class BanditFields:
    """Fields of all bandit learners."""

    gamma: ClassVar[float] = 0.0  # the value of an arm is the mean of its next reward

    ignore_observations: bool = False
    """Learn from any environment as if it were a bandit: one value for each action, whatever is observed."""

    def budget_fields(self) -> tuple[str, ...]:
        """Return the fields by which what is learned depends on the budget."""
        return ()

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: one has a value that isn't allowed; the message names it.
        """
        flags(self, "ignore_observations")


@dataclass(frozen=True)
class MeanFields(BanditFields):
    """Fields of learners that estimate each arm's mean reward."""

    step_size: float | None = None
    """Share of an error that one pull removes, in (0, 1], for rewards that change; None: 1/n, the sample mean."""
    initial_value: float = 0.0
    """Estimate of every arm before its first pull; with a step_size, high ones encourage exploration (optimism)."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: one has a value that isn't allowed; the message names it.
        """
        super().__post_init__()
        above(self, 0.0, "step_size")
        within(self, 0.0, 1.0, "step_size")
        finite(self, "initial_value")


@dataclass(frozen=True)
class EpsilonGreedyConfig(MeanFields):
    """Fields of the epsilon-greedy bandit."""

    epsilon_initial: float = 0.1
    """Probability of a random arm at the start."""
    epsilon_final: float = 0.1
    """Probability of a random arm after epsilon has fallen."""
    epsilon_fraction: float = 0.5
    """Share of the budget over which epsilon falls linearly."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: one has a value that isn't allowed; the message names it.
        """
        super().__post_init__()
        within(self, 0.0, 1.0, "epsilon_initial", "epsilon_final", "epsilon_fraction")

    def budget_fields(self) -> tuple[str, ...]:
        """Return the fields by which what is learned depends on the budget."""
        falls = self.epsilon_fraction > 0 and self.epsilon_initial != self.epsilon_final
        return ("epsilon_fraction",) * falls


@dataclass(frozen=True)
class UCBConfig(MeanFields):
    """Fields of the upper-confidence-bound bandit."""

    confidence: float = 2.0
    """Weight of the bonus sqrt(ln t / n), in units of reward; for rewards in 0..1, sqrt(2) is UCB1."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: one has a value that isn't allowed; the message names it.
        """
        super().__post_init__()
        at_least(self, 0.0, "confidence")
        finite(self, "confidence")


@dataclass(frozen=True)
class GradientConfig(BanditFields):
    """Fields of the gradient bandit."""

    step_size: float = 0.1
    """Step size of the preferences, above 0."""
    baseline: bool = True
    """Compare rewards with the mean of all earlier ones instead of with 0."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: one has a value that isn't allowed; the message names it.
        """
        super().__post_init__()
        above(self, 0.0, "step_size")
        finite(self, "step_size")
        flags(self, "baseline")


@dataclass(frozen=True)
class ThompsonConfig(BanditFields):
    """Fields of Thompson sampling."""

    rewards: Literal["normal", "bernoulli"] = "normal"
    """Distribution of an arm's rewards: normal with known noise, or 0 and 1."""
    prior_mean: float = 0.0
    """Expected mean reward of an arm before its first pull, with normal rewards."""
    prior_std: float = 1.0
    """Standard deviation of the arms' mean rewards before the first pull, in units of reward, with normal rewards."""
    noise_std: float = 1.0
    """Standard deviation of an arm's rewards around its mean, in units of reward, with normal rewards."""
    prior_successes: float = 1.0
    """First parameter of the beta prior of an arm's probability of reward 1, with bernoulli rewards."""
    prior_failures: float = 1.0
    """Second parameter of the beta prior, with bernoulli rewards."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: one has a value that isn't allowed; the message names it.
        """
        super().__post_init__()
        one_of(self, "rewards", ("normal", "bernoulli"))
        positive = ("prior_std", "noise_std", "prior_successes", "prior_failures")
        above(self, 0.0, *positive)
        finite(self, "prior_mean", *positive)


def refuse(agent: str, config: BanditFields, problem: Problem) -> str | None:
    """Return why a bandit learner can't take a problem (one line), or None if it can."""
    spec = problem.spec
    if not isinstance(spec.action_space, spaces.Discrete):
        found = show_space(spec.action_space)
        return (
            f"{agent} needs Discrete actions; {spec.env_id} has {found} (allowed: Discrete; ppo takes others)"
        )
    if config.ignore_observations or count_rows(spec.observation_space) == 1:
        return None
    if problem.model is not None and is_bandit(problem.model):
        return None
    return (
        f"{agent} learns one value for each action, and {spec.env_id} isn't known to be a bandit (allowed: a single"
        " observation, a model whose rewards don't depend on the state, nor next states on the action; others with"
        " ignore_observations)"
    )


def is_bandit(model: TabularModel) -> bool:
    """Return whether each action's reward is the same in all states, and what follows the same for all actions."""
    reward, going_on = model.expected_reward, model.continuation
    if not model.available.all() or np.abs(reward - reward[0]).max() > SAME:
        return False
    first = going_on[:: model.num_actions]
    differences = (abs(going_on[a :: model.num_actions] - first) for a in range(1, model.num_actions))
    return all(difference.nnz == 0 or difference.max() <= SAME for difference in differences)
