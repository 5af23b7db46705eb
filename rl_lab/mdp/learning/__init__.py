"""Rules of tabular learning as plain loops on arrays, which run as Python or compiled.

The same functions learn from an environment's steps (`rl_lab.agents.tabular`) and in compiled simulation. They draw no
numbers: what is chance is handed in as uniform draws, so that the same draws give the same numbers in both.
"""
