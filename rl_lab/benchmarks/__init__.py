"""The benchmarks that `rl-lab benchmark` runs: work of the lab beside the same work of a peer.

A function with a benchmark's name returns its list of `Work`. Peers (SB3, QuantEcon, SBX, ...) are imported only here
and in the agents that run them.
"""
