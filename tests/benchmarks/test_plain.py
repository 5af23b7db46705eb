"""The networks in plain torch: what their parts compute, by hand. (`test_nn.py` has them beside the lab's.)"""

from __future__ import annotations

import pytest
import torch

from networks import filled
from rl_lab.benchmarks import plain


def test_pixels_become_channels_between_0_and_1():
    image = torch.zeros(1, 2, 3, 4, dtype=torch.uint8)
    image[0, 1, 2, 3] = 255
    found = plain.Pixels()(image)
    assert found.shape == (1, 4, 2, 3)
    assert (found.dtype, found[0, 3, 1, 2].item(), found.sum().item()) == (torch.float32, 1.0, 1.0)


def test_a_residual_block_without_weights_passes_its_input_on():
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(filled(plain.Residual(3), 0.0)(x), x)


def test_a_gate_without_weights_lets_half_of_nothing_in():
    x, y = torch.tensor([[2.0, -4.0]]), torch.tensor([[9.0, 9.0]])
    assert filled(plain.Gate(2), 0.0)(x, y).tolist() == [[1.0, -2.0]]


def test_one_hot_picks_a_column_of_the_first_weights():
    network = plain.OneHot(3)
    first = network.layers[0]
    found = network.layers[1:](first.weight[:, 2] + first.bias)
    torch.testing.assert_close(network(torch.tensor([2]))[0], found)


def test_attention_sees_the_past_within_its_context_alone():
    """Changing the input at one step changes the outputs from there on, until it has left the context."""
    torch.manual_seed(0)
    block, steps, changed = plain.Block(), 2 * plain.CONTEXT, 3
    past = plain.CONTEXT - 1
    inputs = torch.randn(1, past + steps, plain.SIZE)
    other = inputs.clone()
    other[0, past + changed] = torch.randn(plain.SIZE)
    present = torch.ones(1, past + steps)
    with torch.no_grad():
        one, two = (block.attend(x, steps, present)[0] for x in (inputs, other))
    differs = (one - two).abs().amax(-1) > 1e-6
    assert differs.nonzero().flatten().tolist() == list(range(changed, changed + plain.CONTEXT))


def test_attention_does_not_look_at_inputs_that_are_not_there():
    torch.manual_seed(0)
    network, obs = plain.Attention(5), torch.randn(4, 1, 5)
    absent = torch.zeros(1, plain.CONTEXT - 1)
    shape = (1, plain.CONTEXT - 1, plain.SIZE)
    with torch.no_grad():
        q, (memory, present) = network(obs, (torch.zeros(shape), absent))
        assert torch.equal(q, network(obs, (torch.full(shape, 7.0), absent))[0])
    assert memory.shape == shape
    assert present.sum() == 4


@pytest.mark.parametrize(("cell", "parts"), [(torch.nn.GRU, 1), (torch.nn.LSTM, 2)])
def test_a_recurrent_network_takes_the_carry_in_torch_s_form(cell, parts):
    network = plain.Recurrent(cell, 5)
    carry = network.carry(tuple(torch.zeros(3, plain.SIZE) for _ in range(parts)))
    shapes = [tuple(part.shape) for part in (carry if parts > 1 else [carry])]
    assert shapes == [(1, 3, plain.SIZE)] * parts
    assert network(torch.randn(2, 3, 5), carry)[0].shape == (2, 3, plain.ACTIONS)
