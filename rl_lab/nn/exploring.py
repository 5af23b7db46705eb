"""Acting values that explore by themselves: by noise drawn for each action, or by one head for a whole episode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from rl_lab.nn.acting import make_acting_values, numpy_q_values
from rl_lab.nn.ensembles import of_heads
from rl_lab.nn.noisy import Noise, draw_noise
from rl_lab.nn.q_network import QNetwork
from rl_lab.nn.return_heads import EachHead, ReturnHead
from rl_lab.nn.return_kinds import Means
from rl_lab.policies import Figures, Values
from rl_lab.trees import map_leaves
from rl_lab.types import Array, Obs, State, Step


def noisy_values(network: QNetwork, device: torch.device, rng: np.random.Generator) -> Values:
    """Return the network's live action values with noise drawn anew for every observation."""
    values, noise = make_acting_values(network, device), Noise(network)
    in_numpy = numpy_q_values(network) is not None

    def noisy(obs: Obs, state: State, is_first: Array) -> tuple[Array, State]:
        drawn: Any = draw_noise(rng, (len(is_first), noise.width))
        with noise.on(drawn if in_numpy else torch.as_tensor(drawn, device=device)):
            return values(obs, state, is_first)

    return noisy


class HeadPerEpisode:
    """The live action values of one head, which is drawn where an episode begins and is the last part of the carry.

    Args:
        initial_state: the function from N to the carry of the network; None without a memory.
    """

    def __init__(
        self,
        network: QNetwork,
        device: torch.device,
        rng: np.random.Generator,
        initial_state: Callable[[int], State] | None,
    ):
        head: Any = network.head
        self._heads, self._rng, self._initial_state = head.heads, rng, initial_state
        self._each = make_acting_values(_with_head(network, EachHead(head)), device)

    def initial_state(self, num_envs: int) -> State:
        """Return the network's carry at the start of an episode, and a head for each environment, int64 [N]."""
        carry = () if self._initial_state is None else self._initial_state(num_envs)
        return (*carry, np.zeros(num_envs, np.int64))

    def __call__(self, obs: Obs, state: State, is_first: Array) -> tuple[Array, State]:
        """Return the action values [N, A] of the episodes' heads, and the next carry."""
        *carry, head = state
        if is_first.any():
            head = np.where(is_first, self._rng.integers(self._heads, size=len(is_first)), head)
        q, after = self._each(obs, tuple(carry), is_first)
        return of_heads(q, head), (*after, head)


def without_head(step: Step) -> Step:
    """Return a step whose carries are those of the network alone."""
    return replace(step, state=tuple(step.state)[:-1], next_state=tuple(step.next_state)[:-1])


def distribution_figures(network: QNetwork, device: torch.device) -> Figures | None:
    """Return a function that gives `atoms`, in rising order, and `atom_probabilities`, float32 [N, A, K].

    It is None for a network of means.

    With several heads it is the mixture of their distributions.
    """
    head = network.head
    if not isinstance(head, ReturnHead) or isinstance(head.kind, Means):
        return None
    kind: Any = head.kind
    heads = head.heads
    view = _with_head(network, _Outputs(head))

    @torch.no_grad()
    def figures(obs: Obs, state: State, is_first: Array) -> dict[str, Array]:
        seen, carry, first = (
            map_leaves(lambda leaf: torch.as_tensor(leaf, device=device), tree)
            for tree in (obs, tuple(state)[: len(network.initial_state(1))], is_first)
        )
        atoms, weights = kind.atoms(view(seen, carry, first)[0])
        weights = torch.full_like(atoms, 1 / kind.width) if weights is None else weights
        if heads > 1:  # [N, H, A, K]
            atoms, weights = (x.movedim(1, 2).flatten(2) for x in (atoms, weights / heads))
        atoms, order = atoms.sort(-1)
        return {"atoms": atoms.cpu().numpy(), "atom_probabilities": weights.gather(-1, order).cpu().numpy()}

    return figures


class _Outputs(nn.Module):
    def __init__(self, head: ReturnHead):
        super().__init__()
        self.forward = head.outputs


def _with_head(network: QNetwork, head: nn.Module) -> QNetwork:
    """Return a network that shares everything with another one but its head."""
    return QNetwork(network.encoder, network.core, head, network.normaliser)
