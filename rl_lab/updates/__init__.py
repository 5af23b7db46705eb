"""Gradient steps: targets, advantages, losses, optimisers, and whole updates, eager or compiled.

Networks live in `nn`; `agents` decide when to learn, and from what.
"""
