"""Spaces drawn by hypothesis."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces
from hypothesis import strategies as st

starts = st.integers(-5, 5)
counts = st.integers(1, 4)
shapes = st.sampled_from([(), (1,), (3,), (2, 2)])


@st.composite
def multi_discrete(draw):
    shape = draw(st.sampled_from([(1,), (3,), (2, 2)]))
    size = int(np.prod(shape))
    nvec, start = (draw(st.lists(s, min_size=size, max_size=size)) for s in (counts, starts))
    return spaces.MultiDiscrete(np.reshape(nvec, shape), start=np.reshape(start, shape))


@st.composite
def boxes(draw):
    shape, dtype = draw(shapes), draw(st.sampled_from([np.float32, np.float64, np.int8, np.int32, np.int64]))
    low = draw(st.sampled_from([-100, -1, 0]))
    high = low + draw(st.sampled_from([1, 3, 100]))
    return spaces.Box(low, high, shape, dtype)


discrete = st.builds(lambda n, start: spaces.Discrete(n, start=start), counts, starts)
multi_binary = st.builds(spaces.MultiBinary, st.sampled_from([1, 3, (2, 2)]))
finite = st.one_of(discrete, multi_discrete(), multi_binary)


def with_parts(leaves: st.SearchStrategy) -> st.SearchStrategy:
    """Spaces of a kind, and Dicts and Tuples of them, nested or not."""
    return st.recursive(
        leaves,
        lambda parts: st.one_of(
            st.dictionaries(st.sampled_from("abc"), parts, min_size=1, max_size=3).map(spaces.Dict),
            st.lists(parts, min_size=1, max_size=3).map(spaces.Tuple),
        ),
        max_leaves=4,
    )


actions = with_parts(st.one_of(finite, boxes()))
