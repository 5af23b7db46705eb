"""State trees of all that a checkpoint may hold, drawn by hypothesis, and how a loaded one is compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

DTYPES = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">f4", ">i8")


scalars = st.none() | st.booleans() | st.integers(-(2**130), 2**130) | st.floats() | st.text()


arrays = st.builds(
    lambda dtype, shape, fill: np.full(shape, fill, dtype),
    st.sampled_from(DTYPES),
    st.sampled_from([(), (0,), (3,), (2, 0, 3), (2, 3)]),
    st.integers(0, 100),
)


tensors = st.builds(
    lambda dtype, shape: torch.ones(shape, dtype=dtype),
    st.sampled_from([torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool]),
    st.sampled_from([(), (0,), (2, 3)]),
)


keys = st.text(max_size=4).filter(lambda k: not k.startswith("$"))


trees = st.recursive(
    scalars | arrays | tensors,
    lambda inner: (
        st.dictionaries(keys, inner, max_size=4)
        | st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=12,
)


def require_equal(found: Any, expected: Any) -> None:
    """Compare trees; a tensor comes back as an array, and every array with its dtype and shape."""
    if isinstance(expected, torch.Tensor):
        expected = expected.numpy()
    if isinstance(expected, np.ndarray):
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            require_equal(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected)
        assert len(found) == len(expected)
        for part, other in zip(found, expected, strict=True):
            require_equal(part, other)
    else:
        assert type(found) is type(expected)
        assert repr(found) == repr(expected)  # nan is nan
