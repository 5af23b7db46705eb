"""Recorded episodes as a source of steps: their order, and what is handed out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rl_lab
from recorded import ENVIRONMENTS, by_minari, on_frozen_lake, random_policy, record_random, walk
from rl_lab.datasets.dataset import Dataset, RecordedEpisode
from rl_lab.training.experience import RecordedOrder, RecordedVector, experience
from rl_lab.training.loop import start
from rl_lab.training.loop import train as loop
from rl_lab.trees import leaves_of
from runs import learn
from toys import agent_on, problem_on


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Path:
    """40 episodes of random play on FrozenLake."""
    return on_frozen_lake(tmp_path_factory.mktemp("lake") / "data")


class TestOrder:
    @given(
        seed=st.integers(0, 2**31 - 1),
        total=st.integers(1, 12),
        num_envs=st.integers(1, 5),
        epochs=st.integers(1, 3),
    )
    def test_every_epoch_opens_every_episode_exactly_once(self, seed, total, num_envs, epochs):
        order = RecordedOrder(seed, num_envs, total)
        rounds = -(-epochs * total // num_envs)
        opened = [order.number(i, k) for k in range(rounds) for i in range(num_envs)]
        for epoch in range(epochs):
            assert sorted(opened[epoch * total : (epoch + 1) * total]) == list(range(total))

    @given(st.integers(0, 1000), st.lists(st.lists(st.booleans(), min_size=3, max_size=3), max_size=20))
    def test_is_a_function_of_column_and_number_however_one_gets_there(self, seed, ends):
        order = RecordedOrder(seed, 3, 7)
        for done in ends:
            opened = order.advance(np.array(done))
            assert [n is not None for n in opened] == done
            assert all(n is None or n == now for n, now in zip(opened, order.current(), strict=True))
        assert RecordedOrder(seed, 3, 7, order.episodes).current() == order.current()

    def test_epochs_differ_and_follow_the_seed(self):
        orders = [[RecordedOrder(seed, 1, 20).number(0, k) for k in range(40)] for seed in (0, 0, 1)]
        assert orders[0] == orders[1] != orders[2]
        assert orders[0][:20] != orders[0][20:]


def recorded_problem(path: Path, make, **fields: Any):
    return dataclasses.replace(problem_on(make, **fields), dataset=Dataset(path))


def steps_of(problem, policy=None):
    """Return the steps and cursors of the loop over recorded episodes, with an agent that only listens."""

    class Listener:
        def observe(self, step):
            pass

        def update(self):
            return None

    source = experience(problem)
    seeds, acting = source.seeds(), source.acting(policy or random_policy(problem.make(1).env))
    return list(
        loop(Listener(), acting, source.envs, seeds, problem.total_steps, start(acting, source.envs, seeds))
    )


class TestHandingOut:
    @pytest.mark.parametrize("num_envs", [1, 3])
    @pytest.mark.parametrize("name", ["cut", "masked", "trees"])
    def test_two_epochs_hand_out_every_transition_twice(self, name, num_envs, tmp_path):
        make = ENVIRONMENTS[name]
        record_random(make, tmp_path / "data", episodes=6)
        problem = recorded_problem(tmp_path / "data", make, num_envs=num_envs, total_steps=10**9)
        dataset, order = problem.dataset, RecordedOrder(0, num_envs, 6)
        lengths = [len(dataset.episode(e)) for e in range(6)]
        longest = max(
            sum(lengths[order.number(i, k)] for k in range(12 // num_envs)) for i in range(num_envs)
        )
        out = steps_of(dataclasses.replace(problem, total_steps=longest * num_envs))
        for i in range(num_envs):
            t = 0
            for k in range(12 // num_envs):
                self.require_episode(out[t:], i, dataset.episode(order.number(i, k)))
                t += lengths[order.number(i, k)]

    @staticmethod
    def require_episode(out, i: int, episode: RecordedEpisode) -> None:
        """Column i of the steps begins with this episode, whole and in order."""
        for t in range(len(episode)):
            step, _, cursor = out[t]
            for obs, at in ((step.obs, t), (step.next_obs, t + 1)):
                for seen, stored in zip(
                    leaves_of(obs, sort_keys=True),
                    leaves_of(episode.observations, sort_keys=True),
                    strict=True,
                ):
                    assert np.array_equal(seen[i], stored[at])
                    assert seen.dtype == stored.dtype
            assert np.array_equal(step.action[i], episode.actions[t])
            assert step.reward[i] == episode.rewards[t]
            assert step.terminated[i] == episode.terminations[t]
            assert step.truncated[i] == episode.truncations[t]
            assert step.is_first[i] == (t == 0)
            assert cursor.is_first[i] == (t == len(episode) - 1)
            if episode.masks is not None:
                assert np.array_equal(step.mask[i], episode.masks[t])
                assert np.array_equal(step.next_mask[i], episode.masks[t + 1])

    def test_an_unfinished_episode_is_truncated_at_its_end(self, tmp_path):
        record_random(ENVIRONMENTS["vectors"], tmp_path / "data", episodes=2, max_episode_steps=4)
        problem = recorded_problem(tmp_path / "data", ENVIRONMENTS["vectors"], total_steps=12)
        out = steps_of(problem)
        assert [bool(step.truncated[0]) for step, _, _ in out] == [False, False, False, True] * 3
        assert not any(step.terminated[0] for step, _, _ in out)

    def test_an_episode_ends_at_its_first_flag(self, tmp_path):
        path = by_minari(tmp_path / "data", [walk(4, terminations=[False, True, False, False])])
        problem = recorded_problem(path, ENVIRONMENTS["table"], total_steps=6)
        assert [bool(s.terminated[0]) for s, _, _ in steps_of(problem)] == [False, True] * 3

    def test_what_is_handed_out_is_a_copy(self, tmp_path):
        record_random(ENVIRONMENTS["vectors"], tmp_path / "data")
        problem = recorded_problem(tmp_path / "data", ENVIRONMENTS["vectors"], total_steps=20)
        before = [problem.dataset.episode(e).observations.copy() for e in range(5)]
        for step, _, _ in steps_of(problem):
            step.obs[...], step.next_obs[...], step.action[...] = 9.0, 9.0, 9
        for e in range(5):
            assert np.array_equal(problem.dataset.episode(e).observations, before[e])

    def test_the_carry_is_that_of_the_agents_own_policy(self, tmp_path):
        make = ENVIRONMENTS["vectors"]
        record_random(make, tmp_path / "data")
        problem = recorded_problem(tmp_path / "data", make, num_envs=2, total_steps=80)
        policy = agent_on(problem, memory="lstm", memory_size=4, hidden=(8,)).policy(explore=False)
        state = policy.initial_state(2)
        steps = steps_of(
            problem, agent_on(problem, memory="lstm", memory_size=4, hidden=(8,)).policy(explore=True)
        )
        for step, _, _ in steps:
            for part, own in zip(step.state, state, strict=True):
                assert np.array_equal(part, own)
            state = policy.act(step.obs, step.state, step.is_first).state
        assert any(part.any() for part in state)

    def test_nothing_is_played(self, lake, tmp_path, monkeypatch):
        made = []
        monkeypatch.setattr(
            "rl_lab.training.setup.make_envs", lambda *a, **k: made.append(1) or rl_lab.make_envs(*a, **k)
        )
        learn(tmp_path, "q-learning", "FrozenLake-v1", dataset=str(lake), total_steps=50, eval_episodes=0)
        assert len(made) == 1  # what the spec and the model are read off

    def test_episodes_are_read_again_where_they_do_not_fit(self, lake, tmp_path, monkeypatch):
        read, once = [], Dataset._read
        monkeypatch.setattr(
            Dataset, "_read", lambda self, group: read.append(group.name) or once(self, group)
        )
        whole = learn(tmp_path / "a", "q-learning", "FrozenLake-v1", dataset=str(lake), total_steps=800)
        assert len(read) == len(set(read)) == 40
        monkeypatch.setattr("rl_lab.datasets.dataset.KEPT_BYTES", 3000)
        least = learn(tmp_path / "b", "q-learning", "FrozenLake-v1", dataset=str(lake), total_steps=800)
        assert len(read) > 100
        assert whole.summary["weights_sha256"] == least.summary["weights_sha256"]


def test_options_without_a_mask_open_all_columns(lake):
    envs = RecordedVector(Dataset(lake), 2, False)
    expected, _ = envs.reset(seed=[3, 4])
    envs.step(np.zeros(2, np.int64))
    found, _ = envs.reset(seed=[3, 4], options={})
    np.testing.assert_array_equal(found, expected)
