"""Replays of format 1, in each of its layouts, draw what they would have drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lab.replay.migrations import migrate_replays
from rl_lab.replay.sequences import SequenceReplay
from rl_lab.replay.transitions import TransitionReplay
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import CheckpointError
from rl_lab.storage.state_trees import Ring
from toys import spec_of
from worlds import CARRY, SPACES, World, assert_same, play

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "format_1" / "dqn" / "checkpoints"


def stored(folder, spec):
    """The migrated replay of the last checkpoint."""
    return migrate_replays(Checkpoints(folder).load()[1]["replay"], spec)


class TestTheCurrentLayout:
    def test_is_left_as_it_is(self, tmp_path):
        world = World(2, 0)
        replay = SequenceReplay(40, world.spec(), CARRY, 3)
        play(replay, world, 30)
        Checkpoints(tmp_path).save(1, {"replay": replay.state_dict()})
        state = Checkpoints(tmp_path).load()[1]["replay"]
        assert migrate_replays(state, world.spec()) == state

    def test_everything_but_replays_is_left_as_it_is(self):
        world = World(1, 0)
        tree = {
            "optimiser": {"state": [1, 2]},
            "columns": {"obs": np.zeros(3)},
            "steps": 4,
            "carry": ((), 1.5),
        }
        assert migrate_replays(tree, world.spec()) is not tree
        assert_same(migrate_replays(tree, world.spec()), tree)

    def test_replays_are_found_wherever_they_are(self, tmp_path):
        world = World(2, 0)
        old = BothEnds(10, world)
        for _ in range(7):
            old.add(world.step())
        Checkpoints(tmp_path).save(1, {"agent": {"memories": {"short": old.state_dict()}}})
        agent = migrate_replays(Checkpoints(tmp_path).load()[1]["agent"], world.spec())
        assert agent["memories"]["short"].keys() == {"columns", "frames", "sampler"}


class TestTheLayoutWithoutEpisodeSteps:
    def test_every_step_begins_a_window(self, tmp_path):
        world = World(2, 3)
        replay = SequenceReplay(40, world.spec(), CARRY, 3)
        play(replay, world, 30)
        state = replay.state_dict()
        del state["columns"]["episode_step"]
        Checkpoints(tmp_path).save(1, {"replay": state})
        loaded = SequenceReplay(40, world.spec(), CARRY, 3)
        loaded.load_state_dict(stored(tmp_path, world.spec()))
        assert not loaded.columns["episode_step"].any()
        one, other = (r.sample(32, np.random.default_rng(7)) for r in (replay, loaded))
        for name in ("obs", "action", "reward", "terminated", "valid", "state", "index"):
            assert_same(getattr(one, name), getattr(other, name))


class TestTheLayoutThatKeptBothEnds:
    """At first each column was a ring, "obs" and "next_obs" among them, and nothing else was saved."""

    @settings(deadline=None, max_examples=25)
    @given(
        kind=st.sampled_from(["plain", "stack", "pictures"]),
        num_envs=st.integers(1, 3),
        seed=st.integers(0, 10_000),
        mean_length=st.integers(1, 12),
        rows=st.integers(3, 20),
        steps=st.integers(3, 50),
        later=st.integers(0, 20),
    )
    def test_loads_to_the_batches_that_it_would_have_drawn(
        self, tmp_path_factory, kind, num_envs, seed, mean_length, rows, steps, later
    ):
        world = World(num_envs, seed, kind=kind, has_mask=True, mean_length=mean_length)
        old = BothEnds(rows, world)
        for _ in range(steps):
            old.add(world.step())
        folder = tmp_path_factory.mktemp("old")
        Checkpoints(folder).save(1, {"replay": old.state_dict()})
        size, spec = rows * num_envs, world.spec()
        replays = TransitionReplay(size, spec, CARRY), SequenceReplay(size, spec, CARRY, 3)
        for replay in replays:
            replay.load_state_dict(stored(folder, spec))
        for k in range(later + 1):
            old.assert_draws_as(replays[0])
            old.assert_windows_as(replays[1])
            step = world.step()
            old.add(step)
            for replay in replays:
                replay.add(step)
                assert len(replay) == min(steps + k + 1, rows) * num_envs

    def test_windows_end_where_an_observation_is_no_successor(self, tmp_path):
        """Even where the stored flags don't say that an episode began."""
        world = World(2, 0, mean_length=3)
        old = BothEnds(30, world)
        for _ in range(40):
            old.add(world.step())
        for name in ("is_first", "terminated", "truncated"):
            old.columns[name][...] = False
        Checkpoints(tmp_path).save(1, {"replay": old.state_dict()})
        replay = TransitionReplay(60, world.spec(), n_steps=3, gamma=0.5)
        replay.load_state_dict(stored(tmp_path, world.spec()))
        batch = replay.sample(500, np.random.default_rng(0))
        steps = -np.log2(batch.discount)
        assert set(steps.tolist()) == {1, 2, 3}
        np.testing.assert_array_equal(batch.next_obs[:, 1] - batch.obs[:, 1], steps)

    def test_the_kept_run_draws_what_it_drew(self):
        state = Checkpoints(FIXTURE).load()[1]["agent"]["replay"]
        space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
        replay = TransitionReplay(60, spec_of(space, 2))
        replay.load_state_dict(migrate_replays(state, spec_of(space, 2)))
        assert (len(replay), replay.written) == (60, 150)
        batch = replay.sample(256, np.random.default_rng(0))
        index = np.random.default_rng(0).integers(60, size=256)
        columns = {"action": np.int64, "reward": np.float32, "terminated": np.bool_}
        for name, dtype in columns.items():
            column = np.zeros((60, 1), dtype)
            state[name].copy_into(column)
            np.testing.assert_array_equal(getattr(batch, name), column[index, 0])
        for name in ("obs", "next_obs"):
            column = np.zeros((60, 1, 4), np.float32)
            state[name].copy_into(column)
            np.testing.assert_array_equal(getattr(batch, name), column[index, 0])

    def test_rows_of_another_shape_are_refused(self):
        state = Checkpoints(FIXTURE).load()[1]["agent"]["replay"]
        with pytest.raises(CheckpointError, match="don't fit"):
            migrate_replays(state, spec_of(spaces.Box(0, 1, (3,), np.float32), 2))


class BothEnds:
    """The replay as it was at first."""

    def __init__(self, rows: int, world: World):
        n, space = world.num_envs, SPACES[world.kind]
        zeros = {
            "obs": np.zeros((rows, n, *space.shape), space.dtype),
            "action": np.zeros((rows, n), np.int64),
            "reward": np.zeros((rows, n), np.float32),
            "terminated": np.zeros((rows, n), np.bool_),
            "truncated": np.zeros((rows, n), np.bool_),
            "next_obs": np.zeros((rows, n, *space.shape), space.dtype),
            "is_first": np.zeros((rows, n), np.bool_),
            "next_mask": np.zeros((rows, n, 3), np.bool_),
        }
        carry = {
            f"state_{k}": np.zeros((rows, n, *part.shape[1:]), part.dtype) for k, part in enumerate(CARRY)
        }
        self.columns, self.rows, self.num_envs, self.written = zeros | carry, rows, n, 0

    def add(self, step):
        row = self.written % self.rows
        for name, column in self.columns.items():
            if not name.startswith("state_"):
                column[row] = getattr(step, name)
        for k, part in enumerate(step.state):
            self.columns[f"state_{k}"][row] = part
            self.columns[f"state_{k}"][row][step.is_first] = 0
        self.written += 1

    def state_dict(self):
        return {name: Ring(column, self.written) for name, column in self.columns.items()}

    def assert_draws_as(self, replay):
        batch = replay.sample(32, np.random.default_rng(4))
        held = min(self.written, self.rows)
        row, env = np.divmod(np.random.default_rng(4).integers(held * self.num_envs, size=32), self.num_envs)
        for name in ("obs", "action", "reward", "terminated", "next_obs", "next_mask"):
            np.testing.assert_array_equal(getattr(batch, name), self.columns[name][row, env])
        assert batch.age == float(((self.written - 1 - row) % self.rows * self.num_envs).mean())

    def assert_windows_as(self, replay):
        held = min(self.written, self.rows)
        drawn, rng = replay.sample(32, np.random.default_rng(5)), np.random.default_rng(5)
        first = self.written - held + rng.integers(held - 2, size=32)
        env = rng.integers(self.num_envs, size=32)
        rows = (first + np.arange(3)[:, None]) % self.rows
        c = self.columns
        over = c["is_first"][rows, env][1:]  # a lost life, though terminated, doesn't end a window
        valid = np.concatenate((np.ones((1, 32), bool), ~np.logical_or.accumulate(over)))
        np.testing.assert_array_equal(drawn.valid, valid)
        whole = np.concatenate((c["obs"][rows, env], c["obs"][rows[-1:], env]))
        last, b = valid.sum(axis=0), np.arange(32)
        whole[last, b] = c["next_obs"][rows[last - 1, b], env]
        np.testing.assert_array_equal(drawn.obs, whole)
        for k in range(len(CARRY)):
            np.testing.assert_array_equal(drawn.state[k], c[f"state_{k}"][rows[0], env])
