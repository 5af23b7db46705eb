"""Recurrent cores: their equations, resets inside a window, and what carries nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from boxes import floats
from networks import FEATURES, SIZE, core_of, draw, make_q_network, never
from rl_lab.nn.recurrent import LSTM, Memoryless, features_over_time, zero_where


def lstm(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LSTM(FEATURES, SIZE)


resets = st.tuples(st.integers(1, 9), st.integers(1, 4)).flatmap(lambda shape: hnp.arrays(np.bool_, shape))


class TestLSTM:
    @settings(deadline=None)
    @given(is_first=resets, seed=st.integers(0, 1_000))
    def test_unrolling_equals_single_steps_with_resets_inside(self, is_first, seed):
        core, first = lstm(), torch.from_numpy(is_first)
        steps, batch = first.shape
        x, state = (
            draw(seed, steps, batch, FEATURES),
            (draw(seed + 1, batch, SIZE), draw(seed + 2, batch, SIZE)),
        )
        whole, end = core(x, state, first)
        single = []
        for t in range(steps):
            y, state = core(x[t : t + 1], state, first[t : t + 1])
            single.append(y)
        torch.testing.assert_close(whole, torch.cat(single), atol=1e-5, rtol=0)
        torch.testing.assert_close(end, state, atol=1e-5, rtol=0)

    def test_a_single_step_is_the_equation_of_the_paper(self):
        core = lstm()
        x, h, c = draw(1, 1, 2, FEATURES), draw(2, 2, SIZE), draw(3, 2, SIZE)
        cell = core.cell
        gates = x[0] @ cell.weight_ih_l0.T + cell.bias_ih_l0 + h @ cell.weight_hh_l0.T + cell.bias_hh_l0
        i, f, g, o = gates.chunk(4, dim=1)
        next_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        y, state = core(x, (h, c), torch.zeros(1, 2, dtype=torch.bool))
        torch.testing.assert_close(state[1], next_c)
        torch.testing.assert_close(y[0], o.sigmoid() * next_c.tanh())
        torch.testing.assert_close(state[0], y[0])

    @pytest.mark.parametrize("reset", [0, 1, 3])
    def test_the_past_has_no_influence_behind_a_reset(self, reset):
        core, first = lstm(), torch.zeros(6, 2, dtype=torch.bool)
        first[reset, 1] = True  # environment 1 begins anew, environment 0 goes on
        x = draw(1, 6, 2, FEATURES).requires_grad_()
        state = (draw(2, 2, SIZE).requires_grad_(), draw(3, 2, SIZE).requires_grad_())
        y, _ = core(x, state, first)
        other = x.detach().clone()
        other[:reset] = 99.0
        changed, _ = core(other, (torch.full((2, SIZE), 9.0), torch.full((2, SIZE), -9.0)), first)
        assert torch.equal(changed[reset:, 1], y[reset:, 1])
        assert not torch.equal(changed[reset:, 0], y[reset:, 0])
        y[reset:].sum().backward()
        for past in (x.grad[:reset], state[0].grad[None], state[1].grad[None]):
            assert (past[:, 1] == 0).all()
            assert (past[:, 0] != 0).all()
        assert (x.grad[reset:, 1] != 0).all()

    def test_a_broken_carry_ends_with_its_episode(self):
        carry = (torch.full((2, SIZE), float("nan"), requires_grad=True),)
        (kept,) = zero_where(carry, torch.tensor([True, False]))
        assert (kept[0] == 0).all()
        assert kept[1].isnan().all()

    def test_the_network_unrolls_as_it_acts(self):
        net = make_q_network(spaces.Discrete(7), 3, hidden=(8,), memory="lstm", memory_size=SIZE)
        obs = torch.from_numpy(np.random.default_rng(0).integers(7, size=(5, 2)))
        first = torch.zeros(5, 2, dtype=torch.bool)
        first[0], first[3, 1] = True, True
        whole, end = net(obs, net.initial_state(2), first)
        state = net.initial_state(2)
        for t in range(5):
            q, state = net(obs[t], state, first[t])
            torch.testing.assert_close(q, whole[t], atol=1e-5, rtol=0)
        torch.testing.assert_close(end, state, atol=1e-5, rtol=0)

    def test_a_memory_is_never_passed_over(self):
        """Without memory the observations alone are enough; with one, a call without is_first is an error."""
        with pytest.raises(AssertionError):
            make_q_network(floats(4), 3, memory="lstm")(draw(0, 2, 4))

    def test_a_memoryless_network_carries_nothing_and_still_unrolls(self):
        net = make_q_network(floats(4), 3)
        obs, first = draw(0, 5, 2, 4), torch.zeros(5, 2, dtype=torch.bool)
        whole, state = net(obs, net.initial_state(2), first)
        assert net.is_memoryless
        assert state == ()
        torch.testing.assert_close(whole[3], net(obs[3], (), first[3])[0])


def test_carries_of_any_rank_are_zeroed_where_an_episode_begins():
    state = (torch.full((2, 3), float("nan")), torch.ones(2, 4, 3), torch.ones(2))
    for part in zero_where(state, torch.tensor([True, False])):
        assert (part[0] == 0).all()
        assert (part[1] != 0).all()


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
