"""Optimisers against their formulas, written once more in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from quadratic import RATE, START, expected, followed, gradient
from rl_lab.updates.adam import adam_coefficients, adam_step
from rl_lab.updates.optimisers import ADAMS, OPTIMISERS, POLICY_OPTIMISERS, CentredRMSprop
from rl_lab.updates.trained import load_optimiser_state, optimiser_state


def rule(name, epsilon=1e-8):
    """One step as (w, memory, t) -> w; `memory` is a dict that starts empty, `epsilon` Adam's."""

    def averaged(memory, key, value, decay, start=0.0):
        memory[key] = decay * memory.get(key, start) + (1 - decay) * value
        return memory[key]

    def sgd(w, m, t):
        return w - RATE * gradient(w)

    def momentum(w, m, t):
        m["v"] = 0.9 * m.get("v", 0) + gradient(w)
        return w - RATE * m["v"]

    def nesterov(w, m, t):
        m["v"] = 0.9 * m.get("v", 0) + gradient(w)
        return w - RATE * (gradient(w) + 0.9 * m["v"])

    def adagrad(w, m, t):
        m["s"] = m.get("s", 0) + gradient(w) ** 2
        return w - RATE * gradient(w) / (np.sqrt(m["s"]) + 1e-10)

    def rmsprop_torch(w, m, t):
        return w - RATE * gradient(w) / (np.sqrt(averaged(m, "s", gradient(w) ** 2, 0.99)) + 1e-8)

    def rmsprop(w, m, t):
        mean, square = averaged(m, "m", gradient(w), 0.95), averaged(m, "s", gradient(w) ** 2, 0.95)
        return w - RATE * gradient(w) / np.sqrt(square - mean**2 + 0.01 / 32**2)

    def adam(w, m, t):
        mean = averaged(m, "m", gradient(w), 0.9) / (1 - 0.9**t)
        square = averaged(m, "s", gradient(w) ** 2, 0.999) / (1 - 0.999**t)
        return w - RATE * mean / (np.sqrt(square) + epsilon)

    def adamw(w, m, t):
        return adam(w, m, t) - RATE * 0.01 * w

    def radam(w, m, t):
        mean, square = averaged(m, "m", gradient(w), 0.9), averaged(m, "s", gradient(w) ** 2, 0.999)
        mean, most = mean / (1 - 0.9**t), 2 / (1 - 0.999) - 1
        length = most - 2 * t * 0.999**t / (1 - 0.999**t)
        if length <= 5:
            return w - RATE * mean
        r = np.sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length))
        return w - RATE * r * mean / (np.sqrt(square / (1 - 0.999**t)) + epsilon)

    return locals()[name.replace("-", "_")]


class TestOptimisers:
    @pytest.mark.parametrize("name", OPTIMISERS)
    def test_follow_their_formula(self, name):
        path = followed(lambda weights: OPTIMISERS[name](weights, RATE))
        np.testing.assert_allclose(path, expected(rule(name)), atol=1e-6, rtol=0)
        assert np.abs(path[-1] - START).max() > 0.02  # they did go somewhere

    @pytest.mark.parametrize("name", ADAMS)
    def test_adams_add_the_epsilon_that_they_are_given(self, name):
        path = followed(lambda weights: OPTIMISERS[name](weights, RATE, epsilon=0.3))
        np.testing.assert_allclose(path, expected(rule(name, 0.3)), atol=1e-6, rtol=0)
        assert np.abs(path[-1] - expected(rule(name))[-1]).max() > 0.01

    def test_adam_of_policy_gradients_has_another_epsilon(self):
        weight = nn.Parameter(torch.tensor([1.0]))
        weight.grad = torch.tensor([1e-5])  # as large as epsilon, so that the first step is half as long
        POLICY_OPTIMISERS["adam"]([weight], RATE).step()
        assert weight.item() == pytest.approx(1 - RATE / 2)

    def test_all_differ(self):
        ends = [tuple(followed(lambda w, n=n: OPTIMISERS[n](w, RATE))[-1].round(6)) for n in OPTIMISERS]
        assert len(set(ends)) == len(OPTIMISERS)

    @pytest.mark.parametrize("name", OPTIMISERS)
    def test_a_restored_one_goes_on_to_the_bit(self, name, tmp_path):
        from rl_lab.storage.checkpoint import Checkpoints

        def steps(weight, optimiser, count):
            for _ in range(count):
                optimiser.zero_grad()
                (weight.square() * weight.cos()).sum().backward()
                optimiser.step()

        weight = nn.Parameter(
            torch.linspace(-1, 1, 24).reshape(2, 3, 2, 2).to(memory_format=torch.channels_last)
        )
        optimiser = OPTIMISERS[name]([weight], RATE)
        steps(weight, optimiser, 5)
        Checkpoints(tmp_path).save(5, {"w": weight, "optimiser": optimiser_state(optimiser)})
        saved = Checkpoints(tmp_path).load()[1]
        steps(weight, optimiser, 5)
        other = nn.Parameter(torch.empty_like(weight).copy_(torch.from_numpy(saved["w"])))
        restored = OPTIMISERS[name]([other], RATE)
        load_optimiser_state(restored, saved["optimiser"])
        steps(other, restored, 5)
        assert torch.equal(other, weight)


class TestRectifiedAdam:
    def test_equals_torchs(self):
        ours, theirs = (
            followed(lambda w, make=make: make(w, lr=0.05))
            for make in (OPTIMISERS["radam"], torch.optim.RAdam)
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("epsilon", [1e-20, 1e-8, 0.3])
@pytest.mark.parametrize("name", ["adam", "radam"])
def test_coefficients_take_the_steps_of_the_optimiser(name, epsilon):
    """Updates that are compiled as a whole take steps by these; RAdam's first ones are plain momentum."""
    weight = torch.tensor(START, dtype=torch.float32)
    average, square = torch.zeros(3), torch.zeros(3)
    optimiser = OPTIMISERS[name]([nn.Parameter(weight.clone())], RATE, epsilon)
    path = []
    for taken in range(30):
        slope = torch.tensor(gradient(weight.numpy()), dtype=torch.float32)
        coefficient = adam_coefficients(optimiser, taken, 1)[0]
        adam_step(weight, slope, average, square, coefficient, torch.tensor(True))
        path.append(weight.numpy().copy())
    np.testing.assert_allclose(path, expected(rule(name, epsilon)), atol=1e-5)


def test_centred_rmsprop_equals_its_formula():
    """Two steps on gradients 1 and 3 by hand."""
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimiser = CentredRMSprop([weight], 0.1)
    mean = square = 0.0
    expected = 1.0
    for given in (1.0, 3.0):
        weight.grad = torch.tensor([given])
        optimiser.step()
        mean, square = 0.95 * mean + 0.05 * given, 0.95 * square + 0.05 * given**2
        expected -= 0.1 * given / (square - mean**2 + 0.01 / 1024) ** 0.5
        assert weight.item() == pytest.approx(expected, abs=1e-6)


def test_centred_rmsprop_on_averages_moves_as_the_published_one_on_sums_over_32():
    gradients = np.random.default_rng(0).normal(scale=1e-3, size=100)
    weight, mean, square, published = torch.nn.Parameter(torch.zeros(1)), 0.0, 0.0, 0.0
    optimiser = CentredRMSprop([weight], 1e-2)
    for given in gradients:
        weight.grad = torch.tensor([given], dtype=torch.float32)
        optimiser.step()
        total = 32 * given
        mean, square = 0.95 * mean + 0.05 * total, 0.95 * square + 0.05 * total**2
        published -= 1e-2 * total / (square - mean**2 + 0.01) ** 0.5
    assert weight.item() == pytest.approx(published, rel=1e-3)
