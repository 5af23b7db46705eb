"""Acting: a network's live values for numpy observations, without torch where that is possible.

For one observation torch spends ten times longer on dispatch than on arithmetic. Where a network has
a numpy form, a forward pass over views of its weights stands in: they share the weights' memory, so
that they follow every in-place update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from rl_lab.nn.encoders import Embeddings, OneHot, OneHots
from rl_lab.nn.layers import Dropout, Flat
from rl_lab.nn.normalise import ObservationNormaliser
from rl_lab.nn.q_network import DuelingHead, QNetwork
from rl_lab.trees import map_leaves
from rl_lab.types import Array, Obs, State

Layer = Callable[[Array], Array]


def values_of(network: QNetwork, device: torch.device) -> Callable[[Obs, State, Array], tuple[Array, State]]:
    """Return (obs [N, ...], carry, is_first [N]) -> (q float32 [N, A], next carry), all numpy."""
    views = numpy_values(network)
    if views is not None:
        return lambda obs, state, is_first: (views(obs), ())

    @torch.no_grad()
    def values(obs: Obs, state: State, is_first: Array) -> tuple[Array, State]:
        carry = tuple(torch.as_tensor(part, device=device) for part in state)
        seen = map_leaves(lambda leaf: torch.as_tensor(leaf, device=device), obs)
        q, carry = network(seen, carry, torch.as_tensor(is_first, device=device))
        return q.cpu().numpy(), tuple(part.cpu().numpy() for part in carry)

    return values


def numpy_values(network: QNetwork) -> Callable[[Obs], Array] | None:
    """Return obs [N, ...] -> q float32 [N, A] over views of the weights.

    None where a layer has no numpy form (convolutions, memory) or the weights are not on the CPU.
    """
    if not network.is_memoryless or any(p.device.type != "cpu" for p in network.parameters()):
        return None
    before = [] if network.normaliser is None else [network.normaliser]
    return _chain([*before, *network.encoder.layers, network.head])


def numpy_layers(modules: Iterable[nn.Module]) -> Layer | None:
    """Return x [N, ...] -> y [N, ...] through modules on the CPU, over views of their weights; None as above."""
    return _chain(modules)


def _chain(modules: Iterable[nn.Module]) -> Layer | None:
    layers = [_layer(module) for module in modules]
    chain = [layer for layer in layers if layer is not None]
    if len(chain) < len(layers):
        return None

    def values(obs: Obs) -> Array:
        x = obs
        for layer in chain:
            x = layer(x)
        return x

    return values


def _layer(module: nn.Module) -> Layer | None:
    if isinstance(module, DuelingHead):
        return _dueling(module)
    if isinstance(module, nn.Linear):
        return _linear(module.weight, module.bias)
    if isinstance(module, nn.LayerNorm):
        return _layer_norm(module)
    if isinstance(module, nn.ReLU):
        return lambda x: np.maximum(x, 0.0, out=x)
    if isinstance(module, nn.Tanh):
        return lambda x: np.tanh(x, out=x)
    if isinstance(module, nn.ELU):
        return lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
    if isinstance(module, Dropout):  # never while acting
        return lambda x: x
    if isinstance(module, ObservationNormaliser):
        return module
    if isinstance(module, Flat):
        return lambda x: x.reshape(len(x), -1).astype(np.float32, copy=False)
    if isinstance(module, OneHot):
        rows = np.eye(module.n, dtype=np.float32)
        return lambda x: rows[x - module.start]
    if isinstance(module, OneHots):
        return _one_hots(module)
    if isinstance(module, Embeddings):
        table, offsets = module.table.weight.detach().numpy(), np.array(module.offsets)
        return lambda x: table[x.reshape(len(x), -1) + offsets].reshape(len(x), -1)
    return None


def _one_hots(module: OneHots) -> Layer:
    starts, (component, value) = np.array(module.starts), np.array(module.places).T
    return lambda x: ((x.reshape(len(x), -1) - starts)[:, component] == value).astype(np.float32)


def _dueling(head: DuelingHead) -> Layer | None:
    value, advantage = _chain(head.value), _chain(head.advantage)
    if value is None or advantage is None:
        return None

    def dueling(x: Array) -> Array:
        a = advantage(x)
        return value(x) + a - a.mean(axis=-1, keepdims=True)

    return dueling


def _linear(weight: Tensor, bias: Tensor) -> Layer:
    w, b = weight.detach().numpy().T, bias.detach().numpy()  # views: [in, out], [out]

    def linear(x: Array) -> Array:
        y = x @ w
        y += b
        return y

    return linear


def _layer_norm(module: nn.LayerNorm) -> Layer:
    w, b, eps = module.weight.detach().numpy(), module.bias.detach().numpy(), module.eps
    mean = np.full(len(w), 1 / len(w), np.float32)

    def layer_norm(x: Array) -> Array:  # products with `mean` cost half as much as reductions
        x = x - (x @ mean)[:, None]
        x *= 1 / np.sqrt(np.square(x) @ mean + eps)[:, None]
        x *= w
        x += b
        return x

    return layer_norm
