"""Linear function approximation: action values as sums of features' weights, learned step by step or by least squares.

The features are in `features` and their fields in `fields`; `semi_gradient` holds SARSA and Q-learning, `sampled` LSTD
and LSPI, whose arithmetic is in `least_squares`.
"""

from __future__ import annotations

from functools import partial

from rl_lab.training.interaction import Interaction
from rl_lab.training.learner import built_from

from . import sampled, semi_gradient
from .sampled import LeastSquares, LSPIConfig, LSTDConfig
from .semi_gradient import QConfig, SarsaConfig, SemiGradient

__all__ = [
    "LSPIConfig",
    "LSTDConfig",
    "LeastSquares",
    "QConfig",
    "SarsaConfig",
    "SemiGradient",
    "build_lspi",
    "build_lstd",
    "build_q",
    "build_sarsa",
]


@built_from(SarsaConfig)
def build_sarsa(config: SarsaConfig) -> Interaction:
    """Learn linear action values with semi-gradient SARSA, with traces; Box or discrete observations."""
    refuse = partial(semi_gradient.refuse, "semi-gradient-sarsa")
    return Interaction(config, SemiGradient, refuse, takes_datasets=False)


@built_from(QConfig)
def build_q(config: QConfig) -> Interaction:
    """Learn linear action values with semi-gradient Q-learning, with traces; Box or discrete observations."""
    return Interaction(config, SemiGradient, partial(semi_gradient.refuse, "semi-gradient-q"))


@built_from(LSTDConfig)
def build_lstd(config: LSTDConfig) -> Interaction:
    """Evaluate the policy that acts by least squares, and improve it; Box or discrete observations."""
    return Interaction(config, LeastSquares, partial(sampled.refuse, "lstd"), takes_datasets=False)


@built_from(LSPIConfig)
def build_lspi(config: LSPIConfig) -> Interaction:
    """Learn linear action values by least-squares policy iteration; Box or discrete observations."""
    return Interaction(config, LeastSquares, partial(sampled.refuse, "lspi"))
