"""Random shifts of images against a loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from boxes import uint8
from rl_lab.nn.augment import random_shift, shift_observations


def shifted_one_by_one(images, rng, pad, first):
    """Pad by repetition and crop, image by image, as in the paper."""
    drawn = rng.integers(-pad, pad + 1, size=(2, len(images)))
    out = np.empty_like(images)
    for b, image in enumerate(images):
        width = [(0, 0)] * image.ndim
        width[first] = width[first + 1] = (pad, pad)
        padded = np.pad(image, width, mode="edge")
        for k in range(2):
            begin = pad + drawn[k, b]
            padded = padded.take(range(begin, begin + image.shape[first + k]), axis=first + k)
        out[b] = padded
    return out


class TestRandomShift:
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    @pytest.mark.parametrize(
        ("shape", "last"),
        [((9, 7), False), ((3, 9, 7), False), ((9, 7, 3), True), ((4, 5, 5), False), ((1, 1), False)],
    )
    @pytest.mark.parametrize("pad", [0, 1, 4])
    def test_equals_padding_and_cropping_one_by_one(self, shape, last, pad, dtype):
        images = np.random.default_rng(0).integers(256, size=(16, *shape)).astype(dtype)
        found = random_shift(torch.from_numpy(images), np.random.default_rng(1), pad=pad, channels_last=last)
        expected = shifted_one_by_one(images, np.random.default_rng(1), pad, 0 if last else len(shape) - 2)
        assert found.numpy().dtype == dtype
        np.testing.assert_array_equal(found.numpy(), expected)

    def test_reaches_every_offset_and_leaves_the_images(self):
        image = torch.zeros(2_000, 1, 21, 21)
        image[:, :, 10, 10] = 1
        found = random_shift(image, np.random.default_rng(0))
        places = {tuple(place) for place in found[:, 0].nonzero()[:, 1:].tolist()}
        assert places == {(10 + dy, 10 + dx) for dy in range(-4, 5) for dx in range(-4, 5)}
        assert (image[:, :, 10, 10] == 1).all()

    def test_draws_from_the_generator_alone(self):
        images, before = torch.rand(8, 3, 12, 12), torch.get_rng_state()
        first, second = (random_shift(images, np.random.default_rng(3)) for _ in range(2))
        assert torch.equal(first, second)
        assert not torch.equal(first, random_shift(images, np.random.default_rng(4)))
        assert torch.equal(torch.get_rng_state(), before)


class TestShiftedObservations:
    @pytest.mark.parametrize(("channels", "axes"), [("first", (2, 3)), ("last", (1, 2))])
    def test_move_along_the_sides_that_the_channels_leave(self, channels, axes):
        images = torch.zeros(64, 10, 10, 10, dtype=torch.uint8)
        images[:, 5, 5, 5] = 1
        shifted = shift_observations(
            images, uint8(10, 10, 10), np.random.default_rng(0), 2, channels=channels
        )
        places = shifted.nonzero()
        moved = [axis for axis in (1, 2, 3) if len(places[:, axis].unique()) > 1]
        assert moved == list(axes)

    def test_shift_a_stack_of_colour_images_alike(self):
        stack = torch.randint(255, (2, 1, 12, 12, 3), dtype=torch.uint8).expand(2, 4, 12, 12, 3)
        shifted = shift_observations(stack, uint8(4, 12, 12, 3), np.random.default_rng(0), 3)
        assert torch.equal(shifted, shifted[:, :1].expand_as(shifted))
        assert not torch.equal(shifted, stack)
