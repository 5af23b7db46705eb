"""The run without checks: they are off within the block alone, and nothing else differs."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import TransformReward

from rl_lab.benchmarks import guards as benchmark
from rl_lab.benchmarks.guards import KINDS, bare_adam_step, guards, unguarded
from rl_lab.environments.contract import Contract
from rl_lab.environments.make import make_envs
from rl_lab.replay import transitions
from rl_lab.replay.transitions import TransitionReplay
from rl_lab.types import EnvironmentFault
from rl_lab.updates import compiling
from rl_lab.updates import q_updates as updates
from rl_lab.updates.adam import adam_step
from worlds import World


def state():
    """A weight, its gradient, its average and its square, and a row of coefficients."""
    generator = torch.Generator().manual_seed(0)
    weight, gradient, average = (torch.randn(5, generator=generator) for _ in range(3))
    return weight, gradient, average, average.square(), torch.tensor([0.1, 0.9, 1e-8])


class TestBareAdamStep:
    def test_is_the_checked_step_where_gradients_are_finite(self):
        bare, checked = state(), state()
        bare_adam_step(*bare, torch.tensor(True))
        adam_step(*checked, torch.tensor(True))
        assert all(torch.equal(one, other) for one, other in zip(bare, checked, strict=True))
        assert not torch.equal(bare[0], state()[0])

    def test_moves_the_weight_whatever_the_gradient_is(self):
        bare, checked = state(), state()
        bare_adam_step(*bare, torch.tensor(False))
        adam_step(*checked, torch.tensor(False))
        assert torch.equal(checked[0], state()[0])
        assert not torch.equal(bare[0], state()[0])


def poisoned(field):
    """A replay, and a step whose reward or observation isn't a number."""
    world = World(1, seed=0)
    step = world.step()
    getattr(step, field)[...] = np.nan
    return TransitionReplay(10, world.spec()), step


class TestUnguarded:
    @pytest.mark.parametrize("field", ["reward", "next_obs"])
    def test_lets_a_replay_take_what_is_no_number_within_the_block_alone(self, field):
        with unguarded({}):
            replay, step = poisoned(field)
            replay.add(step)
        replay, step = poisoned(field)
        with pytest.raises(FloatingPointError):
            replay.add(step)

    @pytest.mark.parametrize("num_envs", [1, 3])
    def test_looks_at_no_reward(self, num_envs):
        rewards = np.ones(num_envs)
        with unguarded({}):
            assert transitions.total_of(num_envs)(rewards) == 0.0
        assert transitions.total_of(num_envs)(rewards) == num_envs

    def test_counts_every_step_of_an_update_as_finite(self):
        outcome = updates.Outcome(*[torch.full((3,), np.nan)] * len(updates.Outcome._fields))
        with unguarded({}):
            assert updates._finite_steps(outcome) == 3
        assert updates._finite_steps(outcome) == 0

    def test_compiles_functions_of_its_own(self):
        before, own = compiling._COMPILED, {}
        with unguarded(own):
            assert compiling._COMPILED is own
        assert compiling._COMPILED is before


@pytest.mark.parametrize("wrappers", KINDS.values())
def test_a_step_that_is_not_checked_gives_what_a_checked_one_gives(wrappers):
    def episode():
        envs = make_envs("CartPole-v1", 1, wrappers=wrappers)
        envs.reset(seed=[3])
        steps = [envs.step(np.array([t % 2])) for t in range(12)]
        envs.close()
        return [
            np.concatenate([obs[0], reward, end, cut, *info.values()], None)
            for obs, reward, end, cut, info in steps
        ]

    checked = episode()
    with unguarded({}):
        bare = episode()
    assert [step.dtype for step in bare] == [step.dtype for step in checked]
    np.testing.assert_array_equal(bare, checked)


def test_an_environment_is_believed_within_the_block_alone():
    env = Contract(TransformReward(gymnasium.make("CartPole-v1"), lambda reward: np.nan))
    env.reset(seed=0)
    with unguarded({}):
        assert np.isnan(env.step(np.int64(0))[1])
    with pytest.raises(EnvironmentFault, match="reward: nan"):
        env.step(np.int64(1))


def test_masks_and_numpy_types_reach_the_checks():
    given = []
    for wrappers in KINDS.values():
        envs = make_envs("CartPole-v1", 1, wrappers=wrappers)
        _, info = envs.reset(seed=[0])
        reward, end = envs.env.env.step(np.int64(0))[1:3]
        given.append((type(reward), type(end), sorted(info)))
        envs.close()
    assert given == [(float, bool, []), (float, bool, ["action_mask"]), (np.float32, np.bool_, [])]


def test_the_two_sides_differ_in_the_checks_alone(monkeypatch):
    runs = []

    def lab_seconds(agent, **fields):
        runs.append((updates.adam_step is bare_adam_step, compiling._COMPILED, agent, fields))
        return float(len(runs))

    monkeypatch.setattr(benchmark, "lab_seconds", lab_seconds)
    work, *_ = guards()
    assert (work.peer, work.ours(), work.theirs(), work.theirs()) == ("unchecked", 1.0, 2.0, 3.0)
    (checked, *_, first), (bare, compiled, *_, second), (_, again, *_) = runs
    assert (checked, bare) == (False, True)
    assert first == second
    assert compiled is again  # so that only its first turn, which isn't counted, compiles
