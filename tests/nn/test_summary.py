"""The summary of a network: layers, shapes and parameters."""

from __future__ import annotations

import re

import pytest
import torch

from boxes import NESTED, floats, uint8
from networks import make_encoder, make_q_network
from rl_lab.nn.summary import summary


class TestSummary:
    @pytest.mark.parametrize("memory", ["none", "rnn", "lstm", "gru", "attention"])
    def test_the_rows_add_up_to_the_total(self, memory):
        net = make_q_network(NESTED, 3, memory=memory, memory_size=8, dueling=True, embedding_size=4)
        *rows, total = [line.split() for line in summary(net, NESTED).splitlines()[1:]]
        counts = [int(row[-1].replace(",", "")) for row in rows]
        expected = sum(p.numel() for p in net.parameters())
        assert total == ["total", f"{expected:,}"]
        assert sum(counts) == expected

    def test_lists_layers_shapes_and_parameters(self):
        net = make_q_network(uint8(10, 10, 3), 4, hidden=(8,), memory="lstm", memory_size=5)
        lines = [re.split(r"  +", line) for line in summary(net, uint8(10, 10, 3)).splitlines()]
        assert lines[0] == ["layer", "type", "output", "parameters"]
        assert ["encoder.layers.1", "Conv2d", "[B, 32, 8, 8]", "896"] in lines
        assert ["core.cell", "LSTM", "[1, B, 5]", "300"] in lines
        assert ["head", "QHead", "[B, 4]", "24"] in lines

    def test_summarising_an_encoder_draws_nothing_and_leaves_no_hooks(self):
        encoder, before = make_encoder("auto", floats(4), (8,)), torch.get_rng_state()
        assert summary(encoder, floats(4)).splitlines()[-1].split() == ["total", "40"]
        assert torch.equal(torch.get_rng_state(), before)
        assert all(not layer._forward_hooks for layer in encoder.modules())
