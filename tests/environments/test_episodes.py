"""Finished episodes: one row each, in the order in which they ended."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import numpy as np
import pytest

from counting import SEED, Collector, Scripted, sometimes_end
from rl_lab.environments.episodes import EpisodeTracker
from rl_lab.environments.make import make_envs
from rl_lab.seeding import EpisodeSeeds, episode_seed
from rl_lab.training.loop import start, train


class TestEpisodeTracker:
    @pytest.mark.parametrize("num_envs", [1, 4])
    def test_one_row_an_episode_in_the_order_in_which_they_ended(self, num_envs):
        """Against the steps themselves; 200 vector steps cross several batches."""
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
