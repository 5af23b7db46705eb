"""Encoders: from observations to features, chosen by the observation space.

Every encoder is a module from a batch of observations [B, ...] to features float32 [B, size].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.types import UsageError

ENCODERS = ("auto", "mlp", "cnn")
# Mnih et al. (2015), "Human-level control through deep reinforcement learning": channels, kernel, stride
NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
SMALL = ((32, 3, 1), (64, 3, 2))  # for images from 5x5, where the large kernels don't fit


class Encoder(nn.Module):
    """A stack of layers with the size of its features."""

    def __init__(self, layers: Sequence[nn.Module], size: int):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.size = size

    def forward(self, obs: Tensor) -> Tensor:
        """Return features float32 [B, size]."""
        return self.layers(obs)


class OneHot(nn.Module):
    """Turns indices int64 [B] into one-hot vectors float32 [B, n]."""

    def __init__(self, n: int, start: int = 0):
        super().__init__()
        self.n, self.start = n, start

    def forward(self, index: Tensor) -> Tensor:
        """Return the one-hot vectors."""
        return nn.functional.one_hot(index.long() - self.start, self.n).float()


class Flat(nn.Module):
    """Turns any batch into float32 [B, size]."""

    def forward(self, obs: Tensor) -> Tensor:
        """Return the flat vectors."""
        return obs.reshape(len(obs), -1).float()


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


def make_encoder(
    name: str, space: spaces.Space, hidden: Sequence[int], *, layer_norm: bool = False
) -> Encoder:
    """Make an encoder by name ("auto" goes by the space).

    Args:
        hidden: widths of its dense layers.
        layer_norm: normalise their outputs before the ReLU (Ba et al., 2016, "Layer Normalization").

    Raises:
        UsageError: a space that the encoder can't take, naming what it takes.
    """
    if (reason := refuse(name, space)) is not None:
        raise UsageError(reason)
    if name == "cnn" or (name == "auto" and is_image(space)):
        return _cnn(space, hidden, layer_norm)
    if isinstance(space, spaces.Discrete):
        one_hot = OneHot(int(space.n), int(space.start))
        return _encoder([one_hot], one_hot.n, hidden, layer_norm)
    assert space.shape is not None
    return _encoder([Flat()], int(np.prod(space.shape)), hidden, layer_norm)


def refuse(name: str, space: spaces.Space) -> str | None:
    """Say in one line why the encoder can't take observations of this space; None if it can."""
    if name not in ENCODERS:
        return f"encoder {name!r} is unknown (allowed: {', '.join(ENCODERS)})"
    if name == "cnn":
        return _refuse_cnn(space)
    if not isinstance(space, spaces.Discrete | spaces.Box):
        return f"encoder {name!r} takes Box or Discrete observations, not {space}"
    if name == "auto" and is_image(space):
        return _refuse_cnn(space)
    return None


def is_image(space: spaces.Space) -> bool:
    """Say whether a space holds images: uint8 with two or three axes."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def image_shape(space: spaces.Box) -> tuple[int, int, int]:
    """Return (channels, height, width); of three axes the smaller of first and last holds the channels."""
    shape = space.shape
    if len(shape) == 2:
        return (1, *shape)
    return (shape[2], shape[0], shape[1]) if shape[2] < shape[0] else (shape[0], shape[1], shape[2])


def _refuse_cnn(space: spaces.Space) -> str | None:
    if not isinstance(space, spaces.Box) or len(space.shape) not in (2, 3):
        return f"encoder 'cnn' takes images (Box with 2 or 3 axes), not {space}"
    _, height, width = image_shape(space)
    if min(height, width) < 5:
        return f"encoder 'cnn' takes images from 5x5, not {height}x{width} (allowed: 'mlp')"
    return None


def _cnn(space: spaces.Space, hidden: Sequence[int], layer_norm: bool) -> Encoder:
    """Convolutions, then dense layers: Nature's from 36x36, a small stack below."""
    assert isinstance(space, spaces.Box)
    channels, height, width = image_shape(space)
    layers: list[nn.Module] = [
        Image(
            channels_last=len(space.shape) == 3
            and space.shape[2] == channels
            and space.shape[2] < space.shape[0],
            has_channels=len(space.shape) == 3,
            scale=1.0 / 255.0 if space.dtype == np.uint8 else 1.0,
        )
    ]
    for out, kernel, stride in NATURE if min(height, width) >= 36 else SMALL:
        layers += [nn.Conv2d(channels, out, kernel, stride), nn.ReLU()]
        channels = out
    layers.append(nn.Flatten())
    with torch.no_grad():
        size = nn.Sequential(*layers)(torch.zeros(1, *space.shape)).shape[1]
    return _encoder(layers, size, hidden, layer_norm)


def _encoder(layers: list[nn.Module], size: int, hidden: Sequence[int], layer_norm: bool) -> Encoder:
    return Encoder([*layers, *dense(size, hidden, layer_norm)], hidden[-1] if hidden else size)


def dense(size: int, hidden: Sequence[int], layer_norm: bool = False) -> list[nn.Module]:
    """Return dense layers from `size` features over the widths `hidden`, each with its ReLU."""
    layers: list[nn.Module] = []
    for width in hidden:
        norm = [nn.LayerNorm(width)] if layer_norm else []
        layers += [nn.Linear(size, width), *norm, nn.ReLU()]
        size = width
    return layers
