"""How observations were read before format 3: kept for the runs that began then."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from boxes import floats, uint8
from rl_lab.nn.augment import shift_observations
from rl_lab.nn.encoders import Embeddings, OneHot, has_image, make_encoder
from rl_lab.nn.fields import NetworkFields
from rl_lab.nn.images import is_image, layout_of
from rl_lab.nn.normalise import ObservationNormaliser
from rl_lab.nn.q_network import make_q_network
from rl_lab.nn.validate import refuse_network

OLD = NetworkFields(channels="smaller", image_scale="byte", one_hot_most=2**63 - 1, hidden=())
sides = st.integers(1, 12)


@given(sides, sides, sides)
def test_the_smaller_axis_held_the_channels_the_first_if_they_are_equal(a, b, c):
    last = c < a
    found = layout_of(uint8(a, b, c), "smaller")
    assert (found.channels, found.height, found.width) == ((c, a, b) if last else (a, b, c))
    assert found.channels_last == last
    if (told := layout_of(uint8(a, b, c))) is not None:
        assert told == found


@pytest.mark.parametrize(
    ("shape", "now", "before"),
    [((5, 5), True, True), ((2, 3), False, True), ((2, 3, 1), False, True), ((2, 5, 6, 3), True, False)],
)
def test_images_had_two_or_three_axes_of_any_size(shape, now, before):
    assert is_image(uint8(*shape)) == now
    assert is_image(uint8(*shape), "smaller") == before
    parts = spaces.Dict({"image": uint8(*shape), "vector": floats(2)})
    assert has_image(parts, "smaller") == before
    assert ObservationNormaliser(uint8(*shape), channels="smaller").has_moments != before
    assert not is_image(floats(5, 5), "smaller")


def test_bytes_were_divided_by_255_whatever_the_bound():
    space = spaces.Box(0, 3, (8, 9, 7), np.uint8)
    obs = torch.arange(2 * 8 * 9 * 7).reshape(2, 8, 9, 7).remainder(4).to(torch.uint8)
    seen = make_encoder(OLD, space).layers[0](obs)
    torch.testing.assert_close(seen, obs.permute(0, 3, 1, 2) / 255.0)
    now = NetworkFields(channels="last", hidden=())
    torch.testing.assert_close(make_encoder(now, space).layers[0](obs), obs.permute(0, 3, 1, 2) / 3.0)


def test_stacks_of_images_were_vectors():
    obs = torch.arange(2 * 2 * 5 * 6 * 3).reshape(2, 2, 5, 6, 3).to(torch.uint8)
    encoder = make_encoder(OLD, uint8(2, 5, 6, 3))
    torch.testing.assert_close(encoder(obs), obs.flatten(1).float())
    assert "channels first or last" in refuse_network(
        NetworkFields(encoder="small", channels="smaller"), uint8(2, 5, 6, 3)
    )


def test_discrete_observations_of_many_values_were_one_hot():
    many = spaces.Discrete(20_001)
    assert isinstance(make_encoder(OLD, many).layers[0], OneHot)
    assert isinstance(make_encoder(NetworkFields(hidden=()), many).layers[0], Embeddings)
    few = NetworkFields(hidden=(), one_hot_most=3)
    assert isinstance(make_encoder(few, spaces.Discrete(3)).layers[0], OneHot)
    assert isinstance(make_encoder(few, spaces.Discrete(4)).layers[0], Embeddings)


def test_small_arrays_were_neither_normalised_nor_left_unshifted():
    fields = NetworkFields(encoder="mlp", channels="smaller", normalise_observations=True, hidden=(4,))
    space = spaces.Dict({"bytes": uint8(2, 3), "vector": floats(2)})
    network = make_q_network(space, 2, fields)
    assert [name for name in network.state_dict() if "mean" in name] == ["normaliser.parts.1.moments.mean"]
    assert refuse_network(fields, uint8(2, 3)).startswith("normalise_observations finds nothing")
    rng = np.random.default_rng(0)
    obs = torch.arange(6).reshape(1, 2, 3).to(torch.uint8).repeat(16, 1, 1)
    assert torch.equal(shift_observations(obs, uint8(2, 3), rng, 1), obs)
    assert not torch.equal(shift_observations(obs, uint8(2, 3), rng, 1, channels="smaller"), obs)


def test_an_agent_without_images_takes_the_older_reading_too():
    assert refuse_network(OLD, floats(3)) is None
    assert "finds no image" in refuse_network(NetworkFields(channels="first"), floats(3))
