"""Watching agents: whose policy is watched and where, past training episodes, films and pictures, and the live page.

The figures behind a choice are in `rl_lab.explanation`; playing for scores, and encoding films, in `rl_lab.evaluation`.
"""
