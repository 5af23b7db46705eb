"""Q-networks: the encoder that each space gets, and which spaces are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from boxes import floats, uint8
from networks import make_encoder, refuse_encoder
from rl_lab.nn.encoders import OneHot
from rl_lab.nn.images import NATURE, Image
from rl_lab.nn.layers import Flat
from rl_lab.types import UsageError


def batch_of(space, size=3):
    return torch.from_numpy(np.stack([space.sample() for _ in range(size)]))


class TestEncoderBySpace:
    @pytest.mark.parametrize(
        ("space", "first", "convolutions"),
        [
            (spaces.Discrete(5), OneHot, 0),
            (floats(4), Flat, 0),
            (floats(), Flat, 0),
            (floats(3, 8, 8), Flat, 0),  # floats are no image
            (spaces.Box(0, 255, (4,), np.uint8), Flat, 0),
            (uint8(84, 84), Image, 3),
            (uint8(4, 84, 84), Image, 3),
            (uint8(84, 84, 3), Image, 3),
            (uint8(36, 36, 3), Image, 3),
            (uint8(35, 35, 3), Image, 2),  # too small for Nature's kernels
            (uint8(10, 10), Image, 2),
            (uint8(5, 5, 3), Image, 2),
        ],
        ids=str,
    )
    def test_auto_goes_by_the_space(self, space, first, convolutions):
        encoder = make_encoder("auto", space, (16,))
        assert isinstance(encoder.layers[0], first)
        assert sum(isinstance(layer, nn.Conv2d) for layer in encoder.layers) == convolutions
        features = encoder(batch_of(space))
        assert features.shape == (3, 16)
        assert features.dtype == torch.float32

    def test_large_images_get_the_layers_of_nature(self):
        encoder = make_encoder("auto", uint8(4, 84, 84), (512,))
        layers = [x for x in encoder.layers if isinstance(x, nn.Conv2d)]
        assert tuple((x.out_channels, x.kernel_size[0], x.stride[0]) for x in layers) == NATURE
        assert [x.in_features for x in encoder.layers if isinstance(x, nn.Linear)] == [64 * 7 * 7]

    def test_hidden_widths_are_those_given(self):
        layers = [x for x in make_encoder("auto", floats(4), (8, 6)).layers if isinstance(x, nn.Linear)]
        assert [(x.in_features, x.out_features) for x in layers] == [(4, 8), (8, 6)]
        assert make_encoder("auto", floats(2, 3), ()).size == 6

    def test_mlp_may_be_asked_for_images(self):
        encoder = make_encoder("mlp", uint8(5, 5), (7,))
        assert encoder(batch_of(uint8(5, 5))).shape == (3, 7)

    def test_one_hot_counts_from_the_start_of_the_space(self):
        encoder = make_encoder("auto", spaces.Discrete(3, start=5), ())
        assert encoder(torch.tensor([5, 7])).tolist() == [[1, 0, 0], [0, 0, 1]]


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "space", "says"),
        [
            ("resnet", floats(4), "encoder 'resnet' is unknown (allowed: auto, mlp, cnn, "),
            ("auto", spaces.Text(5), "takes Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple"),
            ("mlp", spaces.Dict({"a": spaces.Text(5)}), "observations, not Text"),
            ("auto", spaces.Tuple([floats(2), spaces.Text(5)]), "observations, not Text"),
            ("cnn", floats(4), "takes images (Box with 2, 3 or 4 axes)"),
            ("cnn", spaces.Discrete(3), "takes images (Box with 2, 3 or 4 axes)"),
            ("small", uint8(4, 4, 3), "takes images from 5x5, not 4x4"),
        ],
    )
    def test_are_one_line_and_name_what_is_allowed(self, name, space, says):
        with pytest.raises(UsageError) as caught:
            make_encoder(name, space, (8,))
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
        assert refuse_encoder(name, space) == str(caught.value)

    def test_an_accepted_space_gives_no_reason(self):
        assert [
            refuse_encoder(n, s)
            for n, s in (("auto", floats(4)), ("mlp", uint8(4, 4)), ("cnn", floats(5, 5)))
        ] == [None] * 3
