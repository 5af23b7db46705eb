"""The loop: true successors, flags, seeds and masks; the same steps at every width; the budget."""

from __future__ import annotations

import hashlib
from typing import Any

import gymnasium
import numpy as np
import pytest

from counting import CASES, EPISODE, SEED, Collector, Scripted, collect, hashed_legal, sometimes_end
from rl_lab.environments.make import make_envs
from rl_lab.environments.masks import mask_of
from rl_lab.environments.vectors import NEVER
from rl_lab.seeding import EpisodeSeeds, episode_seed
from rl_lab.training.loop import start, train
from rl_lab.types import Step
from runs import learn


def column(steps: list[Step], i: int) -> list[tuple[Any, ...]]:
    """Return environment i's transitions as plain values."""
    names = (
        "obs",
        "action",
        "reward",
        "terminated",
        "truncated",
        "next_obs",
        "is_first",
        "mask",
        "next_mask",
    )
    values = ((getattr(s, n) for n in names) for s in steps)
    return [tuple(None if v is None else np.asarray(v[i]).tolist() for v in row) for row in values]


def single_episodes(
    env: gymnasium.Env, policy, i: int, steps: int, seed: int = SEED
) -> list[tuple[Any, ...]]:
    """The same transitions, played by hand in one environment that is reset to (seed, i, k)."""
    out, k = [], 0
    obs, info = env.reset(seed=episode_seed(seed, i, k))
    first = True
    while len(out) < steps:
        mask = np.asarray(info["action_mask"], bool) if "action_mask" in info else None
        action = policy._choose(obs, mask)
        next_obs, reward, terminated, truncated, info = env.step(action)
        next_mask = np.asarray(info["action_mask"], bool) if "action_mask" in info else None
        out.append(
            tuple(
                None if v is None else np.asarray(v).tolist()
                for v in (obs, action, float(reward), terminated, truncated, next_obs, first, mask, next_mask)
            )
        )
        obs, first = next_obs, False
        if terminated or truncated:
            k, first = k + 1, True
            obs, info = env.reset(seed=episode_seed(seed, i, k))
    return out


class TestCounting:
    @pytest.mark.parametrize("num_envs", [1, 2, 4])
    def test_every_successor_is_the_next_count_whatever_ends(self, num_envs):
        steps, _ = collect(make_envs("test/Counting-v0", num_envs), Scripted(sometimes_end), 200)
        ended = np.zeros(2, int)
        for step in steps:
            np.testing.assert_array_equal(step.next_obs, step.obs + 1)
            np.testing.assert_array_equal(step.reward, step.obs[:, 0])
            np.testing.assert_array_equal(step.truncated, (step.next_obs[:, 0] % EPISODE == 7))
            ended += [np.count_nonzero(step.terminated), np.count_nonzero(step.truncated)]
        assert (ended > 5).all()  # both kinds of ends were met

    @pytest.mark.parametrize("num_envs", [1, 3])
    def test_is_first_where_an_episode_opens_and_nowhere_else(self, num_envs):
        steps, cursors = collect(make_envs("test/Counting-v0", num_envs), Scripted(sometimes_end), 100)
        assert steps[0].is_first.all()
        for step in steps:
            np.testing.assert_array_equal(step.is_first, step.obs[:, 0] % EPISODE == 0)
        for step, after, at in zip(steps, steps[1:], cursors, strict=False):
            np.testing.assert_array_equal(after.is_first, step.terminated | step.truncated)
            np.testing.assert_array_equal(after.is_first, at.is_first)

    def test_episodes_start_from_the_seeds_of_their_numbers(self):
        steps, cursors = collect(make_envs("test/Counting-v0", 2), Scripted(sometimes_end), 60)
        for i in range(2):
            opened = [int(s.obs[i, 0]) for s in steps if s.is_first[i]]
            assert opened == [EPISODE * (episode_seed(SEED, i, k) % 1000) for k in range(len(opened))]
            assert cursors[-1].episodes[i] in (len(opened) - 1, len(opened))

    def test_the_cursor_counts_decisions_over_the_vector(self):
        _, cursors = collect(make_envs("test/Counting-v0", 4), Scripted(sometimes_end), 5)
        assert [at.env_steps for at in cursors] == [4, 8, 12, 16, 20]

    def test_a_cursor_is_never_changed_afterwards(self):
        """Whoever saves at a yield may do so later: the loop replaces what the cursor holds."""
        envs, policy, seeds = make_envs("test/Counting-v0", 2), Scripted(sometimes_end), EpisodeSeeds(SEED, 2)
        kept = []
        for _, _, at in train(Collector(), policy, envs, seeds, 60, start(policy, envs, seeds)):
            kept.append((at, at.obs.copy(), at.is_first.copy(), at.episodes))
        for at, obs, is_first, episodes in kept:
            np.testing.assert_array_equal(at.obs, obs)
            np.testing.assert_array_equal(at.is_first, is_first)
            assert at.episodes == episodes


class TestWidths:
    @pytest.mark.parametrize("num_envs", [1, 4])
    @pytest.mark.parametrize("env_id", CASES)
    def test_each_column_is_a_single_environment_with_its_seeds(self, env_id, num_envs):
        policy = Scripted(CASES[env_id])
        steps, _ = collect(make_envs(env_id, num_envs), policy, 250)
        for i in range(num_envs):
            assert column(steps, i) == single_episodes(gymnasium.make(env_id), policy, i, 250)

    @pytest.mark.parametrize("env_id", ["Taxi-v4", "CartPole-v1"])
    def test_worker_processes_change_nothing(self, env_id):
        hashes = []
        for vector in ("sync", "async"):
            steps, _ = collect(make_envs(env_id, 3, vector=vector), Scripted(CASES[env_id]), 120)
            rows = [column(steps, i) for i in range(3)]
            hashes.append(hashlib.sha256(repr(rows).encode()).hexdigest())
        assert hashes[0] == hashes[1]


class TestMasks:
    @pytest.mark.parametrize("num_envs", [1, 4])
    def test_masks_are_those_of_the_observation_on_both_sides(self, num_envs):
        """Taxi's mask is a function of its state, which the observation names; ends come after 200 steps."""
        table = gymnasium.make("Taxi-v4").unwrapped
        steps, cursors = collect(make_envs("Taxi-v4", num_envs), Scripted(hashed_legal), 430)
        resets = 0
        for step, at in zip(steps, cursors, strict=True):
            for i in range(num_envs):
                assert step.mask[i].tolist() == table.action_mask(int(step.obs[i])).astype(bool).tolist()
                assert step.mask[i][step.action[i]]
                assert at.mask[i].tolist() == table.action_mask(int(at.obs[i])).astype(bool).tolist()
            resets += np.count_nonzero(step.terminated | step.truncated)
        assert resets >= 2 * num_envs

    def test_a_reset_in_one_column_leaves_the_others_masks(self):
        envs = make_envs("Taxi-v4", 3)
        obs, info = envs.reset(seed=[1, 2, 3])
        before = mask_of(info)
        from rl_lab.training.loop import reset_done

        done = np.array([False, True, False])
        after_obs, after = reset_done(envs, EpisodeSeeds(SEED, 3), done, before)
        np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
        np.testing.assert_array_equal(after_obs[[0, 2]], obs[[0, 2]])
        table = envs.envs[1].unwrapped
        np.testing.assert_array_equal(after[1], table.action_mask(int(after_obs[1])).astype(bool))
        envs.close()


class TestBudget:
    @pytest.mark.parametrize(
        ("total", "num_envs", "period", "steps"),
        [(10, 1, 4, 12), (12, 1, 4, 12), (10, 4, 1, 12), (101, 2, 8, 104), (5, 1, 1, 5)],
    )
    def test_is_rounded_up_to_whole_updates_and_vector_steps(self, tmp_path, total, num_envs, period, steps):
        fields = {"train_period_env_steps": period, "replay_capacity": 200, "hidden": [4]}
        result = learn(tmp_path, "dqn", "CartPole-v1", total_steps=total, num_envs=num_envs, **fields)
        assert result.summary["env_steps"] == steps
        assert result.summary["total_steps"] == total


class TestChecked:
    @pytest.mark.parametrize("num_envs", [1, 3])
    def test_steps_of_environments_under_contract_say_so(self, num_envs):
        envs = make_envs("test/Counting-v0", num_envs)
        steps, _ = collect(envs, Scripted(sometimes_end), 5)
        assert [step.checked for step in steps] == [True] * 5

    def test_those_of_others_do_not(self):
        class Others:
            num_envs = 1

            def __init__(self):
                self.inner = make_envs("test/Counting-v0", 1)
                self.reset, self.step, self.close = self.inner.reset, self.inner.step, self.inner.close

        steps, _ = collect(Others(), Scripted(sometimes_end), 5)
        assert [step.checked for step in steps] == [False] * 5


def test_flags_that_vectors_share_are_never_handed_on_as_where_episodes_begin():
    envs = make_envs("test/Counting-v0", 1)
    steps, cursors = collect(envs, Scripted(sometimes_end), 30)
    for cursor in cursors:
        cursor.is_first[...] = True  # it is the cursor's own
    assert not NEVER[0]
    assert not all(step.terminated[0] for step in steps)
