"""How weights begin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from boxes import floats, uint8
from networks import layers_of, make_encoder, make_q_network
from rl_lab.nn.encoders import ACTIVATIONS
from rl_lab.nn.initialise import GAINS, INITIALISATIONS, initialise


class TestInitialisation:
    def test_default_leaves_the_weights(self):
        net = make_q_network(floats(4), 3, memory="lstm")
        before = {name: p.clone() for name, p in net.state_dict().items()}
        initialise(net, "default")
        assert all(torch.equal(p, before[name]) for name, p in net.state_dict().items())

    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_orthogonal_rows_have_the_gain_of_the_activation_behind(self, activation):
        net = make_q_network(
            floats(32), 3, hidden=(16,), layer_norm=True, activation=activation, initialisation="orthogonal"
        )
        gain = GAINS[ACTIVATIONS[activation]]
        for weight, expected in ((net.encoder.layers[1].weight, gain), (net.head.weight, 1.0)):
            rows = weight.detach() @ weight.detach().T
            torch.testing.assert_close(rows, expected**2 * torch.eye(len(rows)), atol=1e-4, rtol=0)
        assert not net.head.bias.any()

    @pytest.mark.parametrize("activation", ["relu", "elu", "gelu"])
    def test_gains_keep_the_second_moment(self, activation):
        """E[(gain * f(z))^2] = 1 for normal z, by quadrature."""
        z = torch.linspace(-10, 10, 200_001, dtype=torch.float64)
        density = torch.exp(-(z**2) / 2) / (2 * np.pi) ** 0.5
        moment = torch.trapezoid(ACTIVATIONS[activation]()(z) ** 2 * density, z).item()
        assert GAINS[ACTIVATIONS[activation]] ** 2 * moment == pytest.approx(1, abs=1e-3)
        assert GAINS[nn.Tanh] == nn.init.calculate_gain("tanh")

    def test_kaiming_scales_by_the_number_of_inputs(self):
        torch.manual_seed(0)
        encoder = make_encoder("small", uint8(3, 20, 20), (200,))
        initialise(encoder, "kaiming")
        for layer in layers_of(encoder, nn.Conv2d | nn.Linear):
            inputs = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.1)
            assert not layer.bias.any()

    def test_a_gain_that_is_given_holds_for_all(self):
        head = nn.Linear(8, 4)
        initialise(head, "orthogonal", gain=0.01)
        torch.testing.assert_close(torch.linalg.svdvals(head.weight.detach()), torch.full((4,), 0.01))

    @pytest.mark.parametrize("name", ["orthogonal", "kaiming"])
    @pytest.mark.parametrize("memory", ["rnn", "lstm", "gru", "attention"])
    def test_every_core_is_initialised_gate_by_gate(self, name, memory):
        net = make_q_network(floats(4), 3, memory=memory, memory_size=8, memory_layers=2, initialisation=name)
        if memory == "attention":
            assert not net.core.project.bias.any()
            return
        assert not any(p.any() for key, p in net.core.named_parameters() if "bias" in key)
        if name == "orthogonal":
            for gate in net.core.cell.weight_hh_l1.detach().split(8):
                torch.testing.assert_close(gate @ gate.T, torch.eye(8), atol=1e-5, rtol=0)

    def test_the_seed_decides(self):
        assert set(INITIALISATIONS) == {"default", "orthogonal", "kaiming"}
        nets = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            nets.append(make_q_network(uint8(9, 9), 3, initialisation="orthogonal").head.weight)
        assert torch.equal(nets[0], nets[1])
        assert not torch.equal(nets[0], nets[2])
