"""From names and fields to a trained policy: learners by name, the loop, resuming, loading.

How an agent learns lives in `agents`; comparing many runs is the work of `studies`.
"""
