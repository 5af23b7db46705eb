"""Finite Markov decision processes: the model, its extraction from an environment, and exact solvers.

What a learned policy is worth on a model is computed in `evaluation`; `agents` turns solvers into agents.
"""
