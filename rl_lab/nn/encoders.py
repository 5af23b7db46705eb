"""Encoders, which map observations to features, chosen by name or by the observation space.

Every encoder is a module that maps a batch of observations [B, ...] (for Dict and Tuple spaces, a dict or tuple
of them) to features float32 [B, size].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.checks import show_space
from rl_lab.environments.actions import Composite, counts_of, first_of, parts_of
from rl_lab.nn.fields import NetworkFields
from rl_lab.nn.images import POOLINGS, image_layers, is_image, refuse_image
from rl_lab.nn.layers import Chain, Dropout, Flat, Linear
from rl_lab.types import UsageError

CONVOLUTIONAL = ("cnn", "small", "minatar", "impala")
OF_INDICES = ("onehot", "embedding")
ENCODERS = ("auto", "mlp", *CONVOLUTIONAL, *OF_INDICES)
EMBEDDING_SIZE = 16
# Values, above which one-hot vectors are refused: a batch of them would fill the memory.
ONE_HOT_LIMIT = 1_000_000
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": nn.GELU,
}
DenseLayer = Callable[[int, int], nn.Module]  # made from the numbers of inputs and outputs
Indices = spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary


class Encoder(Chain):
    """Layers from observations [B, ...] to features float32 [B, size]."""

    def __init__(self, layers: Sequence[nn.Module], size: int):
        super().__init__(layers)
        self.size = size


class OneHot(nn.Module):
    """Maps indices [B] to one-hot vectors float32 [B, n]."""

    def __init__(self, n: int, start: int = 0):
        super().__init__()
        self.n, self.start = n, start

    def extra_repr(self) -> str:
        """Return what tells it apart from others: programs of updates are shared between networks of equal repr."""
        return f"{self.n}, start={self.start}"

    def forward(self, index: Tensor) -> Tensor:
        """Return the one-hot vectors float32 [B, n]."""
        index = index.long() - self.start if self.start else index.long()
        zeros = torch.zeros(len(index), self.n, device=index.device)
        return zeros.scatter(1, index.unsqueeze(1), 1.0)  # not in place, which `vmap` can't do


class OneHots(nn.Module):
    """Maps vectors of indices [B, ...] to the one-hot vectors of their components, float32 [B, sum of counts]."""

    def __init__(self, counts: Sequence[int], starts: Sequence[int]):
        super().__init__()
        self.starts = list(starts)  # not buffers, since a compiled update is a function of parameters only
        self.places = [(k, i) for k, count in enumerate(counts) for i in range(count)]
        self.counts = list(counts)

    def extra_repr(self) -> str:
        """Return what tells it apart from others, as for `OneHot`."""
        return f"{self.counts}, starts={self.starts}"

    def forward(self, index: Tensor) -> Tensor:
        """Return the one-hot vectors side by side, float32 [B, sum of counts]."""
        index = index.flatten(1).long() - torch.tensor(self.starts, device=index.device)
        component, value = torch.tensor(self.places, device=index.device).unbind(1)
        return (index[:, component] == value).float()


class Embeddings(nn.Module):
    """Maps indices [B, ...] to learned vectors, with a table per component: float32 [B, components * width]."""

    def __init__(self, counts: Sequence[int], starts: Sequence[int], width: int):
        super().__init__()
        offsets = np.cumsum([0, *counts[:-1]]) - np.array(starts)
        self.offsets = offsets.tolist()
        self.table = nn.Embedding(sum(counts), width)

    def extra_repr(self) -> str:
        """Return what tells it apart from others, as for `OneHot`."""
        return f"offsets={self.offsets}"

    def forward(self, index: Tensor) -> Tensor:
        """Return the vectors side by side, float32 [B, components * width]."""
        rows = (index if index.ndim == 1 else index.flatten(1)).long()
        if any(self.offsets):
            rows = rows + torch.tensor(self.offsets, device=index.device)
        return self.table(rows).flatten(1)


class PerPart(nn.Module):
    """Encodes each part of a dict or tuple of observations by itself; features are float32 [B, sum of sizes]."""

    def __init__(self, keys: Sequence[Any], encoders: Sequence[Encoder]):
        super().__init__()
        self.keys = list(keys)
        self.parts = nn.ModuleList(encoders)
        self.size = sum(encoder.size for encoder in encoders)

    def forward(self, obs: Any) -> Tensor:
        """Return the features [B, sum of sizes] side by side, in the order of the keys."""
        return torch.cat([part(obs[key]) for key, part in zip(self.keys, self.parts, strict=True)], dim=1)


def make_encoder(fields: NetworkFields, space: spaces.Space, layer: DenseLayer = Linear) -> Encoder:
    """Make the encoder that `fields.encoder` names; "auto" goes by the space.

    In Dict and Tuple observations each part has its own encoder: the one named where it can take the part,
    otherwise the one that suits the part's space. Their features are concatenated, for a Dict in the order of
    its sorted keys, and go through the dense layers together.

    Args:
        layer: makes each dense layer.

    Raises:
        UsageError: a name is unknown, or the encoder can't take the space.
    """
    if (reason := refuse_encoder(fields, space)) is not None:
        raise UsageError(reason)
    layers = _layers(fields.encoder, space, fields)
    size = _size(layers, space)
    layers += dense(size, fields, layer)
    return Encoder(layers, fields.hidden[-1] if fields.hidden else size)


def refuse_encoder(fields: NetworkFields, space: spaces.Space) -> str | None:
    """Return in one line why the encoder can't take observations of this space; None if it can."""
    if fields.encoder not in ENCODERS:
        return f"encoder {fields.encoder!r} is unknown (allowed: {', '.join(ENCODERS)})"
    if fields.pooling not in POOLINGS:
        return f"pooling {fields.pooling!r} is unknown (allowed: {', '.join(POOLINGS)})"
    return _refuse(fields.encoder, space, fields)


def _refuse(name: str, space: spaces.Space, fields: NetworkFields) -> str | None:
    if isinstance(space, Composite):
        return _refuse_parts(name, space, fields)
    if 0 in (space.shape or ()):
        return f"observations of {show_space(space)} hold no numbers (allowed: at least one)"
    if name in CONVOLUTIONAL or (name == "auto" and is_image(space, fields.channels)):
        return refuse_image("cnn" if name == "auto" else name, space, fields.pooling, fields.channels)
    if name in OF_INDICES and not isinstance(space, Indices):
        return f"encoder {name!r} takes Discrete, MultiDiscrete or MultiBinary observations, not {show_space(space)}"
    if (
        name == "onehot"
        and isinstance(space, Indices)
        and (count := sum(counts_of(space) or ())) > ONE_HOT_LIMIT
    ):
        return (
            f"encoder 'onehot' takes at most {ONE_HOT_LIMIT} values, not {count} (allowed: auto, embedding)"
        )
    if not isinstance(space, Indices | spaces.Box):
        kinds = "Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple"
        return f"encoder {name!r} takes {kinds} observations, not {show_space(space)}"
    return None


def _refuse_parts(name: str, space: Composite, fields: NetworkFields) -> str | None:
    """Say why one of the parts can't be taken, or that none is of the kind which the name asks for."""
    reasons = [
        _refuse(name if _is_meant_for(name, part, fields) else "auto", part, fields)
        for _, part in parts_of(space)
    ]
    if not any(_is_meant_for(name, part, fields) for _, part in parts_of(space)):
        wanted = "image" if name in CONVOLUTIONAL else "discrete part"
        return f"encoder {name!r} finds no {wanted} among {show_space(space)} (allowed: auto, mlp)"
    return next((reason for reason in reasons if reason is not None), None)


def _is_meant_for(name: str, space: spaces.Space, fields: NetworkFields) -> bool:
    """Return whether a part of a composite space is, or contains, what the named encoder is meant for."""
    if name in CONVOLUTIONAL:
        return has_image(space, fields.channels)
    if isinstance(space, Composite):
        return any(_is_meant_for(name, part, fields) for _, part in parts_of(space))
    return isinstance(space, Indices) if name in OF_INDICES else True


def has_image(space: spaces.Space, channels: str = "auto") -> bool:
    """Return whether observations are images, or have one among their parts; `channels` is that of `is_image`."""
    if isinstance(space, Composite):
        return any(has_image(part, channels) for _, part in parts_of(space))
    return is_image(space, channels)


def has_convolutions(encoder: str, space: spaces.Space, channels: str = "auto") -> bool:
    """Return whether an encoder that can take the space has convolutions; `channels` is that of `is_image`."""
    return encoder in CONVOLUTIONAL or (encoder == "auto" and has_image(space, channels))


def _layers(name: str, space: spaces.Space, fields: NetworkFields) -> list[nn.Module]:
    """Return the layers before the dense ones."""
    if isinstance(space, Composite):
        return [_per_part(name, space, fields)]
    if isinstance(space, Indices):
        return [_of_indices(name, space, fields)]
    assert isinstance(space, spaces.Box)
    if name in CONVOLUTIONAL or (name == "auto" and is_image(space, fields.channels)):
        kind = "cnn" if name == "auto" else name
        return image_layers(
            kind,
            space,
            fields.pooling,
            fields.channels,
            fields.image_scale,
            layer_norm=fields.image_layer_norm,
        )
    return [Flat()]


def _per_part(name: str, space: Composite, fields: NetworkFields) -> PerPart:
    encoders = []
    for _, part in parts_of(space):
        layers = _layers(name if _is_meant_for(name, part, fields) else "auto", part, fields)
        encoders.append(Encoder(layers, _size(layers, part)))
    return PerPart([key for key, _ in parts_of(space)], encoders)


def _of_indices(name: str, space: spaces.Space, fields: NetworkFields) -> nn.Module:
    counts, starts = counts_of(space) or [], first_of(space).ravel().tolist()
    many = not isinstance(space, spaces.MultiBinary) and sum(counts) > fields.one_hot_most
    if name == "embedding" or (name != "onehot" and (many or fields.embedding_size is not None)):
        return Embeddings(counts, starts, fields.embedding_size or EMBEDDING_SIZE)
    if isinstance(space, spaces.Discrete):
        return OneHot(int(space.n), int(space.start))
    if isinstance(space, spaces.MultiBinary) and name != "onehot":
        return Flat()  # a bit carries the same information as its one-hot vector
    return OneHots(counts, starts)


def _size(layers: Sequence[nn.Module], space: spaces.Space) -> int:
    """Return the number of features that layers give for an observation of a space."""
    with torch.no_grad():
        return nn.Sequential(*layers)(blank(space)).shape[1]


def blank(space: spaces.Space, batch: int = 1) -> Any:
    """Return a batch of zero observations [batch, ...] as tensors; discrete ones have their first value."""
    if isinstance(space, spaces.Dict):
        return {key: blank(part, batch) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(blank(part, batch) for part in space.spaces)
    first = np.zeros(space.shape or (), space.dtype) + getattr(space, "start", np.zeros((), space.dtype))
    return torch.from_numpy(np.repeat(first[None], batch, axis=0))


def dense(size: int, fields: NetworkFields, layer: DenseLayer = Linear) -> list[nn.Module]:
    """Return the dense layers from `size` features over the widths `fields.hidden`, each with its activation.

    Args:
        layer: makes each of them.

    Raises:
        UsageError: an unknown activation.
    """
    if fields.activation not in ACTIVATIONS:
        raise UsageError(f"activation {fields.activation!r} is unknown (allowed: {', '.join(ACTIVATIONS)})")
    layers: list[nn.Module] = []
    for width in fields.hidden:
        norm = [nn.LayerNorm(width)] if fields.layer_norm else []
        dropped = [Dropout(fields.dropout)] if fields.dropout else []
        layers += [layer(size, width), *norm, ACTIVATIONS[fields.activation](), *dropped]
        size = width
    return layers
