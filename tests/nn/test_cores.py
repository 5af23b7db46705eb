"""Cores: unrolling is stepping, a vector is its environments, and an episode knows nothing of the one before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from networks import make_core, make_q_network
from rl_lab.nn.attention import Attention
from rl_lab.nn.cores import CORES, carry_shapes
from rl_lab.nn.recurrent import Memoryless, features_over_time, zero_where
from rl_lab.types import UsageError

FEATURES, SIZE, CONTEXT = 3, 8, 4
KINDS = [(name, layers) for name in ("rnn", "lstm", "gru", "attention") for layers in (1, 2)]
kinds = pytest.mark.parametrize(("name", "layers"), KINDS)
resets = st.tuples(st.integers(1, 9), st.integers(1, 4)).flatmap(lambda shape: hnp.arrays(np.bool_, shape))


def core_of(name, layers=1, seed=0):
    """A core with weights of its own, biases and gates included."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        core = make_core(name, FEATURES, SIZE, layers=layers, context=CONTEXT)
        with torch.no_grad():
            for p in core.parameters():
                p += 0.3 * torch.randn(p.shape)
    return core


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def carry_of(core, batch, seed):
    """A carry in the midst of episodes: what comes of steps on random features."""
    first = torch.zeros(CONTEXT + 2, batch, dtype=torch.bool)
    first[3, 0] = True  # environment 0 is younger than attention's window is long
    with torch.no_grad():
        return core(draw(seed, CONTEXT + 2, batch, FEATURES), core.initial_state(batch), first)[1]


def in_steps(core, x, state, first):
    outputs = []
    for t in range(len(x)):
        y, state = core(x[t : t + 1], state, first[t : t + 1])
        outputs.append(y)
    return torch.cat(outputs), state


def never(steps, batch):
    return torch.zeros(steps, batch, dtype=torch.bool)


@kinds
class TestEveryCore:
    @settings(deadline=None, max_examples=40)
    @given(is_first=resets, seed=st.integers(0, 1_000))
    def test_unrolling_equals_single_steps_with_resets_inside(self, name, layers, is_first, seed):
        core, first = core_of(name, layers), torch.from_numpy(is_first)
        steps, batch = first.shape
        x, state = draw(seed, steps, batch, FEATURES), carry_of(core, batch, seed + 1)
        whole, end = core(x, state, first)
        single, single_end = in_steps(core, x, state, first)
        assert whole.shape == (steps, batch, core.size)
        torch.testing.assert_close(whole, single, atol=1e-5, rtol=0)
        torch.testing.assert_close(end, single_end, atol=1e-5, rtol=0)

    def test_gradients_of_unrolling_equal_those_of_single_steps(self, name, layers):
        core, first = core_of(name, layers), never(6, 2)
        first[2, 1] = True
        found = []
        for run in (core, lambda *args: in_steps(core, *args)):
            core.zero_grad()
            x = draw(1, 6, 2, FEATURES).requires_grad_()
            run(x, carry_of(core, 2, 5), first)[0].square().sum().backward()
            found.append([x.grad, *(p.grad.clone() for p in core.parameters())])
        for ours, theirs in zip(*found, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)

    def test_a_vector_equals_its_environments_one_by_one(self, name, layers):
        core, x, first = core_of(name, layers), draw(1, 7, 3, FEATURES), never(7, 3)
        first[4, 1], first[2, 2], first[5, 2] = True, True, True
        state = carry_of(core, 3, 2)
        whole, end = core(x, state, first)
        for i in range(3):
            one = slice(i, i + 1)
            y, own = core(x[:, one], tuple(part[one] for part in state), first[:, one])
            torch.testing.assert_close(y, whole[:, one], atol=1e-5, rtol=0)
            torch.testing.assert_close(own, tuple(part[one] for part in end), atol=1e-5, rtol=0)

    @pytest.mark.parametrize("other", [99.0, float("nan"), float("inf")])
    @pytest.mark.parametrize("reset", [0, 1, 3])
    def test_the_past_has_no_influence_behind_a_reset(self, name, layers, reset, other):
        core, first = core_of(name, layers), never(6, 2)
        first[reset, 1] = True  # environment 1 begins anew, environment 0 goes on
        x, state = draw(1, 6, 2, FEATURES), carry_of(core, 2, 2)
        y, end = core(x, state, first)
        x[:reset] = other
        changed, changed_end = core(x, tuple(torch.full_like(part, other) for part in state), first)
        assert torch.equal(changed[reset:, 1], y[reset:, 1])
        assert all(torch.equal(ours[1], theirs[1]) for ours, theirs in zip(changed_end, end, strict=True))
        assert not torch.equal(changed[reset:, 0], y[reset:, 0])

    @pytest.mark.parametrize("reset", [0, 1, 3])
    def test_no_gradient_reaches_back_behind_a_reset(self, name, layers, reset):
        core, first = core_of(name, layers), never(6, 2)
        first[reset, 1] = True
        x = draw(1, 6, 2, FEATURES).requires_grad_()
        state = tuple(part.requires_grad_() for part in carry_of(core, 2, 2))
        core(x, state, first)[0][reset:].sum().backward()
        past = [x.grad[:reset], *(part.grad[None] for part in state if part.grad is not None)]
        assert all((part[:, 1] == 0).all() for part in past)
        assert any((part[:, 0] != 0).any() for part in past)
        assert (x.grad[reset:, 1] != 0).all()

    def test_the_carry_is_float_and_has_the_shapes_promised(self, name, layers):
        core = core_of(name, layers)
        shapes = carry_shapes(name, SIZE, layers=layers, context=CONTEXT)
        for batch in (1, 3):
            state = core.initial_state(batch)
            assert [tuple(part.shape) for part in state] == [(batch, *shape) for shape in shapes]
            assert all(part.dtype == torch.float32 and not part.any() for part in state)
            after = core(draw(0, 5, batch, FEATURES), state, never(5, batch))[1]
            assert [part.shape for part in after] == [part.shape for part in state]
            assert all(part.dtype == torch.float32 for part in after)

    def test_the_network_unrolls_as_it_acts(self, name, layers):
        space = spaces.Dict({"a": spaces.Discrete(7), "b": spaces.Box(-1, 1, (2,))})
        net = make_q_network(
            space, 3, hidden=(8,), memory=name, memory_size=SIZE, memory_layers=layers, context=CONTEXT
        )
        obs = {"a": draw(0, 6, 2).mul(9).long() % 7, "b": draw(1, 6, 2, 2)}
        first = never(6, 2)
        first[0], first[3, 1] = True, True
        whole, end = net(obs, net.initial_state(2), first)
        state = net.initial_state(2)
        for t in range(6):
            q, state = net({key: part[t] for key, part in obs.items()}, state, first[t])
            torch.testing.assert_close(q, whole[t], atol=1e-5, rtol=0)
        torch.testing.assert_close(end, state, atol=1e-5, rtol=0)


def test_carries_of_any_rank_are_zeroed_where_an_episode_begins():
    state = (torch.full((2, 3), float("nan")), torch.ones(2, 4, 3), torch.ones(2))
    for part in zero_where(state, torch.tensor([True, False])):
        assert (part[0] == 0).all()
        assert (part[1] != 0).all()


@pytest.mark.parametrize("name", CORES)
def test_asking_for_shapes_makes_no_weights_and_draws_nothing(name):
    before = torch.get_rng_state()
    shapes = carry_shapes(name, 10**5, context=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(shapes) == {"none": 0, "lstm": 2, "attention": 2}.get(name, 1)


def test_time_is_flattened_for_every_leaf_and_put_back():
    seen = []

    def encoder(obs):
        seen.append((obs[0].shape, obs[1]["x"].shape))
        return obs[0].flatten(1).float()

    obs = (draw(0, 5, 2, 3, 4), {"x": draw(1, 5, 2)})
    y, state = features_over_time(encoder, Memoryless(12), obs, (), never(5, 2))
    assert seen == [((10, 3, 4), (10,))]
    assert state == ()
    torch.testing.assert_close(y, obs[0].flatten(2))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(
    ("name", "cell_type"), [("rnn", torch.nn.RNN), ("gru", torch.nn.GRU), ("lstm", torch.nn.LSTM)]
)
def test_a_cell_is_torchs_own_to_the_bit(name, cell_type, layers):
    core, cell = core_of(name, layers), cell_type(FEATURES, SIZE, layers)
    cell.load_state_dict(core.cell.state_dict())
    carry = [draw(k, layers, 2, SIZE) for k in range(core.parts)]
    found = []
    for run, before in ((core.cell, carry), (cell, tuple(carry))):
        x = draw(5, 6, 2, FEATURES).requires_grad_()
        y, *after = run(x, before if core.parts > 1 else before[0])
        after = after[0] if isinstance(after[0], tuple) else after  # torch's LSTM returns a pair
        y.square().sum().backward()
        found.append([y, *after, x.grad, *(p.grad for p in run.parameters())])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


class TestEquations:
    """A single step of one layer against the paper's equation."""

    def parts(self, name):
        core = core_of(name)
        cell, x, h = core.cell, draw(1, 1, 2, FEATURES), draw(2, 2, SIZE)
        of_x = x[0] @ cell.weight_ih_l0.T + cell.bias_ih_l0
        of_h = h @ cell.weight_hh_l0.T + cell.bias_hh_l0
        return core(x, (h,), never(1, 2))[0][0], h, of_x, of_h

    def test_elman(self):
        y, _, of_x, of_h = self.parts("rnn")
        torch.testing.assert_close(y, torch.tanh(of_x + of_h))

    def test_gru(self):
        y, h, of_x, of_h = self.parts("gru")
        (r_x, z_x, n_x), (r_h, z_h, n_h) = of_x.chunk(3, 1), of_h.chunk(3, 1)
        r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
        torch.testing.assert_close(y, (1 - z) * torch.tanh(n_x + r * n_h) + z * h)


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


def learned_copy(name, delay, **fields):
    """Return the share of tokens that a core repeats after `delay` steps, at chance 0.25."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make_q_network(
            spaces.Discrete(4), 4, hidden=(16,), memory=name, memory_size=32, context=8, **fields
        )
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
        generator = torch.Generator().manual_seed(0)
        for _ in range(200):
            tokens = torch.randint(4, (16, 32), generator=generator)
            q, _ = net(tokens, net.initial_state(32), never(16, 32))
            said, meant = q[delay:], tokens[:-delay]
            loss = torch.nn.functional.cross_entropy(said.flatten(0, 1), meant.flatten())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return (said.argmax(-1) == meant).float().mean().item()


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "attention"])
def test_an_observation_of_two_steps_ago_is_remembered(name):
    assert learned_copy(name, 2) > 0.9


def test_without_memory_the_answer_is_a_guess():
    assert learned_copy("none", 2) < 0.4
