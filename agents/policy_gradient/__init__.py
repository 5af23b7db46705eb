"""Policy gradients: REINFORCE with a baseline, A2C and PPO, with or without a memory.

`reinforce`: Williams (1992), "Simple Statistical Gradient-Following Algorithms for Connectionist
Reinforcement Learning", https://link.springer.com/article/10.1007/BF00992696; `a2c`: Mnih et al. (2016),
"Asynchronous Methods for Deep Reinforcement Learning", https://arxiv.org/abs/1602.01783, with synchronous
environments; `ppo`: Schulman et al. (2017), "Proximal Policy Optimization Algorithms",
https://arxiv.org/abs/1707.06347, its clipped form; advantages: Schulman et al. (2016),
https://arxiv.org/abs/1506.02438.

All three are one agent: a rollout, its advantages, and a loss. Deviations: where a time limit or the rollout's end
cuts an episode off, REINFORCE bootstraps from its baseline (without either it is Williams's algorithm). As in
today's implementations, states aren't weighted by gamma^t.
"""

from __future__ import annotations

from rl_lab.training.interaction import Interaction
from rl_lab.training.learner import built_from
from rl_lab.training.lockstep import Together

from .agent import PolicyGradient
from .config import A2CConfig, Config, PPOConfig, ReinforceConfig, refuse
from .together import PolicyGradientsTogether, refuse_together

__all__ = ["A2CConfig", "Config", "PPOConfig", "PolicyGradient", "ReinforceConfig", "refuse"]


@built_from(ReinforceConfig)
def build_reinforce(config: ReinforceConfig) -> Interaction:
    """Learn a policy by REINFORCE with a baseline: whole episodes, one pass over each rollout."""
    return _build(config)


@built_from(A2CConfig)
def build_a2c(config: A2CConfig) -> Interaction:
    """Learn a policy by advantage actor-critic (A2C): short rollouts, one pass over each."""
    return _build(config)


@built_from(PPOConfig)
def build_ppo(config: PPOConfig) -> Interaction:
    """Learn a policy by proximal policy optimisation (PPO): clipped updates, several passes over each rollout."""
    return _build(config)


def _build(config: Config) -> Interaction:
    together = Together(refuse_together, PolicyGradientsTogether)
    return Interaction(config, PolicyGradient, refuse, takes_datasets=False, together=together)
