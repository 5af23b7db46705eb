"""Gradient steps: compiled ones give the eager numbers, and neither moves a weight for a loss that isn't finite."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from networks import make_q_network
from rl_lab.updates import gradients
from rl_lab.updates import q_updates as updates_module
from rl_lab.updates.compiling import has_compiler
from rl_lab.updates.gradients import Clip
from rl_lab.updates.optimisers import OPTIMISERS
from rl_lab.updates.q_updates import QUpdates
from rl_lab.updates.td import RESCALED, Batch, Outcome, TDLoss
from rl_lab.updates.trained import load_optimiser_state, optimiser_state

SPACE = spaces.Box(-1.0, 1.0, (4,), np.float32)
needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
VARIANTS = {  # few, since each takes a compiler some ten seconds
    "vanilla": (TDLoss(False, "huber"), Clip(None, 10.0), {}),
    "rescaled": (TDLoss(False, "huber", RESCALED), Clip(None, 10.0), {}),
    "double, dueling, rescaled, weighted": (
        TDLoss(True, "squared", RESCALED),
        Clip(0.05, 0.5),
        {"dueling": True},
    ),
}
ACTIONS = dict(
    zip(VARIANTS, (2, 3, 3), strict=True)
)  # two as in CartPole: one that a DQN of it has compiled serves here


def updates(variant: str, *, compiled: bool) -> QUpdates:
    """Updates of a small network and a different target, always the same ones."""
    loss, clip, fields = VARIANTS[variant]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        online = make_q_network(SPACE, ACTIONS[variant], hidden=(16,), **fields)
        target = make_q_network(SPACE, ACTIONS[variant], hidden=(16,), **fields).requires_grad_(False)
    optimiser = OPTIMISERS["adam"](online.parameters(), 1e-3)
    return QUpdates(online, target, loss, optimiser, clip, variant if compiled else None)


def batches(rng: np.random.Generator, variant: str, steps: int = 4, size: int = 16) -> Batch:
    """Batches for so many gradient steps; four are compiled as twice two, three as three times one."""

    def normal(*shape):
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32))

    rows, actions = (steps, size), ACTIONS[variant]
    mask = torch.from_numpy(rng.random((*rows, actions)) < 0.7) | (torch.arange(actions) == 0)
    return Batch(
        obs=normal(*rows, 4),
        action=torch.from_numpy(rng.integers(actions, size=rows)),
        reward=normal(*rows),
        discount=torch.from_numpy(rng.choice([0.99, 0.9801], rows).astype(np.float32)),
        terminated=(normal(*rows) > 1).float(),
        next_obs=normal(*rows, 4),
        next_mask=mask if variant != "vanilla" else None,
        weight=normal(*rows).abs() if variant != "vanilla" else None,
    )


def distance(one: QUpdates, other: QUpdates) -> float:
    """Return the largest difference between two networks' weights."""
    pairs = zip(one.online.parameters(), other.online.parameters(), strict=True)
    return max(float((p - q).detach().abs().max()) for p, q in pairs)


@pytest.mark.long
@needs_compiler
@pytest.mark.parametrize(("variant", "steps"), list(zip(VARIANTS, (4, 3, 3), strict=True)), ids=VARIANTS)
def test_a_hundred_compiled_steps_equal_as_many_eager_ones(variant, steps):
    eager, compiled = updates(variant, compiled=False), updates(variant, compiled=True)
    rng = np.random.default_rng(0)
    first = updates(variant, compiled=False)
    for _ in range(-(-100 // steps)):
        batch = batches(rng, variant, steps)
        for ours, theirs in zip(eager(batch)[:4], compiled(batch)[:4], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert distance(eager, compiled) < 1e-5
    assert distance(eager, first) > 0.01  # they did go somewhere
    for mine, other in zip(*(optimiser_state(u.optimiser).values() for u in (eager, compiled)), strict=True):
        for name in mine:
            torch.testing.assert_close(mine[name], other[name], atol=1e-5, rtol=1e-4)


@needs_compiler
def test_batches_of_other_sizes_are_not_taken_for_those_that_were_compiled():
    rng = np.random.default_rng(2)
    eager, compiled = updates("vanilla", compiled=False), updates("vanilla", compiled=True)
    for steps, size in ((4, 16), (1, 8), (4, 16)):
        batch = batches(rng, "vanilla", steps, size)
        for ours, theirs in zip(eager(batch)[:4], compiled(batch)[:4], strict=True):
            assert ours.shape == theirs.shape
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    assert distance(eager, compiled) < 1e-6


@needs_compiler
def test_eager_steps_go_on_from_compiled_ones():
    """The optimiser's state is the same in both, so that a run may change sides."""
    batch = batches(np.random.default_rng(1), "vanilla")
    eager, compiled = updates("vanilla", compiled=False), updates("vanilla", compiled=True)
    eager(batch), compiled(batch)
    other = updates("vanilla", compiled=False)
    other.online.load_state_dict(compiled.online.state_dict())
    load_optimiser_state(other.optimiser, optimiser_state(compiled.optimiser))
    eager(batch), other(batch)
    assert distance(eager, other) < 1e-6


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=needs_compiler)])
@pytest.mark.parametrize("bad", [0, 1, 2, 3])
def test_a_step_that_is_not_finite_is_named_and_moves_nothing(compiled, bad):
    broken, sound = updates("vanilla", compiled=compiled), updates("vanilla", compiled=compiled)
    batch = batches(np.random.default_rng(2), "vanilla")
    good = batches(np.random.default_rng(2), "vanilla")
    batch.reward[bad, 3] = float("nan")
    with pytest.raises(FloatingPointError, match=f"at gradient step {7 + bad}"):
        broken(batch, 7)
    if bad:  # the steps before it were taken
        good.reward[bad:] = batch.reward[bad:]
        with pytest.raises(FloatingPointError):
            sound(good)
    assert distance(broken, sound) == 0.0
    assert {int(state["step"]) for state in broken.optimiser.state.values()} <= {bad}
    assert all(p.isfinite().all() for p in broken.online.parameters())
    assert (distance(broken, updates("vanilla", compiled=False)) > 0) == (bad > 0)


def test_sound_steps_are_those_before_the_first_that_is_not_finite():
    def sound(loss: list[float], norm: list[float]) -> int:
        return updates_module._finite_steps(Outcome(torch.tensor(loss), torch.tensor(norm), None, None))

    inf, nan = float("inf"), float("nan")
    assert sound([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]) == 3
    assert sound([3e38, 3e38], [3e38, 3e38]) == 2
    assert sound([1.0, nan, inf], [1.0, 1.0, 1.0]) == 1
    assert sound([1.0, inf], [-inf, 1.0]) == 0
    assert sound([1.0, 2.0], [1.0, inf]) == 1


def test_eager_steps_settle_the_moments(monkeypatch):
    """By their absolute number, which a resumed run goes on with."""
    numbers = []
    monkeypatch.setattr(gradients, "flush_subnormals", lambda optimiser, number: numbers.append(number))
    updates("vanilla", compiled=False)(batches(np.random.default_rng(0), "vanilla", steps=6), 98)
    assert numbers == [98, 99, 100, 101, 102, 103]


def test_targets_of_all_batches_are_those_of_each():
    """The successors are valued together: one call for four batches, or four calls, lead to the same weights."""
    batch = batches(np.random.default_rng(3), "vanilla")
    together, apart = updates("vanilla", compiled=False), updates("vanilla", compiled=False)
    together(batch)
    for k in range(4):
        apart(Batch(*(None if x is None or x == () else x[k : k + 1] for x in batch)))
    assert distance(together, apart) < 1e-6


def test_the_clip_bounds_entries_before_their_norm():
    """A gradient of (3, 4): entries bounded to 2, their norm 2.83 scaled to 1."""
    weight = torch.nn.Linear(2, 1, bias=False)
    weight.weight.data[...] = torch.tensor([[3.0, 4.0]])

    class Half:
        def add_next_values(self, target, batch):
            return batch

        def __call__(self, online, batch):
            loss = 0.5 * online.weight.square().sum()
            return loss, batch.reward, batch.reward

    optimiser = torch.optim.SGD(weight.parameters(), lr=1.0)
    found = QUpdates(weight, weight, Half(), optimiser, Clip(2.0, 1.0))(
        batches(np.random.default_rng(0), "vanilla", 1)
    )
    assert float(found.norm) == pytest.approx(8**0.5)
    np.testing.assert_allclose(weight.weight.detach().numpy(), [[3 - 0.5**0.5, 4 - 0.5**0.5]], atol=1e-5)
