"""MinAtar's games. Importing this module registers their ids, MinAtar/Breakout-v1 and so on, with Gymnasium.

Young & Tian (2019), "MinAtar: An Atari-Inspired Testbed for Thorough and Reproducible Reinforcement Learning
Experiments", https://arxiv.org/abs/1903.03176. The versions v1 have only the actions that do something in a game.
"""

from __future__ import annotations

from minatar.gym import register_envs

register_envs()
