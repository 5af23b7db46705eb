"""Recorded transitions in Minari's format: reading, writing, recording a policy, labelled examples as episodes.

How a dataset takes the place of an environment while training is found in `training.experience`.
"""
