"""Convolutional encoders of images, and which image each of them can take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

# Channels, kernel and stride of each convolution.
# Mnih et al. (2015), "Human-level control through deep reinforcement learning"
NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
SMALL = ((32, 3, 1), (64, 3, 2))  # for images from 5x5, where the large kernels don't fit
SMALL_POOLED = ((32, 3, 1), (64, 3, 1))  # halved by pooling instead
IMPALA = (16, 32, 32)  # channels of the blocks
POOLINGS: dict[str, Callable[[int], nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}
POOLING = ("none", *POOLINGS)


class Image(nn.Module):
    """Turns images [B, ...] into float32 [B, C, H, W]; uint8 is scaled to [0, 1], here and nowhere else."""

    def __init__(self, channels_last: bool, has_channels: bool, scale: float):
        super().__init__()
        self.channels_last, self.has_channels, self.scale = channels_last, has_channels, scale

    def forward(self, obs: Tensor) -> Tensor:
        """Return the images with channels first."""
        images = obs if self.has_channels else obs.unsqueeze(1)
        images = images.permute(0, 3, 1, 2) if self.channels_last else images
        return images.to(torch.float32, memory_format=torch.channels_last) * self.scale


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
    """An architecture: its layers for so many channels, and the smallest side of an image it takes."""

    layers: Callable[[int], list[nn.Module]]
    smallest: int


def is_image(space: spaces.Space) -> bool:
    """Say whether a space holds images: uint8 with two or three axes."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def image_shape(space: spaces.Box) -> tuple[int, int, int]:
    """Return (channels, height, width); of three axes the smaller of first and last holds the channels."""
    shape = space.shape
    if len(shape) == 2:
        return (1, *shape)
    return (shape[2], shape[0], shape[1]) if has_channels_last(space) else (shape[0], shape[1], shape[2])


def has_channels_last(space: spaces.Box) -> bool:
    """Say whether the channels are the last of three axes: they are fewer than the first."""
    return len(space.shape) == 3 and space.shape[2] < space.shape[0]


def convolutions(name: str, side: int, pooling: str = "none") -> Convolutions:
    """Return the architecture that a name stands for at images whose shorter side is `side`.

    "cnn" is Nature's where its kernels fit and "small" below; `pooling` is that of "small".
    """
    if name == "impala":
        return Convolutions(_impala, 3)  # from there on the first kernel sees more than its padding
    nature = Convolutions(_stack(NATURE), _smallest(NATURE))
    if name == "cnn" and side >= nature.smallest:
        return nature
    if pooling == "none":
        return Convolutions(_stack(SMALL), _smallest(SMALL))
    pool = POOLINGS[pooling]
    return Convolutions(
        lambda channels: [*_stack(SMALL_POOLED)(channels), pool(2)], _smallest((*SMALL_POOLED, (0, 2, 2)))
    )


def image_layers(name: str, space: spaces.Box, pooling: str = "none") -> list[nn.Module]:
    """Return the layers from images of a space [B, ...] to flat features [B, size]."""
    channels, height, width = image_shape(space)
    image = Image(
        channels_last=has_channels_last(space),
        has_channels=len(space.shape) == 3,
        scale=1.0 / 255.0 if space.dtype == np.uint8 else 1.0,
    )
    return [image, *convolutions(name, min(height, width), pooling).layers(channels), nn.Flatten()]


def refuse_image(name: str, space: spaces.Space, pooling: str = "none") -> str | None:
    """Say in one line why an encoder of images can't take a space; None if it can."""
    if not isinstance(space, spaces.Box) or len(space.shape) not in (2, 3):
        return f"encoder {name!r} takes images (Box with 2 or 3 axes), not {space}"
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
    """Return the side of the smallest image that leaves one pixel behind the last kernel."""
    side = 1
    for _, kernel, stride in reversed(plan):
        side = (side - 1) * stride + kernel
    return side


def _impala(channels: int) -> list[nn.Module]:
    """Espeholt et al. (2018), "IMPALA", the large architecture: three blocks that halve, each two residual ones."""
    layers: list[nn.Module] = []
    for out in IMPALA:
        layers += [nn.Conv2d(channels, out, 3, padding=1), nn.MaxPool2d(3, 2, padding=1)]
        layers += [Residual(out), Residual(out)]
        channels = out
    return [*layers, nn.ReLU()]
