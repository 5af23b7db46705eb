"""The loss of action values against returns: by hand, and over sequences in which episodes begin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from networks import make_q_network
from rl_lab.updates.compiling import has_compiler
from rl_lab.updates.gradients import Clip
from rl_lab.updates.minibatches import ReturnBatch
from rl_lab.updates.optimisers import OPTIMISERS
from rl_lab.updates.q_updates import QUpdates
from rl_lab.updates.return_loss import ReturnLoss
from rl_lab.updates.trained import optimiser_state

LOSS = ReturnLoss()


def test_it_is_half_the_mean_square_of_the_errors_of_the_actions_taken():
    """Q(s, a) of the actions taken is 1, 5 and 3: their errors are -3, 0 and 2, so that the loss is 13 / 6."""
    q = torch.tensor([[1.0, 9.0], [9.0, 5.0], [3.0, 9.0]], requires_grad=True)
    batch = ReturnBatch(None, torch.tensor([0, 1, 0]), torch.tensor([4.0, 5.0, 1.0]))
    loss, chosen, target = LOSS(lambda obs: (q, ()), batch)
    assert loss.item() == pytest.approx(13 / 6)
    assert (chosen.tolist(), target.tolist()) == ([1, 5, 3], [4, 5, 1])
    loss.backward()  # (Q - G) / 3 for the action taken, and nothing for the other
    torch.testing.assert_close(q.grad, torch.tensor([[-1.0, 0.0], [0.0, 0.0], [2 / 3, 0.0]]))


@pytest.mark.parametrize("memory", ["gru", "lstm", "attention"])
def test_sequences_are_unrolled_as_they_were_acted(memory):
    """Step by step from the carry before them, which is zeroed where an episode begins."""
    torch.manual_seed(0)
    network = make_q_network(
        spaces.Box(-1, 1, (3,), np.float32), 2, memory=memory, memory_size=8, hidden=(8,), context=3
    )
    obs, is_first = torch.randn(6, 4, 3), torch.rand(6, 4) < 0.3
    before = tuple(torch.randn(part.shape) for part in network.initial_state(4))
    batch = ReturnBatch(obs, torch.zeros(6, 4, dtype=torch.int64), torch.zeros(6, 4), is_first, before)
    state, expected = before, []
    for t in range(6):
        q, state = network(obs[t], state, is_first[t])
        expected.append(q[:, 0])
    torch.testing.assert_close(LOSS(network, batch)[1], torch.stack(expected), atol=1e-5, rtol=1e-5)


def updates(optimiser: str, *, compiled: bool) -> QUpdates:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make_q_network(spaces.Discrete(4), 4, hidden=(8,), layer_norm=True)
    made = OPTIMISERS[optimiser](network.parameters(), 1e-2)
    return QUpdates(network, network, LOSS, made, Clip(None, 10.0), optimiser if compiled else None)


@pytest.mark.long
@pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
def test_compiled_steps_equal_eager_ones():
    """Of RAdam, from its first steps, which are plain momentum, to those after them."""
    eager, compiled = updates("radam", compiled=False), updates("radam", compiled=True)
    draws = torch.Generator().manual_seed(1)
    for number in range(20):
        batch = ReturnBatch(
            torch.randint(4, (16,), generator=draws),
            torch.randint(4, (16,), generator=draws),
            torch.randn(16, generator=draws),
        )
        for ours, theirs in zip(*(u.learn(batch, number).outcome for u in (eager, compiled)), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    for ours, theirs in zip(eager.online.parameters(), compiled.online.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    for mine, other in zip(*(optimiser_state(u.optimiser).values() for u in (eager, compiled)), strict=True):
        for name in mine:
            torch.testing.assert_close(mine[name], other[name], atol=1e-5, rtol=1e-4)


def test_a_return_that_is_not_finite_is_named_and_moves_nothing():
    broken = updates("radam", compiled=False)
    before = [p.detach().clone() for p in broken.online.parameters()]
    zeros = torch.zeros(2, dtype=torch.int64)
    batch = ReturnBatch(zeros, zeros, torch.tensor([1.0, float("inf")]))
    with pytest.raises(FloatingPointError, match="at gradient step 7"):
        broken.learn(batch, 7)
    assert all(torch.equal(p, q) for p, q in zip(broken.online.parameters(), before, strict=True))
