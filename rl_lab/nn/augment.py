"""Random shifts of images, for data augmentation."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rl_lab.nn.images import has_channels_last, is_image


def random_shift(
    images: Tensor, rng: np.random.Generator, *, pad: int = 4, channels_last: bool = False
) -> Tensor:
    """Shift each image by up to `pad` pixels along both axes, repeating the pixels at its border.

    Kostrikov et al. (2021), "Image Augmentation Is All You Need" (DrQ), https://arxiv.org/abs/2004.13649,
    pad by repetition and then crop at random. Here the crop is a look-up at clamped positions, which gives the
    same result without padding.

    Args:
        images: any dtype, [B, ..., H, W] or, with `channels_last`, [B, ..., H, W, C]. All that lies between the
            batch and the height is shifted alike.
        rng: draws the offsets of the rows [B], then those of the columns [B].

    Returns:
        New images of the same shape and dtype.
    """
    first = images.ndim - (3 if channels_last else 2)  # the axis of the rows
    drawn = rng.integers(-pad, pad + 1, size=(2, len(images)))
    rows, columns = (
        _places(images.shape[first + k], torch.from_numpy(drawn[k]).to(images.device)) for k in range(2)
    )
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    taken = images.movedim((first, first + 1), (1, 2))[batch, rows[:, :, None], columns[:, None, :]]
    return taken.movedim((1, 2), (first, first + 1)).contiguous()


def shift_observations(
    obs: Any,
    space: spaces.Space,
    rng: np.random.Generator,
    pad: int,
    *,
    channels: str = "auto",
    over_time: bool = False,
) -> Any:
    """Shift the images in observations by up to `pad` pixels, and leave everything else as it is.

    Args:
        obs: tensors [B, *shape] or [T, B, *shape] for spaces of that shape, or trees of them.
        channels: which axis of an image holds them, as in `rl_lab.nn.images.layout_of`.
        over_time: observations are [T, B, ...], and an image is shifted by the same offset at all T steps.

    Returns:
        Observations of the same shapes and dtypes.
    """
    shift = partial(shift_observations, rng=rng, pad=pad, channels=channels, over_time=over_time)
    if isinstance(space, spaces.Dict):
        return {key: shift(part, space[key]) for key, part in obs.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(shift(part, of) for part, of in zip(obs, space.spaces, strict=True))
    if not (isinstance(space, spaces.Box) and is_image(space, channels)):
        return obs
    leading = obs.ndim - len(space.shape)  # axes before the image's
    time = (leading - 2, leading - 1) if over_time else (0, 0)
    images = obs.movedim(*time)  # puts time behind the batch
    kept = leading - over_time
    flat = images.flatten(0, kept - 1)
    shifted = random_shift(flat, rng, pad=pad, channels_last=has_channels_last(space, channels))
    return shifted.unflatten(0, images.shape[:kept]).movedim(*reversed(time))


def _places(length: int, offset: Tensor) -> Tensor:
    """Return the position from which each pixel of an axis is taken, int64 [B, length]."""
    return (torch.arange(length, device=offset.device) + offset[:, None]).clamp(0, length - 1)
