"""Fits to the best actions: what a network can express is found, what it can't isn't."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from rl_lab.function_class import FitTask
from rl_lab.nn.fields import NetworkFields
from rl_lab.nn.return_network import HeadPlan, make_return_network
from rl_lab.updates.fitting import NetworkClass

CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
XOR = np.array([0, 1, 1, 0])
WEIGHT = np.array([1.0, 1.0, 1.0, 0.25])


def mlp(*hidden: int) -> nn.Sequential:
    widths, layers = [2, *hidden], []
    for size, width in zip(widths, hidden, strict=False):
        layers += [nn.Linear(size, width), nn.ReLU()]
    torch.manual_seed(0)
    return nn.Sequential(*layers, nn.Linear(widths[-1], 2))


def class_of(network) -> NetworkClass:
    return NetworkClass(network, lambda net, obs: net(obs))


def value(actions) -> float:
    """The weight of the corners whose label is right."""
    return float(WEIGHT[actions == XOR].sum())


def task(**fields) -> FitTask:
    good = np.eye(2, dtype=bool)[XOR]
    known = {
        "obs": CORNERS, "mask": None, "good": good, "evaluate": value, "advantages": lambda p: WEIGHT[:, None] * good,
        "best": float(WEIGHT.sum()), "tolerance": 1e-9, "fits": 3, "steps": 200,
    }  # fmt: skip
    return FitTask(**(known | fields))


def test_a_network_with_a_hidden_layer_expresses_xor():
    found = class_of(mlp(16)).fit(task())
    assert found.value == pytest.approx(WEIGHT.sum())
    assert found.fits <= 3


def test_a_linear_one_gives_up_the_corner_that_counts_least():
    """No line has all four corners right; the loss of labels doesn't know which one is cheap, the return does."""
    found = class_of(mlp()).fit(task(steps=400))
    assert found.value == pytest.approx(3.0)
    assert found.fits == 3


def test_illegal_actions_are_never_taken():
    mask = np.ones((4, 2), bool)
    mask[0, XOR[0]] = False
    taken = []
    class_of(mlp(16)).fit(task(mask=mask, evaluate=lambda a: taken.append(a[0]) or 0.0, steps=50))
    assert set(taken) == {1 - XOR[0]}


def test_any_of_several_best_actions_will_do():
    found = class_of(mlp()).fit(task(good=np.ones((4, 2), bool), evaluate=lambda a: 1.0, best=1.0))
    assert (found.value, found.fits) == (1.0, 1)


def test_the_first_fit_begins_with_the_network_s_own_weights():
    network = mlp(16)
    own = network(torch.as_tensor(CORNERS)).argmax(-1).numpy()
    seen = []
    class_of(network).fit(task(evaluate=lambda a: seen.append(a.copy()) or 0.0, steps=20, fits=1))
    assert np.array_equal(seen[0], own)


def test_neither_the_network_nor_torch_s_generator_changes():
    network = mlp(8)
    before, state = [p.clone() for p in network.parameters()], torch.get_rng_state()
    class_of(network).fit(task(steps=50))
    assert all(torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_seed_decides_what_is_found():
    found = [class_of(mlp(2)).fit(task(seed=seed, steps=30)) for seed in (0, 0)]
    assert found[0] == found[1]


def test_a_prior_stays_as_it_is_in_every_fit():
    space, plan = spaces.Box(0.0, 1.0, (2,)), HeadPlan(heads=2, prior_scale=1.0)
    network = make_return_network(space, 2, NetworkFields(hidden=(4,)), plan)
    met = []

    def scores(net, obs):
        met.append({name: p.detach().clone() for name, p in net.named_parameters()})
        return net(obs)[0]

    NetworkClass(network, scores).fit(task(fits=2, steps=20, best=99.0))
    for name, own in network.named_parameters():
        assert all(torch.equal(own, seen[name]) for seen in met) == (".prior." in name), name


def test_says_how_large_the_network_is():
    assert class_of(mlp(16)).description == "a network of 82 parameters"
