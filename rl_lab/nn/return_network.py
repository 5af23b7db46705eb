"""Makes Q-networks with heads of returns, with noise or with several heads, and shows them as their losses see them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.nn.cores import make_core
from rl_lab.nn.encoders import DenseLayer, Encoder, make_encoder
from rl_lab.nn.ensembles import Beside, HeadsLinear, Prior, WithPrior
from rl_lab.nn.fields import NetworkFields
from rl_lab.nn.initialise import initialise
from rl_lab.nn.layers import Linear
from rl_lab.nn.noisy import Noise, NoisyLinear
from rl_lab.nn.normalise import ObservationNormaliser
from rl_lab.nn.q_network import QNetwork
from rl_lab.nn.recurrent import Carry, features_over_time
from rl_lab.nn.return_heads import DuelingBody, FractionEmbedding, PlainBody, ReturnHead
from rl_lab.nn.return_kinds import MEANS, ImplicitQuantiles, Means, ReturnKind


@dataclass(frozen=True)
class HeadPlan:
    """What a head says, and how it explores."""

    kind: ReturnKind = MEANS
    """What the outputs mean."""
    dueling: bool = False
    """Split each head into two streams."""
    heads: int = 1
    """Heads side by side; each has the last of `fields.hidden` to itself."""
    noisy_sigma: float | None = None
    """Initial noise of the dense layers; None: they have none."""
    cosines: int = 64
    """Width of the embedding of fractions, for implicit quantiles."""
    prior_scale: float = 0.0
    """Size of the random functions added to the heads; 0: none."""

    @property
    def is_plain(self) -> bool:
        """Whether a usual head, of means alone and without noise, serves."""
        return isinstance(self.kind, Means) and self.heads == 1 and self.noisy_sigma is None

    @property
    def splits(self) -> bool:
        """Whether the last of `fields.hidden` belongs to the head."""
        return self.dueling or self.heads > 1 or isinstance(self.kind, ImplicitQuantiles)


def make_return_network(
    space: spaces.Space, num_actions: int, fields: NetworkFields, plan: HeadPlan
) -> QNetwork:
    """Make a Q-network with the head that a plan describes.

    Raises:
        UsageError: the encoder can't take the space, or a name is unknown.
    """
    layer: DenseLayer = Linear
    if plan.noisy_sigma is not None:
        layer = partial(NoisyLinear, sigma=plan.noisy_sigma)
    encoder, core, head = _parts(space, num_actions, fields, plan, layer)
    normaliser = None
    if fields.normalise_observations:
        normaliser = ObservationNormaliser(space, channels=fields.channels)
    network = QNetwork(encoder, core, head, normaliser)
    initialise(network, fields.initialisation)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster convolutions


def _parts(
    space: spaces.Space, num_actions: int, fields: NetworkFields, plan: HeadPlan, layer: DenseLayer
) -> tuple[Encoder, Any, ReturnHead]:
    split = len(fields.hidden) - plan.splits
    shared = replace(fields, hidden=fields.hidden[: max(split, 0)])
    own = replace(fields, hidden=fields.hidden[max(split, 0) :])
    encoder = make_encoder(shared, space, layer)
    core = make_core(fields, encoder.size)
    implicit = isinstance(plan.kind, ImplicitQuantiles)
    outputs = num_actions, 1 if implicit else plan.kind.width
    in_head = layer if plan.heads == 1 else partial(HeadsLinear, heads=plan.heads)

    def body(dropout: float) -> nn.Module:
        layers = replace(own, dropout=dropout)
        return (DuelingBody if plan.dueling else PlainBody)(core.size, outputs, layers, in_head)

    embedding = FractionEmbedding(core.size, plan.cosines) if implicit else None
    whole: nn.Module = body(fields.dropout)
    if plan.prior_scale:  # a fixed function, so that nothing of it is dropped
        seen = make_encoder(replace(shared, dropout=0.0), space)
        prior = Prior(seen, ReturnHead(body(dropout=0.0), Means()), plan.prior_scale)
        initialise(prior, fields.initialisation)
        size = encoder.size + plan.heads * num_actions
        encoder = Encoder([Beside(encoder, prior)], size)
        whole = WithPrior(whole, plan.heads, num_actions)
        core = make_core(fields, size)
    return encoder, core, ReturnHead(whole, plan.kind, plan.heads, embedding)


class OutputsOf(nn.Module):
    """A network with a `ReturnHead` as its loss sees it: `outputs, state = view(obs, state, is_first, given)`.

    It shares the network's weights, in the same order. `given` holds the noise, [width] or [B, width] for observations
    [B, ...], and the fractions, [F] or [B, F]; either may be None.
    """

    def __init__(self, network: QNetwork):
        super().__init__()
        self.network = network
        self._noise = Noise(network)

    def forward(
        self, obs: Any, state: Carry = (), is_first: Tensor | None = None, given: Any = None
    ) -> tuple[Tensor, Carry]:
        """Return the head's outputs [..., A, K] (see `return_heads`) and the next carry."""
        network = self.network
        noise, fractions = (None, None) if given is None else given
        head: Any = network.head
        with self._noise.on(noise):
            seen = obs if network.normaliser is None else network.normaliser(obs)
            features, state = features_over_time(network.encoder, network.core, seen, state, is_first)
            return head.outputs(features, fractions), state
