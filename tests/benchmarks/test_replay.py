"""Replays beside SB3's buffer: both hold the same transitions, and the bytes of one by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from rl_lab.benchmarks import replay as benchmark
from rl_lab.benchmarks.replay import EPISODE_STEPS, STACKS, VECTORS, play, replay_works, sizes


@pytest.fixture
def sides(monkeypatch):
    """The lab's replay and SB3's buffer that the works were made of."""
    made = {}
    for name in ("TransitionReplay", "ReplayBuffer"):
        kind = getattr(benchmark, name)

        def make(*args, kind=kind, name=name, **fields):
            made[name] = kind(*args, **fields)
            return made[name]

        monkeypatch.setattr(benchmark, name, make)
    return made


def works(num_envs: int = 1, **fields):
    given = {"steps": 150, "capacity": 1_000, "batches": (8,), "draws": 2} | fields
    return replay_works("vectors", VECTORS, num_envs=num_envs, **given)


class TestPlay:
    @pytest.mark.parametrize("num_envs", [1, 4])
    def test_an_observation_is_the_successor_before_it_unless_an_episode_ended(self, num_envs):
        played = play(VECTORS, 2 * EPISODE_STEPS + 5, num_envs, 1)
        for before, after in pairwise(played):
            assert np.array_equal(after.is_first, before.terminated)
            same = (after.obs == before.next_obs).all(axis=1)
            assert np.array_equal(same, ~before.terminated)

    def test_environments_end_their_episodes_one_after_the_other(self):
        played = play(VECTORS, EPISODE_STEPS, 4, 1)
        ends = [np.flatnonzero([step.terminated[i] for step in played]).tolist() for i in range(4)]
        assert ends == [[0], [75], [50], [25]]

    def test_stacks_move_on_by_one_frame(self):
        played = play(STACKS, 3, 1, 4)
        for step in played:
            assert np.array_equal(step.next_obs[:, :3], step.obs[:, 1:])


@pytest.mark.parametrize("num_envs", [1, 4])
def test_both_sides_hold_the_same_transitions(sides, num_envs):
    works(num_envs)
    ours, theirs = sides["TransitionReplay"], sides["ReplayBuffer"]
    obs = theirs.observations[: theirs.size()].reshape(-1, 4)
    drawn = ours.sample(64, np.random.default_rng(1))
    for i in range(64):
        (at, *_) = np.flatnonzero((obs == drawn.obs[i]).all(axis=1))
        row, env = divmod(at, num_envs)
        assert np.array_equal(theirs.next_observations[row, env], drawn.next_obs[i])
        assert theirs.dones[row, env] == drawn.terminated[i]
        assert theirs.rewards[row, env] == drawn.reward[i]


def test_both_sides_add_as_often_and_draw_as_many(sides, monkeypatch):
    adding, drawing = works()
    calls = []
    for side in sides.values():
        monkeypatch.setattr(side, "add", lambda *_, s=side: calls.append((type(s).__name__, "add")))
        draw = side.sample
        monkeypatch.setattr(
            side,
            "sample",
            lambda n, *more, s=side, d=draw: (calls.append((type(s).__name__, n)), d(n, *more))[1],
        )
    for work in (adding, drawing):
        assert work.ours() > 0.0
        assert work.theirs() > 0.0
    for name in sides:
        assert [what for who, what in calls if who == name] == ["add"] * 150 + [8, 8]


def test_each_work_says_how_much_is_done():
    assert [work.work for work in works(2, batches=(8, 16))] == [
        "adding 150 steps, vectors, N = 2",
        "drawing 2 batches of 8, vectors, N = 2",
        "drawing 2 batches of 16, vectors, N = 2",
    ]


def test_the_benchmark_has_vectors_and_stacks(monkeypatch):
    asked = []
    monkeypatch.setattr(benchmark, "replay_works", lambda name, *_, **fields: asked.append(fields) or [name])
    rows, names = benchmark.replay()[:2], benchmark.replay()[2:]
    assert names == ["CartPole's vectors", "CartPole's vectors", "Atari's stacks"]
    assert [row["work"].split(",")[0] for row in rows] == [
        "a transition of CartPole",
        "a transition of Atari",
    ]
    assert [fields.get("num_envs", 1) for fields in asked[:3]] == [1, 4, 1]


def test_sb3_keeps_both_observations_of_a_transition():
    """Beside them an action of 8 bytes, and reward, done and timeout of 4 each."""
    cartpole, atari = sizes()
    assert cartpole["theirs"] == 2 * 4 * 4 + 8 + 3 * 4
    assert atari["theirs"] == 2 * 4 * 84 * 84 + 8 + 3 * 4
    assert {row["unit"] for row in (cartpole, atari)} == {"bytes"}


def test_the_lab_keeps_each_frame_of_a_stack_once():
    """Beside the observations a position and an action of 8 bytes each, a reward of 4 and a flag."""
    cartpole, atari = sizes()
    assert cartpole["ours"] == 2 * 4 * 4 + 8 + 8 + 4 + 1
    assert 84 * 84 < atari["ours"] < 1.1 * 84 * 84
    assert atari["ratio"] == atari["theirs"] / atari["ours"] > 7
