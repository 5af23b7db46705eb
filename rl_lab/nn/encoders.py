"""Encoders: from observations to features, chosen by name or by the observation space.

Every encoder is a module from a batch of observations [B, ...] (of Dict and Tuple spaces a dict or tuple of
them) to features float32 [B, size].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.nn.images import NATURE, POOLING, SMALL, Image, image_layers, image_shape, is_image, refuse_image
from rl_lab.nn.layers import Linear
from rl_lab.types import UsageError

__all__ = [
    "ACTIVATIONS", "ENCODERS", "NATURE", "POOLING", "SMALL", "Dropout", "Embeddings", "Encoder", "Flat", "Image",
    "OneHot", "OneHots", "PerPart", "blank", "dense", "has_image", "image_shape", "is_image", "make_encoder", "refuse",
]  # fmt: skip

CONVOLUTIONAL = ("cnn", "small", "impala")
OF_INDICES = ("onehot", "embedding")
ENCODERS = ("auto", "mlp", *CONVOLUTIONAL, *OF_INDICES)
EMBEDDING_SIZE = 16
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": nn.GELU,
}
Indices = spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
Composite = spaces.Dict | spaces.Tuple


class Encoder(nn.Module):
    """A stack of layers with the size of its features."""

    def __init__(self, layers: Sequence[nn.Module], size: int):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.size = size

    def forward(self, obs: Any) -> Tensor:
        """Return features float32 [B, size]."""
        layers: Any = self._modules["layers"]  # several times as fast as by attributes
        for layer in layers._modules.values():
            obs = layer(obs)
        return obs


class OneHot(nn.Module):
    """Turns indices int64 [B] into one-hot vectors float32 [B, n]."""

    def __init__(self, n: int, start: int = 0):
        super().__init__()
        self.n, self.start = n, start

    def forward(self, index: Tensor) -> Tensor:
        """Return the one-hot vectors."""
        index = index.long() - self.start if self.start else index.long()
        return torch.zeros(len(index), self.n, device=index.device).scatter_(1, index.unsqueeze(1), 1.0)


class OneHots(nn.Module):
    """Turns vectors of indices [B, ...] into the one-hot vectors of their components, float32 [B, sum of counts]."""

    def __init__(self, counts: Sequence[int], starts: Sequence[int]):
        super().__init__()
        self.starts = list(starts)  # no buffers: an update that is compiled takes only parameters in
        self.places = [(k, i) for k, count in enumerate(counts) for i in range(count)]

    def forward(self, index: Tensor) -> Tensor:
        """Return the one-hot vectors, side by side."""
        index = index.flatten(1).long() - torch.tensor(self.starts, device=index.device)
        component, value = torch.tensor(self.places, device=index.device).unbind(1)
        return (index[:, component] == value).float()


class Embeddings(nn.Module):
    """Turns indices [B, ...] into learned vectors, one table for each component: float32 [B, components * width]."""

    def __init__(self, counts: Sequence[int], starts: Sequence[int], width: int):
        super().__init__()
        offsets = np.cumsum([0, *counts[:-1]]) - np.array(starts)
        self.offsets = offsets.tolist()
        self.table = nn.Embedding(sum(counts), width)

    def forward(self, index: Tensor) -> Tensor:
        """Return the vectors, side by side."""
        rows = (index if index.ndim == 1 else index.flatten(1)).long()
        if any(self.offsets):
            rows = rows + torch.tensor(self.offsets, device=index.device)
        return self.table(rows).flatten(1)


class Flat(nn.Module):
    """Turns any batch into float32 [B, size]."""

    def forward(self, obs: Tensor) -> Tensor:
        """Return the flat vectors."""
        return obs if obs.ndim == 2 and obs.dtype == torch.float32 else obs.reshape(len(obs), -1).float()


class PerPart(nn.Module):
    """Encodes each part of a dict or tuple of observations on its own: features float32 [B, sum of sizes]."""

    def __init__(self, keys: Sequence[Any], encoders: Sequence[Encoder]):
        super().__init__()
        self.keys = list(keys)
        self.parts = nn.ModuleList(encoders)
        self.size = sum(encoder.size for encoder in encoders)

    def forward(self, obs: Any) -> Tensor:
        """Return the features side by side, in the order of the keys."""
        return torch.cat([part(obs[key]) for key, part in zip(self.keys, self.parts, strict=True)], dim=1)


class Dropout(nn.Module):
    """Srivastava et al. (2014), "Dropout"; off until `regularise.dropping(network)` switches it on.

    Acting, target and averaged networks thus never drop, whatever nn.Module's own mode is (which has to
    stay at training for CUDA's LSTM); `.eval()` keeps it off even then. Neither does what a loss asks for
    without a gradient: the choices of double Q-learning, or values that it bootstraps from.
    """

    def __init__(self, probability: float):
        super().__init__()
        self.probability, self.active = probability, False

    def forward(self, x: Tensor) -> Tensor:
        """Return x, a share of it zeroed and the rest scaled up while switched on."""
        drops = self.active and self.training and torch.is_grad_enabled()
        return nn.functional.dropout(x, self.probability, drops)


def make_encoder(
    name: str,
    space: spaces.Space,
    hidden: Sequence[int],
    *,
    layer_norm: bool = False,
    activation: str = "relu",
    dropout: float = 0.0,
    pooling: str = "none",
    embedding_size: int | None = None,
) -> Encoder:
    """Make an encoder by name ("auto" goes by the space).

    Of Dict and Tuple observations each part has its own encoder: the one named where it takes the part,
    otherwise by the part's space. Their features are concatenated, for a Dict in the order of its
    sorted keys, and go through the dense layers together.

    Args:
        hidden: widths of its dense layers.
        layer_norm: normalise their outputs before the activation (Ba et al., 2016, "Layer Normalization").
        activation: of the dense layers: one of ACTIVATIONS.
        dropout: probability with which a dense layer's output is dropped while `dropping`.
        pooling: "none", "max" or "average": how the small convolutions halve the image.
        embedding_size: width of the vector learned for each value of discrete components; None: one-hot
            vectors, or EMBEDDING_SIZE where "embedding" is asked for by name.

    Raises:
        UsageError: a space that the encoder can't take, naming what it takes.
    """
    if (reason := refuse(name, space, pooling=pooling)) is not None:
        raise UsageError(reason)
    layers = _layers(name, space, pooling, embedding_size)
    size = _size(layers, space)
    layers += dense(size, hidden, layer_norm, activation=activation, dropout=dropout)
    return Encoder(layers, hidden[-1] if hidden else size)


def refuse(name: str, space: spaces.Space, *, pooling: str = "none") -> str | None:
    """Say in one line why the encoder can't take observations of this space; None if it can."""
    if name not in ENCODERS:
        return f"encoder {name!r} is unknown (allowed: {', '.join(ENCODERS)})"
    if pooling not in POOLING:
        return f"pooling {pooling!r} is unknown (allowed: {', '.join(POOLING)})"
    if isinstance(space, Composite):
        return _refuse_parts(name, space, pooling)
    if name in CONVOLUTIONAL or (name == "auto" and is_image(space)):
        return refuse_image("cnn" if name == "auto" else name, space, pooling)
    if name in OF_INDICES and not isinstance(space, Indices):
        return f"encoder {name!r} takes Discrete, MultiDiscrete or MultiBinary observations, not {space}"
    if not isinstance(space, Indices | spaces.Box):
        kinds = "Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple"
        return f"encoder {name!r} takes {kinds} observations, not {space}"
    return None


def _refuse_parts(name: str, space: Composite, pooling: str) -> str | None:
    """Say why one of the parts can't be taken, or that none is of the kind which the name asks for."""
    reasons = [
        refuse(name if _takes(name, part) else "auto", part, pooling=pooling) for _, part in _parts(space)
    ]
    if not any(_takes(name, part) for _, part in _parts(space)):
        wanted = "image" if name in CONVOLUTIONAL else "discrete part"
        return f"encoder {name!r} finds no {wanted} among {space} (allowed: auto, mlp)"
    return next((reason for reason in reasons if reason is not None), None)


def _takes(name: str, space: spaces.Space) -> bool:
    """Say whether a part of a composite space, or a part of that, is of the kind that a name asks for."""
    if name in CONVOLUTIONAL:
        return has_image(space)
    if isinstance(space, Composite):
        return any(_takes(name, part) for _, part in _parts(space))
    return isinstance(space, Indices) if name in OF_INDICES else True


def has_image(space: spaces.Space) -> bool:
    """Say whether observations are images, or have one among their parts."""
    if isinstance(space, Composite):
        return any(has_image(part) for _, part in _parts(space))
    return is_image(space)


def _parts(space: Composite) -> list[tuple[Any, spaces.Space]]:
    """Return (key, space) of each part: a Dict's in the order of its sorted keys, however they were inserted."""
    if isinstance(space, spaces.Dict):
        return sorted(space.spaces.items(), key=lambda item: item[0])
    return list(enumerate(space.spaces))


def _layers(name: str, space: spaces.Space, pooling: str, embedding_size: int | None) -> list[nn.Module]:
    """Return the layers before the dense ones."""
    if isinstance(space, Composite):
        return [_per_part(name, space, pooling, embedding_size)]
    if isinstance(space, Indices):
        return [_of_indices(name, space, embedding_size)]
    assert isinstance(space, spaces.Box)
    if name in CONVOLUTIONAL or (name == "auto" and is_image(space)):
        return image_layers("cnn" if name == "auto" else name, space, pooling)
    return [Flat()]


def _per_part(name: str, space: Composite, pooling: str, embedding_size: int | None) -> PerPart:
    encoders = []
    for _, part in _parts(space):
        layers = _layers(name if _takes(name, part) else "auto", part, pooling, embedding_size)
        encoders.append(Encoder(layers, _size(layers, part)))
    return PerPart([key for key, _ in _parts(space)], encoders)


def _of_indices(name: str, space: spaces.Space, embedding_size: int | None) -> nn.Module:
    if name == "embedding" or (name != "onehot" and embedding_size is not None):
        return Embeddings(*_counts(space), embedding_size or EMBEDDING_SIZE)
    if isinstance(space, spaces.Discrete):
        return OneHot(int(space.n), int(space.start))
    if isinstance(space, spaces.MultiBinary) and name != "onehot":
        return Flat()  # a bit says all that its one-hot vector would
    return OneHots(*_counts(space))


def _counts(space: spaces.Space) -> tuple[list[int], list[int]]:
    """Return how many values each component has, and the first of them."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)], [int(space.start)]
    if isinstance(space, spaces.MultiDiscrete):
        return space.nvec.ravel().tolist(), space.start.ravel().tolist()
    bits = int(np.prod(space.shape or (1,)))
    return [2] * bits, [0] * bits


def _size(layers: Sequence[nn.Module], space: spaces.Space) -> int:
    """Return how many features come out, from what the layers make of a blank observation."""
    with torch.no_grad():
        return nn.Sequential(*layers)(blank(space)).shape[1]


def blank(space: spaces.Space, batch: int = 1) -> Any:
    """Return a batch of observations of zeros (of discrete ones the first value) as tensors."""
    if isinstance(space, spaces.Dict):
        return {key: blank(part, batch) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(blank(part, batch) for part in space.spaces)
    first = np.zeros(space.shape or (), space.dtype) + getattr(space, "start", np.zeros((), space.dtype))
    return torch.from_numpy(np.repeat(first[None], batch, axis=0))


def dense(
    size: int,
    hidden: Sequence[int],
    layer_norm: bool = False,
    *,
    activation: str = "relu",
    dropout: float = 0.0,
) -> list[nn.Module]:
    """Return dense layers from `size` features over the widths `hidden`, each with its activation.

    Dropped is only inside of `regularise.dropping(network)`: acting, evaluation and targets never are.
    """
    if activation not in ACTIVATIONS:
        raise UsageError(f"activation {activation!r} is unknown (allowed: {', '.join(ACTIVATIONS)})")
    layers: list[nn.Module] = []
    for width in hidden:
        norm = [nn.LayerNorm(width)] if layer_norm else []
        dropped = [Dropout(dropout)] if dropout else []
        layers += [Linear(size, width), *norm, ACTIVATIONS[activation](), *dropped]
        size = width
    return layers
