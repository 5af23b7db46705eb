"""Features of linear values: by hand, and against brute force."""

from __future__ import annotations

from itertools import product
from math import floor

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lab.agents.linear.features import (
    Fourier,
    OneHot,
    Raw,
    Tiles,
    UnitCube,
    fourier_coefficients,
    matrix_of,
)
from rl_lab.agents.linear.fields import (
    LinearFields,
    bounds_of,
    count_features,
    make_features,
    refuse_features,
)
from rl_lab.types import UsageError
from toys import spec_of

SQUARE = UnitCube(np.zeros(2), np.ones(2)).read
CARTPOLE = spaces.Box(np.array([-4.8, -np.inf], np.float32), np.array([4.8, np.inf], np.float32))
points = st.lists(st.tuples(st.integers(0, 64), st.integers(0, 64)), min_size=1, max_size=4)


def dense(features, at) -> np.ndarray:
    found = matrix_of(features, np.asarray(at, float))
    return found.toarray() if hasattr(found, "toarray") else found


class TestTiles:
    def test_places_of_a_line_are_those_found_by_hand(self):
        """Two grids of three tiles, each half as long as the line; the second begins a quarter before it."""
        tiles = Tiles(UnitCube(np.zeros(1), np.ones(1)).read, 2, (2,))
        assert tiles.active(np.array([[0.0], [0.3], [0.5], [0.8], [1.0]])).number.tolist() == [
            [0, 3], [0, 4], [1, 4], [1, 5], [2, 5],
        ]  # fmt: skip
        assert tiles.count == 6

    @settings(deadline=None, derandomize=True, max_examples=40)
    @given(points, st.sampled_from([1, 2, 4, 8]), st.integers(1, 4), st.integers(1, 4))
    def test_are_those_of_a_brute_force_twin(self, at, tilings, wide, high):
        tiles = Tiles(SQUARE, tilings, (wide, high))
        places = product(range(tilings), range(wide + 1), range(high + 1))
        number = {place: n for n, place in enumerate(places)}
        expected = np.zeros((len(at), len(number)))
        for row, (x, y) in enumerate(at):
            for k in range(tilings):
                column = floor(x / 64 * wide + k % tilings / tilings)
                line = floor(y / 64 * high + 3 * k % tilings / tilings)  # moved by the second odd number
                expected[row, number[k, column, line]] = 1
        np.testing.assert_array_equal(dense(tiles, np.array(at) / 64), expected)

    def test_near_points_share_more_tiles_than_far_ones(self):
        tiles = Tiles(SQUARE, 8, (4, 4))
        at = np.stack((np.linspace(0, 1, 33), np.full(33, 0.4)), axis=1)
        shared = dense(tiles, at) @ dense(tiles, at)[0]
        assert shared[0] == 8
        assert shared[8] == 0  # a whole tile away
        assert (np.diff(shared) <= 0).all()
        assert len(set(shared)) > 4  # the grids' borders lie apart


class TestFourier:
    @settings(deadline=None, derandomize=True, max_examples=25)
    @given(points, st.integers(1, 4), st.sampled_from([None, 1, 2]))
    def test_are_those_of_a_brute_force_twin(self, at, order, interactions):
        coefficients = fourier_coefficients(2, order, interactions)
        wanted = {
            c for c in product(range(order + 1), repeat=2) if interactions != 1 or 0 in c
        }  # at most one dimension
        assert set(map(tuple, coefficients.tolist())) == wanted
        assert len(coefficients) == len(wanted)
        found = dense(Fourier(SQUARE, coefficients), np.array(at) / 64)
        for row, (x, y) in zip(found, at, strict=True):
            for value, (a, b) in zip(row, coefficients.tolist(), strict=True):
                assert value == pytest.approx(np.cos(np.pi * (a * x + b * y) / 64), abs=1e-12)

    def test_step_sizes_are_divided_by_the_length_of_the_coefficients(self):
        fourier = Fourier(SQUARE, np.array([[0, 0], [1, 0], [3, 4]]))
        assert fourier.step_scale.tolist() == [1.0, 1.0, 0.2]

    def test_stand_in_the_order_of_how_many_dimensions_they_combine(self):
        assert fourier_coefficients(2, 2).tolist() == [
            [0, 0], [1, 0], [2, 0], [0, 1], [0, 2], [1, 1], [1, 2], [2, 1], [2, 2],
        ]  # fmt: skip

    @pytest.mark.parametrize("interactions", [None, 1, 2, 3])
    def test_are_counted_without_making_them(self, interactions):
        config = LinearFields(features="fourier", fourier_order=3, fourier_interactions=interactions)
        space = spaces.Box(0.0, 1.0, (4,))
        assert count_features(config, space) == len(fourier_coefficients(4, 3, interactions))


@pytest.mark.parametrize(
    "features",
    [
        Tiles(SQUARE, 4, (3, 2)),
        Fourier(SQUARE, fourier_coefficients(2, 3)),
        OneHot(lambda obs: obs[:, 0], 5),
    ],
)
def test_a_constant_is_a_value_everywhere(features):
    obs = np.array([[0, 1], [1, 0]]) if isinstance(features, OneHot) else np.array([[0.1, 0.9], [1.0, 0.0]])
    np.testing.assert_allclose(dense(features, features.read(obs)) @ features.constant(2.5), 2.5)


class TestReading:
    def test_bounds_become_those_of_the_unit_cube_and_nothing_lies_outside(self):
        cube = UnitCube(np.array([-2.0, 10.0]), np.array([2.0, 20.0]))
        seen = cube.read(np.array([[-2.0, 20.0], [1.0, 12.0], [-9.0, 99.0]], np.float32))
        assert seen.tolist() == [[0.0, 1.0], [0.75, 0.2], [0.0, 1.0]]

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("read", [SQUARE, Raw(2).read])
    def test_what_is_not_finite_raises(self, read, value):
        with pytest.raises(FloatingPointError, match="isn't finite"):
            read(np.array([[0.0, value]]))

    def test_several_axes_become_one(self):
        space = spaces.Box(0.0, 1.0, (2, 2))
        features = make_features(LinearFields(features="raw"), space)
        assert features.read(np.arange(8.0).reshape(2, 2, 2)).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]

    def test_given_bounds_replace_those_of_the_space(self):
        space = spaces.Box(-1.0, 1.0, (2,))
        low, high = bounds_of(LinearFields(low=(-5.0, 0.0)), space)
        assert (low.tolist(), high.tolist()) == ([-5.0, 0.0], [1.0, 1.0])

    def test_discrete_observations_have_a_feature_each(self):
        space = spaces.MultiDiscrete([2, 3], start=[1, -1])
        features = make_features(LinearFields(), space)
        assert features.count == 6
        at = features.read(np.array([[1, -1], [2, 1]]))
        assert features.active(at).number.tolist() == [[0], [5]]


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "space", "said"),
        [
            ({}, CARTPOLE, r"need finite bounds; toy has low -4.8 -inf and high 4.8 inf \(give low and high"),
            ({"features": "fourier", "low": (-1.0,) * 2}, CARTPOLE, "need finite bounds"),
            ({"low": (0.0,)}, spaces.Box(0, 1, (2,)), "low has 1 numbers; the observations of toy have 2"),
            ({"low": (0.0, 2.0)}, spaces.Box(0, 1, (2,)), "low must be below high in each dimension"),
            ({"tiles": (2, 2, 2)}, spaces.Box(0, 1, (2,)), "tiles has 3 numbers; the observations of toy have 2"),
            ({"features": "tiles"}, spaces.Discrete(4), "'tiles' of it need a Box; toy has Discrete"),
            ({"low": (0.0,)}, spaces.Discrete(4), r"low \(0.0,\) does nothing for features 'one-hot' of it on toy"),
            ({"features": "raw", "high": (1.0,)}, spaces.Box(0, 1, (1,)), r"high \(1.0,\) does nothing for .*'raw'"),
            ({"features": "one-hot"}, spaces.Box(0, 1, (2,)), "need discrete observations; toy has Box"),
            ({}, spaces.Box(0, 255, (84, 84), np.uint8), "would need more than 10.12 weights for toy"),
            ({"tiles": (9,), "tilings": 1}, spaces.Box(0, 1, (2,)), "would need 300 weights .* .allowed: up to 200"),
            ({}, spaces.Box(-3e38, 3e38, (1,)), "need finite bounds"),
        ],
    )  # fmt: skip
    def test_say_in_a_line_what_is_allowed(self, fields, space, said):
        reason = refuse_features("it", LinearFields(**fields), spec_of(space), 200)
        assert reason is not None
        assert "\n" not in reason
        with pytest.raises(AssertionError, match=said):
            raise AssertionError(reason)

    def test_given_bounds_let_cartpole_pass(self):
        config = LinearFields(low=(-2.4, -3.0), high=(2.4, 3.0), tilings=1, tiles=(2,))
        assert refuse_features("it", config, spec_of(CARTPOLE), 200) is None

    @pytest.mark.parametrize(
        "fields",
        [
            {"tiles": ()}, {"tiles": (0,)}, {"tilings": 0}, {"fourier_order": 0}, {"gamma": 1.1}, {"features": "rbf"},
            {"low": (1.0,), "high": (1.0,)}, {"low": (1.0,), "high": (2.0, 3.0)}, {"epsilon_final": -0.1},
            {"low": (float("nan"),), "high": (1.0,)},
        ],
    )  # fmt: skip
    def test_fields_outside_their_range_are_refused_by_name(self, fields):
        with pytest.raises(UsageError, match=next(iter(fields))):
            LinearFields(**fields)
