"""Augmentation of images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def random_shift(
    images: Tensor, rng: np.random.Generator, *, pad: int = 4, channels_last: bool = False
) -> Tensor:
    """Shift each image by up to `pad` pixels along both axes, repeating the pixels at its border.

    Kostrikov et al. (2021), "Image Augmentation Is All You Need" (DrQ), https://arxiv.org/abs/2004.13649:
    pad by repetition, then crop at random. A crop of a padded image is a look-up at clamped places, so that
    nothing is padded here.

    Args:
        images: any dtype [B, H, W], [B, C, H, W] or, with `channels_last`, [B, H, W, C].
        rng: gives all offsets: the rows' [B], then the columns' [B].

    Returns:
        New images of the same shape and dtype.
    """
    first = 1 if channels_last else images.ndim - 2  # the axis of the rows
    drawn = rng.integers(-pad, pad + 1, size=(2, len(images)))
    rows, columns = (
        _places(images.shape[first + k], torch.from_numpy(drawn[k]).to(images.device)) for k in range(2)
    )
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    taken = images.movedim((first, first + 1), (1, 2))[batch, rows[:, :, None], columns[:, None, :]]
    return taken.movedim((1, 2), (first, first + 1)).contiguous()


def _places(length: int, offset: Tensor) -> Tensor:
    """Return from where each pixel of an axis is taken, int64 [B, length]."""
    return (torch.arange(length, device=offset.device) + offset[:, None]).clamp(0, length - 1)
