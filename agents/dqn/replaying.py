"""What is learned from: single transitions, or with a memory windows of an episode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from rl_lab.nn.updates import Outcome
from rl_lab.replay.sequences import SequenceReplay, Sequences
from rl_lab.replay.transitions import TransitionReplay, Transitions
from rl_lab.td import IN_REWARDS, RESCALED, Batch, Scale, TDLoss, batch_of_transitions
from rl_lab.td_windows import WindowedTDLoss, batch_of_windows, mixed_priorities
from rl_lab.types import Array, EnvSpec, State

from .config import Config, make_sampler, steps_per_call

Move = Callable[[Any], Tensor]  # an array to the device


class Material(Protocol):
    """How a replay is made, drawn from and told what was found."""

    @property
    def loss(self) -> TDLoss:
        """What a batch is made to minimise."""

    def replay(self, spec: EnvSpec, carry: State) -> Any:
        """Allocate a replay; `carry` holds arrays [1, ...] that show the carry's shapes."""

    def can_sample(self, replay: Any) -> bool:
        """Say whether there is something to draw."""

    def draw(self, replay: Any, rng: np.random.Generator, beta: float) -> Any:
        """Draw what one call of the update takes."""

    def batch(self, drawn: Any, tensor: Move) -> Batch:
        """Move to the device what was drawn, as one batch or more."""

    def errors(self, drawn: Any, outcome: Outcome) -> Array:
        """Return how far off each of those drawn was, [B]."""

    def counted(self, drawn: Any, outcome: Outcome) -> Outcome:
        """Return the outcome of the steps that were learned from."""


class FromTransitions:
    """Learns from single transitions of up to n steps."""

    def __init__(self, config: Config):
        self._config = config
        self.loss = TDLoss(config.double, config.loss, scale_of(config))
        self._size = steps_per_call(config) * config.batch_size

    def replay(self, spec: EnvSpec, carry: State) -> TransitionReplay:
        """Allocate a replay."""
        c = self._config
        return TransitionReplay(
            c.replay_capacity, spec, n_steps=c.n_steps, gamma=c.gamma, reward_clip=c.reward_clip,
            sampler=make_sampler(c),
        )  # fmt: skip

    def can_sample(self, replay: TransitionReplay) -> bool:
        """Return True: one transition is enough."""
        return True

    def draw(self, replay: TransitionReplay, rng: np.random.Generator, beta: float) -> Transitions:
        """Draw the batches of a burst at once."""
        return replay.sample(self._size, rng, beta)

    def batch(self, drawn: Transitions, tensor: Move) -> Batch:
        """Return as many batches as fit."""
        return batch_of_transitions(drawn, max(1, len(drawn.action) // self._config.batch_size), tensor)

    def errors(self, drawn: Transitions, outcome: Outcome) -> Array:
        """Return the temporal-difference errors."""
        return (outcome.target - outcome.prediction).flatten().cpu().numpy()

    def counted(self, drawn: Transitions, outcome: Outcome) -> Outcome:
        """Return the outcome as it is."""
        return outcome


class FromWindows:
    """Learns from windows, unrolled from the carry they were acted with."""

    def __init__(self, config: Config):
        self._config = config
        self.loss = WindowedTDLoss(config.double, config.loss, scale_of(config), config.burn_in_steps)

    def replay(self, spec: EnvSpec, carry: State) -> SequenceReplay:
        """Allocate a replay."""
        c = self._config
        return SequenceReplay(
            c.replay_capacity, spec, carry, c.sequence_length, c.reward_clip,
            period=c.sequence_period_steps, burn_in=c.burn_in_steps, sampler=make_sampler(c),
        )  # fmt: skip

    def can_sample(self, replay: SequenceReplay) -> bool:
        """Say whether one whole window is held."""
        return replay.can_sample

    def draw(self, replay: SequenceReplay, rng: np.random.Generator, beta: float) -> Sequences:
        """Draw one batch."""
        return replay.sample_sequences(self._config.batch_size, rng, beta)

    def batch(self, drawn: Sequences, tensor: Move) -> Batch:
        """Return one batch, its returns of up to n steps."""
        return batch_of_windows(drawn, self._config.gamma, self._config.n_steps, tensor)

    def errors(self, drawn: Sequences, outcome: Outcome) -> Array:
        """Return what stands for the errors of each window."""
        errors = (outcome.target - outcome.prediction)[0].cpu().numpy()  # [T, B]
        return mixed_priorities(errors, drawn.learned, self._config.priority_eta)

    def counted(self, drawn: Sequences, outcome: Outcome) -> Outcome:
        """Leave out the burn-in and what lies behind an episode's end."""
        loss, norm, *steps = outcome
        prediction, target = (x[0].cpu()[drawn.learned].unsqueeze(0) for x in steps)
        return Outcome(loss, norm, prediction, target)


def material_of(config: Config, *, memoryless: bool) -> Material:
    """Return what a network with this config learns from."""
    return FromTransitions(config) if memoryless else FromWindows(config)


def scale_of(config: Config) -> Scale:
    """Return the scale of the network's values."""
    return RESCALED if config.value_rescaling else IN_REWARDS
