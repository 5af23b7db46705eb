"""Dense layers in their order, with normalisation, activation and dropout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from boxes import floats
from networks import dense, draw, make_encoder, make_q_network
from rl_lab.nn.encoders import ACTIVATIONS
from rl_lab.updates.gradients import ActiveDropout


def test_layers_are_normalised_before_the_relu():
    """With a weight of 1 and a bias of 0: (x - mean) / sqrt(variance + 1e-5), cut at 0."""
    encoder = make_encoder("mlp", floats(4), (3,), layer_norm=True)
    linear = encoder.layers[1]
    x = draw(0, 5, 4)
    before = (x @ linear.weight.T + linear.bias).detach().numpy()
    spread = np.sqrt(before.var(axis=1, keepdims=True) + 1e-5)
    expected = np.maximum((before - before.mean(axis=1, keepdims=True)) / spread, 0)
    np.testing.assert_allclose(encoder(x).detach().numpy(), expected, atol=1e-6)


class TestDense:
    def test_layers_stand_in_their_order(self):
        layers = dense(4, (8, 6), layer_norm=True, activation="tanh", dropout=0.5)
        names = [type(layer).__name__ for layer in layers]
        assert names == ["Linear", "LayerNorm", "Tanh", "Dropout"] * 2

    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_the_activation_is_that_of_its_name(self, activation):
        x = torch.linspace(-3, 3, 7)
        torch.testing.assert_close(
            dense(1, (1,), activation=activation)[1](x), getattr(nn.functional, activation)(x)
        )

    def test_new_arguments_leave_the_initial_weights_of_a_seed_as_they_were(self):
        torch.manual_seed(0)
        plain = [nn.Linear(4, 8), nn.Linear(8, 3)]
        torch.manual_seed(0)
        net = make_q_network(floats(4), 3, hidden=(8,))
        for ours, theirs in zip(
            net.parameters(), [p for layer in plain for p in layer.parameters()], strict=True
        ):
            assert torch.equal(ours, theirs)


class TestDropout:
    def network(self):
        torch.manual_seed(0)
        return make_q_network(floats(4), 3, hidden=(64,), dropout=0.5, dueling=True)

    def test_is_active_only_inside_dropping(self):
        net, x = self.network().train(), torch.randn(5, 4)
        still = net(x)[0]
        assert torch.equal(net(x)[0], still)
        with ActiveDropout(net):
            assert not torch.equal(net(x)[0], net(x)[0])
        assert torch.equal(net(x)[0], still)

    def test_is_switched_off_by_an_error_too(self):
        net, x = self.network(), torch.randn(5, 4)
        with pytest.raises(RuntimeError), ActiveDropout(net):
            raise RuntimeError
        assert torch.equal(net(x)[0], net(x)[0])

    def test_a_target_made_by_copying_does_not_drop_beside_its_network(self):
        import copy

        net, x = self.network(), torch.randn(5, 4)
        target = copy.deepcopy(net)
        with ActiveDropout(net):
            assert torch.equal(target(x)[0], target(x)[0])

    def test_evaluation_mode_wins(self):
        net, x = self.network().eval(), torch.randn(5, 4)
        with ActiveDropout(net):
            assert torch.equal(net(x)[0], net(x)[0])

    def test_zeroes_its_share_and_keeps_the_mean(self):
        torch.manual_seed(0)
        layer = dense(1, (1,), dropout=0.25)[-1]
        with ActiveDropout(layer):
            y = layer(torch.ones(40_000))
        assert y.unique().tolist() == pytest.approx([0, 4 / 3])
        assert y.mean().item() == pytest.approx(1, abs=0.02)
