"""Heads that say more than a mean: distributions of returns, and several heads side by side.

A head's outputs are what is learned, [..., A, K] for distributions and [..., A] for means, with H heads
[..., H, A, K] or [..., H, A]. Called like any other head it gives the action values [..., A] that follow from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rl_lab.nn.encoders import DenseLayer, dense
from rl_lab.nn.fields import NetworkFields
from rl_lab.nn.layers import Linear
from rl_lab.nn.return_kinds import Means, ReturnKind, midpoints
from rl_lab.types import Array

InNumpy = Callable[[Sequence[nn.Module]], Callable[[Any], Array] | None]  # see `acting.numpy_sequential`


class PlainBody(nn.Module):
    """Dense layers from features [..., size] to outputs [..., A, K]."""

    def __init__(self, size: int, shape: tuple[int, int], fields: NetworkFields, layer: DenseLayer):
        super().__init__()
        width = fields.hidden[-1] if fields.hidden else size
        self.layers = nn.Sequential(*dense(size, fields, layer), layer(width, shape[0] * shape[1]))
        self._shape = shape

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs [..., A, K]."""
        return self.layers(features).unflatten(-1, self._shape)

    def in_numpy(self, chain: InNumpy) -> Callable[[Array], Array] | None:
        """Return the same as a function of arrays; None if a layer has no such form."""
        if (layers := chain(list(self.layers))) is None:
            return None
        return lambda x: _unflat(layers(x), self._shape)


class DuelingBody(nn.Module):
    """Outputs V + A - mean(A), for each of the K outputs by itself, from separate streams for V and A."""

    def __init__(self, size: int, shape: tuple[int, int], fields: NetworkFields, layer: DenseLayer):
        super().__init__()
        self.value = PlainBody(size, (1, shape[1]), fields, layer)
        self.advantage = PlainBody(size, shape, fields, layer)

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs [..., A, K]."""
        advantage = self.advantage(features)
        return self.value(features) + advantage - advantage.mean(-2, keepdim=True)

    def in_numpy(self, chain: InNumpy) -> Callable[[Array], Array] | None:
        """Return the same as a function of arrays; None if a layer has no such form."""
        value, advantage = self.value.in_numpy(chain), self.advantage.in_numpy(chain)
        if value is None or advantage is None:
            return None

        def dueling(x: Array) -> Array:
            a = advantage(x)
            return value(x) + a - a.mean(axis=-2, keepdims=True)

        return dueling


class FractionEmbedding(nn.Module):
    """Multiplies features by what is learned of fractions: relu(W cos(pi i fraction) + b), i below `cosines`."""

    def __init__(self, size: int, cosines: int):
        super().__init__()
        self.cosines = cosines
        self.layers = nn.Sequential(Linear(cosines, size), nn.ReLU())

    def forward(self, features: Tensor, fractions: Tensor) -> Tensor:
        """Return [..., F, size] for features [..., size] and fractions [F], or [B, F] for features [..., B, size]."""
        steps = torch.arange(self.cosines, device=features.device) * torch.pi
        return features.unsqueeze(-2) * self.layers(torch.cos(fractions.unsqueeze(-1) * steps))


class ReturnHead(nn.Module):
    """Features to outputs, and outputs to action values.

    Args:
        body: maps features [B, size] to [B, A, K], or with several heads to [H, B, A, K].
        kind: what the outputs mean.
        heads: the number of heads H; the action values are the mean of theirs.
        embedding: of fractions, for implicit quantiles.
    """

    def __init__(
        self, body: nn.Module, kind: ReturnKind, heads: int = 1, embedding: FractionEmbedding | None = None
    ):
        super().__init__()
        self.body, self.kind, self.heads, self.embedding = body, kind, heads, embedding

    def extra_repr(self) -> str:
        """Return what the outputs mean as text; it identifies compiled code."""
        return f"{self.kind}, heads={self.heads}"

    def outputs(self, features: Tensor, fractions: Tensor | None = None) -> Tensor:
        """Return what is learned, [..., A, K] or [..., A], with several heads [..., H, A, K] or [..., H, A].

        Args:
            features: [..., size].
            fractions: of implicit quantiles, [K] or [B, K] for features [..., B, size]; None: the fixed ones.
        """
        x = features
        if self.embedding is not None:
            x = self.embedding(x, midpoints(self.kind.width, x.device) if fractions is None else fractions)
        y = self.body(x if self.heads == 1 else x.flatten(0, -2))
        if self.heads > 1:
            y = y.movedim(0, 1).unflatten(0, (-1, *x.shape[1:-1]))  # for files of any batch size
        if self.embedding is not None:
            return y.squeeze(-1).movedim(features.ndim - 1, -1)
        return y.squeeze(-1) if isinstance(self.kind, Means) else y

    def each(self, features: Tensor) -> Tensor:
        """Return each head's action values [..., H, A], or [..., A] with a single head."""
        return self.kind.means(self.outputs(features))

    def forward(self, features: Tensor) -> Tensor:
        """Return the action values [..., A]."""
        q = self.each(features)
        return q if self.heads == 1 else q.mean(-2)

    def in_numpy(self, chain: InNumpy) -> Callable[[Array], Array] | None:
        """Return the action values as a function of arrays; None if a layer has no such form."""
        each = self.each_in_numpy(chain)
        if self.heads == 1 or each is None:
            return each
        return lambda x: each(x).mean(axis=-2)

    def each_in_numpy(self, chain: InNumpy) -> Callable[[Array], Array] | None:
        """Return `each` as a function of arrays [N, size]; None if a layer has no such form."""
        body: Any = self.body
        if (layers := body.in_numpy(chain)) is None:
            return None
        embed = None if self.embedding is None else _embedded(self.embedding, self.kind.width, chain)

        def each(x: Array) -> Array:
            z = x if embed is None else embed(x)
            y = layers(z if self.heads == 1 else z.reshape(-1, z.shape[-1]))  # [..., A, K]
            if self.heads > 1:
                y = y.swapaxes(0, 1).reshape(*z.shape[:-1], self.heads, *y.shape[-2:])
            if embed is not None:  # [N, F, ..., A, 1]
                return self.kind.means_in_numpy(np.moveaxis(y[..., 0], 1, -1))
            return self.kind.means_in_numpy(y[..., 0] if isinstance(self.kind, Means) else y)

        return each


def _embedded(embedding: FractionEmbedding, count: int, chain: InNumpy) -> Callable[[Array], Array]:
    """Return the embedding as a function of arrays: [N, size] to [N, F, size], at the fixed fractions."""
    layers = chain(list(embedding.layers))
    assert layers is not None
    steps = np.pi * np.arange(embedding.cosines)
    cosines = np.cos(midpoints(count).numpy()[:, None] * steps).astype(np.float32)
    return lambda x: x[:, None] * layers(cosines)


def _unflat(x: Array, shape: tuple[int, int]) -> Array:
    return x.reshape(*x.shape[:-1], *shape)


class EachHead(nn.Module):
    """A head that gives the action values of each of its heads, [..., H, A]; it shares their weights."""

    def __init__(self, head: ReturnHead):
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        """Return the action values [..., H, A]."""
        return self.head.each(features)

    def in_numpy(self, chain: InNumpy) -> Callable[[Array], Array] | None:
        """Return the same as a function of arrays; None if a layer has no such form."""
        return self.head.each_in_numpy(chain)
