"""Noisy layers: dense layers whose weights carry learned noise, so that acting by them explores.

Fortunato et al. (2018), "Noisy Networks for Exploration", https://arxiv.org/abs/1706.10295, with factorised noise.
A layer without noise computes with its mean weights: evaluation, and whatever else draws none, is deterministic.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from rl_lab.nn.layers import Linear
from rl_lab.types import Array


class NoisyLinear(Linear):
    """(W + S e' e^T) x + b + s e', where e and e' are the noise of inputs and outputs.

    Args:
        inputs: width of x.
        outputs: width of the result.
        sigma: the initial S and s are sigma / sqrt(inputs).
    """

    def __init__(self, inputs: int, outputs: int, sigma: float = 0.5):
        super().__init__(inputs, outputs)
        self.weight_sigma = nn.Parameter(torch.full((outputs, inputs), sigma / inputs**0.5))
        self.bias_sigma = nn.Parameter(torch.full((outputs,), sigma / inputs**0.5))
        self.noise: Any = None  # of inputs and outputs, each [width] or [B, width]; None: no noise

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs [..., out] for inputs [..., in]; noise [B, width] belongs to inputs [B, ..., in]."""
        y = super().forward(x)
        if self.noise is None:
            return y
        before, after = (_beside(part, x.ndim) for part in self.noise)
        return y + after * linear(x * before, self.weight_sigma, self.bias_sigma)

    def in_numpy(self, _: Any = None) -> Any:
        """Return the same as a function of arrays, on views of the weights."""
        w, b, ws, bs = (
            p.detach().numpy().T for p in (self.weight, self.bias, self.weight_sigma, self.bias_sigma)
        )

        def noisy(x: Array) -> Array:
            y = x @ w
            y += b
            if self.noise is not None:
                before, after = (_beside(part, x.ndim) for part in self.noise)
                y += after * ((x * before) @ ws + bs)
            return y

        return noisy


def _beside(noise: Any, ndim: int) -> Any:
    """Return noise [B, width] as [B, 1, ..., width] with `ndim` axes; noise [width] stays as it is."""
    return noise if noise.ndim == 1 else noise.reshape(len(noise), *(1,) * (ndim - 2), -1)


class Noise:
    """Switches on the noise of a network's noisy layers inside a `with` block."""

    def __init__(self, network: nn.Module):
        self.layers = [part for part in network.modules() if isinstance(part, NoisyLinear)]
        self._sizes = [n for layer in self.layers for n in (layer.in_features, layer.out_features)]
        self.width = sum(self._sizes)  # of the noise of all layers together

    @contextmanager
    def on(self, noise: Any) -> Iterator[None]:
        """Let all layers compute with this noise, [width] or [B, width], a tensor or an array; None: without any."""
        if noise is not None:
            parts = self._parts(noise)
            for layer, before, after in zip(self.layers, parts[::2], parts[1::2], strict=True):
                layer.noise = before, after
        try:
            yield
        finally:
            for layer in self.layers:
                layer.noise = None

    def _parts(self, noise: Any) -> Any:
        if isinstance(noise, Tensor):
            return noise.split(self._sizes, -1)
        return np.split(noise, np.cumsum(self._sizes)[:-1], axis=-1)


def draw_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw noise float32 of a shape: sign(z) sqrt(|z|) for normal z."""
    z = rng.standard_normal(shape, np.float32)
    return np.sign(z) * np.sqrt(np.abs(z))
