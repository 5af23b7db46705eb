"""Attribution against networks whose contributions are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from networks import make_q_network
from rl_lab.explanation.attribution import attribution
from rl_lab.explanation.insight import Facts
from rl_lab.explanation.names import part_names
from rl_lab.explanation.optimum import Optimum
from rl_lab.nn.acting import make_acting_values
from rl_lab.nn.fields import NetworkFields
from rl_lab.nn.return_network import HeadPlan, make_return_network
from rl_lab.policies import ValuePolicy
from rl_lab.types import UsageError

FIRST, CPU = np.ones(1, np.bool_), torch.device("cpu")


def facts_about(space):
    return Facts(spaces.Discrete(2), space, ["0", "1"], list(part_names(space)), Optimum("none"))


def policy_of(space, **fields):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = make_q_network(space, 2, **fields)
    initial = (lambda n: tuple(p.numpy() for p in network.initial_state(n))) if "memory" in fields else None
    return ValuePolicy(make_acting_values(network, CPU), 2, initial, network=network)


def explain(policy, obs, space, mask=None, **fields):
    return attribution(policy, obs, policy.initial_state(1), FIRST, mask, facts_about(space), **fields)


VECTOR = spaces.Box(-np.inf, np.inf, (3,))
OBS = np.array([[2.0, -1.0, 0.5]], np.float32)


@pytest.mark.parametrize("prior_scale", [0.0, 3.0])
def test_contributions_of_heads_add_up_with_their_priors(prior_scale):
    plan = HeadPlan(heads=2, prior_scale=prior_scale)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = make_return_network(VECTOR, 2, NetworkFields(hidden=(16, 8)), plan)
    found = explain(ValuePolicy(make_acting_values(network, CPU), 2, network=network), OBS, VECTOR, steps=400)
    assert abs(found.total) > 0.01
    assert sum(found.contributions) == pytest.approx(found.total, rel=2e-2)


class Weighted:
    """A foreign policy whose values are sums of products with two rows of weights."""

    weights = np.array([[1.0, 2.0, 4.0], [3.0, -1.0, 2.0]])

    def initial_state(self, num_envs):
        return ()

    def inspect(self, obs, state, is_first, mask=None):
        assert obs.dtype == np.float32
        return {"q_values": obs @ self.weights.T}


def test_contributions_of_a_linear_network_are_weights_times_inputs():
    policy = policy_of(VECTOR, hidden=())
    with torch.no_grad():
        policy.network.head.weight.copy_(torch.from_numpy(Weighted.weights))
        policy.network.head.bias.fill_(7.0)
    found = explain(policy, OBS, VECTOR)
    assert (found.output, found.method) == (1, "gradient")
    np.testing.assert_allclose(found.contributions, [6.0, 1.0, 1.0], rtol=1e-5)
    assert found.total == pytest.approx(8.0, rel=1e-5)
    assert found.names == ["[0]", "[1]", "[2]"]


def test_without_a_network_each_number_is_replaced():
    found = explain(Weighted(), OBS, VECTOR)
    assert (found.output, found.method, found.total) == (1, "perturbation", 8.0)
    np.testing.assert_allclose(found.contributions, [6.0, 1.0, 1.0])


@pytest.mark.parametrize("fields", [{}, {"memory": "lstm", "memory_size": 8}], ids=["plain", "lstm"])
def test_contributions_add_up_to_the_difference_from_the_baseline(fields):
    found = explain(policy_of(VECTOR, hidden=(32,), **fields), OBS, VECTOR, steps=400)
    assert abs(found.total) > 0.01
    assert sum(found.contributions) == pytest.approx(found.total, rel=2e-2)


def test_a_network_that_normalises_is_compared_with_the_mean():
    policy = policy_of(VECTOR, hidden=(16,), normalise_observations=True)
    policy.network.normaliser.observe(np.array([[1.0, -1.0, 3.0], [3.0, -1.0, 5.0]]))
    found = explain(policy, OBS, VECTOR)
    assert found.baseline == [2.0, -1.0, 4.0]
    assert found.contributions[0] == found.contributions[1] == 0.0


def test_an_illegal_action_is_not_explained():
    policy = policy_of(VECTOR, hidden=())
    with torch.no_grad():
        policy.network.head.weight.copy_(torch.from_numpy(Weighted.weights))
    assert explain(policy, OBS, VECTOR, np.array([[True, False]])).output == 0


def test_parts_are_named_by_key_and_discrete_ones_left_out():
    space = spaces.Dict({"b": spaces.Box(-1, 1, (2,)), "a": spaces.Box(-1, 1, (1,)), "c": spaces.Discrete(3)})
    obs = {"b": np.array([[0.5, 1.0]], np.float32), "a": np.array([[-1.0]], np.float32), "c": np.array([2])}
    found = explain(policy_of(space, hidden=(16,)), obs, space, steps=400)
    assert found.names == ["a[0]", "b[0]", "b[1]"]
    assert found.left_out == ["c"]
    assert sum(found.contributions) == pytest.approx(found.total, rel=2e-2)


def test_without_continuous_parts_it_is_refused():
    space = spaces.Discrete(4)
    with pytest.raises(UsageError, match="all are discrete"):
        explain(policy_of(space), np.array([1]), space)
