"""What a gradient step is: targets, advantages, losses, optimisers, and whole updates, eager or compiled.

Networks live in `nn`; when to learn, and from what, is decided in `agents`.
"""
