"""Spaces for tests."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces


def uint8(*shape):
    """Images, if the shape has two or three axes."""
    return spaces.Box(0, 255, shape, np.uint8)


def floats(*shape):
    """Finite float32 vectors or arrays."""
    return spaces.Box(-10.0, 10.0, shape, np.float32)


NESTED = spaces.Dict({
    "seen": spaces.Dict({"near": uint8(5, 5, 3), "far": uint8(3, 40, 40)}),
    "told": spaces.Tuple([spaces.Discrete(4, start=-1), spaces.MultiDiscrete([[2, 3], [4, 5]]), floats(2, 3)]),
    "lamps": spaces.MultiBinary([2, 3]),
})  # fmt: skip
