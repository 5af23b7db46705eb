"""Images: where their channels are, how bytes are scaled, which layers look at them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from gymnasium import spaces

from boxes import floats, uint8
from networks import make_encoder
from rl_lab.nn.fields import NetworkFields
from rl_lab.nn.images import ChannelNorm, is_image, layout_of
from rl_lab.nn.validate import refuse_network


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

    def test_stacked_images_are_channels_side_by_side_the_oldest_first(self):
        stack = torch.arange(2 * 4 * 6 * 7 * 3).to(torch.uint8).reshape(2, 4, 6, 7, 3)  # [B, stack, H, W, C]
        last = images_of(make_encoder("auto", uint8(4, 6, 7, 3), ()))(stack)
        first = images_of(make_encoder("auto", uint8(4, 3, 6, 7), ()))(stack.permute(0, 1, 4, 2, 3))
        assert last.shape == (2, 12, 6, 7)
        torch.testing.assert_close(last, first)
        torch.testing.assert_close(last[1, 3 * 2 + 1], stack[1, 2, ..., 1] / 255.0)

    @pytest.mark.parametrize("shape", [(36, 36), (3, 6, 6), (6, 6, 3), (2, 6, 6, 3)])
    def test_bytes_are_scaled_once(self, shape):
        images = images_of(make_encoder("auto", uint8(*shape), ()))(
            torch.full((1, *shape), 255, dtype=torch.uint8)
        )
        assert images.unique().tolist() == pytest.approx([1.0])

    @pytest.mark.parametrize("high", [1, 7, 254])
    def test_bytes_are_divided_by_the_upper_bound_of_their_space(self, high):
        planes = spaces.Box(0, high, (8, 8, 3), np.uint8)
        images = images_of(make_encoder("auto", planes, ()))(
            torch.full((1, 8, 8, 3), high, dtype=torch.uint8)
        )
        assert images.unique().tolist() == pytest.approx([1.0])

    @pytest.mark.parametrize(
        ("stack", "factors"), [((), [1.0, 1 / 255, 1.0]), ((2,), [1.0, 1 / 255, 1.0] * 2)]
    )
    def test_channels_with_bounds_of_their_own_are_divided_by_those(self, stack, factors):
        high = np.broadcast_to(np.array([1, 255, 0], np.uint8), (*stack, 6, 6, 3))
        planes = spaces.Box(np.zeros_like(high), high, dtype=np.uint8)
        seen = images_of(make_encoder("auto", planes, ()))(torch.ones((1, *high.shape), dtype=torch.uint8))
        assert seen[0, :, 0, 0].tolist() == pytest.approx(factors)

    def test_planes_of_0_and_1_train_as_the_same_floats_do(self):
        planes = spaces.Box(0, 1, (8, 8, 12), np.uint8)
        torch.manual_seed(0)
        of_bytes = make_encoder("auto", planes, (5,), channels="last")
        torch.manual_seed(0)
        of_floats = make_encoder("cnn", spaces.Box(0, 1, (8, 8, 12)), (5,), channels="last")
        seen = torch.from_numpy(np.stack([planes.sample()]))
        assert torch.equal(of_bytes(seen), of_floats(seen.float()))

    def test_floats_are_left_as_they_are(self):
        images = images_of(make_encoder("cnn", floats(3, 6, 6), ()))(torch.full((1, 3, 6, 6), 2.5))
        assert images.unique().tolist() == [2.5]

    def test_only_bytes_with_two_to_four_axes_that_an_encoder_could_take_are_images(self):
        assert all(is_image(space) for space in (uint8(5, 5), uint8(5, 5, 3), uint8(4, 5, 5, 3)))
        others = (
            uint8(5),
            floats(5, 5),
            spaces.Discrete(2),
            uint8(4, 4),
            uint8(3, 2, 4),
            uint8(2, 5, 5, 3, 1),
        )
        assert not any(is_image(space) for space in others)


class TestChannels:
    @pytest.mark.parametrize(
        ("shape", "last"),
        [
            ((84, 84, 4), True), ((4, 84, 84), False), ((210, 160, 3), True), ((3, 210, 160), False),
            ((210, 160, 12), True), ((12, 84, 84), False), ((10, 10, 4), True), ((10, 10, 7), True),
            ((5, 7, 3), True), ((3, 5, 6), False), ((1, 5, 5), False), ((4, 84, 84, 3), True),
        ],
    )  # fmt: skip
    def test_are_told_by_the_shape_where_it_leaves_no_doubt(self, shape, last):
        assert layout_of(uint8(*shape)).channels_last == last

    @pytest.mark.parametrize(
        "shape", [(7, 7, 20), (8, 8, 12), (10, 10, 10), (20, 7, 7), (20, 30, 25), (4, 7, 7, 20)]
    )
    @pytest.mark.parametrize("encoder", ["auto", "small", "impala"])
    def test_are_asked_for_where_the_shape_leaves_doubt(self, shape, encoder):
        space = spaces.Dict({"seen": uint8(*shape)})
        reason = refuse_network(NetworkFields(encoder=encoder), space)
        says = r"images \S+ may have their channels first or last \(allowed: --channels first, --channels last.*\)"
        assert re.fullmatch(says, reason)
        for channels in ("first", "last"):
            assert refuse_network(NetworkFields(encoder="auto", channels=channels), space) is None
        assert refuse_network(NetworkFields(encoder="mlp"), space) is None

    @pytest.mark.parametrize(("channels", "count"), [("first", 8), ("last", 12)])
    def test_are_where_they_are_said_to_be(self, channels, count):
        encoder = make_encoder("auto", uint8(8, 8, 12), (), channels=channels)
        seen = torch.randint(255, (2, 8, 8, 12), dtype=torch.uint8)
        images = images_of(encoder)(seen)
        assert images.shape[1] == count
        torch.testing.assert_close(
            images[1, 5], (seen[1, 5] if channels == "first" else seen[1, :, :, 5]) / 255.0
        )

    def test_tell_networks_apart_that_share_no_compiled_code(self):
        first, last = (make_encoder("auto", uint8(10, 10, 10), (), channels=c) for c in ("first", "last"))
        assert repr(first) != repr(last)

    def test_are_refused_without_an_image(self):
        assert "channels 'last' finds no image" in refuse_network(NetworkFields(channels="last"), floats(4))


class TestChannelNorm:
    def test_each_pixel_is_normalised_over_its_channels_before_the_activation(self):
        torch.manual_seed(0)
        encoder = make_encoder("minatar", uint8(10, 10, 4), (), image_layer_norm=True)
        image, convolution, norm, activation, flat = encoder.layers
        seen = torch.randint(256, (2, 10, 10, 4), dtype=torch.uint8)
        with torch.no_grad():
            norm.weight.uniform_(0.5, 2.0), norm.bias.uniform_(-1.0, 1.0)
            x = convolution(image(seen))  # [B, 16, 8, 8]
            pixel = x[1, :, 3, 5]
            expected = (pixel - pixel.mean()) / (pixel.var(correction=0) + 1e-5).sqrt()
            expected = (expected * norm.weight + norm.bias).clamp(min=0)
            torch.testing.assert_close(activation(norm(x))[1, :, 3, 5], expected, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(encoder(seen), flat(activation(norm(x))))

    @pytest.mark.parametrize(("name", "count"), [("cnn", 3), ("small", 2), ("minatar", 1), ("impala", 3)])
    def test_there_is_one_for_each_convolution_or_block(self, name, count):
        encoder = make_encoder(name, uint8(36, 36), (8,), image_layer_norm=True)
        assert sum(isinstance(part, ChannelNorm) for part in encoder.modules()) == count
        assert not any(isinstance(p, ChannelNorm) for p in make_encoder(name, uint8(36, 36), (8,)).modules())

    def test_minatars_network_is_that_of_its_authors(self):
        """One convolution of 16 3x3 kernels over the planes, and 128 units: 10x10 become 8x8 of 16."""
        encoder = make_encoder("minatar", uint8(10, 10, 4), (128,))
        counts = [p.numel() for p in encoder.parameters()]
        assert counts == [16 * 4 * 3 * 3, 16, 128 * 16 * 8 * 8, 128]
