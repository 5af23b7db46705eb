"""Time limits that the registered environments share, in steps."""

from __future__ import annotations

GRID_STEPS = 200  # grid worlds; the shortest way through their default map takes 14 steps
WANDER_STEPS = 1000  # problems in which a random policy takes long to reach the end
CONTINUING_STEPS = 100  # problems that never terminate
CARTPOLE_STEPS = 500  # Gymnasium's CartPole-v1
STAR_STEPS = 1  # Baird's star, in which all states are then visited equally often
