"""The loop, and all that turns names and fields into a trained policy.

What is learned and how lives in `agents`; many runs at once are a study, in `studies`.
"""
