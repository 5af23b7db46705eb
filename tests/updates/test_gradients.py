"""One gradient step: how gradients are bounded, and moments kept free of subnormal numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rl_lab.updates.adam import adam_step
from rl_lab.updates.gradients import Clip, clip_gradients, clip_named_gradients, flush_subnormals
from rl_lab.updates.optimisers import OPTIMISERS


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
            adam_step(weight, gradient, average, square, torch.tensor([1e-3, 1.0, 1e-8]), torch.tensor(True))
        assert average[:2].tolist() == [0.0, 0.0]
        assert square[0] == 0
        assert square[1] > 1e-10
        assert average[2] == pytest.approx(-1e-3, rel=1e-5)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize("clip", [Clip(), Clip(0.5), Clip(norm=1.0), Clip(0.5, 1.0)], ids=str)
def test_the_clip_is_torchs_own_to_the_bit(clip, size):
    generator = torch.Generator().manual_seed(0)
    gradients = [size * torch.randn(shape, generator=generator) for shape in ((5, 3), (7,), (2, 3, 2))]
    ours, theirs = ([torch.nn.Parameter(g.clone()) for g in gradients] for _ in range(2))
    for parameter, gradient in zip(ours + theirs, gradients * 2, strict=True):
        parameter.grad = gradient.clone()
    if clip.value is not None:
        torch.nn.utils.clip_grad_value_(theirs, clip.value)
    norm = torch.nn.utils.clip_grad_norm_(theirs, clip.norm or float("inf"))
    assert torch.equal(clip_gradients(ours, clip), norm)
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(ours, theirs, strict=True))


class TestBounds:
    @pytest.mark.parametrize("norm", [None, 5.0])
    @pytest.mark.parametrize("normalise", [False, True])
    @pytest.mark.parametrize("value", [None, 2.0])
    def test_the_compiled_form_equals_the_eager_one(self, norm, normalise, value):
        gradients = {"a": torch.tensor([3.0, -4.0]), "b": torch.tensor([[12.0]])}
        weights = [nn.Parameter(torch.zeros_like(g)) for g in gradients.values()]
        for weight, gradient in zip(weights, gradients.values(), strict=True):
            weight.grad = gradient.clone()
        clip = Clip(value, norm, normalise)
        assert clip_gradients(weights, clip).item() == pytest.approx(
            clip_named_gradients(gradients, clip).item()
        )
        for weight, gradient in zip(weights, gradients.values(), strict=True):
            torch.testing.assert_close(weight.grad, gradient)
        after = torch.cat([g.flatten() for g in gradients.values()]).norm().item()
        length = 13.0 if value is None else 12.0**0.5
        if normalise:
            length = norm or 1.0
        assert after == pytest.approx(length if norm is None or normalise else min(length, norm), rel=1e-5)
