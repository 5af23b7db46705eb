"""The picture of any observation: grey squares."""

from __future__ import annotations

from typing import Any

import numpy as np

from rl_lab.trees import leaves_of
from rl_lab.types import Array

TARGET_SIDE = 96  # approximate length of the shorter side in pixels
MARGIN = 4  # pixels of white on each side


def draw_array(obs: Any) -> Array:
    """Return an array, or a dict or tuple of arrays, as grey squares with a white margin, uint8 [H, W, 3]."""
    values = _arrange(obs)
    span = float(np.ptp(values)) or 1.0
    grey = (230 * (values - values.min()) / span).astype(np.uint8)
    side = max(1, TARGET_SIDE // max(1, min(grey.shape)) if max(grey.shape) <= TARGET_SIDE else 1)
    enlarged = np.kron(grey, np.ones((side, side), np.uint8))
    return np.repeat(np.pad(enlarged, MARGIN, constant_values=255)[..., None], 3, axis=2)


def _arrange(obs: Any) -> Array:
    """Return an observation's numbers [H, W]: an image with its channels side by side, anything else as a row."""
    if isinstance(obs, dict | tuple):
        rows = [np.asarray(leaf, np.float64).reshape(1, -1) for leaf in leaves_of(obs)]
        return np.concatenate(rows, axis=1)
    array = np.asarray(obs, np.float64)
    return array.reshape(len(array), -1) if array.ndim >= 2 else array.reshape(1, -1)
