"""Replay against a naive list of steps: across wrap-around, ends, cuts, several environments, saves."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lab.checkpoint import CheckpointError, Checkpoints
from rl_lab.replay import transitions
from rl_lab.replay.sequences import SequenceReplay
from rl_lab.replay.transitions import TransitionReplay
from rl_lab.types import Step, UsageError
from tests.toys import Counting, agent_on, interact, problem_on, spec_of

ACTIONS = 3
OBSERVATIONS = spaces.Box(0.0, 1e6, (2,), np.float32)  # (environment, count): no two are alike
CARRY = (np.zeros((1, 2), np.float32), np.zeros((1, 1, 3), np.float64))


class World:
    """Random steps of N environments; every observation is unique, and obs + (0, 1) follows obs."""

    def __init__(self, num_envs: int, seed: int, *, has_mask: bool = False, mean_length: int = 4):
        self.rng, self.num_envs = np.random.default_rng(seed), num_envs
        self.has_mask, self.mean_length = has_mask, mean_length
        self.count = np.zeros(num_envs)
        self.is_first = np.ones(num_envs, np.bool_)
        self.state = self._carry()

    def spec(self):
        return spec_of(OBSERVATIONS, ACTIONS, num_envs=self.num_envs, has_mask=self.has_mask)

    def step(self) -> Step:
        rng, n = self.rng, self.num_envs
        over = rng.random(n) < 1 / self.mean_length
        terminated = over & (rng.random(n) < 0.5)
        truncated = over & ~terminated
        terminated |= ~over & (rng.random(n) < 0.05)  # a lost life: the episode goes on
        cut = rng.random(n) < 0.05  # the next step opens an episode although this one has no flag
        next_state = self._carry()
        step = Step(
            self._seen(), rng.integers(ACTIONS, size=n), rng.normal(size=n), terminated, truncated,
            self._seen(1), self.is_first, self.state, next_state, None, self._mask(),
        )  # fmt: skip
        self.state, self.is_first = next_state, over | cut
        self.count = self.count + np.where(self.is_first, 10, 1)
        return step

    def _seen(self, ahead: int = 0):
        return np.stack([np.arange(self.num_envs), self.count + ahead], axis=1).astype(np.float32)

    def _mask(self):
        return self.rng.random((self.num_envs, ACTIONS)) < 0.5 if self.has_mask else None

    def _carry(self):
        return tuple(self.rng.normal(size=(self.num_envs, *part.shape[1:])) for part in CARRY)


class Twin:
    """What a replay holds, as a plain list of its last rows."""

    def __init__(self, capacity: int, num_envs: int):
        self.rows, self.steps, self.num_envs = max(1, capacity // num_envs), [], num_envs

    def add(self, step: Step):
        self.steps = [*self.steps, step][-self.rows :]

    def find(self, obs) -> tuple[int, int]:
        """Row and environment of an observation; it must be held."""
        env = int(obs[0])
        (row,) = [k for k, step in enumerate(self.steps) if step.obs[env, 1] == obs[1]]
        return row, env

    def places(self, length: int = 1) -> set[tuple[int, int]]:
        return {(k, i) for k in range(len(self.steps) - length + 1) for i in range(self.num_envs)}

    def valid(self, row: int, env: int, length: int) -> list[bool]:
        """Walk from a row until its episode ends."""
        out = [True]
        for k in range(row + 1, row + length):
            before = self.steps[k - 1]
            ended = before.terminated[env] or before.truncated[env] or self.steps[k].is_first[env]
            out.append(out[-1] and not ended)
        return out


def filled(replay, world: World, steps: int, capacity: int) -> Twin:
    twin = Twin(capacity, world.num_envs)
    for _ in range(steps):
        step = world.step()
        replay.add(step)
        twin.add(step)
    return twin


worlds = st.builds(
    World,
    num_envs=st.integers(1, 3),
    seed=st.integers(0, 10_000),
    has_mask=st.booleans(),
    mean_length=st.integers(1, 12),
)


class TestTransitions:
    @settings(deadline=None, max_examples=60)
    @given(world=worlds, capacity=st.integers(1, 20), steps=st.integers(1, 50))
    def test_every_sample_is_a_transition_that_the_twin_holds(self, world, capacity, steps):
        replay = TransitionReplay(capacity, world.spec())
        twin = filled(replay, world, steps, capacity)
        batch = replay.sample(64, np.random.default_rng(0))
        for b, obs in enumerate(batch.obs):
            row, env = twin.find(obs)
            step = twin.steps[row]
            assert batch.action[b] == step.action[env]
            assert batch.reward[b] == np.float32(step.reward[env])
            assert batch.terminated[b] == step.terminated[env]
            np.testing.assert_array_equal(batch.next_obs[b], step.next_obs[env])
            if world.has_mask:
                np.testing.assert_array_equal(batch.next_mask[b], step.next_mask[env])
        assert (batch.next_mask is not None) == world.has_mask
        np.testing.assert_array_equal(batch.next_obs, batch.obs + [0, 1])

    @settings(deadline=None, max_examples=40)
    @given(world=worlds, capacity=st.integers(1, 20), steps=st.integers(1, 50))
    def test_samples_reach_all_that_is_held_and_nothing_else(self, world, capacity, steps):
        replay = TransitionReplay(capacity, world.spec())
        twin = filled(replay, world, steps, capacity)
        batch = replay.sample(1_500, np.random.default_rng(1))
        assert {twin.find(obs) for obs in np.unique(batch.obs, axis=0)} == twin.places()
        assert len(replay) == len(twin.steps) * world.num_envs

    def test_samples_are_uniform(self):
        world = World(2, 0)
        replay = TransitionReplay(10, world.spec())
        filled(replay, world, 13, 10)
        _, counts = np.unique(replay.sample(50_000, np.random.default_rng(2)).obs, axis=0, return_counts=True)
        np.testing.assert_allclose(counts / 50_000, [0.1] * 10, atol=0.006)

    @settings(deadline=None, max_examples=30)
    @given(world=worlds, capacity=st.integers(1, 20), steps=st.integers(1, 50))
    def test_age_is_the_mean_over_the_batch_in_environment_steps(self, world, capacity, steps):
        replay = TransitionReplay(capacity, world.spec())
        twin = filled(replay, world, steps, capacity)
        batch = replay.sample(16, np.random.default_rng(0))
        ages = [(len(twin.steps) - 1 - twin.find(obs)[0]) * world.num_envs for obs in batch.obs]
        assert batch.age == pytest.approx(np.mean(ages))

    @pytest.mark.parametrize("num_envs", [1, 3])
    def test_on_a_counting_environment_the_successor_is_always_one_more(self, num_envs):
        problem, ends = problem_on(Counting, num_envs=num_envs, total_steps=300), []
        agent = agent_on(problem, replay_capacity=120, learning_starts_env_steps=300)
        interact(agent, problem, lambda s: ends.append((s.terminated.any(), s.truncated.any())))
        batch = agent.replay.sample(2_000, np.random.default_rng(0))
        np.testing.assert_array_equal(batch.next_obs, batch.obs + 1)
        assert np.array(ends).any(axis=0).all()  # both kinds of end were met

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("where", ["obs", "next_obs", "reward"])
    def test_what_is_not_finite_is_refused_and_not_stored(self, where, value):
        world = World(2, 0)
        replay, step = TransitionReplay(10, world.spec()), world.step()
        getattr(step, where)[1] = value
        with pytest.raises(FloatingPointError, match=r"^the environment gave .* not finite: .*$"):
            replay.add(step)
        assert len(replay) == 0

    def test_large_values_that_are_finite_pass(self):
        world = World(2, 0)
        replay, step = TransitionReplay(10, world.spec()), world.step()
        step.obs[...] = 3e38  # their sum overflows
        with np.errstate(over="ignore"):
            replay.add(step)
        assert len(replay) == 2

    def test_adding_copies_what_is_stored(self):
        world = World(2, 0)
        replay, step = TransitionReplay(10, world.spec()), world.step()
        replay.add(step)
        before = replay.sample(20, np.random.default_rng(0)).obs.copy()
        step.obs[...] = -1
        np.testing.assert_array_equal(replay.sample(20, np.random.default_rng(0)).obs, before)


class TestSequences:
    @settings(deadline=None, max_examples=60)
    @given(world=worlds, length=st.integers(1, 7), extra=st.integers(0, 15), steps=st.integers(0, 40))
    def test_every_window_is_one_that_the_twin_holds(self, world, length, extra, steps):
        capacity = (length + extra) * world.num_envs
        replay = SequenceReplay(capacity, world.spec(), CARRY, length)
        twin = filled(replay, world, length + steps, capacity)
        drawn = replay.sample_sequences(48, np.random.default_rng(0))
        assert drawn.obs.shape == (length + 1, 48, 2)
        for b in range(48):
            row, env = twin.find(drawn.obs[0, b])
            assert row + length <= len(twin.steps), "the window crosses the write head"
            valid = twin.valid(row, env, length)
            assert drawn.valid[:, b].tolist() == valid
            for t in range(sum(valid)):
                step = twin.steps[row + t]
                np.testing.assert_array_equal(drawn.obs[t, b], step.obs[env])
                np.testing.assert_array_equal(drawn.obs[t + 1, b], step.next_obs[env])
                assert drawn.action[t, b] == step.action[env]
                assert drawn.reward[t, b] == np.float32(step.reward[env])
                assert drawn.terminated[t, b] == step.terminated[env]
                if world.has_mask:
                    np.testing.assert_array_equal(drawn.next_mask[t, b], step.next_mask[env])
            self.assert_carry(drawn, b, twin.steps[row], env)

    @staticmethod
    def assert_carry(drawn, b, step, env):
        for part, stored in zip(step.state, drawn.state, strict=True):
            expected = np.zeros_like(part[env]) if step.is_first[env] else part[env]
            np.testing.assert_array_equal(stored[b], expected.astype(stored.dtype))

    @settings(deadline=None, max_examples=30)
    @given(world=worlds, length=st.integers(1, 6), extra=st.integers(0, 10), steps=st.integers(0, 30))
    def test_windows_begin_wherever_they_fit(self, world, length, extra, steps):
        capacity = (length + extra) * world.num_envs
        replay = SequenceReplay(capacity, world.spec(), CARRY, length)
        twin = filled(replay, world, length + steps, capacity)
        drawn = replay.sample_sequences(1_500, np.random.default_rng(1))
        assert {twin.find(obs) for obs in np.unique(drawn.obs[0], axis=0)} == twin.places(length)

    def test_the_stored_carry_is_zero_where_an_episode_begins_and_only_there(self):
        world = World(3, 5)
        replay = SequenceReplay(300, world.spec(), CARRY, 4)
        filled(replay, world, 100, 300)
        first = replay.columns["is_first"]
        for k in range(len(CARRY)):
            stored = replay.columns[f"state_{k}"]
            assert (stored[first] == 0).all()
            assert (stored[~first] != 0).all()
        assert first.any()
        assert (~first).any()

    def test_storing_leaves_the_live_carry_alone(self):
        world = World(2, 5)
        replay, step = SequenceReplay(10, world.spec(), CARRY, 1), world.step()
        before = [part.copy() for part in step.state]
        replay.add(step)
        for part, kept in zip(step.state, before, strict=True):
            np.testing.assert_array_equal(part, kept)

    def test_can_sample_once_a_whole_window_is_there(self):
        world = World(2, 0)
        replay = SequenceReplay(20, world.spec(), CARRY, 3)
        can = []
        for _ in range(4):
            can.append(replay.can_sample)
            replay.add(world.step())
        assert can == [False, False, False, True]

    def test_age_counts_from_the_first_step_of_each_window(self):
        world = World(2, 0)
        replay = SequenceReplay(16, world.spec(), CARRY, 3)
        twin = filled(replay, world, 20, 16)
        drawn = replay.sample_sequences(32, np.random.default_rng(0))
        ages = [(len(twin.steps) - 1 - twin.find(obs)[0]) * 2 for obs in drawn.obs[0]]
        assert drawn.age == pytest.approx(np.mean(ages))


def stored_rows(manifest) -> list[tuple[int, int]]:
    """[start, stop) of the segments in a checkpoint, which are the same for every column."""
    rings = json.loads(manifest.read_text())["members"]["replay"]["rings"].values()
    (segments,) = {tuple((s["start"], s["stop"]) for s in ring["segments"]) for ring in rings}
    return list(segments)


class TestState:
    @settings(deadline=None, max_examples=25)
    @given(
        world=worlds,
        capacity=st.integers(4, 20),
        stretches=st.lists(st.integers(0, 25), min_size=1, max_size=4),
        later=st.integers(0, 25),
    )
    def test_a_loaded_replay_goes_on_as_the_saved_one(
        self, tmp_path_factory, world, capacity, stretches, later
    ):
        def make():
            return SequenceReplay(capacity * world.num_envs, world.spec(), CARRY, 3)

        store, replay = Checkpoints(tmp_path_factory.mktemp("replay")), make()
        for k, steps in enumerate(stretches):  # each save adds to the segments of those before
            filled(replay, world, steps, capacity)
            store.save(k, {"replay": replay.state_dict()})
        loaded = make()
        loaded.load_state_dict(Checkpoints(store.folder).load()[1]["replay"])
        for step in [world.step() for _ in range(later + 3)]:
            replay.add(step)
            loaded.add(step)
        assert loaded.written == replay.written
        for name, column in replay.columns.items():
            np.testing.assert_array_equal(loaded.columns[name], column)
        for sample in ("sample", "sample_sequences"):
            ours, theirs = (getattr(r, sample)(32, np.random.default_rng(7)) for r in (loaded, replay))
            np.testing.assert_array_equal(ours.obs, theirs.obs)
            np.testing.assert_array_equal(ours.reward, theirs.reward)

    def test_the_second_save_writes_only_the_new_rows(self, tmp_path):
        world = World(2, 0)
        store, replay = Checkpoints(tmp_path), TransitionReplay(2_000, world.spec())
        filled(replay, world, 600, 2_000)
        first = stored_rows(store.save(1, {"replay": replay.state_dict()}))
        before = set(tmp_path.rglob("*.npy"))
        filled(replay, world, 50, 2_000)
        second = stored_rows(store.save(2, {"replay": replay.state_dict()}))
        assert first == [(0, 600)]
        assert second == [(0, 600), (600, 650)]
        fresh = sum(path.stat().st_size for path in set(tmp_path.rglob("*.npy")) - before)
        row = sum(column[0].nbytes for column in replay.columns.values())
        assert fresh == 50 * row + 128 * len(replay.columns)  # .npy has a header of 128 bytes
        # and nothing is written where nothing is new
        before = set(tmp_path.rglob("*.npy"))
        store.save(3, {"replay": replay.state_dict()})
        assert set(tmp_path.rglob("*.npy")) == before

    def test_rows_that_were_overwritten_leave_the_disk(self, tmp_path):
        world = World(1, 0)
        store, replay = Checkpoints(tmp_path, keep_last=1), TransitionReplay(100, world.spec())
        for k in range(12):
            filled(replay, world, 50, 100)
            manifest = store.save(k, {"replay": replay.state_dict()})
        assert stored_rows(manifest) == [(500, 550), (550, 600)]

    def test_a_resumed_run_adds_to_the_segments_it_found(self, tmp_path):
        world = World(1, 0)
        replay = TransitionReplay(100, world.spec())
        filled(replay, world, 60, 100)
        Checkpoints(tmp_path).save(1, {"replay": replay.state_dict()})
        store, loaded = Checkpoints(tmp_path), TransitionReplay(100, world.spec())
        loaded.load_state_dict(store.load()[1]["replay"])
        filled(loaded, world, 5, 100)
        manifest = store.save(2, {"replay": loaded.state_dict()})
        assert stored_rows(manifest) == [(0, 60), (60, 65)]

    def test_rows_of_another_shape_are_refused(self, tmp_path):
        world = World(1, 0)
        replay, store = TransitionReplay(10, world.spec()), Checkpoints(tmp_path)
        filled(replay, world, 5, 10)
        store.save(1, {"replay": replay.state_dict()})
        other = TransitionReplay(10, spec_of(spaces.Box(0, 1, (3,), np.float32)))
        with pytest.raises(CheckpointError, match="don't fit"):
            other.load_state_dict(store.load()[1]["replay"])


class TestMemory:
    """A row of World(1) takes 8 + 8 + 4 + 1 + 1 + 8 + 1 = 31 bytes."""

    @pytest.fixture
    def free_megabyte(self, monkeypatch):
        memory = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=1_000_000))
        monkeypatch.setattr(transitions, "psutil", memory)

    @pytest.mark.usefixtures("free_megabyte")
    def test_what_would_not_fit_is_refused_in_a_line_that_names_what_would(self):
        with pytest.raises(UsageError) as caught:
            TransitionReplay(10**15, World(1, 0).spec())
        message = str(caught.value)
        assert "\n" not in message
        assert "replay_capacity 1000000000000000" in message
        assert f"allowed: up to {800_000 // 31})" in message

    @pytest.mark.usefixtures("free_megabyte")
    def test_what_the_line_names_fits_and_one_more_does_not(self):
        spec = World(1, 0).spec()
        assert transitions.refuse_memory(800_000 // 31, spec) is None
        assert transitions.refuse_memory(800_000 // 31 + 1, spec) is not None

    @pytest.mark.usefixtures("free_megabyte")
    def test_environments_masks_and_carries_are_counted(self):
        spec = World(4, 0, has_mask=True).spec()
        bytes_a_row = 4 * (31 + 3 + 2 * 4 + 3 * 8)
        rows = 800_000 // bytes_a_row
        assert transitions.refuse_memory(4 * rows, spec, CARRY) is None
        assert f"up to {4 * rows})" in str(transitions.refuse_memory(4 * rows + 4, spec, CARRY))

    @pytest.mark.usefixtures("free_megabyte")
    def test_it_is_refused_before_anything_is_allocated(self, monkeypatch):
        spec = World(1, 0).spec()
        monkeypatch.setattr(transitions.np, "zeros", lambda *_: pytest.fail("allocated"))
        with pytest.raises(UsageError):
            TransitionReplay(10**6, spec)
