"""Replay against a naive list of steps: across wrap-around, ends, cuts, several environments, saves."""

from __future__ import annotations

import json
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lab.replay.prioritised import Prioritised
from rl_lab.replay.sequences import SequenceReplay
from rl_lab.replay.transitions import TransitionReplay
from toys import Counting, agent_on, interact, problem_on
from worlds import CARRY, KINDS, Twin, World, assert_same, filled, item, lean, play, state_of, worlds

sizes = st.tuples(st.integers(1, 40), st.integers(1, 80))  # capacity, steps


@pytest.fixture(autouse=True, params=["roomy", "lean"], scope="module")
def room(request):
    """Every test runs twice: where observations never expire, and where the ring has little slack."""
    with lean() if request.param == "lean" else nullcontext():
        yield request.param


def expected(twin, row: int, env: int, n_steps: int, gamma: float, clip: float | None):
    """Reward, discount and last step of a window, one step after the other."""
    window = twin.window(row, env, n_steps)
    reward = 0.0
    for k, step in enumerate(window):
        one = np.float32(step.reward[env])
        reward += gamma**k * (one if clip is None else max(-clip, min(clip, one)))
    return reward, gamma ** len(window), window[-1]


class TestTransitions:
    @settings(deadline=None, max_examples=150)
    @given(
        world=worlds,
        size=sizes,
        n_steps=st.integers(1, 5),
        gamma=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
        clip=st.sampled_from([None, 0.5]),
        prioritised=st.booleans(),
    )
    def test_every_sample_is_one_that_the_twin_makes(self, world, size, n_steps, gamma, clip, prioritised):
        capacity, steps = size
        replay = TransitionReplay(
            capacity, world.spec(), n_steps=n_steps, gamma=gamma, reward_clip=clip,
            sampler=Prioritised() if prioritised else None,
        )  # fmt: skip
        twin = filled(replay, world, steps, capacity)
        batch = replay.sample(48, np.random.default_rng(0))
        for b, (row, env) in enumerate(twin.find(batch.obs)):
            reward, discount, last = expected(twin, row, env, n_steps, gamma, clip)
            assert batch.index[b] == (twin.dropped + row) % twin.rows * world.num_envs + env
            assert batch.action[b] == twin.steps[row].action[env]
            assert batch.reward[b] == pytest.approx(reward, abs=1e-6)
            assert batch.discount[b] == pytest.approx(discount, abs=1e-6)
            assert batch.terminated[b] == last.terminated[env]
            assert_same(item(batch.obs, b), item(twin.steps[row].obs, env))
            assert_same(item(batch.next_obs, b), item(last.next_obs, env))
            if world.has_mask:
                np.testing.assert_array_equal(batch.next_mask[b], last.next_mask[env])
        assert (batch.next_mask is not None) == world.has_mask
        assert (batch.weight is not None) == prioritised
        assert (batch.action.dtype, batch.reward.dtype, batch.discount.dtype, batch.terminated.dtype) == (
            np.int64, np.float32, np.float32, np.bool_,
        )  # fmt: skip

    @settings(deadline=None, max_examples=60)
    @given(world=worlds, size=sizes, prioritised=st.booleans())
    def test_samples_reach_all_that_is_held_and_nothing_else(self, world, size, prioritised):
        capacity, steps = size
        replay = TransitionReplay(capacity, world.spec(), sampler=Prioritised() if prioritised else None)
        twin = filled(replay, world, steps, capacity)
        batch = replay.sample(2_000, np.random.default_rng(1))
        assert set(twin.find(batch.obs)) == twin.places()
        assert len(replay) == len(twin.steps) * world.num_envs > 0

    def test_short_episodes_lose_steps_only_where_there_is_little_room(self, room):
        world = World(2, 0, mean_length=1, kind="stack")
        replay = TransitionReplay(80, world.spec())
        play(replay, world, 200)
        assert (len(replay) < 50) if room == "lean" else (len(replay) == 80)

    def test_long_episodes_lose_no_steps(self):
        world = World(1, 0, mean_length=100)
        replay = TransitionReplay(400, world.spec())
        play(replay, world, 900)
        assert len(replay) == 400

    @pytest.mark.parametrize("mean_length", [1, 50])
    def test_samples_are_uniform(self, mean_length):
        world = World(2, 0, mean_length=mean_length)
        replay = TransitionReplay(60, world.spec())
        play(replay, world, 93)
        _, counts = np.unique(replay.sample(50_000, np.random.default_rng(2)).index, return_counts=True)
        assert len(counts) == len(replay)
        np.testing.assert_allclose(counts / 50_000, 1 / len(replay), atol=0.006)

    def test_draws_are_a_function_of_the_generator_alone(self):
        """Index k is row k of the ring, as it was in checkpoints that kept both ends."""
        world = World(2, 0, mean_length=50)
        replay = TransitionReplay(60, world.spec())
        for _ in range(3):
            play(replay, world, 17)
            index = replay.sample(100, np.random.default_rng(3)).index
            np.testing.assert_array_equal(index, np.random.default_rng(3).integers(len(replay), size=100))

    @settings(deadline=None, max_examples=40)
    @given(world=worlds, size=sizes)
    def test_age_is_the_mean_over_the_batch_in_environment_steps(self, world, size):
        capacity, steps = size
        replay = TransitionReplay(capacity, world.spec())
        twin = filled(replay, world, steps, capacity)
        batch = replay.sample(16, np.random.default_rng(0))
        ages = [(len(twin.steps) - 1 - row) * world.num_envs for row, _ in twin.find(batch.obs)]
        assert batch.age == pytest.approx(np.mean(ages))

    @pytest.mark.parametrize("num_envs", [1, 3])
    def test_on_a_counting_environment_the_successor_is_always_one_more(self, num_envs):
        problem, ends = problem_on(Counting, num_envs=num_envs, total_steps=300), []
        agent = agent_on(problem, replay_capacity=120, learning_starts_env_steps=300)
        interact(agent, problem, lambda s: ends.append((s.terminated.any(), s.truncated.any())))
        batch = agent.buffer.replay.sample(2_000, np.random.default_rng(0))
        np.testing.assert_array_equal(batch.next_obs, batch.obs + 1)
        assert np.array(ends).any(axis=0).all()  # both kinds of end were met

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("where", ["obs", "next_obs", "reward"])
    @pytest.mark.parametrize("kind", ["plain", "dict", "tuple", "stack"])
    def test_values_that_are_not_finite_are_refused_and_not_stored(self, where, value, kind):
        world = World(2, 0, kind=kind)
        replay, step = TransitionReplay(10, world.spec(), sampler=Prioritised()), world.step()
        part = getattr(step, where)
        leaf = part if where == "reward" else {"dict": lambda: part["z"], "tuple": lambda: part[1][0]}.get(
            kind, lambda: part
        )()  # fmt: skip
        leaf[1] = value
        if kind == "stack" and where != "reward":  # a stack all the same
            step.obs[1], step.next_obs[1] = step.obs[1] + value, step.next_obs[1] + value
        before = json.dumps(state_of(replay))
        with pytest.raises(FloatingPointError, match=r"^a .* not finite in float32: .*$") as caught:
            replay.add(step)
        assert {"dict": "['z']", "tuple": "[1][0]"}.get(kind, "") in str(caught.value) or where == "reward"
        assert json.dumps(state_of(replay)) == before
        assert len(replay) == 0

    def test_large_values_that_are_finite_pass(self):
        world = World(2, 0)
        replay, step = TransitionReplay(10, world.spec()), world.step()
        step.obs[...] = 3e38  # their sum overflows
        with np.errstate(over="ignore"):
            replay.add(step)
        assert len(replay) == 2

    @pytest.mark.parametrize("kind", KINDS)
    def test_adding_copies_what_is_stored(self, kind):
        world = World(2, 0, kind=kind)
        replay, step = TransitionReplay(10, world.spec()), world.step()
        replay.add(step)
        before = replay.sample(20, np.random.default_rng(0))
        for obs in (step.obs, step.next_obs):
            blank(obs)
        after = replay.sample(20, np.random.default_rng(0))
        assert_same(after.obs, before.obs)
        assert_same(after.next_obs, before.next_obs)

    def test_a_uniform_replay_ignores_priorities(self):
        world = World(2, 0)
        replay = TransitionReplay(20, world.spec())
        play(replay, world, 10)
        batch = replay.sample(8, np.random.default_rng(0))
        replay.update_priorities(batch.index, np.full(8, np.nan))
        np.testing.assert_array_equal(replay.sample(8, np.random.default_rng(0)).index, batch.index)

    def test_n_steps_below_one_are_refused(self):
        with pytest.raises(ValueError, match="n_steps must be at least 1, got 0"):
            TransitionReplay(10, World(1, 0).spec(), n_steps=0)


def blank(obs):
    """Overwrite an observation in place."""
    parts = obs.values() if isinstance(obs, dict) else obs if isinstance(obs, tuple) else ()
    for part in parts:
        blank(part)
    if not parts and isinstance(obs, np.ndarray):
        obs[...] = 7


class TestSequences:
    @settings(deadline=None, max_examples=80)
    @given(
        world=worlds,
        length=st.integers(1, 7),
        extra=st.integers(0, 15),
        steps=st.integers(0, 40),
        clip=st.sampled_from([None, 0.5]),
    )
    def test_every_window_is_one_that_the_twin_holds(self, world, length, extra, steps, clip):
        capacity = (length + extra) * world.num_envs
        replay = SequenceReplay(capacity, world.spec(), CARRY, length, clip)
        twin = filled(replay, world, length + steps, capacity)
        if not replay.can_sample:
            assert len(twin.steps) < length
            return
        drawn = replay.sample(48, np.random.default_rng(0))
        assert drawn.valid.shape == (length, 48)
        for b, (row, env) in enumerate(twin.find(item(drawn.obs, 0))):
            assert row + length <= len(twin.steps), "the window crosses the write head"
            window = twin.stretch(row, env, length)
            assert drawn.valid[:, b].tolist() == [t < len(window) for t in range(length)]
            for t, step in enumerate(window):
                assert_same(item(drawn.obs, t, b), item(step.obs, env))
                assert_same(item(drawn.obs, t + 1, b), item(step.next_obs, env))
                assert drawn.action[t, b] == step.action[env]
                reward = np.float32(step.reward[env])
                assert drawn.reward[t, b] == (reward if clip is None else np.clip(reward, -clip, clip))
                assert drawn.terminated[t, b] == step.terminated[env]
                if world.has_mask:
                    np.testing.assert_array_equal(drawn.next_mask[t, b], step.next_mask[env])
            self.assert_carry(drawn, b, twin.steps[row], env)

    @staticmethod
    def assert_carry(drawn, b, step, env):
        for part, stored in zip(step.state, drawn.state, strict=True):
            expected = np.zeros_like(part[env]) if step.is_first[env] else part[env]
            np.testing.assert_array_equal(stored[b], expected.astype(stored.dtype))

    @settings(deadline=None, max_examples=40)
    @given(world=worlds, length=st.integers(1, 6), extra=st.integers(0, 10), steps=st.integers(0, 30))
    def test_windows_begin_wherever_they_fit(self, world, length, extra, steps):
        capacity = (length + extra) * world.num_envs
        replay = SequenceReplay(capacity, world.spec(), CARRY, length)
        twin = filled(replay, world, length + steps, capacity)
        if replay.can_sample:
            drawn = replay.sample(1_500, np.random.default_rng(1))
            assert set(twin.find(item(drawn.obs, 0))) == twin.places(length)

    @settings(deadline=None, max_examples=80)
    @given(
        world=worlds,
        learned=st.integers(1, 5),
        period=st.integers(1, 5),
        burn_in=st.integers(0, 4),
        extra=st.integers(0, 15),
        steps=st.integers(0, 40),
        prioritised=st.booleans(),
    )
    def test_windows_begin_on_the_grid_of_their_episode_and_have_something_to_learn(
        self, world, learned, period, burn_in, extra, steps, prioritised
    ):
        length = burn_in + learned
        capacity = (length + extra) * world.num_envs
        replay = SequenceReplay(
            capacity, world.spec(), CARRY, length, period=period, burn_in=burn_in,
            sampler=Prioritised() if prioritised else None,
        )  # fmt: skip
        twin, rng = Twin(capacity, world), np.random.default_rng(0)
        for _ in range(length + steps):
            step = world.step()
            replay.add(step)
            twin.add(step)
            if replay.can_sample:
                index = replay.sample(4, rng).index
                replay.update_priorities(index, 0.5 + rng.random(4))
        places = twin.places(length, period, burn_in)
        assert replay.can_sample == bool(places)
        if places:
            self.assert_drawn(replay.sample(1_500, rng), twin, places, burn_in, prioritised)

    def assert_drawn(self, drawn, twin, places, burn_in, prioritised):
        found = twin.find(item(drawn.obs, 0))
        assert set(found) == places
        assert (drawn.weight is not None) == prioritised
        for b, (row, env) in enumerate(found[:40]):
            count, valid = len(twin.stretch(row, env, len(drawn.valid))), drawn.valid[:, b]
            assert valid.tolist() == [t < count for t in range(len(valid))]
            assert drawn.opens[b] == twin.steps[row].is_first[env]
            skipped = 0 if drawn.opens[b] else burn_in
            assert drawn.learned[:, b].tolist() == [skipped <= t < count for t in range(len(valid))]
            assert drawn.index[b] == (twin.dropped + row) % twin.rows * twin.num_envs + env
            self.assert_carry(drawn, b, twin.steps[row], env)

    @pytest.mark.parametrize(("length", "period", "burn_in"), [(6, 6, 0), (6, 3, 3), (7, 2, 3), (5, 1, 4)])
    def test_every_step_of_an_episode_is_learned_from(self, length, period, burn_in):
        world = World(1, 1, mean_length=9)
        replay = SequenceReplay(200, world.spec(), CARRY, length, period=period, burn_in=burn_in)
        twin = filled(replay, world, 150, 200)
        drawn = replay.sample(4_000, np.random.default_rng(0))
        places = {row for row, _ in twin.find(drawn.obs[:-1][drawn.learned])}
        assert places >= set(range(len(twin.steps) - 2 * length))

    def test_a_single_row_knows_the_step_of_its_episode(self):
        world = World(1, 0, mean_length=5)
        replay, twin = SequenceReplay(1, world.spec(), CARRY, 1, period=2), Twin(1, world)
        for _ in range(40):
            step = world.step()
            replay.add(step)
            twin.add(step)
            assert replay.can_sample == (twin.episode_steps[0][0] % 2 == 0)

    def test_an_invalid_period_or_burn_in_is_refused(self):
        for fields in ({"period": 0}, {"burn_in": 4}, {"burn_in": -1}):
            with pytest.raises(ValueError, match="must be at least 1 and burn_in"):
                SequenceReplay(10, World(1, 0).spec(), CARRY, 4, **fields)

    def test_the_stored_carry_is_zero_where_an_episode_begins_and_only_there(self):
        world = World(3, 5)
        replay = SequenceReplay(300, world.spec(), CARRY, 4)
        twin = filled(replay, world, 100, 300)
        first = np.array([step.is_first for step in twin.steps])  # those that are still held
        for k in range(len(CARRY)):
            stored = replay.columns[f"state_{k}"][twin.dropped :]
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
        drawn = replay.sample(32, np.random.default_rng(0))
        ages = [(len(twin.steps) - 1 - row) * 2 for row, _ in twin.find(drawn.obs[0])]
        assert drawn.age == pytest.approx(np.mean(ages))
