"""Networks that act together choose by the values that each of them has alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from networks import make_q_network
from rl_lab.nn.acting import make_acting_values
from rl_lab.nn.acting_together import Prepared, joint_arrays, joint_outputs, joint_q_values
from rl_lab.nn.actor_critic import make_acting_outputs, make_actor_critic
from rl_lab.nn.fields import NetworkFields
from rl_lab.nn.joint_distributions import make_distribution
from rl_lab.updates.stacked import Stack, joint_forward, stack_weights

CPU = torch.device("cpu")
BOX = spaces.Box(-1.0, 1.0, (2, 3), np.float32)


def observations(networks: int, envs: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(networks, envs, 2, 3)).astype(np.float32)


@pytest.mark.parametrize("fields", [{}, {"dueling": True}, {"activation": "tanh"}], ids=str)
@pytest.mark.parametrize("envs", [1, 4])
def test_values_are_those_of_each_network(fields, envs):
    networks = [make_q_network(BOX, 3, hidden=(8, 6), **fields) for _ in range(3)]
    weights, obs = stack_weights(networks), observations(3, envs)
    together = joint_q_values(networks[0], joint_arrays(networks[0], weights))
    for _ in range(2):
        before, found = obs.copy(), together(obs)
        assert np.array_equal(obs, before)
        for k, network in enumerate(networks):
            alone = make_acting_values(network, CPU)(obs[k], (), np.zeros(envs, bool))[0]
            np.testing.assert_allclose(found[k], alone, rtol=1e-5, atol=1e-6)
        for weight in weights.values():  # the networks are followed as they learn
            weight.mul_(1.5)


@pytest.mark.parametrize("share_encoder", [False, True])
def test_logits_and_state_values_are_those_of_each_network(share_encoder):
    distribution, fields = make_distribution(spaces.Discrete(3)), NetworkFields(hidden=(8,))
    networks = [make_actor_critic(BOX, distribution, fields, share_encoder=share_encoder) for _ in range(3)]
    obs = observations(3, 2)
    to_logits, to_value = joint_outputs(networks[0], joint_arrays(networks[0], stack_weights(networks)))
    for k, network in enumerate(networks):
        logits, value, _ = make_acting_outputs(network, CPU)(obs[k], (), np.zeros(2, bool))
        np.testing.assert_allclose(to_logits(obs)[k], logits, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(to_value(obs)[k], value, rtol=1e-5, atol=1e-6)


def test_networks_without_a_form_in_numpy_act_together_in_torch():
    networks = [make_q_network(BOX, 3, hidden=(4,), layer_norm=True) for _ in range(2)]
    optimisers = [torch.optim.SGD(network.parameters(), lr=0.1) for network in networks]
    stack = Stack(networks, optimisers, lambda weights: torch.optim.SGD(weights, lr=0.1))
    together, obs = joint_forward(networks[0], stack), observations(2, 3)
    for _ in range(2):
        [found] = together(obs)
        for k, network in enumerate(networks):
            alone = make_acting_values(network, CPU)(obs[k], (), np.zeros(3, bool))[0]
            np.testing.assert_allclose(found[k], alone, rtol=1e-5, atol=1e-6)
        for weight in stack.weights.values():  # the networks are followed as they learn
            weight.mul_(1.5)


def test_networks_without_a_joint_form_are_left_to_others():
    plain, normed = make_q_network(BOX, 3, hidden=(4,)), make_q_network(BOX, 3, hidden=(4,), layer_norm=True)
    assert joint_q_values(normed, joint_arrays(normed, stack_weights([normed]))) is None
    assert joint_q_values(plain, joint_arrays(plain, stack_weights([plain]))) is not None
    continuous = make_actor_critic(BOX, make_distribution(spaces.Box(-1.0, 1.0, (2,))))
    assert joint_outputs(continuous, joint_arrays(continuous, stack_weights([continuous]))) is None


def test_outputs_are_computed_once_for_all_that_look_and_again_when_they_look_again():
    calls = []

    def compute(obs):
        calls.append(obs.copy())
        return (obs * 10,)

    prepared = Prepared(compute, 3)
    prepared.look({0: np.array([1.0, 2.0]), 2: np.array([3.0, 4.0])})
    assert not calls  # nobody has asked
    assert prepared.outputs(2)[0].tolist() == [30.0, 40.0]
    assert prepared.outputs(0)[0].tolist() == [10.0, 20.0]
    assert len(calls) == 1
    prepared.look({2: np.array([5.0, 6.0])})
    assert prepared.outputs(2)[0].tolist() == [50.0, 60.0]
    assert len(calls) == 2
