"""What agents remember of their steps (transitions, windows of episodes, rollouts), and how it is sampled.

Only numpy is used here. How agents learn from a sample is in `updates`.
"""
