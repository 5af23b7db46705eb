"""Masks of one byte an action take a shorter way, which refuses what the longer one refuses."""

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_lab.environments.masks import MaskReader
from rl_lab.environments.observed import Refused


def read(mask):
    env = gymnasium.make("CartPole-v1")
    env.action_space = gymnasium.spaces.Discrete(4)
    return MaskReader(env).read({"action_mask": mask}, False, False)


@given(
    st.lists(st.integers(-2, 3), min_size=3, max_size=5),
    st.sampled_from([np.int8, np.uint8, np.bool_, np.int64]),
)
def test_they_are_taken_exactly_if_their_entries_are_0_and_1(entries, dtype):
    mask = np.array(entries).astype(dtype)
    numbers = mask.tolist()
    if len(numbers) == 4 and set(numbers) <= {0, 1} and any(numbers):
        legal = read(mask)
        assert legal.dtype == np.bool_
        assert legal.tolist() == [bool(n) for n in numbers]
    else:
        with pytest.raises(Refused):
            read(mask)


@pytest.mark.parametrize("dtype", [np.int8, np.bool_])
def test_what_is_read_is_a_copy(dtype):
    mask = np.array([1, 0, 1, 0], dtype)
    legal = read(mask)
    mask[:] = 1
    assert legal.tolist() == [True, False, True, False]


def test_characters_are_no_mask():
    with pytest.raises(Refused):
        read(np.array([b"\1", b"\0", b"\1", b"\1"]))


@pytest.mark.parametrize("stranger", [np.dtype("S1"), np.dtype("i2"), np.dtype("f4")])
def test_other_types_with_the_bytes_of_a_mask_that_is_known_are_refused(stranger):
    env = gymnasium.make("CartPole-v1")
    env.action_space = gymnasium.spaces.Discrete(4)
    reader, mask = MaskReader(env), np.array([1, 0, 1, 1], np.int8)
    reader.read({"action_mask": mask}, False, False)
    assert reader.again(mask) is not None
    alike = np.frombuffer(mask.tobytes(), stranger)
    assert reader.again(alike) is None
    with pytest.raises(Refused):
        reader.read({"action_mask": alike}, False, False)
