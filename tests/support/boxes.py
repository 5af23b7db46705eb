"""Box spaces for tests."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces


def uint8(*shape):
    """Images, if the shape has two or three axes."""
    return spaces.Box(0, 255, shape, np.uint8)


def floats(*shape):
    """Finite float32 vectors or arrays."""
    return spaces.Box(-10.0, 10.0, shape, np.float32)
