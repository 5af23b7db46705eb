"""Optimisers, penalties, clipping and averages against their formulas, written once more in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from rl_lab.updates.adam import adam_step
from rl_lab.updates.averaging import WeightAverage, polyak_update
from rl_lab.updates.gradients import Clip, clip_gradients, flush_subnormals
from rl_lab.updates.optimisers import OPTIMISERS, adamw
from rl_lab.updates.regularise import decay_weights, regularise
from rl_lab.updates.trained import load_optimiser_state, optimiser_state

CURVATURE = np.array([0.5, 1.0, 4.0])  # f(w) = sum(CURVATURE * w^2) / 2
START = np.array([3.0, -2.0, 0.5])
RATE, STEPS = 0.05, 30


def l1_penalty(parameters, strength):
    """Return strength * sum |w| [], to be added to a loss (Tibshirani, 1996); its gradient is strength * sign(w)."""
    return strength * torch.stack([p.abs().sum() for p in parameters]).sum()


def l2_penalty(parameters, strength):
    """Return strength / 2 * sum w^2 [], to be added to a loss.

    Its gradient is strength * w, which torch's optimisers (except AdamW) call `weight_decay`.
    """
    return 0.5 * strength * torch.stack([p.square().sum() for p in parameters]).sum()


def gradient(w):
    return CURVATURE * w


def rule(name):
    """One step as (w, memory, t) -> w; `memory` is a dict that starts empty."""

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
        return w - RATE * mean / (np.sqrt(square) + 1e-8)

    def adamw(w, m, t):
        return adam(w, m, t) - RATE * 0.01 * w

    return locals()[name.replace("-", "_")]


def followed(make, step=lambda: None, steps=STEPS, loss=None):
    """The weights [steps, 3] that an optimiser visits on the quadratic."""
    w = nn.Parameter(torch.tensor(START))
    optimiser, path = make([w]), []
    for _ in range(steps):
        optimiser.zero_grad()
        value = (torch.tensor(CURVATURE) * w.square()).sum() / 2
        (value if loss is None else value + loss([w])).backward()
        optimiser.step()
        path.append(w.detach().numpy().copy())
    return np.stack(path)


def expected(step, steps=STEPS):
    w, memory, path = START, {}, []
    for t in range(1, steps + 1):
        w = step(w, memory, t)
        path.append(w)
    return np.stack(path)


class TestOptimisers:
    @pytest.mark.parametrize("name", OPTIMISERS)
    def test_follow_their_formula(self, name):
        path = followed(lambda weights: OPTIMISERS[name](weights, RATE))
        np.testing.assert_allclose(path, expected(rule(name)), atol=1e-6, rtol=0)
        assert np.abs(path[-1] - START).max() > 0.1  # they did go somewhere

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


def sign(w):
    return np.sign(w)


class TestPenalties:
    @pytest.mark.parametrize("name", ["sgd", "adam", "momentum"])
    def test_in_the_loss_and_in_the_step_they_are_the_same(self, name):
        def make(weights):
            return OPTIMISERS[name](weights, RATE)

        def penalised(weights):
            optimiser = make(weights)
            regularise(optimiser, l1=0.03, l2=0.2)
            return optimiser

        in_loss = followed(make, loss=lambda w: l1_penalty(w, 0.03) + l2_penalty(w, 0.2))
        np.testing.assert_allclose(followed(penalised), in_loss, atol=1e-12, rtol=0)
        assert np.abs(in_loss - followed(make)).max() > 1e-3

    def test_follow_their_formula(self):
        w = torch.tensor([3.0, -2.0]), torch.tensor([[0.5]])
        assert l1_penalty(w, 0.1).item() == pytest.approx(0.55)
        assert l2_penalty(w, 0.1).item() == pytest.approx(0.05 * 13.25)
        path = followed(lambda w: OPTIMISERS["sgd"](w, RATE), loss=lambda w: l1_penalty(w, 0.03))
        np.testing.assert_allclose(
            path, expected(lambda w, m, t: w - RATE * (gradient(w) + 0.03 * np.sign(w))), atol=1e-6, rtol=0
        )

    def test_l2_is_what_torch_calls_weight_decay(self):
        theirs = followed(lambda w: torch.optim.SGD(w, lr=RATE, momentum=0.9, weight_decay=0.2))
        ours = followed(lambda w: OPTIMISERS["momentum"](w, RATE), loss=lambda w: l2_penalty(w, 0.2))
        np.testing.assert_allclose(ours, theirs, atol=1e-12, rtol=0)

    def test_decay_stands_apart_from_the_gradient(self):
        def decayed(weights):
            optimiser = OPTIMISERS["adam"](weights, RATE)
            regularise(optimiser, weight_decay=0.3)
            return optimiser

        np.testing.assert_allclose(
            followed(decayed), followed(lambda w: adamw(w, RATE, 0.3)), atol=1e-12, rtol=0
        )
        w = torch.tensor([2.0, -4.0])
        decay_weights([w], 0.1, 0.5)
        torch.testing.assert_close(w, torch.tensor([1.9, -3.8]))

    def test_decay_follows_the_learning_rate_of_the_moment(self):
        w = nn.Parameter(torch.tensor([2.0]))
        optimiser = OPTIMISERS["sgd"]([w], 0.1)
        regularise(optimiser, weight_decay=0.5)
        w.grad = torch.zeros(1)
        optimiser.param_groups[0]["lr"] = 0.2
        optimiser.step()
        assert w.item() == pytest.approx(1.8)

    def test_none_asked_for_changes_nothing(self):
        w = nn.Parameter(torch.ones(1))
        optimiser = OPTIMISERS["sgd"]([w], 0.1)
        regularise(optimiser)
        assert not optimiser._optimizer_step_pre_hooks


class TestGradients:
    """Of two tensors with the entries 3, -4 and 12: the norm is 13."""

    def weights(self, scale=1.0):
        held = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
        held[0].grad, held[1].grad = scale * torch.tensor([3.0, -4.0]), scale * torch.tensor([12.0])
        return held  # the last has no gradient

    def entries(self, held):
        return torch.cat([p.grad for p in held if p.grad is not None]).tolist()

    def test_are_bounded_entry_by_entry(self):
        held = self.weights()
        clip_gradients(held, Clip(value=3.5))
        assert self.entries(held) == [3, -3.5, 3.5]

    @pytest.mark.parametrize(("bound", "scale"), [(6.5, 0.5), (13.0, 1.0), (100.0, 1.0)])
    def test_are_scaled_down_to_a_norm(self, bound, scale):
        held = self.weights()
        assert clip_gradients(held, Clip(norm=bound)).item() == pytest.approx(13)
        assert self.entries(held) == pytest.approx([3 * scale, -4 * scale, 12 * scale], abs=1e-5)

    @pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
    def test_are_normalised_up_and_down(self, scale):
        held = self.weights(scale)
        assert clip_gradients(held, Clip(norm=2.0, normalise=True)).item() == pytest.approx(
            13 * scale, rel=1e-5
        )
        assert self.entries(held) == pytest.approx([6 / 13, -8 / 13, 24 / 13], abs=1e-6)

    def test_of_nothing_stay_nothing(self):
        held = self.weights(0.0)
        assert clip_gradients(held, Clip(normalise=True)).item() == 0
        assert self.entries(held) == [0, 0, 0]


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


class TestSubnormalNumbers:
    """Moments of a weight that gets no gradient any more: rounding holds them just above 0 for good."""

    @pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "rmsprop-torch", "momentum", "nesterov"])
    @pytest.mark.parametrize("settled", [True, False])
    def test_moments_end_at_zero(self, name, settled):
        weight = nn.Parameter(torch.ones(2))
        optimiser = OPTIMISERS[name]([weight], 1e-3)
        for number in range(1, 2_001):
            weight.grad = torch.tensor([1e-18 if number < 5 else 0.0, 1e-3])
            optimiser.step()
            if settled:
                flush_subnormals(optimiser, number)
        moments = [x for x in optimiser.state[weight].values() if getattr(x, "shape", ()) == weight.shape]
        dead, alive = torch.stack(moments).unbind(1)
        assert bool((dead == 0).all()) == settled
        assert ((alive.abs() > 1e-9) & (alive.abs() < 1e-1)).all()

    def test_the_compiled_step_of_adam_leaves_none(self):
        weight, average, square = torch.ones(3), torch.zeros(3), torch.zeros(3)
        for number in range(1_000):
            gradient = torch.tensor([1e-18, 1e-3, -1e-3]) if number < 5 else torch.tensor([0.0, 0.0, -1e-3])
            adam_step(weight, gradient, average, square, torch.tensor([1e-3, 1.0]), torch.tensor(True))
        assert average[:2].tolist() == [0.0, 0.0]
        assert square[0] == 0
        assert square[1] > 1e-10
        assert average[2] == pytest.approx(-1e-3, rel=1e-5)
