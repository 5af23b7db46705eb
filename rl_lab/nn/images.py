"""Convolutional encoders of images, and which images each of them can take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.checks import show_space
from rl_lab.environments.actions import leaf_spaces

# Channels, kernel and stride of each convolution.
# Mnih et al. (2015), "Human-level control through deep reinforcement learning"
NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
MINATAR = ((16, 3, 1),)  # Young & Tian (2019), "MinAtar", https://arxiv.org/abs/1903.03176
SMALL = ((32, 3, 1), (64, 3, 2))  # for images from 5x5, which are too small for the large kernels
SMALL_POOLED = ((32, 3, 1), (64, 3, 1))  # the same, halved by pooling instead of the stride
IMPALA = (16, 32, 32)  # channels of the blocks
POOL_LAYERS: dict[str, Callable[[int], nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}
POOLINGS = ("none", *POOL_LAYERS)


CHANNELS = ("auto", "first", "last", "smaller")
IMAGE_SCALES = ("bound", "byte")
CHANNEL_COUNTS = (1, 3)  # grey and RGB, which are told apart from a side of the image at any size


class Layout(NamedTuple):
    """One way to read the axes of an observation as an image, or as a stack of images."""

    channels: int  # of all stacked images together
    height: int
    width: int
    channels_last: bool = False
    axes: int = 3

    @property
    def side(self) -> int:
        """The shorter side."""
        return min(self.height, self.width)


class Image(nn.Module):
    """Maps images [B, ...] to float32 [B, C, H, W], multiplied by `scale`; stacked images are channels side by side.

    Args:
        scale: one factor, or one for each of the C channels.
    """

    def __init__(self, layout: Layout, scale: float | Sequence[float] = 1.0):
        super().__init__()
        self.layout, self.scale = layout, scale

    def extra_repr(self) -> str:
        """Return what tells it apart from others: compiled updates are shared between networks of equal repr."""
        return f"{self.layout}, {self.scale}"

    def forward(self, obs: Tensor) -> Tensor:
        """Return the images float32 [B, C, H, W]."""
        images = _channels_first(obs, self.layout)
        # Laid out as torch.channels_last, for which `vmap` has no rule.
        pixels = images.movedim(1, 3).to(torch.float32, memory_format=torch.contiguous_format)
        floats = pixels.movedim(3, 1)
        if isinstance(self.scale, float):
            return floats if self.scale == 1.0 else floats.mul_(self.scale)  # a copy: only bytes are scaled
        return floats.mul_(torch.tensor(self.scale, device=floats.device)[:, None, None])


def _channels_first(obs: Tensor, layout: Layout) -> Tensor:
    """Return images [B, ...] as [B, C, H, W]."""
    if layout.axes == 2:
        return obs.unsqueeze(1)
    images = obs.movedim(-1, -3) if layout.channels_last else obs
    return images.flatten(1, 2) if layout.axes == 4 else images


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


class ChannelNorm(nn.LayerNorm):
    """Normalises each pixel of images [B, C, H, W] over its C channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Return images of the same shape."""
        return super().forward(x.movedim(1, 3)).movedim(3, 1)


@dataclass(frozen=True)
class Convolutions:
    """A convolutional architecture."""

    layers: Callable[[int], list[nn.Module]]  # makes the layers, given the number of channels
    smallest: int  # the smallest side of an image that it takes, in pixels


def is_image(space: spaces.Space, channels: str = "auto") -> bool:
    """Return whether observations are images: uint8 [H, W], with channels first or last, or a stack of such images.

    What is too small for every encoder of images whichever axis holds the channels is none.

    Args:
        channels: as in `layout_of`; with "smaller" images have 2 or 3 axes, and any size.
    """
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or len(space.shape) not in (2, 3, 4):
        return False
    if channels == "smaller":
        return len(space.shape) < 4
    return max(layout.side for layout in _readings(space.shape)) >= _smallest(SMALL)


def layout_of(space: spaces.Box, channels: str = "auto") -> Layout | None:
    """Return how the axes of an image are read; None if neither `channels` nor the shape tells.

    The shape tells if one of the outer two axes is too small to be a side of the image. It is smaller than the
    other two, and these are equal (84x84x4), or at least twice as long (84x160x12), or it counts 1 or 3
    (RGB). So 7x7x20 (a square with 20 channels, or 7 channels of 7x20) and 10x10x10 don't tell.

    Args:
        space: 2 axes (no channels), 3, or 4, of which the first is that of the stack.
        channels: "first", "last", "auto", or of 3 axes "smaller": whichever is smaller, the first if they are equal.
    """
    readings = _readings(space.shape)
    if len(readings) == 1:
        return readings[0]
    first, last = readings
    if channels in ("first", "last"):
        return last if channels == "last" else first
    if channels == "smaller":
        smaller = last if space.shape[-1] < space.shape[-3] else first
        return smaller if len(space.shape) == 3 else None
    if _is_clear(space.shape[-3:]):
        return last if space.shape[-1] < space.shape[-3] else first
    return None


def has_channels_last(space: spaces.Box, channels: str = "auto") -> bool:
    """Return whether the last axis holds the channels."""
    layout = layout_of(space, channels)
    return layout is not None and layout.channels_last


def _readings(shape: tuple[int, ...]) -> list[Layout]:
    """Return the ways to read a shape: the only one without channels, else with channels first and last."""
    if len(shape) == 2:
        return [Layout(1, *shape, axes=2)]
    stack = shape[0] if len(shape) == 4 else 1
    a, b, c = shape[-3:]
    return [Layout(stack * a, b, c, False, len(shape)), Layout(stack * c, a, b, True, len(shape))]


def _is_clear(shape: tuple[int, ...]) -> bool:
    """Return whether a shape of three axes tells which of the outer ones holds the channels."""
    (least, most), middle = sorted((shape[0], shape[2])), shape[1]
    if least >= min(most, middle):
        return False
    return least in CHANNEL_COUNTS or middle == most or 2 * least <= min(most, middle)


def convolutions(name: str, side: int, pooling: str = "none") -> Convolutions:
    """Return the architecture that a name denotes for images whose shorter side is `side`.

    "cnn" is the Nature network if its kernels fit, otherwise "small". `pooling` only concerns "small".
    """
    if name == "impala":
        return Convolutions(_impala, 3)  # below that, the first kernel would see mostly padding
    if name == "minatar":
        return Convolutions(_stack(MINATAR), _smallest(MINATAR))
    nature = Convolutions(_stack(NATURE), _smallest(NATURE))
    if name == "cnn" and side >= nature.smallest:
        return nature
    if pooling == "none":
        return Convolutions(_stack(SMALL), _smallest(SMALL))
    pool = POOL_LAYERS[pooling]
    return Convolutions(
        lambda channels: [*_stack(SMALL_POOLED)(channels), pool(2)], _smallest((*SMALL_POOLED, (0, 2, 2)))
    )


def image_layers(
    name: str,
    space: spaces.Box,
    pooling: str = "none",
    channels: str = "auto",
    scale: str = "bound",
    *,
    layer_norm: bool = False,
) -> list[nn.Module]:
    """Return the layers that map images [B, ...] of a space to flat features [B, size].

    Args:
        layer_norm: normalise the outputs of each convolution over its channels; with "impala" of the first in a block.
        scale: bytes are divided by the space's upper bound ("bound"), which brings them to [0, 1], or by 255 ("byte").
    """
    layout = layout_of(space, channels)
    assert layout is not None, space
    layers = convolutions(name, layout.side, pooling).layers(layout.channels)
    if layer_norm:
        layers = [part for layer in layers for part in (layer, *_norm_of(layer))]
    return [Image(layout, _factor(space, layout, scale)), *layers, nn.Flatten()]


def _norm_of(layer: nn.Module) -> list[nn.Module]:
    return [ChannelNorm(layer.out_channels)] if isinstance(layer, nn.Conv2d) else []


def _factor(space: spaces.Box, layout: Layout, scale: str) -> float | list[float]:
    """Return what bytes are multiplied by: 1 / 255, or 1 / the space's bound, channel by channel where it differs."""
    if space.dtype != np.uint8:
        return 1.0
    if scale == "byte":
        return 1.0 / 255.0
    highs = _channels_first(torch.from_numpy(space.high.astype(np.int64))[None], layout)[0]
    factors = [1.0 / max(1, high) for high in highs.amax((1, 2)).tolist()]
    return factors[0] if len(set(factors)) == 1 else factors


def images_read(space: spaces.Space, channels: str, scale: str) -> list[Any]:
    """Return the layout and the factor of each image among the observations, in the order of their parts."""
    parts = [p for p in leaf_spaces(space) if isinstance(p, spaces.Box) and is_image(p, channels)]
    layouts = [(part, layout_of(part, channels)) for part in parts]
    return [(layout, layout and _factor(part, layout, scale)) for part, layout in layouts]


def refuse_image(name: str, space: spaces.Space, pooling: str = "none", channels: str = "auto") -> str | None:
    """Return why the named encoder of images can't take a space (one line), or None if it can."""
    if not isinstance(space, spaces.Box) or len(space.shape) not in (2, 3, 4):
        return f"encoder {name!r} takes images (Box with 2, 3 or 4 axes), not {show_space(space)}"
    layout = layout_of(space, channels)
    seen = layout or max(_readings(space.shape), key=lambda reading: reading.side)
    least = convolutions(name, seen.side, pooling).smallest
    if seen.side < least:
        return f"encoder {name!r} takes images from {least}x{least}, not {seen.height}x{seen.width} (allowed: 'mlp')"
    if layout is None:
        shape = "x".join(map(str, space.shape))
        return (
            f"images {shape} may have their channels first or last"
            " (allowed: --channels first, --channels last, --encoder mlp)"
        )
    if pooling != "none" and (name in ("impala", "minatar") or least == _smallest(NATURE)):
        size = f"{seen.height}x{seen.width}"
        return f"pooling {pooling!r} goes with encoder 'small' alone, not {name!r} at {size} (allowed: none)"
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
