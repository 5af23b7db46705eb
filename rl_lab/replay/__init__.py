"""What agents remember of their steps: transitions, windows of episodes and rollouts, and how they are sampled.

Numpy only. What is learned from a sample is found in `updates`.
"""
