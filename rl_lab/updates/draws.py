"""What is drawn anew for every gradient step: the networks' noise, the fractions of quantiles, and who learns.

It comes with the batch, so that an update depends on weights and batch alone, compiled or not. All numbers are drawn
from the run's named streams, which a checkpoint holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rl_lab.nn.noisy import draw_noise
from rl_lab.nn.return_kinds import ImplicitQuantiles, ReturnKind
from rl_lab.seeding import Streams, seed_of
from rl_lab.trees import map_leaves
from rl_lab.types import Array
from rl_lab.updates.td import Batch, Outcome

if TYPE_CHECKING:
    from rl_lab.updates.td import Network


class Given(NamedTuple):
    """What a network is called with beside observations and carry."""

    noise: Tensor | None  # float32 [K, width]
    fractions: Tensor | None  # float32 [K, B, F]


class Draws(NamedTuple):
    """What was drawn for K batches of B transitions or windows."""

    online: Given
    target: Given
    learns: Tensor | None = None  # float32 [K, B, H], windows [K, T, B, H]: 1 where a head learns from a step


class Drawing:
    """Draws for each batch.

    Args:
        noise_width: of all noisy layers together; 0: none are.
        kind: what the network's outputs mean.
    """

    def __init__(self, streams: Streams, noise_width: int, kind: ReturnKind):
        self._noise = streams["noise"] if noise_width else None
        self._fractions = streams["fractions"] if isinstance(kind, ImplicitQuantiles) else None
        self._width, self._kind = noise_width, kind

    @property
    def any(self) -> bool:
        """Whether there is anything to draw."""
        return self._noise is not None or self._fractions is not None

    def __call__(self, batch: Batch) -> Batch:
        """Return K batches with what was drawn for them."""
        steps, size = batch.action.shape[0], batch.action.shape[-1]
        kind: Any = self._kind
        online, target = (
            Given(
                self._tensor(self._draw_noise(steps), batch),
                self._tensor(self._draw_fractions(steps, size, count), batch),
            )
            for count in (getattr(kind, "learned", 0), getattr(kind, "target", 0))
        )
        learns = None if batch.draws is None else batch.draws.learns
        return batch._replace(draws=Draws(online, target, learns))

    def _draw_noise(self, steps: int) -> Array | None:
        return None if self._noise is None else draw_noise(self._noise, (steps, self._width))

    def _draw_fractions(self, *shape: int) -> Array | None:
        return None if self._fractions is None else self._fractions.random(shape, np.float32)

    def _tensor(self, drawn: Array | None, batch: Batch) -> Tensor | None:
        return None if drawn is None else torch.from_numpy(drawn).to(batch.action.device)


@dataclass(frozen=True)
class LossWithDraws:
    """A loss whose networks are called with what was drawn for the batch."""

    inner: Any
    """The loss, `td.TDLoss` or one of its kind."""
    learns: HeadMasks | None = field(default=None, compare=False)
    """Which heads learn from which steps; None: all from all. It only makes batches, and compiled gradient steps begin
    with these: the steps of one seed serve all others."""

    def batch(self, drawn: Any, size: int, tensor: Callable[[Any], Tensor]) -> Batch:
        """Return what was drawn from the replay as K batches."""
        batch = self.inner.batch(drawn, size, tensor)
        if self.learns is None:
            return batch
        nothing = Given(None, None)
        return batch._replace(
            draws=Draws(nothing, nothing, tensor(self.learns.of(drawn, batch.action.shape)))
        )

    def add_next_values(self, target: Network, batch: Batch) -> Batch:
        """Return all K batches with the target network's outputs."""
        given = None if batch.draws is None else _for_all(batch.draws.target, batch)
        return self.inner.add_next_values(_given(target, given), batch)

    def __call__(self, online: Network, batch: Batch) -> tuple[Tensor, ...]:
        """Return the loss [], means, means of targets and errors of one of the K batches."""
        return self.inner(_given(online, None if batch.draws is None else batch.draws.online), batch)

    def errors(self, drawn: Any, outcome: Outcome) -> Array:
        """Return the error of each transition or window drawn, float [B]."""
        return self.inner.errors(drawn, outcome)

    def select_learned(self, drawn: Any, outcome: Outcome) -> Outcome:
        """Return the outcome without the steps that weren't learned from."""
        return self.inner.select_learned(drawn, outcome)


def _given(network: Network, given: Given | None) -> Network:
    return lambda obs, state=(), is_first=None: network(obs, state, is_first, given)


def _for_all(given: Given, batch: Batch) -> Given:
    """Return what was drawn for K batches as it is needed for all of them side by side."""
    steps, size = batch.action.shape[0], batch.action.shape[-1]
    if steps == 1:
        return map_leaves(lambda x: x[0], given)
    noise, fractions = given
    return Given(
        None if noise is None else noise.repeat_interleave(size, 0),
        None if fractions is None else fractions.flatten(0, 1),
    )


@dataclass(frozen=True)
class HeadMasks:
    """Which heads learn from which steps: each head from a share of them, drawn independently.

    A place of the replay always has the same heads, so a step does as long as it is held, and nothing has to be
    stored: a place's heads follow from the run's seed.
    """

    seed: int
    """The run's seed."""
    heads: int
    """Heads of the network, H."""
    share: float
    """Probability that a head learns from a step."""
    places: int
    """Transitions that the replay can hold."""
    num_envs: int
    """Environments whose steps lie side by side in it."""

    def of(self, drawn: Any, shape: tuple[int, ...]) -> Array:
        """Return 1 where a head learns, float32 [K, B, H] for transitions or [1, T, B, H] for windows of a shape."""
        place = drawn.index.reshape(shape[0], -1)
        if len(shape) == 3:  # windows: their first steps are known
            place = place[:, None] + self.num_envs * np.arange(shape[1])[:, None]
        table = _mask_table(seed_of(self.seed, "heads"), self.places, self.heads, self.share)
        return table[place % self.places].astype(np.float32)


@lru_cache(maxsize=2)
def _mask_table(seed: int, places: int, heads: int, share: float) -> Array:
    """Return which heads learn from which places, bool [places, H]."""
    return np.random.Generator(np.random.PCG64(seed)).random((places, heads), np.float32) < share
