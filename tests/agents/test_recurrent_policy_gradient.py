"""Policy gradients with a memory: the loss unrolls rollouts as they were acted, and bootstraps from the right carry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_lab.agents.policy_gradient import A2CConfig, PPOConfig, ReinforceConfig
from rl_lab.trees import map_leaves
from rl_lab.updates.advantages import trace_stops
from toys import Staggered, interact, problem_on
from toys import policy_agent_on as agent_on

NUM_ENVS, GAMMA = 3, 0.9
CONFIGS = {
    "ppo": (PPOConfig, {"n_steps": 7, "batch_size": 7, "n_epochs": 1}),  # minibatches of one environment each
    "a2c": (A2CConfig, {"n_steps": 7}),
    "reinforce": (ReinforceConfig, {"n_steps": 9}),
}
MEMORIES = ["gru", "lstm", "attention"]
TOWERS = pytest.mark.parametrize("share_encoder", [False, True], ids=["apart", "shared"])


class StaggeredBox(Staggered):
    """The same with actions of two numbers."""

    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)


class Unmoved:
    """An agent that learns without moving: what it was when it acted, it still is when it learns.

    Attributes:
        rollouts: of each rollout its columns, the carry before it, and what is learned from it.
        learned: of each minibatch the batch and, as the loss computes them, log-probabilities, values and entropies.
    """

    def __init__(self, kind: str, make=Staggered, *, memory: str = "lstm", **fields):
        problem = problem_on(make, num_envs=NUM_ENVS, total_steps=70 * NUM_ENVS)
        config, sizes = CONFIGS[kind]
        quiet = {"learning_rate": 1e-30, "gamma": GAMMA, "memory": memory, "memory_size": 8, "hidden": (8,)}
        self.agent = agent_on(problem, config, **(sizes | quiet | fields))
        _make_vivid(self.agent.trained.network)
        self.rollouts, self.learned = [], []
        self._listen()
        interact(self.agent, problem)

    def _listen(self):
        network, learn = self.agent.updates.network, self.agent.learn

        def hear_loss(obs, state, is_first):
            parameters, value, after = network(obs, state, is_first)
            self._heard = parameters, value
            return parameters, value, after

        def hear_rollout(whole):
            columns = map_leaves(np.copy, self.agent.rollout.columns)  # which the next rollout overwrites
            self.rollouts.append((columns, self.agent.rollout.state, map_leaves(torch.clone, whole)))
            return learn(whole)

        updates = self.agent.updates

        def hear_step(batch, *rest):
            taken = updates(batch, *rest)
            parameters, value = self._heard
            log_prob, entropy = self.agent.distribution.evaluate(parameters, batch.action, batch.mask)
            heard = map_leaves(torch.clone, (batch, log_prob.detach(), value.detach(), entropy.detach()))
            self.learned.append((*heard, taken.figures))
            return taken

        updates.network, self.agent.learn, self.agent.updates = hear_loss, hear_rollout, hear_step

    def values(self, obs, state):
        """The values that the policy gives to observations [N, ...] whose episodes go on from a carry."""
        goes_on = np.zeros(len(obs), np.bool_)
        return self.agent.policy(explore=True).inspect(obs, state, goes_on)["value"]

    def entropies(self, batch):
        """The entropies [T, B] of the policy as it acts: step by step, from the carry before the sequences."""
        state, found = batch.state, []
        for obs, is_first in zip(batch.obs, batch.is_first, strict=True):
            state = map_leaves(np.asarray, state)
            parameters, _, state = self.agent._outputs(obs.numpy(), state, is_first.numpy())
            parameters = map_leaves(torch.as_tensor, parameters)
            found.append(self.agent.distribution.evaluate(parameters, batch.action[len(found)], None)[1])
        return torch.stack(found)


def _make_vivid(network):
    """Let policy and value depend on the carry by far more than rounding."""
    with torch.no_grad():
        for head in (network.policy_head, network.value_head):
            for p in head.parameters():
                p += 1.5 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))


class TestLoss:
    """A rollout is learned from in one go, and acted step by step: both must see the same."""

    @TOWERS
    @pytest.mark.parametrize("memory", MEMORIES)
    @pytest.mark.parametrize("kind", CONFIGS)
    def test_finds_what_was_acted_on_with_resets_inside(self, kind, memory, share_encoder):
        learned = Unmoved(kind, memory=memory, share_encoder=share_encoder).learned
        inside = [bool(batch.is_first[1:].any()) for batch, *_ in learned]
        assert sum(inside) > 5
        for batch, log_prob, value, _, _ in learned:
            torch.testing.assert_close(log_prob, batch.log_prob, atol=1e-5, rtol=0)
            torch.testing.assert_close(value, batch.value, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("make", [Staggered, StaggeredBox])
    @pytest.mark.parametrize("kind", CONFIGS)
    def test_its_figures_are_those_of_the_policy_that_acted(self, kind, make):
        acted = Unmoved(kind, make)
        for batch, _, _, entropy, figures in acted.learned:
            loss, _, value_loss, mean_entropy, approx_kl, clip_fraction, _ = figures
            torch.testing.assert_close(entropy, acted.entropies(batch), atol=1e-5, rtol=0)
            assert mean_entropy == pytest.approx(float(entropy.mean()), abs=1e-5)
            assert value_loss == pytest.approx(float((batch.value - batch.target).square().mean()), rel=1e-3)
            assert approx_kl == pytest.approx(0.0, abs=1e-6)
            assert clip_fraction == 0.0 or kind != "ppo"
            assert np.isfinite(loss)

    @pytest.mark.parametrize("kind", CONFIGS)
    def test_would_notice_if_resets_were_ignored(self, kind):
        """What the tests above compare depends on the resets, and on the carry before the rollout."""
        acted = Unmoved(kind)
        network, evaluate = acted.agent.trained.network, acted.agent.distribution.evaluate
        gaps = np.zeros((2, 3))  # without resets, without a carry; log-probability, value, entropy
        for batch, *right, _ in acted.learned:
            unreset = batch.state, torch.zeros_like(batch.is_first)
            blank = network.initial_state(batch.value.shape[1]), batch.is_first
            for k, (state, is_first) in enumerate((unreset, blank)):
                with torch.no_grad():
                    parameters, value, _ = network(batch.obs, state, is_first)
                log_prob, entropy = evaluate(parameters, batch.action, batch.mask)
                pairs = zip((log_prob, value, entropy), right, strict=True)
                gaps[k] = np.maximum(gaps[k], [float((a - b).abs().max()) for a, b in pairs])
        assert (gaps[0] > 0.01).all()
        assert kind == "reinforce" or (gaps[1] > 0.01).all()  # its rollouts mostly begin with an episode


class TestBootstrap:
    """What follows the last step of a rollout, or of an episode that was cut off, is valued by the network."""

    @staticmethod
    def bootstraps(acted, kind):
        """Yield (found, expected, from a blank carry) for each value that isn't a row's own, and which ended."""
        trace = {"ppo": 0.95}.get(kind, 1.0)
        for columns, _, whole in acted.rollouts:
            stops = trace_stops(columns["terminated"], columns["truncated"], columns["is_first"])
            advantage, value = whole.advantage.numpy(), whole.value.numpy()
            later = np.zeros_like(advantage)
            later[:-1] = advantage[1:]
            delta = advantage - GAMMA * trace * np.where(stops, 0.0, later)
            next_value = (delta + value - columns["reward"]) / GAMMA
            for t, i in np.argwhere(stops & ~columns["terminated"]):
                obs, carry = columns["next_obs"][t, i][None], _at(columns["next_state"], t, i)
                blank = map_leaves(np.zeros_like, carry)
                yield (
                    next_value[t, i],
                    acted.values(obs, carry)[0],
                    acted.values(obs, blank)[0],
                    bool(columns["truncated"][t, i]),
                )

    @TOWERS
    @pytest.mark.parametrize("kind", CONFIGS)
    def test_goes_on_from_the_carry_that_the_policy_had_there(self, kind, share_encoder):
        acted = Unmoved(kind, share_encoder=share_encoder)
        found, expected, blank, cut = map(np.array, zip(*self.bootstraps(acted, kind), strict=True))
        assert cut.any()  # by a limit; the others by the end of the rollout
        assert not cut.all()
        np.testing.assert_allclose(found, expected, atol=1e-4)
        for ends in (cut, ~cut):
            assert np.abs(expected - blank)[ends].max() > 0.05

    @pytest.mark.parametrize("kind", CONFIGS)
    def test_a_rollout_goes_on_from_the_carry_at_its_start_unless_an_episode_begins_there(self, kind):
        """The value of a rollout's first step: from the last rollout's carry, or from zeros after a reset."""
        acted = Unmoved(kind)
        seen = {True: [], False: []}
        for (before, _, _), (columns, carry, _) in zip(acted.rollouts, acted.rollouts[1:], strict=False):
            for i in range(NUM_ENVS):
                kept = _at(before["next_state"], -1, i)
                assert all(map(np.array_equal, kept, _at(map_leaves(lambda x: x[None], carry), 0, i)))
                first = bool(columns["is_first"][0, i])
                assert first == bool((before["terminated"] | before["truncated"])[-1, i])
                obs, blank = columns["obs"][0, i][None], map_leaves(np.zeros_like, kept)
                right, wrong = (blank, kept) if first else (kept, blank)
                assert columns["value"][0, i] == pytest.approx(acted.values(obs, right)[0], abs=1e-5)
                seen[first].append(abs(columns["value"][0, i] - acted.values(obs, wrong)[0]))
        assert all(max(gaps) > 0.05 for gaps in seen.values())


def _at(carry, t, i):
    """One environment's carry [1, ...] at a row of a column of carries [T, N, ...]."""
    return map_leaves(lambda part: part[t, i][None], carry)
