"""Any observation becomes a picture of grey squares."""

from __future__ import annotations

import numpy as np

from rl_lab.envs.drawing.arrays import MARGIN, draw_array


def inner(frame: np.ndarray) -> np.ndarray:
    """The picture without its margin and colours, which are all grey."""
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, np.repeat(frame[..., :1], 3, axis=2))
    assert (frame[:MARGIN] == 255).all()
    assert (frame[:, -MARGIN:] == 255).all()
    return frame[MARGIN:-MARGIN, MARGIN:-MARGIN, 0]


class TestDrawArray:
    def test_scales_values_to_greys_and_enlarges_them(self):
        grey = inner(draw_array(np.array([[-1.0, 0.0], [1.0, 0.0]])))
        assert grey.shape == (96, 96)
        assert [int(grey[y, x]) for y in (0, 95) for x in (0, 95)] == [0, 115, 230, 115]

    def test_shows_channels_side_by_side_and_large_images_as_they_are(self):
        image = np.arange(100 * 40 * 3).reshape(100, 40, 3)
        assert inner(draw_array(image)).shape == (100, 120)

    def test_shows_trees_as_one_row(self):
        obs = {"a": np.zeros((2, 2)), "b": (np.float32(1.0), np.ones(3))}
        grey = inner(draw_array(obs))
        assert grey.shape == (96, 8 * 96)
        assert np.unique(grey[:, : 4 * 96]).tolist() == [0]
        assert np.unique(grey[:, 4 * 96 :]).tolist() == [230]

    def test_takes_a_single_number(self):
        assert inner(draw_array(3)).shape == (96, 96)
