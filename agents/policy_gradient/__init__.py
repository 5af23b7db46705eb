"""Policy gradients: REINFORCE with a baseline, A2C and PPO, memoryless or with a memory.

`reinforce`: Williams (1992), "Simple Statistical Gradient-Following Algorithms for Connectionist
Reinforcement Learning", https://link.springer.com/article/10.1007/BF00992696; `a2c`: Mnih et al. (2016),
"Asynchronous Methods for Deep Reinforcement Learning", https://arxiv.org/abs/1602.01783, with the
environments in step; `ppo`: Schulman et al. (2017), "Proximal Policy Optimization Algorithms",
https://arxiv.org/abs/1707.06347, its clipped form; advantages: Schulman et al. (2016),
https://arxiv.org/abs/1506.02438.

All three are one agent: a rollout, its advantages, and a loss. Deviations: the baseline of REINFORCE also
values what a time limit or the rollout's end has cut off (without either it is Williams's), and as
everywhere today the states are not weighted with gamma^t.
"""

from __future__ import annotations

from typing import Any

from rl_lab.training.interaction import Interaction

from .agent import PolicyGradient
from .config import A2CConfig, Config, PPOConfig, ReinforceConfig, refuse

__all__ = ["A2CConfig", "Config", "PPOConfig", "PolicyGradient", "ReinforceConfig", "refuse"]


def build_reinforce(**fields: Any) -> Interaction:
    """Build the learner of REINFORCE."""
    return _build(ReinforceConfig(**fields))


def build_a2c(**fields: Any) -> Interaction:
    """Build the learner of A2C."""
    return _build(A2CConfig(**fields))


def build_ppo(**fields: Any) -> Interaction:
    """Build the learner of PPO."""
    return _build(PPOConfig(**fields))


def _build(config: Config) -> Interaction:
    return Interaction(config, PolicyGradient, refuse, takes_datasets=False)
