"""Recorded transitions in Minari's format: reading and writing them, recording a policy, and labelled examples.

How a dataset takes the place of an environment in training is in `training.experience`.
"""
