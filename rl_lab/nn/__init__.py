"""Networks: encoders, recurrent cores, heads, distributions, and acting with their live weights.

Losses, optimisers and everything else that changes weights live in `updates`.
"""
