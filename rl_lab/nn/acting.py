"""Acting: a network's action values for numpy observations, computed without torch where possible.

For a single observation torch spends ten times longer on dispatch than on arithmetic. If all layers of a
network have a numpy form, the forward pass runs in numpy on views of the weights. They share the weights'
memory, so they follow every in-place update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

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


def make_acting_values(
    network: QNetwork, device: torch.device
) -> Callable[[Obs, State, Array], tuple[Array, State]]:
    """Return the network's live action values as a function of numpy arrays.

    The function takes obs [N, ...], the carry and is_first bool [N], and returns q float32 [N, A] and the
    next carry.
    """
    in_numpy = numpy_q_values(network)
    if in_numpy is not None:
        return lambda obs, state, is_first: (in_numpy(obs), ())

    @torch.no_grad()
    def values(obs: Obs, state: State, is_first: Array) -> tuple[Array, State]:
        carry = tuple(torch.as_tensor(part, device=device) for part in state)
        seen = map_leaves(lambda leaf: torch.as_tensor(leaf, device=device), obs)
        q, carry = network(seen, carry, torch.as_tensor(is_first, device=device))
        return q.cpu().numpy(), tuple(part.cpu().numpy() for part in carry)

    return values


def numpy_q_values(network: QNetwork) -> Callable[[Obs], Array] | None:
    """Return obs [N, ...] -> q float32 [N, A] over views of the weights.

    None if a layer has no numpy form (convolutions, memory) or the weights aren't on the CPU.
    """
    if not network.is_memoryless or any(p.device.type != "cpu" for p in network.parameters()):
        return None
    before = [] if network.normaliser is None else [network.normaliser]
    return numpy_sequential([*before, *network.encoder.layers, network.head])


def numpy_sequential(modules: Iterable[nn.Module]) -> Layer | None:
    """Return a function from x [N, ...] to the output of modules in sequence, in numpy on views of their weights.

    The modules must be on the CPU. None if one of them has no numpy form.
    """
    return in_sequence([_numpy_layer(module) for module in modules])


def in_sequence(layers: Sequence[Layer | None]) -> Layer | None:
    """Return a function that applies layers one after another, or None if one of them is None."""
    chain = [layer for layer in layers if layer is not None]
    if len(chain) < len(layers):
        return None

    def run(x: Array) -> Array:
        for layer in chain:
            x = layer(x)
        return x

    return run


def _numpy_layer(module: nn.Module) -> Layer | None:
    """Return a module's numpy form, or None if it has none. It may change its input in place."""
    if (in_numpy := getattr(module, "in_numpy", None)) is not None:
        return in_numpy(numpy_sequential)
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
    if isinstance(module, Dropout):  # inactive while acting
        return lambda x: x
    if isinstance(module, ObservationNormaliser):
        return module
    if isinstance(module, Flat):
        return lambda x: x.reshape(len(x), -1).astype(np.float32, copy=False)
    if isinstance(module, OneHot):
        return _one_hot(module.n, module.start)
    if isinstance(module, OneHots):
        return _one_hots(module)
    if isinstance(module, Embeddings):
        table, offsets = module.table.weight.detach().numpy(), np.array(module.offsets)
        return lambda x: table[x.reshape(len(x), -1) + offsets].reshape(len(x), -1)
    return None


TABLE_ROWS = 1024  # a table of more rows isn't worth its memory, which grows with their square


def _one_hot(n: int, start: int) -> Layer:
    if n <= TABLE_ROWS:
        rows = np.eye(n, dtype=np.float32)
        return lambda x: rows[x - start]

    def one_hot(x: Array) -> Array:
        out = np.zeros((len(x), n), np.float32)
        out[np.arange(len(x)), x - start] = 1.0
        return out

    return one_hot


def _one_hots(module: OneHots) -> Layer:
    starts, (component, value) = np.array(module.starts), np.array(module.places).T
    return lambda x: ((x.reshape(len(x), -1) - starts)[:, component] == value).astype(np.float32)


def _dueling(head: DuelingHead) -> Layer | None:
    value, advantage = numpy_sequential(head.value), numpy_sequential(head.advantage)
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

    def layer_norm(x: Array) -> Array:  # products with `mean` take half the time of reductions
        x = x - (x @ mean)[..., None]
        x *= 1 / np.sqrt(np.square(x) @ mean + eps)[..., None]
        x *= w
        x += b
        return x

    return layer_norm
