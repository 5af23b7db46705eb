"""Networks: encoders, recurrent cores, heads, distributions, and acting on their live weights.

Losses, optimisers and everything else that moves a weight lives in `updates`.
"""
