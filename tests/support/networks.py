"""Networks for tests, by keyword: the fields of `NetworkFields` one by one."""

from __future__ import annotations

import copy
from typing import Any

import torch
from gymnasium import spaces
from torch import nn

from rl_lab.nn import cores, encoders, q_network
from rl_lab.nn.fields import NetworkFields
from rl_lab.nn.recurrent import Core
from rl_lab.types import Array
from rl_lab.updates.trained import load_weights

FEATURES, SIZE, CONTEXT = 3, 8, 4  # of the cores of `core_of`


def make_encoder(name: str, space: spaces.Space, hidden: tuple[int, ...], **fields: Any) -> encoders.Encoder:
    return encoders.make_encoder(NetworkFields(encoder=name, hidden=hidden, **fields), space)


def refuse_encoder(name: str, space: spaces.Space, **fields: Any) -> str | None:
    return encoders.refuse_encoder(NetworkFields(encoder=name, **fields), space)


def dense(size: int, hidden: tuple[int, ...], **fields: Any) -> list[nn.Module]:
    return encoders.dense(size, NetworkFields(hidden=hidden, **fields))


def make_core(name: str, features: int, size: int, *, layers: int = 1, context: int = 16) -> Core:
    fields = NetworkFields(memory=name, memory_size=size, memory_layers=layers, context=context)
    return cores.make_core(fields, features)


def make_q_network(
    space: spaces.Space, num_actions: int, *, dueling: bool = False, **fields: Any
) -> q_network.QNetwork:
    return q_network.make_q_network(space, num_actions, NetworkFields(**fields), dueling=dueling)


def blank_carry(name: str, size: int, *, layers: int = 1, context: int = 16) -> tuple[Array, ...]:
    fields = NetworkFields(memory=name, memory_size=size, memory_layers=layers, context=context)
    return cores.blank_carry(fields)


def core_of(name, layers=1, seed=0):
    """A core with weights of its own, biases and gates included."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        core = make_core(name, FEATURES, SIZE, layers=layers, context=CONTEXT)
        with torch.no_grad():
            for p in core.parameters():
                p += 0.3 * torch.randn(p.shape)
    return core


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def never(steps, batch):
    return torch.zeros(steps, batch, dtype=torch.bool)


def layers_of(encoder, kind):
    return [layer for layer in encoder.modules() if isinstance(layer, kind)]


def filled(like, value):
    """A copy of a module with every weight at `value`."""
    module = copy.deepcopy(like)
    load_weights(module, {name: torch.full_like(w, value) for name, w in module.state_dict().items()})
    return module
