"""Penalties in the loss, and decay beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from quadratic import RATE, expected, followed, gradient
from rl_lab.agents.dqn import Config
from rl_lab.agents.dqn.returns import make_network
from rl_lab.updates.fields import make_optimiser
from rl_lab.updates.optimisers import OPTIMISERS, adamw
from rl_lab.updates.regularise import decay_weights, regularise


def l1_penalty(parameters, strength):
    """strength * sum |w|, to be added to a loss (Tibshirani, 1996); its gradient is strength * sign(w)."""
    return strength * torch.stack([p.abs().sum() for p in parameters]).sum()


def l2_penalty(parameters, strength):
    """strength / 2 * sum w^2, to be added to a loss; its gradient is strength * w, torch's `weight_decay`."""
    return 0.5 * strength * torch.stack([p.square().sum() for p in parameters]).sum()


class TestPenalties:
    @pytest.mark.parametrize("name", ["sgd", "adam", "momentum"])
    def test_in_the_loss_and_in_the_step_they_are_the_same(self, name):
        def make(weights):
            return OPTIMISERS[name](weights, RATE)

        def penalised(weights):
            optimiser = make(weights)
            regularise(optimiser, l1=0.03, l2=0.2)
            return optimiser

        in_loss = followed(make, loss=lambda w: l1_penalty(w, 0.03) + l2_penalty(w, 0.2))
        np.testing.assert_allclose(followed(penalised), in_loss, atol=1e-12, rtol=0)
        assert np.abs(in_loss - followed(make)).max() > 1e-3

    def test_follow_their_formula(self):
        w = torch.tensor([3.0, -2.0]), torch.tensor([[0.5]])
        assert l1_penalty(w, 0.1).item() == pytest.approx(0.55)
        assert l2_penalty(w, 0.1).item() == pytest.approx(0.05 * 13.25)
        path = followed(lambda w: OPTIMISERS["sgd"](w, RATE), loss=lambda w: l1_penalty(w, 0.03))
        np.testing.assert_allclose(
            path, expected(lambda w, m, t: w - RATE * (gradient(w) + 0.03 * np.sign(w))), atol=1e-6, rtol=0
        )

    def test_l2_is_what_torch_calls_weight_decay(self):
        theirs = followed(lambda w: torch.optim.SGD(w, lr=RATE, momentum=0.9, weight_decay=0.2))
        ours = followed(lambda w: OPTIMISERS["momentum"](w, RATE), loss=lambda w: l2_penalty(w, 0.2))
        np.testing.assert_allclose(ours, theirs, atol=1e-12, rtol=0)

    def test_decay_stands_apart_from_the_gradient(self):
        def decayed(weights):
            optimiser = OPTIMISERS["adam"](weights, RATE)
            regularise(optimiser, weight_decay=0.3)
            return optimiser

        np.testing.assert_allclose(
            followed(decayed), followed(lambda w: adamw(w, RATE, weight_decay=0.3)), atol=1e-12, rtol=0
        )
        w = torch.tensor([2.0, -4.0])
        decay_weights([w], 0.1, 0.5)
        torch.testing.assert_close(w, torch.tensor([1.9, -3.8]))

    def test_decay_follows_the_learning_rate_of_the_moment(self):
        w = nn.Parameter(torch.tensor([2.0]))
        optimiser = OPTIMISERS["sgd"]([w], 0.1)
        regularise(optimiser, weight_decay=0.5)
        w.grad = torch.zeros(1)
        optimiser.param_groups[0]["lr"] = 0.2
        optimiser.step()
        assert w.item() == pytest.approx(1.8)

    def test_none_asked_for_changes_nothing(self):
        w = nn.Parameter(torch.ones(1))
        optimiser = OPTIMISERS["sgd"]([w], 0.1)
        regularise(optimiser)
        assert not optimiser._optimizer_step_pre_hooks


NETWORKS = {
    "layers": {"layer_norm": True, "dueling": True},
    "heads": {"heads": 3, "prior_scale": 1.0},
    "noise": {"noisy": True},
    "lstm": {"memory": "lstm", "memory_size": 4},
    "attention": {"memory": "attention", "memory_size": 4, "context": 3},
}


@pytest.mark.parametrize("penalty", ["l1", "l2", "weight_decay"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_penalties_shrink_weights_and_neither_biases_nor_gains_nor_noise(kind, penalty):
    """With a gradient of 0 a step changes what has a penalty, and nothing else."""
    config = Config(hidden=(6, 5), optimiser="sgd", learning_rate=0.1, **NETWORKS[kind] | {penalty: 0.5})
    network = make_network(config, spaces.Box(-1, 1, (4,)), 3)
    learned = {name: p for name, p in network.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for p in network.parameters():
            p.fill_(2.0)
    optimiser = make_optimiser(config, network)
    for p in learned.values():
        p.grad = torch.zeros_like(p)
    optimiser.step()
    shrunk = {name for name, p in learned.items() if (p < 2).any()}
    assert shrunk
    assert shrunk == {
        name
        for name in learned
        if not any(part in name for part in ("bias", "norm", "sigma", "nearness"))
        and not (kind == "layers" and learned[name].ndim == 1)
    }
    assert all((p == 2).all() for name, p in network.named_parameters() if name not in shrunk)
