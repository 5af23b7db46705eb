"""Networks for tests, by keyword: the fields of `NetworkFields` one by one."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from torch import nn

from rl_lab.nn import cores, encoders, q_network
from rl_lab.nn.fields import NetworkFields
from rl_lab.nn.recurrent import Core


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
