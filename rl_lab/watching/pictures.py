"""Rendered frames as the bytes that a browser draws."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rl_lab.environments.pictures import as_rgb
from rl_lab.types import Array

LOSSLESS_PIXELS = 2**17  # frames of up to so many pixels are sent as PNG, larger ones as JPEG
JPEG_QUALITY = 88


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded frame."""

    data: bytes
    kind: str  # its media type
    width: int  # pixels
    height: int


def encoded(frame: Array) -> Picture:
    """Encode a frame, uint8 [H, W, 3]: small ones without loss, since single pixels matter there.

    Raises:
        ValueError: another shape or dtype.
    """
    frame = as_rgb(frame)
    height, width = frame.shape[:2]
    out = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(frame))
    if height * width <= LOSSLESS_PIXELS:
        image.save(out, "PNG", compress_level=1)
        return Picture(out.getvalue(), "image/png", width, height)
    image.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return Picture(out.getvalue(), "image/jpeg", width, height)
