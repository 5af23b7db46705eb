"""Actions of every space as arrays, and what environments receive of them."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings

import drawn_spaces
from mirrors import SPACES
from rl_lab.environments.actions import (
    action_dtype,
    action_shape,
    first_action,
    flat_actions,
    joined_actions,
    mask_size,
    single_action,
    stored_dtype,
    structured_actions,
)
from rl_lab.trees import leaves_of
from toys import vector

HYBRID = spaces.Dict(
    {
        "b": spaces.Discrete(3, start=-1),
        "a": spaces.Tuple(
            (spaces.Box(-1, 1, (), np.float32), spaces.MultiDiscrete([[2, 3]], start=[[1, 1]]))
        ),
    }
)


class Takes(gymnasium.Env):
    """Keeps what it is given, and spoils it."""

    observation_space = spaces.Discrete(1)

    def __init__(self, space: spaces.Space):
        self.action_space = space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        self.inside = self.action_space.contains(action)
        self.taken = [np.array(leaf) for leaf in leaves_of(action, sort_keys=True)]
        for leaf in leaves_of(action):
            if isinstance(leaf, np.ndarray):
                leaf[...] = 0
        return 0, float(self.inside), False, False, {}


class TestArrays:
    def test_parts_lie_side_by_side_by_sorted_key(self):
        action = {"b": -1, "a": (np.float32(0.5), np.array([[2, 3]]))}
        array = joined_actions(HYBRID, [action])
        assert array.tolist() == [[0.5, 2.0, 3.0, -1.0]]
        assert array.dtype == action_dtype(HYBRID) == np.float64
        assert action_shape(HYBRID) == (4,)

    def test_environments_receive_the_types_that_the_space_describes(self):
        a = single_action(HYBRID)(np.array([[0.5, 2.0, 3.0, -1.0]]))
        assert isinstance(a["b"], np.int64)
        number, wheel = a["a"]
        assert (type(number), number.shape, number.dtype) == (np.ndarray, (), np.float32)
        assert (wheel.tolist(), wheel.dtype) == ([[2, 3]], np.int64)

    @given(drawn_spaces.actions)
    @settings(max_examples=60, deadline=None)
    def test_what_was_sampled_comes_back(self, space):
        space.seed(0)
        sampled = [space.sample() for _ in range(3)]
        array = joined_actions(space, sampled)
        assert array.shape == (3, *action_shape(space))
        assert array.dtype == action_dtype(space)
        for k, action in enumerate(sampled):
            received = single_action(space)(array[k : k + 1])
            assert space.contains(received)
            pairs = (leaves_of(tree, sort_keys=True) for tree in (action, received))
            for one, other in zip(*pairs, strict=True):
                np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(flat_actions(space, structured_actions(space, array)), array)

    @given(drawn_spaces.actions)
    @settings(max_examples=60, deadline=None)
    def test_the_first_action_is_inside(self, space):
        assert space.contains(single_action(space)(first_action(space).astype(action_dtype(space))[None]))

    def test_what_is_stored_of_spaces_that_start_at_0_is_as_it_was(self):
        assert stored_dtype(spaces.Discrete(256)) == np.uint8
        assert stored_dtype(spaces.Discrete(257)) == np.int64
        assert stored_dtype(spaces.Discrete(2, start=-1)) == np.int64
        assert stored_dtype(spaces.Box(0, 1, (2,), np.float32)) == np.float32

    @pytest.mark.parametrize(
        ("space", "size"),
        [
            (spaces.Discrete(3, start=4), 3),
            (spaces.MultiDiscrete([2, 5]), 7),
            (spaces.MultiBinary(3), 6),
            (spaces.Box(0, 1), 0),
            (HYBRID, 8),
        ],
    )
    def test_masks_hold_the_values_of_every_discrete_entry(self, space, size):
        assert mask_size(space) == size


@pytest.mark.parametrize("num_envs", [1, 3])
class TestVectors:
    @pytest.mark.parametrize("name", SPACES)
    def test_every_environment_receives_its_own_copy(self, name, num_envs):
        space = SPACES[name]
        space.seed(1)
        made: list[Takes] = []

        def make() -> Takes:
            made.append(Takes(space))
            return made[-1]

        envs = vector(make, num_envs)
        envs.reset(seed=[0] * num_envs)
        sampled = [space.sample() for _ in range(num_envs)]
        array = joined_actions(space, sampled)
        kept = array.copy()
        assert envs.step(array)[1].tolist() == [1.0] * num_envs
        np.testing.assert_array_equal(array, kept)
        for env, action in zip(made[-num_envs:], sampled, strict=True):
            for seen, sent in zip(env.taken, leaves_of(action, sort_keys=True), strict=True):
                np.testing.assert_array_equal(seen, sent)

    @pytest.mark.parametrize(
        ("space", "action"),
        [
            (spaces.Discrete(3, start=1), 0),
            (spaces.Discrete(3, start=-3), 0),
            (spaces.MultiDiscrete([2, 3], start=[1, 0]), [0, 0]),
            (spaces.MultiBinary(2), [0, 2]),
            (spaces.Box(-1, 1, (), np.float64), 1.5),
            (spaces.Box(0, 3, (2,), np.int32), [0, 4]),
            (HYBRID, [0.5, 2.0, 3.0, 2.0]),
        ],
    )
    def test_an_action_outside_the_space_is_refused(self, space, action, num_envs):
        envs = vector(lambda: Takes(space), num_envs)
        envs.reset(seed=[0] * num_envs)
        actions = np.stack([first_action(space)] * (num_envs - 1) + [np.asarray(action, action_dtype(space))])
        with pytest.raises(ValueError, match="is outside the action space"):
            envs.step(actions)

    def test_a_fraction_where_a_whole_number_belongs_is_refused(self, num_envs):
        envs = vector(lambda: Takes(HYBRID), num_envs)
        envs.reset(seed=[0] * num_envs)
        with pytest.raises(ValueError, match="isn't made of whole numbers"):
            envs.step(np.array([[0.5, 2.0, 2.5, 0.0]] * num_envs))

    def test_an_action_of_another_length_is_refused(self, num_envs):
        envs = vector(lambda: Takes(HYBRID), num_envs)
        envs.reset(seed=[0] * num_envs)
        with pytest.raises(ValueError, match=r"an action has shape \(3,\) \(allowed: \(4,\)\)"):
            envs.step(np.zeros((num_envs, 3)))
