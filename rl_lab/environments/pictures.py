"""The pictures that environments render."""

from __future__ import annotations

from typing import Any

import numpy as np

from rl_lab.environments.observed import Refused, as_array, show
from rl_lab.types import Array


def as_rgb(frame: Any) -> Array:
    """Return a frame as uint8 [H, W, 3]; grey [H, W] or [H, W, 1] is repeated, alpha is dropped.

    Raises:
        Refused: it has another shape or dtype; nothing is cast, since nobody knows what white is.
    """
    given = as_array(frame)
    picture = given[..., None] if given.ndim == 2 else given
    if (
        picture.dtype != np.uint8
        or picture.ndim != 3
        or picture.shape[2] not in (1, 3, 4)
        or not picture.size
    ):
        came = f"{given.dtype} of shape {given.shape}" if isinstance(frame, np.ndarray) else show(frame)
        raise Refused(f"{came} (allowed: a picture uint8 [height, width, 3])")
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture[..., :3]
