"""Acting on views of the weights in NumPy equals the module."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from boxes import floats, uint8
from networks import filled, make_q_network
from rl_lab.nn.acting import numpy_q_values
from rl_lab.updates.averaging import polyak_update
from rl_lab.updates.optimisers import adam
from rl_lab.updates.trained import load_weights

VIEWED = {
    "flat": (floats(4), {"hidden": (16, 8)}),
    "matrix": (floats(2, 3), {"hidden": (16,)}),
    "scalar": (floats(), {"hidden": (16,)}),
    "linear": (floats(4), {"hidden": ()}),
    "double": (spaces.Box(-1.0, 1.0, (4,), np.float64), {"hidden": (16,)}),
    "bytes": (spaces.Box(0, 255, (4,), np.uint8), {"hidden": (16,)}),
    "discrete": (spaces.Discrete(6, start=2), {"hidden": (16,)}),
    "normalised": (floats(4), {"hidden": (16, 8), "layer_norm": True}),
    "streams": (floats(4), {"hidden": (16, 8), "dueling": True, "layer_norm": True}),
}


@pytest.fixture(params=VIEWED)
def viewed(request):
    """A network, its numpy form, and observations for both."""
    space, fields = VIEWED[request.param]
    space.seed(0)
    net = make_q_network(space, 3, **fields)
    values = numpy_q_values(net)
    assert values is not None
    return net, values, np.stack([space.sample() for _ in range(5)])


def assert_equal_values(net, values, obs):
    with torch.no_grad():
        q = net(torch.from_numpy(obs), (), torch.zeros(len(obs), dtype=torch.bool))[0].numpy()
    np.testing.assert_allclose(values(obs), q, atol=1e-6 * max(1.0, np.abs(q).max()), rtol=0)
    return q


class TestOneHot:
    def test_of_many_values_takes_no_table_of_their_square(self):
        """The table would take 4 TiB."""
        space = spaces.Discrete(10**6, start=3)
        net = make_q_network(space, 2, hidden=(2,))
        assert_equal_values(net, numpy_q_values(net), np.array([3, 10**6 + 2, 500]))


class TestViews:
    def test_equal_the_module(self, viewed):
        assert_equal_values(*viewed)

    def test_leave_the_observations_as_they_were(self, viewed):
        _, values, obs = viewed
        before = obs.copy()
        values(obs)
        np.testing.assert_array_equal(obs, before)

    def test_results_are_not_overwritten_by_the_next_call(self, viewed):
        _, values, obs = viewed
        first = values(obs)
        kept = first.copy()
        values(obs[::-1].copy())
        np.testing.assert_array_equal(first, kept)

    def test_follow_the_optimiser(self, viewed):
        net, values, obs = viewed
        before, optimiser = assert_equal_values(*viewed), adam(net.parameters(), 0.01)
        for _ in range(5):
            optimiser.zero_grad()
            net(torch.from_numpy(obs), (), torch.zeros(5, dtype=torch.bool))[0].square().sum().backward()
            optimiser.step()
        assert np.abs(assert_equal_values(net, values, obs) - before).max() > 1e-3

    def test_follow_loaded_and_averaged_weights(self, viewed):
        net, values, obs = viewed
        memory = [p.data_ptr() for p in net.parameters()]
        load_weights(net, {name: w.numpy() * 0 + 0.5 for name, w in net.state_dict().items()})
        loaded = assert_equal_values(net, values, obs)
        assert np.ptp(loaded, axis=1).max() < 1e-3 * max(
            1.0, np.abs(loaded).max()
        )  # equal weights, equal values
        polyak_update(filled(net, 0.25), net, 1.0)
        assert_equal_values(net, values, obs)
        assert [p.data_ptr() for p in net.parameters()] == memory

    def test_memory_and_convolutions_have_no_numpy_form(self):
        assert numpy_q_values(make_q_network(floats(4), 2, memory="lstm")) is None
        assert numpy_q_values(make_q_network(uint8(6, 6), 2)) is None
