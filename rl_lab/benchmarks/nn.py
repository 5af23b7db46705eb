"""Encoders and cores beside the same networks written by hand in plain torch.

Both sides have the same weights and use torch's fused Adam. With images both keep weights and activations in
channels_last, which plain torch gets without a copy, since the images themselves have their channels last. Windows
contain no resets, which the plain cores don't support. Outputs and gradients are compared before anything is timed.

A side's time is the median of the processor time of its passes. Both sides compute in one thread, so neither waiting
on a busy machine nor a few disturbed passes matter. (The median also leaves out every hundredth update of ours,
which flushes subnormal numbers: less than 1 % of the time.) Freed memory stays with the process on both sides, since
giving it back and faulting it in again takes up to 7 % of a pass, on a side that the layout of the heap decides.
"""

from __future__ import annotations

import ctypes
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import GRU, LSTM, RNN, Module
from torch.nn.functional import huber_loss
from torch.nn.utils import clip_grad_norm_

from rl_lab.benchmarks import plain
from rl_lab.benchmarks.work import Work
from rl_lab.nn.fields import NetworkFields
from rl_lab.nn.q_network import QNetwork, make_q_network
from rl_lab.updates.adam import ADAM_BETAS, ADAM_EPSILON
from rl_lab.updates.gradients import Clip
from rl_lab.updates.optimisers import adam
from rl_lab.updates.q_updates import QUpdates
from rl_lab.updates.td import Batch, TDLoss

TURN_SECONDS = 0.3
WINDOW_STEPS = 16
MAX_NORM = 10.0
LEARNING_RATE = 0.0  # costs the same arithmetic, and both sides keep the weights that were compared
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT_BYTES = 2**28
VECTORS = spaces.Box(-1.0, 1.0, (8,), np.float32)
INDICES = spaces.Discrete(64)
FRAMES, TILES = (spaces.Box(0, 255, shape, np.uint8) for shape in ((84, 84, 4), (10, 10, 4)))


@dataclass(frozen=True)
class Peers:
    """A network of the lab, and the same network in plain torch."""

    name: str
    """Name of the encoder or core, for the row of results."""
    space: spaces.Space
    """Space of the observations."""
    plain: Callable[[], Module]
    """Makes the network in plain torch."""
    batch: int
    """Observations (or windows) in a batch."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Fields of the lab's network, of NetworkFields."""


ENCODERS = (
    Peers("mlp 64-64", VECTORS, lambda: plain.mlp(8), 64),
    Peers("mlp 256-256", VECTORS, lambda: plain.mlp(8, 256), 64, {"hidden": (256, 256)}),
    Peers("cnn, 84x84x4", FRAMES, plain.nature, 32, {"encoder": "cnn", "hidden": (512,)}),
    Peers("small, 10x10x4", TILES, plain.small, 32, {"encoder": "small", "hidden": (128,)}),
    Peers("impala, 84x84x4", FRAMES, plain.impala, 8, {"encoder": "impala", "hidden": (256,)}),
    Peers("onehot, 64 values", INDICES, lambda: plain.OneHot(64), 64, {"encoder": "onehot"}),
    Peers("embedding, 64 values", INDICES, lambda: plain.embedding(64, 16), 64, {"encoder": "embedding"}),
)
CORES = (
    Peers("rnn", VECTORS, lambda: plain.Recurrent(RNN, 8), 64, {"memory": "rnn"}),
    Peers("gru", VECTORS, lambda: plain.Recurrent(GRU, 8), 64, {"memory": "gru"}),
    Peers("lstm", VECTORS, lambda: plain.Recurrent(LSTM, 8), 64, {"memory": "lstm"}),
    Peers("attention", VECTORS, lambda: plain.Attention(8), 64, {"memory": "attention"}),
)


def nn() -> Iterator[Work]:
    """Yield forward pass and update of every encoder and every core, and single steps of every core."""
    keep_freed_memory()
    for peers in ENCODERS:
        yield from encoder_works(peers)
    for peers in CORES:
        yield from core_works(peers)


def keep_freed_memory() -> None:
    """Tell glibc to give no freed memory back to the system, for the rest of the process; elsewhere do nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES // 8)


class RegressionLoss(TDLoss):
    """The Huber loss of Q(s, a) against given values, without a target network."""

    def add_next_values(self, target: Any, batch: Batch) -> Batch:
        """Leave the batch as it is."""
        return batch

    def __call__(self, online: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss [], Q(s, a) and the given values, both [B] or [T, B]."""
        is_first = torch.zeros(batch.action.shape, dtype=torch.bool) if batch.state else None
        q = online(batch.obs, batch.state, is_first)[0]
        chosen = q.gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
        return huber_loss(chosen, batch.reward), chosen, batch.reward


def encoder_works(peers: Peers) -> list[Work]:
    """Return the forward pass of a batch and the update on it."""
    ours, theirs = networks(peers)
    obs = observations(peers.space, peers.batch)
    assert_same(ours(obs)[0], theirs(obs))
    return [
        work(f"{peers.name}, forward, B = {peers.batch}", lambda: ours(obs), lambda: theirs(obs)),
        update(f"{peers.name}, update, B = {peers.batch}", ours, theirs, theirs, obs, ()),
    ]


def core_works(peers: Peers) -> list[Work]:
    """Return the forward pass of windows, the update on them, and a single step with one environment."""
    ours, theirs = networks(peers)
    size = (WINDOW_STEPS, peers.batch)
    obs, never = observations(peers.space, *size), torch.zeros(size, dtype=torch.bool)
    state = ours.initial_state(size[1])
    now, still, before = obs[0, :1], never[0, :1], ours.initial_state(1)
    carry, carry_before = theirs.carry(state), theirs.carry(before)  # type: ignore[operator]
    assert_same(ours(obs, state, never)[0], theirs(obs, carry)[0])
    assert_same(ours(now, before, still)[0], theirs(now[None], carry_before)[0][0])
    name = f"mlp and {peers.name}"
    return [
        work(
            f"{name}, forward, T = {size[0]}, B = {size[1]}",
            lambda: ours(obs, state, never),
            lambda: theirs(obs, carry),
        ),
        update(
            f"{name}, update, T = {size[0]}, B = {size[1]}",
            ours,
            theirs,
            lambda x: theirs(x, carry)[0],
            obs,
            state,
        ),
        work(
            f"{name}, single step, N = 1",
            lambda: ours(now, before, still),
            lambda: theirs(now[None], carry_before),
        ),
    ]


def networks(peers: Peers) -> tuple[QNetwork, Module]:
    """Return the lab's network and the plain one, with the same weights."""
    torch.manual_seed(0)
    ours = make_q_network(peers.space, plain.ACTIONS, NetworkFields(**peers.fields))
    theirs = peers.plain()
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert mine.shape == other.shape
            assert mine.stride() == other.stride()
            other.copy_(mine)
    return ours, theirs


def observations(space: spaces.Space, *size: int) -> Tensor:
    """Return random observations [*size, ...]."""
    space.seed(0)
    drawn = np.stack([space.sample() for _ in range(int(np.prod(size)))])
    return torch.from_numpy(drawn.reshape(*size, *drawn.shape[1:]))


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    """Check that both sides computed the same [...], up to rounding.

    Raises:
        AssertionError: they didn't.
    """
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def update(
    name: str,
    ours: Module,
    theirs: Module,
    q_of: Callable[[Tensor], Tensor],
    obs: Tensor,
    state: tuple[Tensor, ...],
) -> Work:
    """Return our eager update beside the usual handwritten one.

    Args:
        q_of: maps observations to the values of `theirs`, starting from its carry if it has one.
        obs: [B, ...], or windows [T, B, ...].
        state: our carry before the windows, each part [B, ...]; () without a memory.
    """
    shape = obs.shape[: 2 if state else 1]
    action, wanted = torch.randint(plain.ACTIONS, shape), torch.randn(shape)
    nothing = torch.zeros(1, *shape)
    batch = Batch(
        obs[None],
        action[None],
        wanted[None],
        nothing,
        nothing,
        None,
        None,
        None,
        tuple(part[None] for part in state),
    )
    updates = QUpdates(
        ours,
        ours,
        RegressionLoss(double=False, loss="huber"),
        adam(ours.parameters(), LEARNING_RATE),
        Clip(norm=MAX_NORM),
    )
    parameters = list(theirs.parameters())
    optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE, betas=ADAM_BETAS, eps=ADAM_EPSILON, fused=True)

    def by_hand() -> None:
        chosen = q_of(obs).gather(-1, action.unsqueeze(-1)).squeeze(-1)
        loss = huber_loss(chosen, wanted)
        optimiser.zero_grad()
        loss.backward()
        clip_grad_norm_(parameters, MAX_NORM)
        optimiser.step()

    updates(batch)
    by_hand()
    for mine, other in zip(ours.parameters(), parameters, strict=True):
        assert mine.grad is not None
        assert other.grad is not None
        assert_same(mine.grad, other.grad)
    numbers = itertools.count(1)
    return Work(
        name,
        "plain torch",
        lambda: median_seconds(lambda: updates(batch, next(numbers))),
        lambda: median_seconds(by_hand),
    )


def work(name: str, ours: Callable[[], Any], theirs: Callable[[], Any]) -> Work:
    """Return forward passes, without gradients, of both sides."""
    return Work(
        name,
        "plain torch",
        torch.no_grad()(lambda: median_seconds(ours)),
        torch.no_grad()(lambda: median_seconds(theirs)),
    )


def median_seconds(once: Callable[[], Any]) -> float:
    """Return the median of a pass's seconds of processor time, over TURN_SECONDS of passes."""
    ends = time.perf_counter() + TURN_SECONDS
    passes: list[float] = []
    while not passes or time.perf_counter() < ends:
        begun = time.process_time()
        once()
        passes.append(time.process_time() - begun)
    return statistics.median(passes)
