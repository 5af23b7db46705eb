"""How a network's outputs depend on its inputs, as numpy arrays: what saliency and attribution are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rl_lab.nn.encoders import Encoder, PerPart
from rl_lab.nn.images import Image, Layout
from rl_lab.trees import leaves_of, map_leaves
from rl_lab.types import Array, Obs, State

Path = tuple[Any, ...]  # keys that lead to a part of Dict and Tuple observations; () for the whole


class ImageInput(NamedTuple):
    """An image among a network's inputs."""

    path: Path
    layout: Layout
    scale: float | Sequence[float]  # what its numbers are multiplied by, one factor or one per channel


def image_inputs(network: Any) -> list[ImageInput]:
    """Return the images that a QNetwork's or an ActorCritic's policy reads by convolutions."""
    return list(_images(getattr(network, "policy_tower", network).encoder, ()))


def _images(encoder: Encoder, path: Path) -> Iterator[ImageInput]:
    for layer in encoder.layers:
        if isinstance(layer, Image):
            yield ImageInput(path, layer.layout, layer.scale)
        if isinstance(layer, PerPart):
            for key, part in zip(layer.keys, layer.parts, strict=True):
                assert isinstance(part, Encoder)
                yield from _images(part, (*path, key))


def scores(network: nn.Module, obs: Any, state: Any, is_first: Tensor) -> tuple[Tensor, bool]:
    """Return what decides the actions, [N, M], and whether the largest decides: values and logits, or else means."""
    outputs = network(obs, state, is_first)[0]
    columns = [leaf for leaf in leaves_of(outputs) if leaf.ndim == 2]  # not the deviations [D]
    return torch.cat(columns, dim=1), isinstance(outputs, Tensor)


def explained_outputs(
    network: nn.Module, obs: Obs, state: State, is_first: Array, mask: Array | None = None
) -> list[int]:
    """Return which outputs are behind the decision on one observation: the largest legal one, or all the means."""
    device = next(network.parameters()).device
    with torch.no_grad():
        found, decides = scores(network, *_tensors((obs, state, is_first), device))
    row = found[0].cpu().numpy()
    if not decides:
        return list(range(len(row)))
    return [int(np.argmax(row if mask is None else np.where(mask[0], row, -np.inf)))]


def input_gradients(
    network: nn.Module, obs: Obs, state: State, is_first: Array, outputs: Sequence[int]
) -> list[Obs]:
    """Return the gradient of each output by the observations [N, ...], float64 of the same shapes.

    They are with respect to the numbers that the environment shows. Parts that the network doesn't take as numbers
    (discrete ones, and those that it ignores) have zeros.

    Args:
        outputs: which columns of `scores`.
    """
    device = next(network.parameters()).device
    carry, first = _tensors((state, is_first), device)

    # Doubles, so that a module that scales bytes in place works on a copy.
    inputs = map_leaves(
        lambda x: torch.tensor(x, dtype=torch.float64, device=device, requires_grad=True), obs
    )
    leaves = leaves_of(inputs)
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):  # cuDNN has no gradient while acting
        found, _ = scores(network, inputs, carry, first)
        gradients = []
        for output in outputs:
            column = found[:, output].sum()  # each observation has its own terms
            by_leaf = torch.autograd.grad(column, leaves, retain_graph=True, materialize_grads=True)
            pieces = iter([gradient.cpu().numpy() for gradient in by_leaf])
            gradients.append(map_leaves(partial(_next, pieces), inputs))
    return gradients


def _next(pieces: Iterator[Array], leaf: Tensor) -> Array:
    return next(pieces)


def _tensors(trees: tuple[Any, ...], device: torch.device) -> Any:
    return map_leaves(lambda leaf: torch.as_tensor(leaf, device=device), trees)


def average_observation(network: Any, obs: Obs) -> Obs:
    """Return observations of zeros like `obs`, or of the means by which the network normalises, float64 [N, ...]."""
    return _average(getattr(network, "normaliser", None), obs)


def _average(normaliser: Any, obs: Obs) -> Obs:
    if normaliser is None or (not normaliser.keys and normaliser.moments is None):
        return map_leaves(lambda leaf: np.zeros(leaf.shape), obs)
    if not normaliser.keys:
        return np.broadcast_to(normaliser.moments.mean.numpy(), np.shape(obs)).copy()
    parts = {
        key: _average(part, obs[key]) for key, part in zip(normaliser.keys, normaliser.parts, strict=True)
    }
    return parts if isinstance(obs, dict) else tuple(parts[key] for key in normaliser.keys)


def output_values(network: nn.Module, obs: Obs, state: State, is_first: Array) -> Array:
    """Return the columns of `scores` for observations [N, ...], float64 [N, M]."""
    device = next(network.parameters()).device
    with torch.no_grad():
        return scores(network, *_tensors((obs, state, is_first), device))[0].double().cpu().numpy()
