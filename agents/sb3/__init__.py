"""Stable-Baselines3's own algorithms with the lab's environments, seeds, evaluation and run directories.

Raffin et al. (2021), "Stable-Baselines3: Reliable Reinforcement Learning Implementations",
https://jmlr.org/papers/v22/20-1364.html

SB3's own `learn()` is called once, so the final parameters equal those of plain SB3 to the bit. These runs can't be
resumed, because SB3 can't resume exactly: its `load` seeds anew and drops the last observation.
"""

from __future__ import annotations

from rl_lab.training.learner import built_from

from .config import A2CConfig, DQNConfig, PPOConfig, buffer_bytes
from .learner import SB3, RunCallback, gradient_steps, make_vec_env
from .policies import SB3Policy

__all__ = [
    "SB3", "A2CConfig", "DQNConfig", "PPOConfig", "RunCallback", "SB3Policy", "buffer_bytes", "gradient_steps",
    "make_vec_env",
]  # fmt: skip


@built_from(DQNConfig)
def build_dqn(config: DQNConfig) -> SB3:
    """Run Stable-Baselines3's DQN with the lab's seeds and run directories; Discrete actions."""
    return SB3(config)


@built_from(PPOConfig)
def build_ppo(config: PPOConfig) -> SB3:
    """Run Stable-Baselines3's PPO with the lab's seeds and run directories."""
    return SB3(config)


@built_from(A2CConfig)
def build_a2c(config: A2CConfig) -> SB3:
    """Run Stable-Baselines3's A2C with the lab's seeds and run directories."""
    return SB3(config)
