"""Finite Markov decision processes: the model, its extraction from an environment, and exact solvers.

What a policy is worth on a model is found in `evaluation`; how a solver becomes an agent, in `agents`.
"""
