"""Networks: encoders by space, a carry that ends with its episode, views that follow the weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from boxes import floats, uint8
from networks import make_encoder, make_q_network, refuse_encoder
from rl_lab.nn.acting import numpy_q_values
from rl_lab.nn.encoders import OneHot
from rl_lab.nn.images import NATURE, Image, is_image
from rl_lab.nn.layers import Flat
from rl_lab.nn.recurrent import LSTM, zero_where
from rl_lab.types import UsageError
from rl_lab.updates.averaging import WeightAverage, polyak_update
from rl_lab.updates.optimisers import adam
from rl_lab.updates.trained import load_optimiser_state, load_weights, optimiser_state


def batch_of(space, size=3):
    return torch.from_numpy(np.stack([space.sample() for _ in range(size)]))


def images_of(encoder):
    """What the first layer makes of a batch."""
    return lambda obs: encoder.layers[0](obs)


class TestEncoderBySpace:
    @pytest.mark.parametrize(
        ("space", "first", "convolutions"),
        [
            (spaces.Discrete(5), OneHot, 0),
            (floats(4), Flat, 0),
            (floats(), Flat, 0),
            (floats(3, 8, 8), Flat, 0),  # floats are no image
            (spaces.Box(0, 255, (4,), np.uint8), Flat, 0),
            (uint8(84, 84), Image, 3),
            (uint8(4, 84, 84), Image, 3),
            (uint8(84, 84, 3), Image, 3),
            (uint8(36, 36, 3), Image, 3),
            (uint8(35, 35, 3), Image, 2),  # too small for Nature's kernels
            (uint8(10, 10), Image, 2),
            (uint8(5, 5, 3), Image, 2),
        ],
        ids=str,
    )
    def test_auto_goes_by_the_space(self, space, first, convolutions):
        encoder = make_encoder("auto", space, (16,))
        assert isinstance(encoder.layers[0], first)
        assert sum(isinstance(layer, nn.Conv2d) for layer in encoder.layers) == convolutions
        features = encoder(batch_of(space))
        assert features.shape == (3, 16)
        assert features.dtype == torch.float32

    def test_large_images_get_the_layers_of_nature(self):
        encoder = make_encoder("auto", uint8(4, 84, 84), (512,))
        layers = [x for x in encoder.layers if isinstance(x, nn.Conv2d)]
        assert tuple((x.out_channels, x.kernel_size[0], x.stride[0]) for x in layers) == NATURE
        assert [x.in_features for x in encoder.layers if isinstance(x, nn.Linear)] == [64 * 7 * 7]

    def test_hidden_widths_are_those_given(self):
        layers = [x for x in make_encoder("auto", floats(4), (8, 6)).layers if isinstance(x, nn.Linear)]
        assert [(x.in_features, x.out_features) for x in layers] == [(4, 8), (8, 6)]
        assert make_encoder("auto", floats(2, 3), ()).size == 6

    def test_mlp_may_be_asked_for_images(self):
        encoder = make_encoder("mlp", uint8(5, 5), (7,))
        assert encoder(batch_of(uint8(5, 5))).shape == (3, 7)

    def test_one_hot_counts_from_the_start_of_the_space(self):
        encoder = make_encoder("auto", spaces.Discrete(3, start=5), ())
        assert encoder(torch.tensor([5, 7])).tolist() == [[1, 0, 0], [0, 0, 1]]


class TestImages:
    def test_channels_are_found_first_last_or_absent(self):
        picture = torch.arange(2 * 6 * 7 * 3, dtype=torch.uint8).reshape(2, 6, 7, 3)  # [B, H, W, C]
        last = images_of(make_encoder("auto", uint8(6, 7, 3), ()))(picture)
        first = images_of(make_encoder("auto", uint8(3, 6, 7), ()))(picture.permute(0, 3, 1, 2))
        grey = images_of(make_encoder("auto", uint8(6, 7), ()))(picture[..., 0])
        torch.testing.assert_close(last, first)
        torch.testing.assert_close(grey, first[:, :1])
        torch.testing.assert_close(first[1, 2, 3, 4], picture[1, 3, 4, 2] / 255.0)

    @pytest.mark.parametrize("shape", [(36, 36), (3, 6, 6), (6, 6, 3)])
    def test_bytes_are_scaled_once(self, shape):
        images = images_of(make_encoder("auto", uint8(*shape), ()))(
            torch.full((1, *shape), 255, dtype=torch.uint8)
        )
        assert images.unique().tolist() == pytest.approx([1.0])

    def test_floats_are_left_as_they_are(self):
        images = images_of(make_encoder("cnn", floats(3, 6, 6), ()))(torch.full((1, 3, 6, 6), 2.5))
        assert images.unique().tolist() == [2.5]

    def test_only_bytes_with_two_or_three_axes_are_images(self):
        assert all(is_image(space) for space in (uint8(5, 5), uint8(5, 5, 3)))
        assert not any(is_image(space) for space in (uint8(5), floats(5, 5), spaces.Discrete(2)))


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "space", "says"),
        [
            ("resnet", floats(4), "encoder 'resnet' is unknown (allowed: auto, mlp, cnn, "),
            ("auto", spaces.Text(5), "takes Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple"),
            ("mlp", spaces.Dict({"a": spaces.Text(5)}), "observations, not Text"),
            ("auto", spaces.Tuple([floats(2), spaces.Text(5)]), "observations, not Text"),
            ("cnn", floats(4), "takes images (Box with 2 or 3 axes)"),
            ("cnn", spaces.Discrete(3), "takes images (Box with 2 or 3 axes)"),
            ("auto", uint8(4, 4, 3), "takes images from 5x5, not 4x4"),
        ],
    )
    def test_are_one_line_and_name_what_is_allowed(self, name, space, says):
        with pytest.raises(UsageError) as caught:
            make_encoder(name, space, (8,))
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
        assert refuse_encoder(name, space) == str(caught.value)

    def test_an_accepted_space_gives_no_reason(self):
        assert [
            refuse_encoder(n, s)
            for n, s in (("auto", floats(4)), ("mlp", uint8(4, 4)), ("cnn", floats(5, 5)))
        ] == [None] * 3


SIZE, FEATURES = 5, 3


def lstm(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LSTM(FEATURES, SIZE)


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


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

    def test_a_memoryless_network_carries_nothing_and_still_unrolls(self):
        net = make_q_network(floats(4), 3)
        obs, first = draw(0, 5, 2, 4), torch.zeros(5, 2, dtype=torch.bool)
        whole, state = net(obs, net.initial_state(2), first)
        assert net.is_memoryless
        assert state == ()
        torch.testing.assert_close(whole[3], net(obs[3], (), first[3])[0])


VIEWED = {
    "flat": (floats(4), {"hidden": (16, 8)}),
    "matrix": (floats(2, 3), {"hidden": (16,)}),
    "scalar": (floats(), {"hidden": (16,)}),
    "linear": (floats(4), {"hidden": ()}),
    "double": (spaces.Box(-1.0, 1.0, (4,), np.float64), {"hidden": (16,)}),
    "bytes": (spaces.Box(0, 255, (4,), np.uint8), {"hidden": (16,)}),
    "discrete": (spaces.Discrete(6, start=2), {"hidden": (16,)}),
    "normalised": (floats(4), {"hidden": (16, 8), "layer_norm": True}),
    "streams": (floats(4), {"hidden": (16, 8), "dueling": True, "layer_norm": True}),
}


@pytest.fixture(params=VIEWED)
def viewed(request):
    """A network, its numpy form, and observations for both."""
    space, fields = VIEWED[request.param]
    space.seed(0)
    net = make_q_network(space, 3, **fields)
    values = numpy_q_values(net)
    assert values is not None
    return net, values, np.stack([space.sample() for _ in range(5)])


def assert_equal_values(net, values, obs):
    with torch.no_grad():
        q = net(torch.from_numpy(obs), (), torch.zeros(len(obs), dtype=torch.bool))[0].numpy()
    np.testing.assert_allclose(values(obs), q, atol=1e-6 * max(1.0, np.abs(q).max()), rtol=0)
    return q


class TestViews:
    def test_equal_the_module(self, viewed):
        assert_equal_values(*viewed)

    def test_leave_the_observations_as_they_were(self, viewed):
        _, values, obs = viewed
        before = obs.copy()
        values(obs)
        np.testing.assert_array_equal(obs, before)

    def test_results_are_not_overwritten_by_the_next_call(self, viewed):
        _, values, obs = viewed
        first = values(obs)
        kept = first.copy()
        values(obs[::-1].copy())
        np.testing.assert_array_equal(first, kept)

    def test_follow_the_optimiser(self, viewed):
        net, values, obs = viewed
        before, optimiser = assert_equal_values(*viewed), adam(net.parameters(), 0.01)
        for _ in range(5):
            optimiser.zero_grad()
            net(torch.from_numpy(obs), (), torch.zeros(5, dtype=torch.bool))[0].square().sum().backward()
            optimiser.step()
        assert np.abs(assert_equal_values(net, values, obs) - before).max() > 1e-3

    def test_follow_loaded_and_averaged_weights(self, viewed):
        net, values, obs = viewed
        memory = [p.data_ptr() for p in net.parameters()]
        load_weights(net, {name: w.numpy() * 0 + 0.5 for name, w in net.state_dict().items()})
        loaded = assert_equal_values(net, values, obs)
        assert np.ptp(loaded, axis=1).max() < 1e-3 * max(
            1.0, np.abs(loaded).max()
        )  # equal weights, equal values
        polyak_update(filled(net, 0.25), net, 1.0)
        assert_equal_values(net, values, obs)
        assert [p.data_ptr() for p in net.parameters()] == memory

    def test_memory_and_convolutions_have_no_numpy_form(self):
        assert numpy_q_values(make_q_network(floats(4), 2, memory="lstm")) is None
        assert numpy_q_values(make_q_network(uint8(6, 6), 2)) is None


def test_layers_are_normalised_before_the_relu():
    """With a weight of 1 and a bias of 0: (x - mean) / sqrt(variance + 1e-5), cut at 0."""
    encoder = make_encoder("mlp", floats(4), (3,), layer_norm=True)
    linear = encoder.layers[1]
    x = draw(0, 5, 4)
    before = (x @ linear.weight.T + linear.bias).detach().numpy()
    spread = np.sqrt(before.var(axis=1, keepdims=True) + 1e-5)
    expected = np.maximum((before - before.mean(axis=1, keepdims=True)) / spread, 0)
    np.testing.assert_allclose(encoder(x).detach().numpy(), expected, atol=1e-6)


def filled(like, value):
    """A copy of a module with every weight at `value`."""
    import copy

    module = copy.deepcopy(like)
    load_weights(module, {name: torch.full_like(w, value) for name, w in module.state_dict().items()})
    return module


class TestPolyak:
    @pytest.mark.parametrize(
        ("tau", "times", "value"),
        [(1.0, 1, 3.0), (0.5, 1, 2.0), (0.5, 2, 2.5), (0.1, 1, 1.2), (0.25, 2, 1.875)],
    )
    def test_moves_by_a_share_of_the_difference(self, tau, times, value):
        source = filled(nn.Linear(2, 2), 3.0)
        target = filled(source, 1.0)
        for _ in range(times):
            polyak_update(source, target, tau)
        for w in target.parameters():
            torch.testing.assert_close(w.detach(), torch.full_like(w, value))
        assert all((w == 3.0).all() for w in source.parameters())

    def test_a_copy_is_exact_and_shares_no_memory(self):
        source, target = nn.Linear(3, 3), nn.Linear(3, 3)
        polyak_update(source, target, 1.0)
        for ours, theirs in zip(target.parameters(), source.parameters(), strict=True):
            assert torch.equal(ours, theirs)
            assert ours.data_ptr() != theirs.data_ptr()


def trained(module, optimiser, steps, seed):
    for k in range(steps):
        optimiser.zero_grad()
        module(draw(seed + k, 4, 3)).square().mean().backward()
        optimiser.step()


class TestOptimiser:
    def test_a_restored_optimiser_continues_to_the_bit(self, tmp_path):
        from rl_lab.storage.checkpoint import Checkpoints

        module = nn.Linear(3, 2)
        optimiser = adam(module.parameters(), 0.01)
        trained(module, optimiser, 7, 0)
        Checkpoints(tmp_path).save(
            7, {"agent": {"weights": dict(module.state_dict()), "optimiser": optimiser_state(optimiser)}}
        )
        saved = Checkpoints(tmp_path).load()[1]["agent"]
        trained(module, optimiser, 5, 100)

        other = nn.Linear(3, 2)
        restored = adam(other.parameters(), 0.01)
        load_weights(other, saved["weights"])
        load_optimiser_state(restored, saved["optimiser"])
        trained(other, restored, 5, 100)
        assert torch.equal(other.weight, module.weight)
        assert torch.equal(other.bias, module.bias)

    def test_hyperparameters_stay_those_of_the_config(self):
        module = nn.Linear(3, 2)
        optimiser = adam(module.parameters(), 0.01)
        trained(module, optimiser, 1, 0)
        slower = adam(module.parameters(), 0.001)
        load_optimiser_state(slower, optimiser_state(optimiser))
        assert slower.param_groups[0]["lr"] == 0.001

    def test_loading_copies_so_that_two_optimisers_share_nothing(self):
        module = nn.Linear(3, 2)
        optimiser = adam(module.parameters(), 0.01)
        trained(module, optimiser, 3, 0)
        other = nn.Linear(3, 2)
        restored = adam(other.parameters(), 0.01)
        load_optimiser_state(restored, optimiser_state(optimiser))
        before = {k: v.clone() for k, v in optimiser_state(optimiser)["0"].items()}
        trained(other, restored, 3, 50)
        for name, value in optimiser_state(optimiser)["0"].items():
            assert torch.equal(value, before[name]), name

    def test_an_optimiser_that_never_stepped_has_nothing_to_save(self):
        optimiser = adam(nn.Linear(3, 2).parameters(), 0.01)
        assert optimiser_state(optimiser) == {}
        load_optimiser_state(optimiser, {})


class TestWeightAverage:
    def test_equals_the_rule_step_by_step(self):
        net = torch.nn.Linear(1, 1, bias=False)
        average = WeightAverage(net, 0.5)
        expected = net.weight.item()
        for t in range(20):
            net.weight.data[...] = float(t * t)
            average.follow(t, 1)
            decay = min(0.5, (1 + t) / (10 + t))
            expected = decay * expected + (1 - decay) * t * t
            assert average.network.weight.item() == pytest.approx(expected, rel=1e-5)

    def test_several_steps_at_once_decay_as_often(self):
        net = torch.nn.Linear(1, 1, bias=False)
        average, before = WeightAverage(net, 0.9), net.weight.item()
        net.weight.data[...] = 3.0
        average.follow(10**6, 4)
        assert average.network.weight.item() == pytest.approx(0.9**4 * before + (1 - 0.9**4) * 3, rel=1e-5)

    def test_without_decay_it_is_the_network_itself(self):
        net = torch.nn.Linear(1, 1)
        assert WeightAverage(net, 0.0).network is net
