"""Random numbers inside compiled loops: the draw of a number is a function of a stream and a position in it.

The generator is SplitMix64, read at any position instead of one after the other: Steele, Lea & Flood (2014), "Fast
splittable pseudorandom number generators", https://doi.org/10.1145/2714064.2660195. Nothing has to be carried from draw
to draw, so that a simulation can be left and resumed anywhere, and the processor needn't wait for the draw before.
"""

from __future__ import annotations

import numpy as np

from rl_lab.seeding import seed_of
from rl_lab.types import Array

# mypy: disable-error-code="no-untyped-def"

FIRST_FACTOR, SECOND_FACTOR = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
UNIT = 2.0**-53
FEWEST_CHANGES = 24  # between neighbouring bits of an increment: with fewer, numbers in a row would be alike
ALTERNATING = 0xAAAAAAAAAAAAAAAA


def mix(z):
    """Return a uint64 scrambled; a bijection."""
    z = (z ^ (z >> np.uint64(30))) * FIRST_FACTOR
    z = (z ^ (z >> np.uint64(27))) * SECOND_FACTOR
    return z ^ (z >> np.uint64(31))


def draw(start, increment, position):
    """Return the number in [0, 1) at a position of the stream (start, increment); all three are uint64."""
    return (mix(start + position * increment) >> np.uint64(11)) * UNIT


def stream_of(seed: int, name: str) -> Array:
    """Return a stream of a run's seed, by name: its start and its increment, uint64 [2].

    Increments differ, so that two streams don't run over the same numbers wherever they start.
    """
    start, increment = (_word(seed, name, part) for part in ("start", "increment"))
    increment |= 1
    if (increment ^ (increment >> 1)).bit_count() < FEWEST_CHANGES:
        increment ^= ALTERNATING
    return np.array([start, increment], dtype=np.uint64)


def streams_of(seeds: Array | range | list[int], name: str) -> Array:
    """Return the streams of several seeds, uint64 [K, 2]."""
    return np.array([stream_of(int(seed), name) for seed in seeds], dtype=np.uint64).reshape(-1, 2)


def _word(seed: int, name: str, part: str) -> int:
    """Return 64 bits derived from a seed."""
    high, low = (seed_of(seed, name, part, half) for half in ("high", "low"))  # 31 bits each
    return (high << 33) | (low << 2) | (high & 3)
