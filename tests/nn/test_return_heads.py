"""Heads of returns: their shapes, their values by hand, and equal numbers in numpy and torch, noise included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces

from networks import filled
from rl_lab.nn.acting import make_acting_values, numpy_q_values
from rl_lab.nn.ensembles import HeadsLinear
from rl_lab.nn.exploring import HeadPerEpisode, distribution_figures, noisy_values
from rl_lab.nn.fields import NetworkFields
from rl_lab.nn.noisy import Noise, NoisyLinear, draw_noise
from rl_lab.nn.return_heads import EachHead, FractionEmbedding
from rl_lab.nn.return_kinds import MEANS, Categorical, ImplicitQuantiles, Quantiles
from rl_lab.nn.return_network import HeadPlan, OutputsOf, make_return_network
from rl_lab.updates.gradients import ActiveDropout

SPACE, CPU, ACTIONS, BATCH = spaces.Box(-1.0, 1.0, (4,), np.float32), torch.device("cpu"), 3, 5
KINDS = {
    "means": MEANS,
    "categorical": Categorical(-1.0, 3.0, 7),
    "quantile": Quantiles(6),
    "implicit": ImplicitQuantiles(5, 4, 2),
}
PLANS = {
    "alone": HeadPlan(),
    "dueling": HeadPlan(dueling=True),
    "heads": HeadPlan(heads=4),
    "dueling heads": HeadPlan(heads=4, dueling=True),
    "noisy": HeadPlan(noisy_sigma=0.5, dueling=True),
}


def network(plan, seed=0, space=SPACE, **fields):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_return_network(space, ACTIONS, NetworkFields(**{"hidden": (8, 6)} | fields), plan)


def observations(*shape):
    return np.random.default_rng(0).normal(size=(*shape, 4)).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plan", PLANS)
def test_numpy_gives_the_values_of_torch_and_outputs_have_their_shapes(kind, plan):
    net = network(replace(PLANS[plan], kind=KINDS[kind]), layer_norm=plan == "dueling heads")
    obs, heads = observations(BATCH), PLANS[plan].heads
    with torch.no_grad():
        expected = net(torch.from_numpy(obs))[0]
        outputs = OutputsOf(net)(torch.from_numpy(obs))[0]
    assert expected.shape == (BATCH, ACTIONS)
    width = () if kind == "means" else (KINDS[kind].width,)
    assert outputs.shape == (BATCH, *((heads,) if heads > 1 else ()), ACTIONS, *width)
    np.testing.assert_allclose(numpy_q_values(net)(obs), expected, rtol=1e-4, atol=1e-5)
    if heads > 1:  # each of the heads, by the same paths
        view = OutputsOf(net).network
        each = EachHead(view.head)
        with torch.no_grad():
            of_heads = each(net.encoder(torch.from_numpy(obs)))
        values = HeadPerEpisode(net, CPU, np.random.default_rng(0), None)
        for head in range(heads):
            state = (np.full(BATCH, head),)
            found, _ = values(obs, state, np.zeros(BATCH, np.bool_))
            np.testing.assert_allclose(found, of_heads[:, head], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(of_heads.mean(1), expected)
        assert (of_heads.std(1) > 1e-3).all()  # no two heads are alike


class TestKinds:
    def test_categorical_means_by_hand(self):
        kind = Categorical(0.0, 2.0, 3)
        logits = np.log(np.array([[[0.2, 0.3, 0.5], [1.0, 1.0, 2.0]]], np.float32))  # the second unnormalised
        np.testing.assert_allclose(kind.means_in_numpy(logits), [[1.3, 1.25]], rtol=1e-6)
        np.testing.assert_allclose(kind.means(torch.from_numpy(logits)), [[1.3, 1.25]], rtol=1e-6)

    def test_fixed_fractions_are_the_middles_of_equal_parts(self):
        np.testing.assert_allclose(Quantiles(4).fractions(torch.zeros(1)), [0.125, 0.375, 0.625, 0.875])

    @pytest.mark.parametrize("heads", [1, 3])
    @pytest.mark.parametrize("kind", ["categorical", "quantile", "implicit"])
    def test_figures_are_a_distribution_with_the_mean_acted_by(self, kind, heads):
        net, obs = network(HeadPlan(KINDS[kind], heads=heads)), observations(BATCH)
        found = distribution_figures(net, CPU)(obs, (), np.ones(BATCH, np.bool_))
        atoms, p = found["atoms"], found["atom_probabilities"]
        assert atoms.shape == p.shape == (BATCH, ACTIONS, heads * KINDS[kind].width)
        np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
        assert (np.diff(atoms) >= 0).all()
        np.testing.assert_allclose((atoms * p).sum(-1), numpy_q_values(net)(obs), rtol=1e-4, atol=1e-5)

    def test_networks_of_means_have_no_figures(self):
        assert distribution_figures(network(HeadPlan(heads=2)), CPU) is None


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_advantages_average_to_nothing_for_each_output(kind, heads):
    net = network(HeadPlan(KINDS[kind], dueling=True, heads=heads))
    features = torch.from_numpy(np.random.default_rng(1).normal(size=(BATCH, 8)).astype(np.float32))
    body = net.head.body
    with torch.no_grad():
        torch.testing.assert_close(body(features).mean(-2, keepdim=True), body.value(features))
        assert body(features).std(-2).min() > 1e-4


class TestFractions:
    def test_embedding_by_hand(self):
        """At 1/3 the cosines of 0, pi/3 and 2 pi/3 are 1, 1/2 and -1/2."""
        embedding = FractionEmbedding(2, 3)
        with torch.no_grad():
            embedding.layers[0].weight[:] = torch.tensor([[1.0, 10.0, 100.0], [1.0, 2.0, 3.0]])
            embedding.layers[0].bias[:] = torch.tensor([50.0, 0.5])
            found = embedding(torch.tensor([[7.0, -2.0]]), torch.tensor([1 / 3, 0.0]))
        torch.testing.assert_close(found, torch.tensor([[[7 * 6.0, -2 * 1.0], [7 * 161.0, -2 * 6.5]]]))

    def test_outputs_depend_on_their_own_fraction_alone(self):
        net = OutputsOf(network(HeadPlan(KINDS["implicit"], dueling=True)))
        obs = torch.from_numpy(observations(BATCH))
        fractions = torch.rand(BATCH, 4, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            found = net(obs, (), None, (None, fractions))[0]
            for k in range(4):
                alone = net(obs, (), None, (None, fractions[:, k : k + 1]))[0]
                torch.testing.assert_close(found[..., k], alone[..., 0])
        assert found.shape == (BATCH, ACTIONS, 4)

    @pytest.mark.parametrize("heads", [1, 3])
    def test_a_window_has_the_fractions_of_its_row_at_every_time(self, heads):
        net = OutputsOf(network(HeadPlan(KINDS["implicit"], heads=heads)))
        obs = torch.from_numpy(observations(6, BATCH))
        fractions = torch.rand(BATCH, 4, generator=torch.Generator().manual_seed(0))
        never = torch.zeros(6, BATCH, dtype=torch.bool)
        with torch.no_grad():
            found = net(obs, (), never, (None, fractions))[0]
            for t in range(6):
                torch.testing.assert_close(found[t], net(obs[t], (), None, (None, fractions))[0])


class TestNoise:
    def test_hand_computed(self):
        layer = NoisyLinear(2, 1, sigma=0.5)
        layer = filled(layer, 1.0)
        layer.weight_sigma.data[:] = torch.tensor([[2.0, 3.0]])
        x = torch.tensor([[1.0, 10.0]])
        assert layer(x).item() == 12
        layer.noise = torch.tensor([0.5, -1.0]), torch.tensor([2.0])
        # (1 + 2 * 2 * 0.5) * 1 + (1 + 3 * 2 * -1) * 10 + 1 + 1 * 2
        assert layer(x).item() == pytest.approx(3 - 50 + 3)
        x, noise = x.numpy(), tuple(part.numpy() for part in layer.noise)
        layer.noise = noise
        np.testing.assert_allclose(layer.in_numpy()(x), [[-44.0]])

    def test_initial_noise_has_the_papers_size(self):
        layer = NoisyLinear(16, 3, sigma=0.5)
        assert (layer.weight_sigma == 0.125).all()
        assert (layer.bias_sigma == 0.125).all()
        assert layer.weight.abs().max() <= 0.25

    def test_factorised_noise_is_the_root_of_a_normal_with_its_sign(self):
        z = np.random.default_rng(0).standard_normal((2, 3), np.float32)
        drawn = draw_noise(np.random.default_rng(0), (2, 3))
        np.testing.assert_allclose(drawn * np.abs(drawn), z, rtol=1e-5)

    @pytest.mark.parametrize("kind", KINDS)
    def test_each_environment_has_its_own(self, kind):
        """Numpy with rows of noise equals torch, one row after another."""
        net, obs = network(replace(PLANS["noisy"], kind=KINDS[kind])), observations(BATCH)
        first = np.zeros(BATCH, np.bool_)
        found, _ = noisy_values(net, CPU, np.random.default_rng(3))(obs, (), first)
        drawn = draw_noise(np.random.default_rng(3), (BATCH, Noise(net).width))
        for i in range(BATCH):
            with torch.no_grad():
                row, noise = torch.from_numpy(obs[i : i + 1]), torch.from_numpy(drawn[i])
                outputs = OutputsOf(net)(row, (), None, (noise, None))[0]
            np.testing.assert_allclose(found[i], KINDS[kind].means(outputs)[0], rtol=1e-4, atol=1e-5)
        assert not np.allclose(found, numpy_q_values(net)(obs))

    def test_is_off_once_the_values_are_found(self):
        net, obs = network(PLANS["noisy"]), observations(BATCH)
        greedy = numpy_q_values(net)
        before = greedy(obs)
        noisy_values(net, CPU, np.random.default_rng(3))(obs, (), np.zeros(BATCH, np.bool_))
        np.testing.assert_array_equal(greedy(obs), before)

    def test_torch_draws_the_same_noise(self):
        """With a memory the values come from torch."""
        net = network(HeadPlan(noisy_sigma=0.5), memory="gru", memory_size=5)
        assert numpy_q_values(net) is None
        state = (np.zeros((BATCH, 5), np.float32),)
        values = [noisy_values(net, CPU, np.random.default_rng(3)) for _ in range(2)]
        one, other = (v(observations(BATCH), state, np.ones(BATCH, np.bool_))[0] for v in values)
        np.testing.assert_array_equal(one, other)
        still = make_acting_values(net, CPU)(observations(BATCH), state, np.ones(BATCH, np.bool_))[0]
        assert not np.allclose(one, still)

    def test_convolutions_and_memory_have_none(self):
        net = network(
            HeadPlan(noisy_sigma=0.5), space=spaces.Box(0, 255, (3, 36, 36), np.uint8), memory="lstm"
        )
        assert len(Noise(net).layers) == 3  # two dense ones and the head
        assert all(isinstance(x, NoisyLinear) for x in [net.encoder.layers[-2], *net.head.body.layers])


class TestHeads:
    def test_a_layer_of_heads_is_a_dense_layer_for_each(self):
        layer = HeadsLinear(4, 3, 2)
        x = torch.from_numpy(observations(BATCH))
        for head in range(2):
            expected = x @ layer.weight[head].T + layer.bias[head]
            torch.testing.assert_close(layer(x)[head], expected)
            torch.testing.assert_close(layer(torch.stack((x, x)))[head], expected)

    @pytest.mark.parametrize("method", ["orthogonal", "kaiming"])
    def test_each_head_is_initialised_by_itself(self, method):
        layers = network(HeadPlan(heads=3), initialisation=method).head.body.layers
        assert (layers[0].bias == 0).all()
        if method == "orthogonal":
            for weight in layers[0].weight:
                torch.testing.assert_close(weight @ weight.T / 2, torch.eye(6), atol=1e-5, rtol=0)
        assert not torch.equal(layers[0].weight[0], layers[0].weight[1])

    def test_a_head_is_kept_for_an_episode(self):
        values = HeadPerEpisode(network(HeadPlan(heads=50)), CPU, np.random.default_rng(0), None)
        state = values.initial_state(4)
        _, (begun,) = values(observations(4), state, np.ones(4, np.bool_))
        assert len(set(begun.tolist())) > 1
        _, (after,) = values(observations(4), (begun,), np.array([False, True, False, False]))
        np.testing.assert_array_equal(after[[0, 2, 3]], begun[[0, 2, 3]])
        assert after[1] != begun[1]

    def test_a_random_function_is_added_and_never_learned(self):
        obs = torch.from_numpy(observations(BATCH))
        plain, plan = network(HeadPlan(heads=3)), HeadPlan(heads=3, prior_scale=2.0)
        net, small = network(plan), network(replace(plan, prior_scale=1e-9))
        prior = net.encoder.layers[0].prior
        said = prior(obs).unflatten(-1, (3, ACTIONS))
        torch.testing.assert_close(net(obs)[0], small(obs)[0] + said.mean(1), atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(
            numpy_q_values(net)(obs.numpy()), net(obs)[0].detach(), rtol=1e-4, atol=1e-5
        )
        net(obs)[0].sum().backward()
        assert all(p.grad is None and not p.requires_grad for p in prior.parameters())
        learned = sum(p.numel() for p in net.parameters() if p.requires_grad)
        assert learned == sum(p.numel() for p in plain.parameters())

    def test_nothing_of_a_random_function_is_dropped(self):
        net, obs = (
            network(HeadPlan(heads=3, prior_scale=2.0), dropout=0.5),
            torch.from_numpy(observations(BATCH)),
        )
        prior = net.encoder.layers[0].prior
        said, expected = prior(obs), net(obs)[0]
        with ActiveDropout(net):
            torch.testing.assert_close(prior(obs), said)
            assert not torch.allclose(net(obs)[0], expected)
