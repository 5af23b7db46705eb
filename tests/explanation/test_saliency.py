"""Saliency against finite differences, occlusion by hand, and policies that look where we know."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy.ndimage import gaussian_filter

from networks import make_q_network
from rl_lab.explanation.saliency import (
    centres,
    contributions,
    overlay,
    require_saliency,
    saliency,
    saliency_overlay,
)
from rl_lab.nn.acting import make_acting_values
from rl_lab.nn.actor_critic import StochasticPolicy, make_acting_outputs, make_actor_critic
from rl_lab.nn.fields import NetworkFields
from rl_lab.nn.input_gradients import output_values
from rl_lab.nn.joint_distributions import make_distribution
from rl_lab.policies import ValuePolicy
from rl_lab.types import UsageError

FIRST, CPU = np.ones(1, np.bool_), torch.device("cpu")


def image_space(*shape, high=255) -> spaces.Box:
    return spaces.Box(0, high, shape, np.uint8)


def policy_of(space, actions=3, seed=0, **fields) -> ValuePolicy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_q_network(space, actions, hidden=(8,), **fields)
    initial = (lambda n: tuple(p.numpy() for p in network.initial_state(n))) if fields.get("memory") else None
    return ValuePolicy(make_acting_values(network, CPU), actions, initial, network=network)


def ask(policy, obs, space, method, **fields):
    return saliency(policy, obs, policy.initial_state(1), FIRST, space=space, method=method, **fields)


def some(space, seed=0):
    rng = np.random.default_rng(seed)
    if isinstance(space, spaces.Dict):
        return {key: some(part, seed) for key, part in space.items()}
    if space.dtype == np.uint8:
        return rng.integers(0, int(space.high.max()) + 1, (1, *space.shape), dtype=np.uint8)
    return rng.normal(size=(1, *space.shape)).astype(np.float32)


class Looking:
    """A policy without a network whose values depend on one pixel alone."""

    def __init__(self, *pixel):
        self.pixel = pixel

    def initial_state(self, num_envs):
        return ()

    def inspect(self, obs, state, is_first, mask=None):
        assert obs.dtype == np.uint8
        seen = obs[(slice(None), *self.pixel)].astype(float)
        return {"q_values": np.stack([seen, -seen], axis=1)}


SPACES = {
    "grey": image_space(12, 10),
    "rgb": image_space(10, 12, 3),
    "first": image_space(3, 10, 10),
    "stack": image_space(4, 10, 10),
    "stack of rgb": image_space(2, 10, 12, 3),
    "planes": image_space(10, 10, 4, high=1),
}
SIDES = {"grey": (12, 10), "rgb": (10, 12), "stack of rgb": (10, 12)}


@pytest.mark.parametrize("method", ["gradient", "perturbation"])
@pytest.mark.parametrize("name", SPACES)
def test_every_form_of_image_gives_a_map_of_its_size_that_sums_to_one(name, method):
    space = SPACES[name]
    found = ask(policy_of(space), some(space), space, method)
    assert found.shape == SIDES.get(name, (10, 10))
    assert found.sum() == pytest.approx(1.0)
    assert (found >= 0).all()


class TestGradient:
    @pytest.mark.parametrize("name", ["grey", "rgb", "stack", "planes"])
    def test_contributions_add_up_to_what_the_details_of_the_image_change(self, name):
        space = SPACES[name]
        policy, obs = policy_of(space), some(space)
        network, images = policy.network, require_saliency(policy, space, "gradient")[1]
        (parts,) = contributions(network, obs, (), FIRST, [0, 2], images)
        assert parts.shape == (2, *space.shape)
        widths = [0.0 if axis == channel_axis(name) else 3.0 for axis in range(len(space.shape))]
        coarse = gaussian_filter(obs[0].astype(np.float64), widths, mode="nearest")
        ends = output_values(network, np.stack([obs[0].astype(np.float64), coarse]), (), np.ones(2, bool))
        change = (ends[0] - ends[1])[[0, 2]]
        flat = parts.reshape(2, -1)
        np.testing.assert_allclose(flat.sum(axis=1), change, atol=0.02 * np.abs(flat).sum(axis=1).min())
        best = int(ends[0].argmax())
        chosen = np.abs(contributions(network, obs, (), FIRST, [best], images)[0][0])
        by_pixel = chosen if name == "grey" else chosen.sum(axis=channel_axis(name))
        found = ask(policy, obs, space, "gradient")
        np.testing.assert_allclose(found, by_pixel / by_pixel.sum(), atol=1e-7)

    def test_a_linear_network_has_weight_times_detail(self):
        """Without a curve between, the integral is exact: each pixel's weight times its distance from the blur."""
        space = image_space(9, 9)
        policy, obs = policy_of(space, encoder="mlp"), some(space)
        linear = policy.network.encoder.layers[1]
        with torch.no_grad():
            linear.bias.fill_(100.0)  # so that no unit is ever off
            policy.network.head.weight.zero_()
            policy.network.head.weight[1, 0] = 1.0
            policy.network.head.bias.copy_(torch.tensor([-1e6, 0.0, -1e6]))
        weights = linear.weight[0].detach().numpy().reshape(9, 9)
        image = obs[0].astype(np.float64)
        expected = np.abs(weights * (image - gaussian_filter(image, 3.0, mode="nearest")))
        np.testing.assert_allclose(
            ask(policy, obs, space, "gradient"), expected / expected.sum(), rtol=1e-3, atol=1e-6
        )

    def test_a_network_that_looks_at_one_pixel_has_all_its_mass_there_whatever_else_stands_out(self):
        space = image_space(9, 9)
        policy = policy_of(space, encoder="mlp")
        with torch.no_grad():
            first = policy.network.encoder.layers[1]
            first.weight[:, [k for k in range(81) if k != 3 * 9 + 5]] = 0.0
            first.bias.fill_(1.0)
            policy.network.head.weight.fill_(0.5)
        obs = np.zeros((1, 9, 9), np.uint8)
        obs[0, 3, 5] = obs[0, 7, 1] = 200
        assert ask(policy, obs, space, "gradient")[3, 5] == 1.0

    def test_where_no_detail_is_there_is_nothing(self):
        space = image_space(10, 10)
        assert not ask(policy_of(space), np.full((1, 10, 10), 9, np.uint8), space, "gradient").any()

    def test_the_explained_action_is_a_legal_one(self):
        space = image_space(10, 10)
        policy, obs = policy_of(space), some(space)
        best = int(policy.act(obs, (), FIRST).action[0])
        mask = np.arange(3)[None] != best
        assert not np.allclose(
            ask(policy, obs, space, "gradient"), ask(policy, obs, space, "gradient", mask=mask)
        )

    def test_continuous_actions_are_explained_by_all_their_means(self):
        space, distribution = image_space(10, 10), make_distribution(spaces.Box(-1, 1, (2,)))
        network = make_actor_critic(space, distribution, NetworkFields(hidden=(8,)))
        policy = StochasticPolicy(make_acting_outputs(network, CPU), distribution, network=network)
        assert ask(policy, some(space), space, "gradient").sum() == pytest.approx(1.0)

    def test_a_policy_without_a_network_is_refused(self):
        with pytest.raises(UsageError, match="needs a policy with a network of the lab"):
            ask(Looking(0, 0), np.zeros((1, 12, 12), np.uint8), image_space(12, 12), "gradient")


def channel_axis(name):
    return {"grey": None, "stack": 0}.get(name, 2)


class TestPerturbation:
    def test_it_equals_occluding_by_hand(self):
        """Stride and widths of a 16x20 image: 1 pixel, 1 pixel (mask), 3 pixels (blur)."""
        space = image_space(16, 20)
        policy, obs = policy_of(space), some(space, seed=3)
        found = ask(policy, obs, space, "perturbation")
        image = obs[0].astype(np.float64)
        blurred = gaussian_filter(image, 3.0, mode="nearest")
        before = policy.inspect(obs, (), FIRST)["q_values"][0]
        change = np.zeros((16, 20))
        for row in range(16):
            for column in range(20):
                seen = image.copy()
                for i in range(16):
                    for j in range(20):
                        m = np.exp(-((i - row) ** 2 + (j - column) ** 2) / 2.0)
                        seen[i, j] = image[i, j] * (1 - m) + blurred[i, j] * m
                after = policy.inspect(seen[None], (), FIRST)["q_values"][0]
                change[row, column] = 0.5 * ((after.astype(float) - before) ** 2).sum()
        np.testing.assert_allclose(found, change / change.sum(), rtol=1e-3, atol=1e-6)

    def test_frames_of_a_stack_are_not_blurred_into_one_another(self):
        space, seen = image_space(4, 12, 12), []

        class Spy(Looking):
            def inspect(self, obs, state, is_first, mask=None):
                seen.append(obs)
                return super().inspect(obs, state, is_first)

        obs = np.zeros((1, 4, 12, 12), np.uint8)
        obs[0, 1, 6, 6] = 255
        found = ask(Spy(1, 6, 6), obs, space, "perturbation")
        assert not np.concatenate(seen)[:, [0, 2, 3]].any()
        assert np.unravel_index(found.argmax(), found.shape) == (6, 6)

    def test_the_mass_is_around_the_pixel_that_a_policy_looks_at(self):
        obs = np.zeros((1, 40, 40), np.uint8)
        obs[0, 12, 30] = 255
        found = ask(Looking(12, 30), obs, image_space(40, 40), "perturbation")
        rows, columns = np.indices(found.shape)
        assert found[(abs(rows - 12) <= 6) & (abs(columns - 30) <= 6)].sum() > 0.95

    def test_where_nothing_changes_there_is_nothing(self):
        found = ask(Looking(3, 3), np.full((1, 12, 12), 7, np.uint8), image_space(12, 12), "perturbation")
        assert not found.any()

    def test_recurrent_policies_are_asked_with_their_carry(self):
        space = image_space(10, 10)
        policy, obs = policy_of(space, memory="lstm", memory_size=4), some(space)
        fresh = ask(policy, obs, space, "perturbation")
        carry = tuple(np.full((1, 4), 0.9, np.float32) for _ in range(2))
        other = saliency(policy, obs, carry, ~FIRST, space=space, method="perturbation")
        assert not np.allclose(fresh, other)
        assert saliency(policy, obs, carry, ~FIRST, space=space, method="gradient").sum() == pytest.approx(
            1.0
        )

    def test_places_are_spread_evenly(self):
        assert centres(10, 3) == [0, 3, 6, 9]
        assert centres(12, 5) == [0, 5, 10]
        assert centres(13, 5) == [1, 6, 11]


class TestParts:
    SPACE = spaces.Dict({"speed": spaces.Box(-1, 1, (2,)), "camera": image_space(10, 10, 3)})

    @pytest.mark.parametrize("method", ["gradient", "perturbation"])
    def test_the_image_of_a_dict_is_shown(self, method):
        found = ask(policy_of(self.SPACE), some(self.SPACE), self.SPACE, method)
        assert found.shape == (10, 10)
        assert found.sum() == pytest.approx(1.0)

    @pytest.mark.parametrize("method", ["gradient", "perturbation"])
    def test_without_an_image_it_is_refused(self, method):
        space = spaces.Box(-1, 1, (3,))
        with pytest.raises(UsageError, match="needs an image"):
            ask(policy_of(space), some(space), space, method)

    def test_unknown_methods_are_refused(self):
        with pytest.raises(UsageError, match="'guess' is unknown"):
            ask(policy_of(self.SPACE), some(self.SPACE), self.SPACE, "guess")


class TestOverlay:
    def test_the_largest_weight_is_coloured_and_zero_leaves_the_frame_alone(self):
        frame = np.full((20, 40, 3), 100, np.uint8)
        weights = np.zeros((10, 20))
        weights[2, 3] = 0.5
        shown = overlay(frame, weights, strength=1.0)
        assert shown.shape == frame.shape
        assert shown.dtype == np.uint8
        assert (shown[15:] == 100).all()
        assert abs(shown[5, 7].astype(int) - 100).max() > 50
        assert (frame == 100).all()
        np.testing.assert_array_equal(overlay(frame, np.zeros((10, 20))), frame)

    def test_a_weight_over_the_whole_frame_gives_the_blend_by_hand(self):
        shown = overlay(np.full((4, 4, 3), 100, np.uint8), np.ones((2, 2)), strength=0.5)
        assert shown[0, 0].tolist() == [178, 50, 145]

    def test_it_is_the_saliency_that_is_laid_over(self):
        space = image_space(10, 10)
        policy, obs, frame = policy_of(space), some(space), np.zeros((20, 20, 3), np.uint8)
        for method in ("gradient", "perturbation"):
            shown = saliency_overlay(policy, obs, (), FIRST, frame, space=space, method=method)
            np.testing.assert_array_equal(shown, overlay(frame, ask(policy, obs, space, method)))
