"""Observations kept once: stacks of real wrappers, streams without waste, declarations that are wrong."""

from __future__ import annotations

from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces, wrappers

from rl_lab.environments.make import make_env
from rl_lab.environments.wrappers import LifeLoss
from rl_lab.problem import frame_stack_of
from rl_lab.replay.frames import frame_leaves
from rl_lab.replay.transitions import TransitionReplay
from rl_lab.types import Decision, EnvSpec
from toys import interact, problem_on, spec_of
from worlds import STACK, World, assert_same, item, state_of


class Screen(gymnasium.Env):
    """A 3 x 2 picture that no other step shows; episodes of 1 to 8 steps, with lives."""

    action_space = spaces.Discrete(2)
    shown = 0

    def __init__(self, space=None):
        self.observation_space = spaces.Box(0, 255, (3, 2), np.uint8) if space is None else space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 9))
        return self._seen(), {"lives": 9}

    def step(self, action):
        self.left -= 1
        lives = 9 - (self.left % 3 == 0)
        over, kind = self.left == 0, bool(self.np_random.integers(2))
        return self._seen(), 1.0, over and kind, over and not kind, {"lives": lives}

    def _seen(self):
        Screen.shown += 1
        digits = [Screen.shown // 256**k % 256 for k in range(6)]
        shape, dtype = self.observation_space.shape, self.observation_space.dtype
        return np.array(digits, dtype)[: int(np.prod(shape))].reshape(shape)


class Remembering:
    """Acts at random and keeps every step, in a replay and in a list."""

    gradient_steps, collect_env_steps = 0, 1

    def __init__(self, replay: TransitionReplay):
        self.replay, self.steps = replay, []

    def policy(self, *, explore):
        return self

    def initial_state(self, num_envs):
        return ()

    def act(self, obs, state, is_first, mask=None):
        return Decision(np.zeros(len(is_first), np.int64))

    def observe(self, step):
        self.replay.add(step)
        self.steps.append(step)

    def update(self):
        return None


def stacked(padding: str = "reset") -> gymnasium.Env:
    return LifeLoss(wrappers.FrameStackObservation(Screen(), 4, padding_type=padding))


class TestStacks:
    @pytest.mark.parametrize("num_envs", [1, 3])
    @pytest.mark.parametrize("padding", ["reset", "zero"])
    @pytest.mark.parametrize("n_steps", [1, 3])
    def test_samples_are_the_observations_that_were_acted_on(self, num_envs, padding, n_steps):
        problem = problem_on(lambda: stacked(padding), num_envs=num_envs, total_steps=600)
        assert problem.spec.frame_stack == 4
        replay = TransitionReplay(300, problem.spec, n_steps=n_steps, gamma=1.0)
        steps = interact(Remembering(replay), problem).steps
        assert any((s.terminated & ~n.is_first).any() for s, n in pairwise(steps))
        batch = replay.sample(6_000, np.random.default_rng(0))
        assert batch.obs.dtype == batch.next_obs.dtype == np.uint8
        assert batch.obs.flags.c_contiguous
        assert batch.next_obs.flags.c_contiguous
        held = steps[-replay.rows :]
        seen = set()
        for b, index in enumerate(batch.index.tolist()):
            row, env = index // num_envs, index % num_envs
            at = next(k for k in range(len(held)) if (len(steps) - len(held) + k) % replay.rows == row)
            last = held[at + round(float(batch.reward[b])) - 1]  # each step is worth 1
            np.testing.assert_array_equal(batch.obs[b], held[at].obs[env])
            np.testing.assert_array_equal(batch.next_obs[b], last.next_obs[env])
            assert batch.terminated[b] == last.terminated[env]
            seen.add(index)
        assert len(seen) == len(replay) == 300

    def test_only_single_frames_are_stored_and_none_twice(self):
        problem = problem_on(stacked, num_envs=2, total_steps=200)
        replay = TransitionReplay(1_000, problem.spec)
        steps = interact(Remembering(replay), problem).steps
        (array,) = replay.observations.arrays
        assert (array.shape, array.dtype) == ((500 * 5, 2, 3, 2), np.uint8)
        opened = np.sum([step.is_first for step in steps], axis=0)  # [N]
        written = [ring.written for ring in replay.state_dict()["frames"][0]]
        assert written == (len(steps) + 4 * opened).tolist()

    def test_without_stacks_an_episode_of_t_steps_takes_t_plus_one(self):
        world = World(2, 0, mean_length=7)
        replay, opened = TransitionReplay(1_000, world.spec()), np.zeros(2, np.int64)
        for _ in range(100):
            step = world.step()
            replay.add(step)
            opened += step.is_first
        written = [ring.written for ring in replay.state_dict()["frames"][0]]
        assert written == (100 + opened).tolist()


class TestDeclarations:
    """A stack that isn't one must never become a silent error."""

    def test_observations_that_do_not_shift_are_refused_and_not_stored(self):
        space = spaces.Box(0.0, 1e6, (2,), np.float32)
        spec = EnvSpec("toy", space, spaces.Discrete(3), 1, None, False, frame_stack=2)
        replay, step = TransitionReplay(10, spec), World(1, 0).step()
        step.obs[0, 0] = 7.0
        before = state_of(replay)
        with pytest.raises(ValueError, match=r"aren't stacks of 2 frames.*allowed: frame_stack 1"):
            replay.add(step)
        assert state_of(replay) == before
        assert len(replay) == 0

    def test_one_environment_that_does_not_shift_is_enough(self):
        world = World(3, 0, kind="stack")
        replay = TransitionReplay(30, world.spec())
        for _ in range(5):
            replay.add(world.step())
        step = world.step()
        step.next_obs = step.next_obs.copy()
        step.next_obs[2, 0] += 1
        with pytest.raises(ValueError, match=f"aren't stacks of {STACK} frames"):
            replay.add(step)
        assert len(replay) == 15

    @pytest.mark.parametrize(
        "space",
        [
            spaces.Box(0, 1, (3, 2), np.float32),
            spaces.Box(0, 1, (), np.float32),
            spaces.Discrete(4),
            spaces.Dict({"a": spaces.Box(0, 1, (4, 2))}),
        ],
        ids=str,
    )
    def test_a_space_without_that_axis_is_refused(self, space):
        spec = EnvSpec("toy", space, spaces.Discrete(3), 1, None, False, frame_stack=4)
        with pytest.raises(ValueError, match="frame_stack 4 isn't the leading axis of"):
            TransitionReplay(10, spec)

    @pytest.mark.parametrize(
        "space", [spaces.Text(5), spaces.Dict({"a": spaces.Sequence(spaces.Discrete(2))})]
    )
    def test_a_leaf_without_a_shape_is_refused(self, space):
        with pytest.raises(ValueError, match="no fixed shape"):
            TransitionReplay(10, spec_of(space))

    def test_leaves_are_named_and_ordered_as_the_space_orders_them(self):
        space = spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Tuple((spaces.Box(0, 1, (2,)),))})
        assert [(path, shape) for path, shape, _ in frame_leaves(spec_of(space))] == [
            ("['a'][0]", (2,)),
            ("['b']", ()),
        ]


class Halved(gymnasium.ObservationWrapper):
    """Changes observations."""

    def observation(self, observation):
        return observation // 2


class Sly(wrappers.TimeLimit):
    """A known wrapper's child may do anything."""


class TestProbing:
    @pytest.mark.parametrize(
        ("wrap", "stack"),
        [
            (lambda env: wrappers.FrameStackObservation(env, 4), 4),
            (lambda env: wrappers.FrameStackObservation(env, 1), 1),
            (lambda env: wrappers.TimeLimit(wrappers.FrameStackObservation(env, 2), 9), 2),
            (lambda env: wrappers.RecordEpisodeStatistics(LifeLoss(wrappers.FrameStackObservation(env, 3))), 3),
            (lambda env: wrappers.OrderEnforcing(wrappers.FrameStackObservation(env, 3)), 3),
            (lambda env: wrappers.PassiveEnvChecker(wrappers.FrameStackObservation(env, 3)), 3),
            (lambda env: Halved(wrappers.FrameStackObservation(env, 4)), 1),
            (lambda env: wrappers.FrameStackObservation(Halved(env), 4), 4),
            (lambda env: Sly(wrappers.FrameStackObservation(env, 4), 9), 1),
            (lambda env: wrappers.FlattenObservation(wrappers.FrameStackObservation(env, 4)), 1),
            (lambda env: wrappers.TimeLimit(env, 9), 1),
            (lambda env: env, 1),
        ],
    )  # fmt: skip
    def test_a_stack_is_known_by_its_wrapper(self, wrap, stack):
        assert frame_stack_of(wrap(Screen())) == stack

    def test_a_picture_of_as_many_rows_is_no_stack(self):
        assert frame_stack_of(Screen(spaces.Box(0, 255, (4, 1), np.uint8))) == 1

    @pytest.mark.parametrize(
        "space", [spaces.Discrete(5), spaces.Dict({"a": spaces.Box(0, 1, (2,))})], ids=str
    )
    def test_only_boxes_are_taken_apart(self, space):
        env = Screen(spaces.Box(0, 255, (2,), np.uint8))
        env.observation_space = space
        assert frame_stack_of(wrappers.FrameStackObservation(env, 4)) == 1

    def test_games_are_stacks_of_four(self):
        pytest.importorskip("ale_py")
        problem = problem_on(lambda: make_env("ALE/Pong-v5", life_loss_terminates=True))
        assert problem.spec.frame_stack == 4
        assert problem.spec.observation_space.shape == (4, 84, 84)
        replay = TransitionReplay(50, problem.spec)
        assert replay.observations.arrays[0].shape[1:] == (1, 84, 84)

    def test_other_environments_are_not(self):
        assert problem_on(lambda: make_env("CartPole-v1")).spec.frame_stack == 1


class TestTrees:
    @pytest.mark.parametrize("num_envs", [1, 2])
    def test_dicts_and_tuples_of_a_real_vector_come_back_as_they_were(self, num_envs):
        space = spaces.Dict(
            {
                "z": spaces.Tuple((spaces.Box(0, 255, (2, 2), np.uint8), spaces.Discrete(7))),
                "a": spaces.Dict({"x": spaces.Box(-1, 1, (3,), np.float32), "y": spaces.MultiBinary(4)}),
            }
        )

        class Nested(Screen):
            def _seen(self):
                return self.observation_space.sample()

        problem = problem_on(lambda: Nested(space), num_envs=num_envs, total_steps=60 * num_envs)
        problem.spec.observation_space.seed(0)
        replay = TransitionReplay(40 * num_envs, problem.spec)
        steps = interact(Remembering(replay), problem).steps
        batch = replay.sample(500, np.random.default_rng(0))
        for b, index in enumerate(batch.index.tolist()):
            row, env = divmod(index, num_envs)
            step = steps[row + 40 if row < 20 else row]
            assert_same(item(batch.obs, b), item(step.obs, env))
            assert_same(item(batch.next_obs, b), item(step.next_obs, env))
