"""Twins of the networks' layers whose traced form is right for every batch size, as files need it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rl_lab.nn.encoders import Embeddings, OneHot, OneHots
from rl_lab.nn.images import Image
from rl_lab.nn.layers import Dropout, Flat
from rl_lab.nn.normalise import ObservationNormaliser


def traceable(network: nn.Module) -> nn.Module:
    """Return a copy of a network on the CPU with each such layer replaced by its twin, in evaluation mode."""
    copied = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    return _replaced(copied.to(memory_format=torch.contiguous_format))  # type: ignore[call-overload]


def _replaced(module: nn.Module) -> nn.Module:
    for kind, twin in TWINS.items():
        if isinstance(module, kind):
            return twin(module)
    for name, child in module.named_children():
        setattr(module, name, _replaced(child))
    return module


class FlatTwin(nn.Module):
    """Flattens any batch [B, ...] to float32 [B, size]."""

    def __init__(self, module: Flat):
        super().__init__()

    def forward(self, obs: Tensor) -> Tensor:
        """Return the flat vectors float32 [B, size]."""
        return _flat(obs).float()


class OneHotTwin(nn.Module):
    """Maps indices [B] to one-hot vectors float32 [B, n]."""

    values: Tensor

    def __init__(self, module: OneHot):
        super().__init__()
        self.register_buffer("values", torch.arange(module.start, module.start + module.n))

    def forward(self, index: Tensor) -> Tensor:
        """Return the one-hot vectors float32 [B, n]."""
        return (index.long().unsqueeze(1) == self.values).float()


class OneHotsTwin(nn.Module):
    """Maps vectors of indices [B, ...] to the one-hot vectors of their components, side by side."""

    component: Tensor
    value: Tensor

    def __init__(self, module: OneHots):
        super().__init__()
        component, value = torch.tensor(module.places).unbind(1)
        self.register_buffer("component", component)
        self.register_buffer("value", value + torch.tensor(module.starts)[component])

    def forward(self, index: Tensor) -> Tensor:
        """Return the one-hot vectors float32 [B, sum of counts]."""
        return (_flat(index).long().index_select(1, self.component) == self.value).float()


class EmbeddingsTwin(nn.Module):
    """Maps indices [B, ...] to learned vectors side by side."""

    offsets: Tensor

    def __init__(self, module: Embeddings):
        super().__init__()
        self.table = module.table
        self.register_buffer("offsets", torch.tensor(module.offsets))

    def forward(self, index: Tensor) -> Tensor:
        """Return the vectors float32 [B, components * width]."""
        return self.table(_flat(index).long() + self.offsets).flatten(1)


class ImageTwin(nn.Module):
    """Maps images [B, ...] to float32 [B, C, H, W], multiplied by the scale."""

    scale: Tensor

    def __init__(self, module: Image):
        super().__init__()
        self.layout = module.layout
        self.register_buffer("scale", torch.tensor(module.scale).reshape(-1, 1, 1))

    def forward(self, obs: Tensor) -> Tensor:
        """Return the images."""
        layout, images = self.layout, obs.float()
        if layout.axes == 2:
            return images.unsqueeze(1) * self.scale
        if layout.channels_last:
            axes = range(1, images.ndim)
            images = images.permute(0, *axes[:-3], images.ndim - 1, *axes[-3:-1])
        return (images.flatten(1, 2) if layout.axes == 4 else images) * self.scale


class NormaliserTwin(nn.Module):
    """Normalises observations with the statistics that there were when it was made."""

    mean: Tensor
    factor: Tensor

    def __init__(self, module: ObservationNormaliser):
        super().__init__()
        self.keys, self.clip = module.keys, module.clip
        self.parts = nn.ModuleList(NormaliserTwin(part) for part in module.parts)  # type: ignore[arg-type]
        self.normalises = module.moments is not None
        if module.moments is not None:
            mean, factor = module.moments.mean.numpy(), 1 / module.moments.deviation
            self.register_buffer("mean", torch.from_numpy(np.array(mean)))
            self.register_buffer("factor", torch.from_numpy(np.asarray(factor)))

    def forward(self, obs: Any) -> Any:
        """Return normalised observations, float32 where there are statistics."""
        if self.keys:
            done = {key: part(obs[key]) for key, part in zip(self.keys, self.parts, strict=True)}
            return done if isinstance(obs, dict) else tuple(done[key] for key in self.keys)
        if not self.normalises:
            return obs
        return ((obs.double() - self.mean) * self.factor).clamp(-self.clip, self.clip).float()


class Passing(nn.Module):
    """Stands for dropout, which never drops while acting."""

    def __init__(self, module: Dropout):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return x as it is."""
        return x


def _flat(x: Tensor) -> Tensor:
    return x.unsqueeze(1) if x.ndim == 1 else x.flatten(1)


TWINS: dict[type[nn.Module], Any] = {
    Flat: FlatTwin,
    OneHot: OneHotTwin,
    OneHots: OneHotsTwin,
    Embeddings: EmbeddingsTwin,
    Image: ImageTwin,
    ObservationNormaliser: NormaliserTwin,
    Dropout: Passing,
}
