"""Finished episodes: one row each, in the order in which they ended."""

from __future__ import annotations

import dataclasses
import random
from hashlib import blake2b
from typing import Any

import numpy as np
import pytest

from counting import SEED, Collector, Scripted, sometimes_end
from rl_lab.environments import episodes
from rl_lab.environments.episodes import Batch, EpisodeTracker
from rl_lab.environments.make import make_envs, vector_of
from rl_lab.seeding import EpisodeSeeds, episode_seed
from rl_lab.training.loop import start, train
from rl_lab.trees import leaves_of
from rl_lab.types import Step
from toys import Counting, Parts, StaggeredMasks


class TestEpisodeTracker:
    @pytest.mark.parametrize("batch", [1, 7, 64])
    @pytest.mark.parametrize("num_envs", [1, 4])
    def test_one_row_an_episode_in_the_order_in_which_they_ended(self, num_envs, batch, monkeypatch):
        """Against the steps themselves; 200 vector steps cross several batches."""
        monkeypatch.setattr(episodes, "BATCH", batch)
        monkeypatch.setattr(episodes, "SHORTEST_BATCH", 1)
        envs = make_envs("test/Counting-v0", num_envs)
        found: list[Any] = []
        tracker = EpisodeTracker(SEED, num_envs, envs.single_action_space, found.append)
        expected, open_ = [], [[] for _ in range(num_envs)]
        policy, seeds = Scripted(sometimes_end), EpisodeSeeds(SEED, num_envs)
        counts = [0] * num_envs
        for step, _, at in train(
            Collector(), policy, envs, seeds, 200 * num_envs, start(policy, envs, seeds)
        ):
            tracker.add(step, at)
            for i in range(num_envs):
                open_[i].append((int(step.action[i]), step.reward[i]))
                if at.is_first[i]:
                    actions, rewards = zip(*open_[i], strict=True)
                    row = (at.env_steps, i, counts[i], episode_seed(SEED, i, counts[i]), sum(rewards))
                    expected.append(
                        (*row, len(rewards), bool(step.terminated[i]), bool(step.truncated[i]), actions)
                    )
                    open_[i], counts[i] = [], counts[i] + 1
        tracker.flush()
        envs.close()
        assert [
            (e.env_steps, e.env_index, e.episode, e.seed, e.return_, e.length, e.terminated, e.truncated)
            for e in found
        ] == [row[:-1] for row in expected]
        assert [tuple(e.actions.tolist()) for e in found] == [row[-1] for row in expected]
        assert len(found) > 20

    @pytest.mark.parametrize("batch", [1, 5, 256])
    @pytest.mark.parametrize("make", [Counting, Parts])
    def test_open_episodes_are_hashed_leaf_by_leaf_whatever_the_batch(self, make, batch, monkeypatch):
        """The hash of each open episode equals one of all its observations and rewards, in order."""
        monkeypatch.setattr(episodes, "BATCH", batch)
        monkeypatch.setattr(episodes, "SHORTEST_BATCH", 1)
        envs = vector_of(make, 3)
        tracker = EpisodeTracker(SEED, 3, envs.single_action_space, lambda episode: None)
        seen: list[list[list[Any]]] = [[], [], []]  # by environment: reward, then leaves, of each step
        policy, seeds = Scripted(lambda obs, mask: 1), EpisodeSeeds(SEED, 3)
        for step, _, at in train(Collector(), policy, envs, seeds, 3 * 41, start(policy, envs, seeds)):
            tracker.add(step, at)
            for i in range(3):
                if step.is_first[i]:
                    seen[i] = [[None, *(leaf[i] for leaf in leaves_of(step.obs, sort_keys=True))]]
                seen[i].append([step.reward[i], *(x[i] for x in leaves_of(step.next_obs, sort_keys=True))])
                if at.is_first[i]:
                    seen[i] = [[None, *(leaf[i] for leaf in leaves_of(at.obs, sort_keys=True))]]
        state = tracker.state_dict(at.obs)
        envs.close()
        for i, digest in enumerate(state["digests"]):
            columns = [[x for x in column if x is not None] for column in zip(*seen[i], strict=True)]
            found = [blake2b(b"".join(x.tobytes() for x in c), digest_size=16).hexdigest() for c in columns]
            assert digest == "-".join(found)
            assert len(state["actions"].get(str(i), ())) == len(seen[i]) - 1

    def test_ended_episodes_are_passed_on_at_once_if_asked_and_all_else_is_the_same(self):
        num_envs, rng = 4, random.Random(0)
        envs = make_envs("test/Counting-v0", num_envs)
        found: list[list[Any]] = [[], []]
        asked, other = (EpisodeTracker(SEED, num_envs, envs.single_action_space, f.append) for f in found)
        policy, seeds = Scripted(sometimes_end), EpisodeSeeds(SEED, num_envs)
        ended = 0
        for step, _, at in train(
            Collector(), policy, envs, seeds, 700 * num_envs, start(policy, envs, seeds)
        ):
            asked.add(step, at)
            other.add(step, at)
            ended += int(at.is_first.sum())
            if rng.random() < 0.1:
                asked.settle()
                assert len(found[0]) == ended
        envs.close()
        states = [tracker.state_dict(at.obs) for tracker in (asked, other)]
        np.testing.assert_equal(*states)
        np.testing.assert_equal(*([dataclasses.asdict(e) for e in episodes] for episodes in found))
        assert ended > 20


@pytest.mark.parametrize("steps", [1, 4, 9, 20, 33])
def test_episodes_that_admit_no_illegal_action_are_rebuilt_as_they_were(steps):
    """Open episodes of different lengths, one of them mostly new: the others wait by legal actions alone."""
    envs, fresh = vector_of(StaggeredMasks, 5), vector_of(StaggeredMasks, 5)
    tracker, again = (EpisodeTracker(SEED, 5, envs.single_action_space, lambda episode: None) for _ in "ab")
    policy, seeds = Scripted(lambda obs, mask: int(np.flatnonzero(mask)[-1])), EpisodeSeeds(SEED, 5)
    for step, _, at in train(Collector(), policy, envs, seeds, 5 * steps, start(policy, envs, seeds)):
        tracker.add(step, at)
    state = tracker.state_dict(at.obs)
    obs, mask, differs = again.restore(state, fresh, seeds)
    assert not differs.any()
    np.testing.assert_array_equal(obs, at.obs)
    np.testing.assert_array_equal(mask, at.mask)
    np.testing.assert_equal(again.state_dict(obs), state)


def test_large_observations_make_shorter_batches():
    def step(size: int) -> Step:
        obs, one = np.zeros((1, size), np.uint8), np.zeros(1)
        return Step(obs, one, one, one, one, obs, one, (), (), None, None)

    sizes = [Batch(step(nbytes), np.dtype(np.uint8)).size for nbytes in (4, 2**13, 2**16, 2**22, 2**26 + 1)]
    assert sizes == [256, 128, 64, 16, 1]
