"""What a network with attention attends to while it acts."""

from __future__ import annotations

from typing import Any

import torch

from rl_lab.nn.attention import Attention
from rl_lab.nn.recurrent import zero_where
from rl_lab.policies import Figures
from rl_lab.trees import map_leaves
from rl_lab.types import Array, Obs, State


def attention_figures(network: Any, device: torch.device) -> Figures | None:
    """Return a function that gives `attention` float32 [N, context], oldest step first; None without attention.

    Of an actor-critic it is the policy's attention.

    Args:
        network: a QNetwork or an ActorCritic, live.
    """
    tower = getattr(network, "policy_tower", network)
    core = tower.core
    if not isinstance(core, Attention):
        return None

    @torch.no_grad()
    def figures(obs: Obs, state: State, is_first: Array) -> dict[str, Array]:
        seen, carry, first = (
            map_leaves(lambda leaf: torch.as_tensor(leaf, device=device), tree)
            for tree in (obs, tuple(state)[: len(core.blocks) + 1], is_first)
        )
        seen = seen if network.normaliser is None else network.normaliser(seen)
        return {"attention": core.weights(tower.encoder(seen), zero_where(carry, first)).cpu().numpy()}

    return figures
