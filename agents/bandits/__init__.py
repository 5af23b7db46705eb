"""Multi-armed bandits: learners that know arms and no states, made of what they estimate and how they explore.

Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., chapter 2; the papers are named in `arms`.
"""

from __future__ import annotations

from rl_lab.training.interaction import Interaction
from rl_lab.training.learner import built_from

from .agent import Bandit, BanditLearner
from .arms import MeanArms, PosteriorArms, PreferenceArms, UpperConfidenceArms
from .config import EpsilonGreedyConfig, GradientConfig, ThompsonConfig, UCBConfig, is_bandit

__all__ = [
    "Bandit",
    "EpsilonGreedyConfig",
    "GradientConfig",
    "MeanArms",
    "PosteriorArms",
    "PreferenceArms",
    "ThompsonConfig",
    "UCBConfig",
    "UpperConfidenceArms",
    "build_epsilon_greedy",
    "build_gradient",
    "build_thompson",
    "build_ucb",
    "is_bandit",
]


@built_from(EpsilonGreedyConfig)
def build_epsilon_greedy(config: EpsilonGreedyConfig) -> Interaction:
    """Play a bandit epsilon-greedily on the mean rewards of its arms."""
    return BanditLearner("bandit-epsilon-greedy", config, MeanArms)


@built_from(UCBConfig)
def build_ucb(config: UCBConfig) -> Interaction:
    """Play a bandit by upper confidence bounds of the mean rewards of its arms (UCB)."""
    return BanditLearner("bandit-ucb", config, UpperConfidenceArms)


@built_from(GradientConfig)
def build_gradient(config: GradientConfig) -> Interaction:
    """Play a bandit by preferences that climb the gradient of the expected reward."""
    return BanditLearner("bandit-gradient", config, PreferenceArms, takes_datasets=False)


@built_from(ThompsonConfig)
def build_thompson(config: ThompsonConfig) -> Interaction:
    """Play a bandit by draws from the posterior of its arms (Thompson sampling)."""
    return BanditLearner("bandit-thompson", config, PosteriorArms)
