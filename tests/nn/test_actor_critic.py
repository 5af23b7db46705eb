"""Actor-critic networks: one tower or two, the same numbers in numpy as in torch, and the policy that acts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from boxes import floats, uint8
from networks import draw
from rl_lab.nn.actor_critic import ActorCritic, StochasticPolicy, make_acting_outputs, make_actor_critic
from rl_lab.nn.distributions import Categorical, DiagonalGaussian
from rl_lab.nn.fields import NetworkFields
from rl_lab.trees import map_leaves
from rl_lab.types import UsageError

CPU = torch.device("cpu")
TWO = Categorical(spaces.Discrete(2))
BOX = DiagonalGaussian(spaces.Box(-1.0, 1.0, (2,), np.float32))


def make(space=None, distribution=TWO, *, share_encoder: bool = False, **fields) -> ActorCritic:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        space = floats(3) if space is None else space
        return make_actor_critic(space, distribution, NetworkFields(**fields), share_encoder=share_encoder)


def by_hand(distribution=TWO) -> ActorCritic:
    """Return a network without hidden layers: logits (x, y) and value 2 x + 3 y + 1 of observations (x, y)."""
    network = make(floats(2), distribution, hidden=())
    with torch.no_grad():
        network.policy_head.weight[:] = torch.eye(2)
        network.policy_head.bias[:] = 0.0
        network.value_head.weight[:] = torch.tensor([[2.0, 3.0]])
        network.value_head.bias[:] = 1.0
    return network


def firsts(n: int) -> np.ndarray:
    return np.zeros(n, np.bool_)


class TestNetwork:
    def test_without_hidden_layers_its_outputs_are_those_of_its_heads(self):
        logits, value, state = by_hand()(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
        assert logits.tolist() == [[1.0, 2.0], [0.0, -1.0]]
        assert value.tolist() == [9.0, -2.0]
        assert state == ()

    def test_policy_and_value_share_a_tower_only_if_asked_to(self):
        apart, shared = make(), make(share_encoder=True)
        assert (apart.value_tower is None, shared.value_tower is None) == (False, True)
        for network, reached in ((apart, False), (shared, True)):
            network(draw(0, 4, 3))[1].sum().backward()
            gradients = [p.grad for p in network.policy_tower.parameters()]
            assert all((g is not None) == reached for g in gradients)

    @pytest.mark.parametrize(("share", "parts"), [(True, 2), (False, 4)])
    def test_each_tower_carries_a_memory_of_its_own(self, share, parts):
        network = make(memory="lstm", memory_size=5, share_encoder=share)
        assert [tuple(part.shape) for part in network.initial_state(3)] == [(3, 5)] * parts
        assert not network.is_memoryless
        assert make().is_memoryless

    def test_the_policy_s_memory_comes_before_the_value_s(self):
        network = make(memory="gru", memory_size=5)
        obs, is_first = draw(0, 2, 3), torch.zeros(2, dtype=torch.bool)
        logits, value, carry = network(obs, network.initial_state(2), is_first)
        policy, other = draw(1, 2, 5), draw(2, 2, 5)
        changed = network(obs, (policy, torch.zeros(2, 5)), is_first)
        assert not torch.equal(changed[0], logits)
        assert torch.equal(changed[1], value)
        changed = network(obs, (torch.zeros(2, 5), other), is_first)
        assert torch.equal(changed[0], logits)
        assert not torch.equal(changed[1], value)
        assert len(carry) == 2

    @pytest.mark.parametrize("share", [True, False])
    def test_a_window_equals_single_steps_with_a_reset_inside(self, share):
        network = make(memory="gru", memory_size=5, share_encoder=share)
        obs, is_first = draw(0, 6, 2, 3), torch.zeros(6, 2, dtype=torch.bool)
        is_first[3, 1] = True
        whole_logits, whole_value, end = network(obs, network.initial_state(2), is_first)
        assert (whole_logits.shape, whole_value.shape) == ((6, 2, 2), (6, 2))
        state = network.initial_state(2)
        for t in range(6):
            logits, value, state = network(obs[t], state, is_first[t])
            torch.testing.assert_close(whole_logits[t], logits, atol=1e-5, rtol=0)
            torch.testing.assert_close(whole_value[t], value, atol=1e-5, rtol=0)
        torch.testing.assert_close(end, state, atol=1e-5, rtol=0)

    def test_orthogonal_weights_have_the_gains_of_sb3(self):
        network = make(hidden=(8,), initialisation="orthogonal")
        gains = {
            "policy_tower": 2**0.5, "value_tower": 2**0.5, "policy_head": 0.01, "value_head": 1.0,
        }  # fmt: skip
        for name, weight in network.named_parameters():
            if name.endswith("weight"):
                found = torch.linalg.svdvals(weight)
                torch.testing.assert_close(found, torch.full_like(found, gains[name.split(".")[0]]))

    def test_observations_are_normalised_before_both_towers(self):
        network = make(floats(2), hidden=(), normalise_observations=True)
        moments = np.array([[0.0, 10.0], [4.0, 30.0]])  # mean (2, 20), deviation (2, 10)
        network.normaliser.observe(moments)
        with torch.no_grad():
            network.policy_head.weight[:], network.policy_head.bias[:] = torch.eye(2), 0.0
            network.value_head.weight[:], network.value_head.bias[:] = torch.tensor([[1.0, 1.0]]), 0.0
        logits, value, _ = network(torch.tensor([[4.0, 25.0]]))
        torch.testing.assert_close(logits, torch.tensor([[1.0, 0.5]]))
        torch.testing.assert_close(value, torch.tensor([1.5]))

    def test_an_encoder_that_cannot_take_the_space_is_refused(self):
        with pytest.raises(UsageError, match="takes images"):
            make(encoder="cnn")


class TestActingOutputs:
    @pytest.mark.parametrize(
        ("space", "fields"),
        [
            (floats(3), {}),
            (floats(3), {"share_encoder": True}),
            (floats(3), {"normalise_observations": True, "activation": "tanh"}),
            (spaces.Discrete(4), {"hidden": (6,)}),
            (uint8(12, 12), {"hidden": (6,)}),
            (floats(3), {"memory": "lstm", "memory_size": 4}),
        ],
        ids=["dense", "shared", "normalised", "one-hot", "images", "memory"],
    )
    @pytest.mark.parametrize("distribution", [TWO, BOX], ids=["discrete", "box"])
    def test_are_those_of_the_network(self, space, fields, distribution):
        network = make(space, distribution, **fields)
        space.seed(0)
        obs = np.stack([space.sample() for _ in range(5)])
        state = map_leaves(lambda part: part.numpy(), network.initial_state(5))
        found = make_acting_outputs(network, CPU)(obs, state, firsts(5))
        with torch.no_grad():
            expected = network(
                torch.from_numpy(obs), network.initial_state(5), torch.zeros(5, dtype=torch.bool)
            )
        for mine, other in zip(found, expected, strict=True):
            assert not torch.is_tensor(mine)
            torch.testing.assert_close(map_leaves(torch.as_tensor, mine), other, atol=1e-5, rtol=1e-5)

    def test_follow_the_live_weights(self):
        network = by_hand()
        outputs, obs = make_acting_outputs(network, CPU), np.array([[1.0, 2.0]], np.float32)
        assert outputs(obs, (), firsts(1))[1].tolist() == [9.0]
        with torch.no_grad():
            network.value_head.bias[:] = 5.0
        assert outputs(obs, (), firsts(1))[1].tolist() == [13.0]


class TestStochasticPolicy:
    OBS = np.log(np.array([[1.0, 3.0], [9.0, 1.0]], np.float32))  # probabilities 1/4, 3/4 and 9/10, 1/10

    def policy(self, rng=None, **fields) -> StochasticPolicy:
        return StochasticPolicy(make_acting_outputs(by_hand(), CPU), TWO, rng=rng, **fields)

    def test_without_a_generator_it_takes_the_mode_and_stores_nothing(self):
        decision = self.policy().act(self.OBS, (), firsts(2))
        assert decision.action.tolist() == [1, 0]
        assert decision.extras == {}

    def test_it_draws_with_the_probabilities_that_it_shows(self):
        policy = self.policy(np.random.default_rng(0))
        shown = policy.inspect(self.OBS, (), firsts(2))["probabilities"]
        np.testing.assert_allclose(shown, [[0.25, 0.75], [0.9, 0.1]], rtol=1e-5)
        drawn = [policy.act(self.OBS, (), firsts(2)).action for _ in range(2_000)]
        np.testing.assert_allclose(np.mean(drawn, axis=0), [0.75, 0.1], atol=0.04)

    def test_what_is_drawn_comes_with_its_probability_and_value(self):
        decision = self.policy(np.random.default_rng(0)).act(self.OBS, (), firsts(2))
        chances = np.array([[0.25, 0.75], [0.9, 0.1]])[np.arange(2), decision.action]
        np.testing.assert_allclose(np.exp(decision.extras["log_prob"]), chances, rtol=1e-5)
        np.testing.assert_allclose(decision.extras["value"], self.OBS @ [2.0, 3.0] + 1.0, rtol=1e-5)
        assert decision.extras["raw_action"].tolist() == decision.action.tolist()

    @pytest.mark.parametrize("rng", [None, np.random.default_rng(0)], ids=["greedy", "drawing"])
    def test_illegal_actions_are_never_taken(self, rng):
        mask = np.array([[True, False], [False, True]])
        for _ in range(20):
            assert self.policy(rng).act(self.OBS, (), firsts(2), mask).action.tolist() == [0, 1]

    def test_values_are_shown_in_units_of_reward(self):
        policy = self.policy(reward_scale=lambda: 0.5)
        shown = policy.inspect(np.array([[1.0, 2.0]], np.float32), (), firsts(1))
        assert shown["value"].tolist() == [18.0]

    def test_continuous_actions_have_no_table_of_probabilities(self):
        policy = StochasticPolicy(make_acting_outputs(by_hand(BOX), CPU), BOX, rng=np.random.default_rng(0))
        assert set(policy.inspect(self.OBS, (), firsts(2))) == {"value", "mean", "std"}

    def test_it_begins_with_the_carry_that_it_was_given(self):
        network = make(memory="gru", memory_size=4)
        outputs = make_acting_outputs(network, CPU)
        policy = StochasticPolicy(outputs, TWO, lambda n: (np.zeros((n, 4), np.float32),) * 2)
        decision = policy.act(np.ones((3, 3), np.float32), policy.initial_state(3), firsts(3))
        assert [part.shape for part in decision.state] == [(3, 4), (3, 4)]
        assert self.policy().initial_state(3) == ()
