"""Bytes on disk: atomic writes, checkpoints of state trees, format numbers, locks, versions.

Loading never runs code. What the bytes mean is known above: nothing here knows of agents, runs or environments.
"""
