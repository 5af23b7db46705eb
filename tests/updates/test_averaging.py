"""Weights that follow others: targets and moving averages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from networks import filled
from quadratic import RATE, STEPS
from rl_lab.updates.averaging import WeightAverage, copied, polyak_update
from rl_lab.updates.optimisers import OPTIMISERS


class TestCopied:
    def test_is_equal_and_not_trained_and_shares_no_memory(self):
        network = nn.Sequential(nn.Linear(2, 3), nn.LSTM(3, 4))
        copy = copied(network)
        for ours, theirs in zip(copy.parameters(), network.parameters(), strict=True):
            assert torch.equal(ours, theirs)
            assert ours.data_ptr() != theirs.data_ptr()
            assert (ours.requires_grad, theirs.requires_grad) == (False, True)

    def test_has_the_weights_of_recurrent_cells_in_one_piece(self, monkeypatch):
        flattened = []
        monkeypatch.setattr(nn.LSTM, "flatten_parameters", lambda cell: flattened.append(cell))
        network = nn.Sequential(nn.Linear(2, 3), nn.LSTM(3, 4))
        flattened.clear()
        copy = copied(network)
        assert flattened == [copy[1]]


class TestPolyak:
    @pytest.mark.parametrize(
        ("tau", "times", "value"),
        [(1.0, 1, 3.0), (0.5, 1, 2.0), (0.5, 2, 2.5), (0.1, 1, 1.2), (0.25, 2, 1.875)],
    )
    def test_moves_by_a_share_of_the_difference(self, tau, times, value):
        source = filled(nn.Linear(2, 2), 3.0)
        target = filled(source, 1.0)
        for _ in range(times):
            polyak_update(source, target, tau)
        for w in target.parameters():
            torch.testing.assert_close(w.detach(), torch.full_like(w, value))
        assert all((w == 3.0).all() for w in source.parameters())

    def test_a_copy_is_exact_and_shares_no_memory(self):
        source, target = nn.Linear(3, 3), nn.Linear(3, 3)
        polyak_update(source, target, 1.0)
        for ours, theirs in zip(target.parameters(), source.parameters(), strict=True):
            assert torch.equal(ours, theirs)
            assert ours.data_ptr() != theirs.data_ptr()


class TestWeightAverage:
    def test_equals_the_rule_step_by_step(self):
        net = torch.nn.Linear(1, 1, bias=False)
        average = WeightAverage(net, 0.5)
        expected = net.weight.item()
        for t in range(20):
            net.weight.data[...] = float(t * t)
            average.follow(t, 1)
            decay = min(0.5, (1 + t) / (10 + t))
            expected = decay * expected + (1 - decay) * t * t
            assert average.network.weight.item() == pytest.approx(expected, rel=1e-5)

    def test_several_steps_at_once_decay_as_often(self):
        net = torch.nn.Linear(1, 1, bias=False)
        average, before = WeightAverage(net, 0.9), net.weight.item()
        net.weight.data[...] = 3.0
        average.follow(10**6, 4)
        assert average.network.weight.item() == pytest.approx(0.9**4 * before + (1 - 0.9**4) * 3, rel=1e-5)

    def test_without_decay_it_is_the_network_itself(self):
        net = torch.nn.Linear(1, 1)
        assert WeightAverage(net, 0.0).network is net


class WithStatistics(nn.Module):
    def __init__(self, weight, seen):
        super().__init__()
        self.weight = nn.Parameter(torch.full((2,), weight, dtype=torch.float64))
        self.register_buffer("seen", torch.tensor(seen))


class TestAverages:
    def test_polyak_follows_its_formula_on_a_quadratic(self):
        live, target = WithStatistics(1.0, 0.0), WithStatistics(0.0, 0.0)
        optimiser, slow = OPTIMISERS["sgd"](live.parameters(), RATE), np.zeros(2)
        for _ in range(STEPS):
            optimiser.zero_grad()
            live.weight.square().sum().backward()
            optimiser.step()
            polyak_update(live, target, 0.1)
            slow = slow + 0.1 * (live.weight.detach().numpy() - slow)
            np.testing.assert_allclose(target.weight.detach().numpy(), slow, atol=1e-6, rtol=0)

    def test_ema_follows_its_formula_on_a_quadratic(self):
        live = WithStatistics(1.0, 0.0)
        average = WeightAverage(live, 0.7)
        optimiser, slow = OPTIMISERS["sgd"](live.parameters(), RATE), np.ones(2)
        for t in range(STEPS):
            optimiser.zero_grad()
            live.weight.square().sum().backward()
            optimiser.step()
            average.follow(t, 1)
            decay = min(0.7, (1 + t) / (10 + t))
            slow = decay * slow + (1 - decay) * live.weight.detach().numpy()
            np.testing.assert_allclose(average.network.weight.detach().numpy(), slow, atol=1e-6, rtol=0)

    def test_statistics_are_copied_whatever_the_share(self):
        live, target = WithStatistics(1.0, 5.0), WithStatistics(0.0, 0.0)
        polyak_update(live, target, 0.5)
        assert (target.seen.item(), target.weight[0].item()) == (5.0, 0.5)
