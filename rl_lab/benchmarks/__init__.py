"""What `rl-lab benchmark` times: work of the lab beside the same work of a peer, one family in each module.

A function named like the benchmark returns its list of `Work`. Peers (SB3, QuantEcon, SBX, ...) are imported here,
and nowhere else in the lab but in the agents that run them.
"""
