"""Finished episodes: one row each, in the order in which they ended."""

from __future__ import annotations

from typing import Any

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
