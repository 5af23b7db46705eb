"""Cores: unrolling is stepping, a vector is its environments, and an episode knows nothing of the one before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from networks import CONTEXT, FEATURES, SIZE, blank_carry, core_of, draw, make_q_network, never
from rl_lab.nn.cores import CORES

KINDS = [(name, layers) for name in ("rnn", "lstm", "gru", "attention") for layers in (1, 2)]
kinds = pytest.mark.parametrize(("name", "layers"), KINDS)
resets = st.tuples(st.integers(1, 9), st.integers(1, 4)).flatmap(lambda shape: hnp.arrays(np.bool_, shape))


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
        blank = blank_carry(name, SIZE, layers=layers, context=CONTEXT)
        assert all(part.dtype == np.float32 and len(part) == 1 and not part.any() for part in blank)
        for batch in (1, 3):
            state = core.initial_state(batch)
            assert [tuple(part.shape) for part in state] == [(batch, *part.shape[1:]) for part in blank]
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


@pytest.mark.parametrize("name", CORES)
def test_a_blank_carry_makes_no_weights_and_draws_nothing(name):
    before = torch.get_rng_state()
    blank = blank_carry(name, 10**5, context=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(blank) == {"none": 0, "lstm": 2, "attention": 2}.get(name, 1)


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
