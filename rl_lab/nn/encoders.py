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

from rl_lab.nn.images import POOLINGS, image_layers, is_image, refuse_image
from rl_lab.nn.layers import Linear
from rl_lab.types import UsageError

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
    """A stack of layers that knows the size of its features."""

    def __init__(self, layers: Sequence[nn.Module], size: int):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.size = size

    def forward(self, obs: Any) -> Tensor:
        """Return features float32 [B, size]."""
        layers: Any = self._modules["layers"]  # several times as fast as attribute access
        for layer in layers._modules.values():
            obs = layer(obs)
        return obs


class OneHot(nn.Module):
    """Maps indices [B] to one-hot vectors float32 [B, n]."""

    def __init__(self, n: int, start: int = 0):
        super().__init__()
        self.n, self.start = n, start

    def forward(self, index: Tensor) -> Tensor:
        """Return the one-hot vectors float32 [B, n]."""
        index = index.long() - self.start if self.start else index.long()
        return torch.zeros(len(index), self.n, device=index.device).scatter_(1, index.unsqueeze(1), 1.0)


class OneHots(nn.Module):
    """Maps vectors of indices [B, ...] to the one-hot vectors of their components, float32 [B, sum of counts]."""

    def __init__(self, counts: Sequence[int], starts: Sequence[int]):
        super().__init__()
        self.starts = list(starts)  # not buffers, since a compiled update is a function of parameters only
        self.places = [(k, i) for k, count in enumerate(counts) for i in range(count)]

    def forward(self, index: Tensor) -> Tensor:
        """Return the one-hot vectors, side by side."""
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

    def forward(self, index: Tensor) -> Tensor:
        """Return the vectors, side by side."""
        rows = (index if index.ndim == 1 else index.flatten(1)).long()
        if any(self.offsets):
            rows = rows + torch.tensor(self.offsets, device=index.device)
        return self.table(rows).flatten(1)


class Flat(nn.Module):
    """Flattens any batch [B, ...] to float32 [B, size]."""

    def forward(self, obs: Tensor) -> Tensor:
        """Return the flat vectors."""
        return obs if obs.ndim == 2 and obs.dtype == torch.float32 else obs.reshape(len(obs), -1).float()


class PerPart(nn.Module):
    """Encodes each part of a dict or tuple of observations by itself; features are float32 [B, sum of sizes]."""

    def __init__(self, keys: Sequence[Any], encoders: Sequence[Encoder]):
        super().__init__()
        self.keys = list(keys)
        self.parts = nn.ModuleList(encoders)
        self.size = sum(encoder.size for encoder in encoders)

    def forward(self, obs: Any) -> Tensor:
        """Return the features side by side, in the order of the keys."""
        return torch.cat([part(obs[key]) for key, part in zip(self.keys, self.parts, strict=True)], dim=1)


class Dropout(nn.Module):
    """Dropout that is off until `regularise.dropping(network)` switches it on.

    Srivastava et al. (2014), "Dropout: A Simple Way to Prevent Neural Networks from Overfitting". Acting, target
    and averaged networks never drop, whatever the mode of nn.Module (which has to remain "training" for CUDA's
    LSTM). `.eval()` keeps it off even when switched on, and so does computing without gradients: the actions of
    double Q-learning and bootstrap values see no dropout.
    """

    def __init__(self, probability: float):
        super().__init__()
        self.probability, self.active = probability, False

    def forward(self, x: Tensor) -> Tensor:
        """Return x [...]; while switched on, a random share of it is zeroed and the rest scaled up."""
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
    """Make an encoder by name; "auto" chooses by the space.

    In Dict and Tuple observations each part has its own encoder: the named one if it takes the part, otherwise
    one chosen by the part's space. Their features are concatenated, for a Dict in the order of its sorted keys,
    and go through the dense layers together.

    Args:
        name: one of ENCODERS.
        hidden: widths of the dense layers.
        layer_norm: normalise the dense layers' outputs before the activation (Ba et al., 2016, "Layer
            Normalization").
        activation: of the dense layers, one of ACTIVATIONS.
        dropout: probability of dropping an output of a dense layer inside `regularise.dropping`.
        pooling: "none", "max" or "average": how the small convolutions halve the image.
        embedding_size: width of the vector learned for each value of a discrete component; None means one-hot
            vectors, or EMBEDDING_SIZE if `name` is "embedding".

    Raises:
        UsageError: a name is unknown, or the encoder can't take the space.
    """
    if (reason := refuse_encoder(name, space, pooling=pooling)) is not None:
        raise UsageError(reason)
    layers = _layers(name, space, pooling, embedding_size)
    size = _size(layers, space)
    layers += dense(size, hidden, layer_norm, activation=activation, dropout=dropout)
    return Encoder(layers, hidden[-1] if hidden else size)


def refuse_encoder(name: str, space: spaces.Space, *, pooling: str = "none") -> str | None:
    """Return why the named encoder can't take observations of this space (one line), or None if it can."""
    if name not in ENCODERS:
        return f"encoder {name!r} is unknown (allowed: {', '.join(ENCODERS)})"
    if pooling not in POOLINGS:
        return f"pooling {pooling!r} is unknown (allowed: {', '.join(POOLINGS)})"
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
    """Return why a part can't be encoded, or that no part is of the kind that the name asks for; None if all fit."""
    reasons = [
        refuse_encoder(name if _is_meant_for(name, part) else "auto", part, pooling=pooling)
        for _, part in _parts(space)
    ]
    if not any(_is_meant_for(name, part) for _, part in _parts(space)):
        wanted = "image" if name in CONVOLUTIONAL else "discrete part"
        return f"encoder {name!r} finds no {wanted} among {space} (allowed: auto, mlp)"
    return next((reason for reason in reasons if reason is not None), None)


def _is_meant_for(name: str, space: spaces.Space) -> bool:
    """Return whether a part of a composite space is, or contains, what the named encoder is meant for."""
    if name in CONVOLUTIONAL:
        return has_image(space)
    if isinstance(space, Composite):
        return any(_is_meant_for(name, part) for _, part in _parts(space))
    return isinstance(space, Indices) if name in OF_INDICES else True


def has_image(space: spaces.Space) -> bool:
    """Return whether observations are images, or have one among their parts."""
    if isinstance(space, Composite):
        return any(has_image(part) for _, part in _parts(space))
    return is_image(space)


def _parts(space: Composite) -> list[tuple[Any, spaces.Space]]:
    """Return (key, space) of each part; those of a Dict are sorted by key, whatever their order of insertion."""
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
        layers = _layers(name if _is_meant_for(name, part) else "auto", part, pooling, embedding_size)
        encoders.append(Encoder(layers, _size(layers, part)))
    return PerPart([key for key, _ in _parts(space)], encoders)


def _of_indices(name: str, space: spaces.Space, embedding_size: int | None) -> nn.Module:
    if name == "embedding" or (name != "onehot" and embedding_size is not None):
        return Embeddings(*_counts(space), embedding_size or EMBEDDING_SIZE)
    if isinstance(space, spaces.Discrete):
        return OneHot(int(space.n), int(space.start))
    if isinstance(space, spaces.MultiBinary) and name != "onehot":
        return Flat()  # a bit carries the same information as its one-hot vector
    return OneHots(*_counts(space))


def _counts(space: spaces.Space) -> tuple[list[int], list[int]]:
    """Return the number of values of each component, and each one's first value."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)], [int(space.start)]
    if isinstance(space, spaces.MultiDiscrete):
        return space.nvec.ravel().tolist(), space.start.ravel().tolist()
    bits = int(np.prod(space.shape or (1,)))
    return [2] * bits, [0] * bits


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


def dense(
    size: int,
    hidden: Sequence[int],
    layer_norm: bool = False,
    *,
    activation: str = "relu",
    dropout: float = 0.0,
) -> list[nn.Module]:
    """Return dense layers for `size` features with the widths `hidden`, each followed by its activation.

    Dropout is active only inside `regularise.dropping(network)`, so never in acting, evaluation or targets.

    Raises:
        UsageError: the activation is unknown.
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
