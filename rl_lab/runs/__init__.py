"""A run and its directory: config, clock, rows, early stopping, signals, progress, the mirror to W&B.

How well a policy does is measured in `evaluation`; how one is trained, in `training`.
"""
