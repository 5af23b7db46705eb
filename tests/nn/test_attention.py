"""Attention over a window of the past."""

from __future__ import annotations

import pytest
import torch

from networks import FEATURES, SIZE, core_of, draw, make_core, never
from rl_lab.nn.attention import Attention
from rl_lab.types import UsageError


class TestAttention:
    def test_sees_exactly_the_steps_of_its_context(self):
        """With one block, step t depends on steps t - 3 ... t."""
        core = core_of("attention")
        x = draw(1, 8, 1, FEATURES).requires_grad_()
        core(x, core.initial_state(1), never(8, 1))[0][6].sum().backward()
        reached = (x.grad[:, 0] != 0).any(dim=1).tolist()
        assert reached == [False] * 3 + [True] * 4 + [False]

    def test_single_step_equals_plain_attention_over_the_window(self):
        """One block by torch's own attention and the gate's equations, over a window that isn't full."""
        core = core_of("attention")
        block, x = core.blocks[0], draw(1, 3, 1, FEATURES)
        y = core(x, core.initial_state(1), never(3, 1))[0][2, 0]
        inputs = core.project(x[:, 0])  # [3, SIZE]
        normal = torch.nn.functional.layer_norm(inputs, (SIZE,), block.norm.weight, block.norm.bias)
        query = block.query(normal[-1:]).unflatten(1, (block.heads, -1)).transpose(0, 1)
        key, value = (
            part.unflatten(1, (block.heads, -1)).transpose(0, 1)
            for part in block.key_value(normal).chunk(2, dim=1)
        )
        bias = block.nearness[:, [2, 1, 0]][:, None]  # the oldest first
        found = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        attended = block.out(found.transpose(0, 1).flatten(1))[0]
        gated = self.gate(block.gate, inputs[-1], attended.relu())
        expected = self.gate(block.gate_wide, gated, block.wide(block.norm_wide(gated)))
        torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-5)

    def gate(self, gate, x, y):
        w_r, w_z, w_g = gate.of_y.weight.chunk(3)
        u_r, u_z = gate.of_x.weight.chunk(2)
        r = torch.sigmoid(w_r @ y + u_r @ x)
        z = torch.sigmoid(w_z @ y + u_z @ x - gate.bias)
        return (1 - z) * x + z * torch.tanh(w_g @ y + gate.of_reset.weight @ (r * x))

    def test_begins_close_to_the_identity(self):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            core = make_core("attention", FEATURES, SIZE)
        x = draw(1, 1, 64, FEATURES)
        y = core(x, core.initial_state(64), never(1, 64))[0]
        kept = core.project(x)
        assert (y - kept).abs().mean() < 0.35 * kept.abs().mean()

    def test_a_context_without_a_past_is_refused(self):
        with pytest.raises(UsageError, match="context must be at least 2 steps"):
            Attention(FEATURES, SIZE, context=1)

    def test_every_width_has_heads_that_divide_it(self):
        for size in (1, 3, 6, 10, 64):
            core = make_core("attention", FEATURES, size, context=2)
            assert core(draw(0, 2, 1, FEATURES), core.initial_state(1), never(2, 1))[0].shape == (2, 1, size)
