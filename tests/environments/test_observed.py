"""Single observations: cast where nothing is lost, refused where something would be."""

from __future__ import annotations

import warnings

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given, settings
from hypothesis import strategies as st

from generated import Mute, Shy
from rl_lab.environments.observed import Refused, observation_check, outside
from rl_lab.types import UsageError

VECTOR = spaces.Box(-1.0, 1.0, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (2, 2), np.uint8)
PLANES = spaces.Box(0, 1, (2, 2), np.uint8)
UNBOUNDED = spaces.Box(-np.inf, np.inf, (2,), np.float64)
BYTES = spaces.Box(-128, 127, (2,), np.int8)
LONG = spaces.Box(0, 2**64 - 1, (2,), np.uint64)
PARTS = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Tuple((VECTOR, spaces.MultiBinary(2)))})


@pytest.mark.parametrize(
    ("space", "value", "taken"),
    [
        (spaces.Discrete(5), 4, 4),
        (spaces.Discrete(5), np.int32(4), 4),
        (spaces.Discrete(5), np.array(4), 4),
        (spaces.Discrete(5), 3.0, 3),
        (spaces.Discrete(2), True, 1),
        (spaces.Discrete(2), np.True_, 1),
        (spaces.Discrete(3, start=-1), -1, -1),
        (VECTOR, [0, 1, -1], [0.0, 1.0, -1.0]),
        (VECTOR, np.array([0.1, 0.2, 0.3]), np.float32([0.1, 0.2, 0.3])),
        (IMAGE, [[0, 255], [1, 2]], [[0, 255], [1, 2]]),
        (IMAGE, np.array([[0.0, 255.0], [1.0, 2.0]]), [[0, 255], [1, 2]]),
        (PLANES, np.array([[True, False], [False, True]]), [[1, 0], [0, 1]]),
        (UNBOUNDED, np.array([1e200, -1e300]), [1e200, -1e300]),
        (spaces.MultiDiscrete([2, 3]), [1, 2], [1, 2]),
        (spaces.MultiDiscrete([2, 3], start=[5, -1]), [6, 1], [6, 1]),
        (spaces.MultiBinary(3), [True, False, True], [1, 0, 1]),
    ],
)
def test_takes_what_can_be_cast_without_loss(space, value, taken):
    out = observation_check(space)(value)
    assert np.asarray(out).dtype == space.dtype
    assert np.asarray(out).tolist() == np.asarray(taken, dtype=space.dtype).tolist()


@pytest.mark.parametrize(
    ("space", "value", "said"),
    [
        (spaces.Discrete(5), -1, r"-1 \(allowed: an integer from 0 to 4\)"),
        (spaces.Discrete(5), 5, "5 .allowed"),
        (spaces.Discrete(5), 2.5, r"2\.5"),
        (spaces.Discrete(5), float("nan"), "nan"),
        (spaces.Discrete(5), np.array([1]), r"array\(\[1\]\) of shape \(1,\)"),
        (spaces.Discrete(5), float("inf"), "inf .allowed"),
        (spaces.Discrete(5), np.float32("-inf"), r"float32\(-inf\) .allowed"),
        (spaces.Discrete(5), [[1.0], [1.0, 2.0]], r"\[\[1\.0\], \[1\.0, 2\.0\]\] .allowed"),
        pytest.param(spaces.Discrete(5), 10**5000, "a value of type int .allowed", id="digits"),
        (spaces.Discrete(5), Shy(), "Shy object"),
        (spaces.Discrete(5), Mute(), "a value of type Mute .allowed"),
        (spaces.Discrete(5), None, "None"),
        (spaces.Discrete(5), "1", "'1'"),
        (VECTOR, np.zeros((1, 3), np.float32), r"of shape \(1, 3\) \(allowed: float32 of shape \(3,\)\)"),
        (VECTOR, np.zeros(2, np.float32), r"of shape \(2,\)"),
        (VECTOR, [0.0, np.nan, 0.0], r"nan at index 1 \(allowed: from -201 to 201\)"),
        (VECTOR, [0.0, 0.0, np.inf], "inf at index 2"),
        (VECTOR, np.array([1e6, 0, 0]), "1000000.0 at index 0"),
        (VECTOR, np.array([0, 1e300, 0]), r"float64 with 1e\+300 at index 1 .*what float32 holds"),
        (VECTOR, None, "None"),
        (VECTOR, [[0.0], [0.0, 1.0], 0.0], "allowed: float32"),
        (VECTOR, np.zeros(3, complex), r"0\.\+0\.j"),
        (VECTOR, np.array(["a", "b", "c"]), "'a'"),
        (IMAGE, np.full((2, 2), 0.5), "float64 with 0.5 at index 0, 0 .*what uint8 holds without loss"),
        (IMAGE, np.array([[0, 256], [0, 0]]), "int64 with 256 at index 0, 1"),
        (IMAGE, np.array([[0, -1], [0, 0]]), "-1 at index 0, 1"),
        (IMAGE, np.full((2, 2), -1, np.int8), "int8 with -1 at index 0, 0 .*what uint8 holds without loss"),
        (BYTES, np.uint8([1, 200]), "uint8 with 200 at index 1"),
        (LONG, np.int64([1, -1]), "int64 with -1 at index 1"),
        (
            spaces.Box(-(2**63), 2**63 - 1, (1,), np.int64),
            np.uint64([2**63]),
            "uint64 with 9223372036854775808",
        ),
        (spaces.Box(-(2**63), 2**63 - 1, (1,), np.int64), np.float16([-np.inf]), "float16 with -inf"),
        (VECTOR, Shy(), "Shy object"),
        (PLANES, np.full((2, 2), 2, np.uint8), r"2 at index 0, 0 \(allowed: from 0 to 1\)"),
        (UNBOUNDED, np.array([np.nan, 0]), "nan at index 0"),
        (UNBOUNDED, np.array([0, -np.inf]), "-inf at index 1"),
        (spaces.MultiDiscrete([2, 3]), [0, 3], r"3 at index 1 \(allowed: from 0 to 2\)"),
        (spaces.MultiDiscrete([2, 3]), [-1, 0], "-1 at index 0"),
        (spaces.MultiBinary(2), [0, 2], "2 at index 1"),
        (PARTS, {"a": 1}, r"\['a'\] \(allowed: a dict with the keys \['a', 'b'\]\)"),
        (PARTS, {"a": 1, "b": 2, "c": 3}, r"\['a', 'b', 'c'\]"),
        (PARTS, {"a": 3, "b": ([0, 0, 0], [0, 0])}, "part 'a': 3 .allowed"),
        (PARTS, {"a": 0, "b": ([0, 0, 0], [0, 2])}, "part 'b': part 1: 2 at index 1"),
        (PARTS, {"a": 0, "b": ([0, 0, 0],)}, "allowed: a tuple of 2 parts"),
    ],
)
def test_refuses_the_rest_with_what_came_and_what_is_allowed(space, value, said):
    with pytest.raises(Refused, match=said) as refused:
        observation_check(space)(value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "accepted"), [(1.5, True), (201.0, True), (202.0, False), (-201.0, True), (-202.0, False)]
)
def test_floats_may_lie_a_hundred_widths_outside_their_bounds(value, accepted):
    check = observation_check(VECTOR)
    if accepted:
        assert check(np.float32([0, value, 0]))[1] == np.float32(value)
        assert f"{value} at index 1" in outside(VECTOR, np.float32([0, value, 0]))
    else:
        with pytest.raises(Refused):
            check(np.float32([0, value, 0]))


class TestUnitInterval:
    SPACE = spaces.Box(0.0, 1.0, (2, 2), np.float32)

    def test_bytes_are_refused_even_in_a_dark_image(self):
        with pytest.raises(Refused, match=r"40\.0 at index 1, 1 \(allowed: from -4 to 5\)"):
            observation_check(self.SPACE)(np.float32([[0, 1], [2, 40]]))

    @pytest.mark.parametrize("value", [1.001, 2.5, -0.5])
    def test_small_overshoots_stay_notes(self, value):
        shown = np.float32([[0, 1], [0, value]])
        assert observation_check(self.SPACE)(shown) is shown
        assert f"{np.float32(value)} at index 1, 1 (allowed: from 0 to 1)" in outside(self.SPACE, shown)

    def test_holds_for_each_entry_by_itself(self):
        space = spaces.Box(np.array([0.0, 0.0], np.float32), np.array([1.0, 2.0], np.float32))
        assert observation_check(space)(np.float32([1, 100]))[1] == 100
        with pytest.raises(Refused, match=r"100\.0 at index 0"):
            observation_check(space)(np.float32([100, 1]))


def test_bounds_away_from_zero_are_checked_too():
    check = observation_check(spaces.Box(1000.0, 1001.0, (2,), np.float64))
    assert check(np.array([1000.5, 1000.5])).tolist() == [1000.5, 1000.5]
    with pytest.raises(Refused, match=r"0\.0 at index 0"):
        check(np.zeros(2))


def test_one_finite_bound_stands_for_the_width_by_its_magnitude():
    check = observation_check(spaces.Box(5.0, np.inf, (1,), np.float64))
    assert check(np.array([-495.0])) == -495.0
    assert check(np.array([1e9])) == 1e9
    with pytest.raises(Refused):
        check(np.array([-496.0]))


def test_parts_are_looked_at_for_a_note():
    inside = {"a": 1, "b": (np.zeros(3, np.float32), np.zeros(2, np.int8))}
    assert outside(PARTS, inside) is None
    beyond = {"a": 1, "b": (np.full(3, 2, np.float32), np.zeros(2, np.int8))}
    assert outside(PARTS, beyond).startswith("part 'b': part 0: 2.0 at index 0")


@pytest.mark.parametrize("space", [spaces.Text(5), spaces.Sequence(spaces.Discrete(2))])
def test_spaces_without_a_fixed_shape_are_refused(space):
    with pytest.raises(UsageError, match="no fixed shape"):
        observation_check(spaces.Dict({"a": space}))


def test_parts_have_keys_of_one_type():
    assert (
        observation_check(spaces.Dict({2: spaces.Discrete(2), 1: spaces.Discrete(3)}))({1: 2, 2: 1})[1] == 2
    )
    with pytest.raises(UsageError, match="keys of several types"):
        observation_check(spaces.Dict({key: spaces.Discrete(2) for key in (1, "a")}))


def test_large_halves_are_taken_without_a_warning():
    check = observation_check(spaces.Box(-np.inf, np.inf, (2,), np.float16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check(np.float16([6e4, 1])).tolist() == np.float16([6e4, 1]).tolist()


FIXED = [
    VECTOR,
    IMAGE,
    PLANES,
    UNBOUNDED,
    PARTS,
    spaces.Discrete(4, start=-2),
    spaces.MultiDiscrete([[2, 3]]),
]


@pytest.mark.parametrize("space", FIXED, ids=str)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_every_sample_of_a_space_passes_unchanged(space, seed):
    space.seed(seed)
    sample = space.sample()
    assert data_equivalence(observation_check(space)(sample), sample)


@settings(max_examples=200, deadline=None)
@given(
    value=arrays.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]),
        st.sampled_from([(2, 2), (4,), (1, 2, 2), ()]),
    ),
    space=st.sampled_from([IMAGE, PLANES, spaces.Box(-3, 3, (2, 2), np.int16), spaces.Box(0, 1, (2, 2))]),
)
def test_what_passes_has_the_declared_form_and_the_given_values(value, space):
    """A twin that asks numpy and the space: nothing passes that they would not take, save floats out of bounds."""
    try:
        out = observation_check(space)(value)
    except Refused:
        held = value.shape == space.shape and np.isfinite(value).all()
        with np.errstate(all="ignore"):
            assert (
                not held
                or not space.contains(value.astype(space.dtype))
                or (value.astype(space.dtype).astype(value.dtype) != value).any()
            )
    else:
        assert (out.shape, out.dtype) == (space.shape, space.dtype)
        assert np.allclose(out.astype(np.float64), value.astype(np.float64), rtol=1e-6)
        assert space.contains(out) or out.dtype.kind == "f"


FEW = {
    "unit": spaces.Box(0.0, 1.0, (3,), np.float32),
    "narrow": spaces.Box(-1e-3, 1e-3, (2, 1), np.float32),
    "wide": spaces.Box(-1e30, 1e30, (2,), np.float32),
    "endless": spaces.Box(-np.inf, np.inf, (2,), np.float32),
    "one-sided": spaces.Box(np.float32([3.0, -np.inf]), np.float32([np.inf, 5.0])),
    "away from zero": spaces.Box(1000.0, 1001.0, (2,), np.float32),
}


@pytest.mark.parametrize("name", FEW)
@settings(max_examples=60)
@given(data=st.data())
def test_a_few_floats_of_any_bits_are_taken_where_each_is_finite_and_near_its_bounds(name, data):
    """Against the bounds with the tolerance added, entry by entry."""
    space = FEW[name]
    bits = st.one_of(
        st.integers(0, 2**32 - 1), st.sampled_from([0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00000])
    )
    near = st.floats(-2000, 2000, width=32).map(lambda x: int(np.float32(x).view(np.uint32)))
    value = data.draw(arrays.arrays(np.uint32, space.shape, elements=bits | near)).view(np.float32)
    low, high = space.low.astype(float), space.high.astype(float)
    one_sided = np.maximum(1.0, np.minimum(abs(low), abs(high)))
    with np.errstate(invalid="ignore"):
        width = np.where(np.isfinite(high - low), high - low, one_sided)
    slack = np.where((low == 0) & (high == 1), 4.0, 100.0) * width
    inside = np.isfinite(value) & (value >= low - slack) & (value <= high + slack)
    if inside.all():
        assert observation_check(space)(value) is value
    else:
        with pytest.raises(Refused):
            observation_check(space)(value)


@pytest.mark.parametrize("space", [spaces.Discrete(3, start=5), spaces.Discrete(2000), spaces.Discrete(3)])
def test_numbers_of_a_discrete_space_come_in_its_own_type(space):
    check, first, last = observation_check(space), int(space.start), int(space.start + space.n) - 1
    for value in (first, last, np.int32(last), np.array(first)):
        taken = check(value)
        assert taken == value
        assert type(taken) is np.int64
    for value in (first - 1, last + 1):
        with pytest.raises(Refused, match=f"allowed: an integer from {first} to {last}"):
            check(value)
