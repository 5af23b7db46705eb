"""Convolutional encoders of images, and which images each of them can take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.checks import show_space

# Channels, kernel and stride of each convolution.
# Mnih et al. (2015), "Human-level control through deep reinforcement learning"
NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
SMALL = ((32, 3, 1), (64, 3, 2))  # for images from 5x5, which are too small for the large kernels
SMALL_POOLED = ((32, 3, 1), (64, 3, 1))  # the same, halved by pooling instead of the stride
IMPALA = (16, 32, 32)  # channels of the blocks
POOL_LAYERS: dict[str, Callable[[int], nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}
POOLINGS = ("none", *POOL_LAYERS)


class Image(nn.Module):
    """Maps images [B, ...] to float32 [B, C, H, W], multiplied by `scale`."""

    def __init__(self, channels_last: bool, has_channels: bool, scale: float):
        super().__init__()
        self.channels_last, self.has_channels, self.scale = channels_last, has_channels, scale

    def forward(self, obs: Tensor) -> Tensor:
        """Return the images float32 [B, C, H, W]."""
        images = obs if self.has_channels else obs.unsqueeze(1)
        images = images.permute(0, 3, 1, 2) if self.channels_last else images
        floats = images.to(torch.float32, memory_format=torch.channels_last)
        return floats if self.scale == 1.0 else floats.mul_(self.scale)  # a copy: only bytes are scaled


class Residual(nn.Module):
    """A residual block of two convolutions (He et al., 2016, "Identity Mappings in Deep Residual Networks")."""

    def __init__(self, channels: int):
        super().__init__()
        self.branch = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return images of the same shape [B, C, H, W]."""
        return x + self.branch(x)


@dataclass(frozen=True)
class Convolutions:
    """A convolutional architecture."""

    layers: Callable[[int], list[nn.Module]]  # makes the layers, given the number of channels
    smallest: int  # the smallest side of an image that it takes, in pixels


def is_image(space: spaces.Space) -> bool:
    """Return whether observations are images: uint8 with two or three axes."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def image_shape(space: spaces.Box) -> tuple[int, int, int]:
    """Return (channels, height, width). With three axes, the smaller of the first and last holds the channels."""
    shape = space.shape
    if len(shape) == 2:
        return (1, *shape)
    return (shape[2], shape[0], shape[1]) if has_channels_last(space) else (shape[0], shape[1], shape[2])


def has_channels_last(space: spaces.Box) -> bool:
    """Return whether the last of three axes holds the channels, which it does if it is smaller than the first."""
    return len(space.shape) == 3 and space.shape[2] < space.shape[0]


def convolutions(name: str, side: int, pooling: str = "none") -> Convolutions:
    """Return the architecture that a name denotes for images whose shorter side is `side`.

    "cnn" is the Nature network if its kernels fit, otherwise "small". `pooling` only concerns "small".
    """
    if name == "impala":
        return Convolutions(_impala, 3)  # below that, the first kernel would see mostly padding
    nature = Convolutions(_stack(NATURE), _smallest(NATURE))
    if name == "cnn" and side >= nature.smallest:
        return nature
    if pooling == "none":
        return Convolutions(_stack(SMALL), _smallest(SMALL))
    pool = POOL_LAYERS[pooling]
    return Convolutions(
        lambda channels: [*_stack(SMALL_POOLED)(channels), pool(2)], _smallest((*SMALL_POOLED, (0, 2, 2)))
    )


def image_layers(name: str, space: spaces.Box, pooling: str = "none") -> list[nn.Module]:
    """Return the layers that map images [B, ...] of a space to flat features [B, size]; uint8 is scaled to [0, 1]."""
    channels, height, width = image_shape(space)
    image = Image(
        channels_last=has_channels_last(space),
        has_channels=len(space.shape) == 3,
        scale=1.0 / 255.0 if space.dtype == np.uint8 else 1.0,
    )
    return [image, *convolutions(name, min(height, width), pooling).layers(channels), nn.Flatten()]


def refuse_image(name: str, space: spaces.Space, pooling: str = "none") -> str | None:
    """Return why the named encoder of images can't take a space (one line), or None if it can."""
    if not isinstance(space, spaces.Box) or len(space.shape) not in (2, 3):
        return f"encoder {name!r} takes images (Box with 2 or 3 axes), not {show_space(space)}"
    _, height, width = image_shape(space)
    least = convolutions(name, min(height, width), pooling).smallest
    if min(height, width) < least:
        return f"encoder {name!r} takes images from {least}x{least}, not {height}x{width} (allowed: 'mlp')"
    if pooling != "none" and (name == "impala" or least == _smallest(NATURE)):
        return f"pooling {pooling!r} goes with encoder 'small' alone, not {name!r} at {height}x{width} (allowed: none)"
    return None


def _stack(plan: Sequence[tuple[int, int, int]]) -> Callable[[int], list[nn.Module]]:
    def layers(channels: int) -> list[nn.Module]:
        made: list[nn.Module] = []
        for out, kernel, stride in plan:
            made += [nn.Conv2d(channels, out, kernel, stride), nn.ReLU()]
            channels = out
        return made

    return layers


def _smallest(plan: Sequence[tuple[int, int, int]]) -> int:
    """Return the side of the smallest image that leaves at least one pixel after the last convolution."""
    side = 1
    for _, kernel, stride in reversed(plan):
        side = (side - 1) * stride + kernel
    return side


def _impala(channels: int) -> list[nn.Module]:
    """Return the large network of Espeholt et al. (2018), "IMPALA", https://arxiv.org/abs/1802.01561.

    It has three blocks, each of which halves the image and ends in two residual blocks.
    """
    layers: list[nn.Module] = []
    for out in IMPALA:
        layers += [nn.Conv2d(channels, out, 3, padding=1), nn.MaxPool2d(3, 2, padding=1)]
        layers += [Residual(out), Residual(out)]
        channels = out
    return [*layers, nn.ReLU()]
