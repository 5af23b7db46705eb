"""Problems in which an observation doesn't tell the state, so that memory pays.

Each states the best expected return with memory (`optimal_return`) and without (`memoryless_return`), or None where
it isn't known. Networks that have a memory are found in `rl_lab.nn`.
"""
