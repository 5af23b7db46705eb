"""Images: where their channels are, how bytes are scaled, which layers look at them."""

from __future__ import annotations

import pytest
import torch
from gymnasium import spaces

from boxes import floats, uint8
from networks import make_encoder
from rl_lab.nn.images import is_image


def images_of(encoder):
    """What the first layer makes of a batch."""
    return lambda obs: encoder.layers[0](obs)


class TestImages:
    def test_channels_are_found_first_last_or_absent(self):
        picture = torch.arange(2 * 6 * 7 * 3, dtype=torch.uint8).reshape(2, 6, 7, 3)  # [B, H, W, C]
        last = images_of(make_encoder("auto", uint8(6, 7, 3), ()))(picture)
        first = images_of(make_encoder("auto", uint8(3, 6, 7), ()))(picture.permute(0, 3, 1, 2))
        grey = images_of(make_encoder("auto", uint8(6, 7), ()))(picture[..., 0])
        torch.testing.assert_close(last, first)
        torch.testing.assert_close(grey, first[:, :1])
        torch.testing.assert_close(first[1, 2, 3, 4], picture[1, 3, 4, 2] / 255.0)

    @pytest.mark.parametrize("shape", [(36, 36), (3, 6, 6), (6, 6, 3)])
    def test_bytes_are_scaled_once(self, shape):
        images = images_of(make_encoder("auto", uint8(*shape), ()))(
            torch.full((1, *shape), 255, dtype=torch.uint8)
        )
        assert images.unique().tolist() == pytest.approx([1.0])

    def test_floats_are_left_as_they_are(self):
        images = images_of(make_encoder("cnn", floats(3, 6, 6), ()))(torch.full((1, 3, 6, 6), 2.5))
        assert images.unique().tolist() == [2.5]

    def test_only_bytes_with_two_or_three_axes_are_images(self):
        assert all(is_image(space) for space in (uint8(5, 5), uint8(5, 5, 3)))
        assert not any(is_image(space) for space in (uint8(5), floats(5, 5), spaces.Discrete(2)))
