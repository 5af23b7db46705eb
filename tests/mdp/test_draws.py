"""Numbers of a stream: those of SplitMix64, uniform, and of other streams for other seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rl_lab.mdp.draws import draw, mix, stream_of, streams_of

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@pytest.fixture(autouse=True)
def _wrapping():
    with np.errstate(over="ignore"):
        yield


def test_the_scrambled_multiples_of_the_golden_ratio_are_those_of_the_reference():
    # the first numbers of java.util.SplittableRandom and of Vigna's splitmix64.c, seeded with 1234567
    found = [int(mix(np.uint64(1234567) + np.uint64(k) * GOLDEN)) for k in (1, 2, 3)]
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_numbers_are_uniform_and_those_of_neighbouring_positions_are_not_alike():
    start, increment = stream_of(3, "test")
    numbers = draw(start, increment, np.arange(20_000, dtype=np.uint64))
    assert 0.0 <= numbers.min() < 0.001
    assert 0.999 < numbers.max() < 1.0
    assert stats.kstest(numbers, "uniform").pvalue > 0.001
    pairs, _, _ = np.histogram2d(numbers[:-1], numbers[1:], bins=8, range=[[0, 1], [0, 1]])
    assert stats.chisquare(pairs.ravel()).pvalue > 0.001


def test_streams_of_neighbouring_seeds_are_independent():
    numbers = [draw(*stream_of(seed, "test"), np.arange(2_000, dtype=np.uint64)) for seed in range(20)]
    found = np.corrcoef(numbers)
    assert np.abs(found[np.triu_indices(20, 1)]).max() < 0.1


def test_increments_are_odd_and_change_often():
    for seed in range(200):
        increment = int(stream_of(seed, "test")[1])
        assert increment % 2 == 1
        assert (increment ^ (increment >> 1)).bit_count() >= 24


def test_names_and_seeds_give_other_streams():
    found = {tuple(stream_of(seed, name).tolist()) for seed in range(3) for name in ("a", "b")}
    assert len(found) == 6
    assert np.array_equal(streams_of(range(3), "a")[1], stream_of(1, "a"))
