"""PQN: what it learns from a rollout, what it learns at all, how it acts, and what it refuses."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_lab.agents.pqn import PQN, Config, refuse
from rl_lab.evaluation.evaluate import evaluate
from rl_lab.problem import Problem
from rl_lab.seeding import Streams
from rl_lab.trees import map_leaves
from rl_lab.types import EnvironmentFault, UsageError
from toys import (
    Counting,
    CueRecall,
    Identity,
    Masked,
    Staggered,
    StaggeredMasks,
    copied,
    interact,
    problem_on,
    spec_of,
    vector,
)

GAMMA, LAMBDA = 0.9, 0.7


class Rare(Counting):
    """Gives 4 in every three hundredth step, and nothing in the others."""

    taken = 0

    def step(self, action):
        self.taken += 1
        obs, _, *rest = super().step(action)
        return obs, 4.0 if self.taken % 300 == 0 else 0.0, *rest


def agent_on(problem: Problem, **fields) -> PQN:
    return PQN(Config(**fields), problem, Streams(problem.seed))


def mean_return(agent: PQN, make, episodes: int) -> float:
    return evaluate(agent.policy(explore=False), vector(make, 4), episodes=episodes, seed=1).returns.mean()


# What is learned from -------------------------------------------------------------------------------


class Unmoved:
    """An agent that learns without moving: what it was when it acted, it still is when it learns.

    Attributes:
        steps: all that were taken, one vector step each.
        batches: what was learned from, one rollout each.
    """

    ROWS = 7

    def __init__(self, make, num_envs=3, **fields):
        problem = problem_on(make, num_envs=num_envs, total_steps=5 * self.ROWS * num_envs)
        own = {
            "n_steps": self.ROWS,
            "gamma": GAMMA,
            "q_lambda": LAMBDA,
            "learning_rate": 1e-30,
            "hidden": (8,),
        }
        self.agent = agent_on(problem, **own | fields)
        with torch.no_grad():
            for p in self.agent.trained.network.head.parameters():  # values that differ by more than rounding
                p += 1.5 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel()))
        self.steps, self.batches = [], []
        learn = self.agent.learn

        def heard(whole):
            self.batches.append(map_leaves(torch.clone, whole))
            return learn(whole)

        self.agent.learn = heard
        interact(self.agent, problem, lambda step: self.steps.append(copied(step)))

    def rollouts(self):
        """The steps of each rollout, and what was learned from them as [T, N]."""
        for k, batch in enumerate(self.batches):
            steps = self.steps[k * self.ROWS : (k + 1) * self.ROWS]
            yield steps, batch.target.reshape(self.ROWS, -1).numpy()

    def best(self, obs, state, mask, i):
        """The largest value of a legal action of environment i, whose episode goes on from a carry."""
        goes_on = np.zeros(len(mask) if mask is not None else 3, np.bool_)
        q = self.agent.policy(explore=True).inspect(obs, state, goes_on, mask)["q_values"]
        return q[i].max()


def mixed_returns(unmoved: Unmoved, steps, i: int, t: int) -> float:
    """(1 - lam) * sum of lam^(n - 1) * (n-step return) from step t on, the longest return taking what is left."""
    returns, total, discount = [], 0.0, 1.0
    for k in range(t, len(steps)):
        step = steps[k]
        total += discount * step.reward[i]
        discount *= GAMMA
        value = unmoved.best(step.next_obs, step.next_state, step.next_mask, i)
        returns.append(total + (0.0 if step.terminated[i] else discount * value))
        if step.terminated[i] or step.truncated[i]:
            break
    weights = [(1 - LAMBDA) * LAMBDA**n for n in range(len(returns) - 1)] + [LAMBDA ** (len(returns) - 1)]
    return float(np.dot(weights, returns))


class TestTargets:
    @pytest.mark.parametrize("memory", ["none", "gru", "attention"])
    @pytest.mark.parametrize("make", [Staggered, StaggeredMasks])
    def test_equal_the_mixture_of_all_n_step_returns(self, make, memory):
        """Of the true successors, legal actions and, with a memory, the carry that the step was taken with."""
        unmoved = Unmoved(make, memory=memory, memory_size=8, context=3)
        cut = ended = 0
        for steps, target in unmoved.rollouts():
            expected = [[mixed_returns(unmoved, steps, i, t) for i in range(3)] for t in range(len(steps))]
            np.testing.assert_allclose(target, expected, atol=1e-4)
            cut += sum(int((step.truncated & ~step.terminated).sum()) for step in steps)
            ended += sum(int(step.terminated.sum()) for step in steps)
        assert len(unmoved.batches) == 5
        assert min(cut, ended) > 5

    def test_observations_and_actions_are_those_of_the_steps(self):
        unmoved = Unmoved(Staggered)
        for (steps, _), batch in zip(unmoved.rollouts(), unmoved.batches, strict=True):
            np.testing.assert_array_equal(batch.obs, np.concatenate([step.obs for step in steps]))
            np.testing.assert_array_equal(batch.action, np.concatenate([step.action for step in steps]))

    def test_sequences_begin_with_the_carry_and_know_where_episodes_begin(self):
        unmoved = Unmoved(Staggered, memory="lstm", memory_size=8)
        for (steps, _), batch in zip(unmoved.rollouts(), unmoved.batches, strict=True):
            np.testing.assert_array_equal(batch.is_first, np.stack([step.is_first for step in steps]))
            for ours, theirs in zip(batch.state, steps[0].state, strict=True):
                np.testing.assert_array_equal(ours, theirs)

    def test_a_run_cut_at_a_resume_bootstraps_from_the_successor_that_it_saw(self):
        """No flag says so; only the next step opens an episode."""
        agent = agent_on(problem_on(Staggered), n_steps=2, gamma=GAMMA, q_lambda=LAMBDA, hidden=(8,))
        problem, steps = problem_on(Staggered, total_steps=1), []
        interact(agent_on(problem, hidden=(8,)), problem, lambda step: steps.append(copied(step)))
        first = steps[0]
        agent.observe(first)
        agent.observe(dataclasses.replace(first, obs=first.obs + 1))
        assert first.is_first.all()
        target = agent.rollout_batch().target.numpy()
        value = agent.policy(explore=False).inspect(first.next_obs, (), first.is_first)["q_values"].max()
        np.testing.assert_allclose(target, [first.reward[0] + GAMMA * value] * 2, rtol=1e-5)

    def test_rewards_are_clipped_and_then_normalised(self):
        problem, steps = problem_on(Staggered, num_envs=3, total_steps=21), []
        agent = agent_on(problem, n_steps=8, gamma=0.0, hidden=(8,), reward_clip=0.5, normalise_rewards=True)
        interact(agent, problem, lambda step: steps.append(copied(step)))
        scale = agent.trained.statistics.reward_scale
        assert abs(scale - 1) > 0.1
        expected = np.clip(np.concatenate([step.reward for step in steps]), -0.5, 0.5) * scale
        np.testing.assert_allclose(agent.rollout_batch().target, expected, rtol=1e-5)

    def test_a_rare_reward_keeps_its_size_beside_others(self):
        """Divided by the deviation of returns it is larger than 10, where rewards of ppo are clipped."""
        problem, steps = problem_on(Rare, total_steps=400), []
        agent = agent_on(problem, n_steps=401, gamma=0.0, q_lambda=1.0, hidden=(8,), normalise_rewards=True)
        interact(agent, problem, lambda step: steps.append(copied(step)))
        target, scale = agent.rollout_batch().target.numpy(), agent.trained.statistics.reward_scale
        assert target.max() > 12
        np.testing.assert_allclose(target / scale, [step.reward[0] for step in steps], atol=1e-5)

    @pytest.mark.parametrize("memory", ["none", "gru"])
    def test_the_step_size_falls_with_every_gradient_step(self, memory):
        """As if the steps were taken while the rollout is collected: from all of it on, with each equally less."""
        problem, rates = problem_on(Staggered, num_envs=4, total_steps=80), []
        agent = agent_on(
            problem, n_steps=5, batch_size=8, n_epochs=1, learning_rate=1e-3, learning_rate_final=0.0, hidden=(8,),
            memory=memory, memory_size=4,
        )  # fmt: skip
        agent.trained.optimiser.register_step_pre_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))
        interact(agent, problem)
        per_rollout = (
            3 if memory == "none" else 4
        )  # of 8, 8 and 4 steps, or of one environment's sequence each
        began = np.repeat(np.arange(0, 80, 20), per_rollout)
        at = began + np.tile(20 * np.arange(per_rollout) // per_rollout, 4)
        np.testing.assert_allclose(rates, 1e-3 * (1 - at / 80), rtol=1e-6)

    def test_large_rollouts_are_evaluated_in_parts(self, monkeypatch):
        whole = Unmoved(StaggeredMasks).batches
        monkeypatch.setattr("rl_lab.agents.pqn.agent.MOST_ROWS", 6)
        for one, other in zip(whole, Unmoved(StaggeredMasks).batches, strict=True):
            torch.testing.assert_close(one.target, other.target, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("memory", ["gru", "lstm", "attention"])
class TestResets:
    """A rollout is unrolled in one go; the twins never reset a carry, but begin each episode with a blank one."""

    def test_values_are_those_of_each_episode_seen_alone(self, memory):
        unmoved = Unmoved(Staggered, memory=memory, memory_size=8, context=3)
        policy, goes_on = unmoved.agent.policy(explore=True), np.zeros(1, np.bool_)
        expected = np.empty((len(unmoved.steps), 3))
        for i in range(3):
            for t, step in enumerate(unmoved.steps):
                carry = policy.initial_state(1) if step.is_first[i] else carry  # noqa: F821
                obs = step.obs[i : i + 1]
                expected[t, i] = policy.inspect(obs, carry, goes_on)["q_values"][0, step.action[i]]
                carry = policy.act(obs, carry, goes_on).state
        found = [unmoved.agent.updates.learn(batch, 0).outcome.prediction[0] for batch in unmoved.batches]
        np.testing.assert_allclose(torch.cat(found), expected, atol=1e-5)

    def test_loss_and_gradient_are_those_of_the_parts_between_resets(self, memory):
        unmoved = Unmoved(Staggered, memory=memory, memory_size=8, context=3, max_grad_norm=None)
        agent, inside = unmoved.agent, 0
        network, blank = agent.trained.network, map_leaves(torch.as_tensor, agent.trained.initial_state(1))
        for batch in unmoved.batches:
            loss = torch.zeros(())
            for i in range(3):
                begins = batch.is_first[:, i].nonzero().flatten().tolist()
                inside += sum(at > 0 for at in begins)
                for start, stop in pairwise(sorted({0, *begins, unmoved.ROWS})):
                    part = slice(start, stop), slice(i, i + 1)
                    carry = blank if start in begins else map_leaves(lambda x: x[i : i + 1], batch.state)  # noqa: B023
                    q = network(batch.obs[part], carry, torch.zeros(stop - start, 1, dtype=torch.bool))[0]
                    chosen = q.gather(-1, batch.action[part].unsqueeze(-1)).squeeze(-1)
                    loss = loss + 0.5 * (chosen - batch.target[part]).square().sum() / batch.target.numel()
            outcome = agent.updates.learn(batch, 0).outcome
            gradients = torch.autograd.grad(loss, list(network.parameters()))
            norm = torch.cat([g.flatten() for g in gradients]).norm()
            torch.testing.assert_close(outcome.loss[0], loss.detach(), rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(outcome.norm[0], norm, rtol=1e-4, atol=1e-6)
            for p, g in zip(network.parameters(), gradients, strict=True):
                torch.testing.assert_close(p.grad, g, rtol=1e-3, atol=1e-5)
        assert inside > 5


# Learning --------------------------------------------------------------------------------------------

QUICK = {
    "n_steps": 16, "batch_size": 32, "n_epochs": 4, "gamma": 0.5, "learning_rate": 5e-3, "hidden": (32,),
    "epsilon_fraction": 0.5,
}  # fmt: skip


class TestLearning:
    @pytest.mark.parametrize("seed", [0, 1])
    @pytest.mark.parametrize("fields", [{}, {"normalise_rewards": True}], ids=["plain", "normalised"])
    def test_the_identity_is_learned(self, seed, fields):
        problem = problem_on(lambda: Identity(6), num_envs=8, total_steps=4_096, seed=seed)
        agent = interact(agent_on(problem, **QUICK | fields), problem)
        assert agent.gradient_steps == 4_096 // 128 * 4 * 4
        assert mean_return(agent, lambda: Identity(6), 5) * 5 >= 95  # of 100 steps

    def test_illegal_actions_are_never_taken(self):
        """The environment refuses them, however much the policy would like to."""
        problem = problem_on(Masked, num_envs=8, total_steps=4_096)
        agent = agent_on(problem, **QUICK)
        interact(agent, problem)
        assert mean_return(agent, Masked, 5) * 5 >= 95
        agent.trained.network.head.bias.data[...] = torch.tensor([99.0, -99.0, 99.0, -99.0])
        for explore in (False, True):
            evaluate(agent.policy(explore=explore), vector(Masked, 4), episodes=4, seed=1)

    @pytest.mark.long
    def test_a_cue_is_recalled_with_memory_and_cannot_be_without(self):
        def learned(**fields):
            problem = problem_on(CueRecall, num_envs=8, total_steps=8_064)
            shared = {"n_steps": 12, "batch_size": 48, "n_epochs": 4, "gamma": 0.9, "learning_rate": 5e-3}
            shared |= {"hidden": (16,), "epsilon_fraction": 0.5, "memory_size": 16}
            return interact(agent_on(problem, **shared, **fields), problem)

        assert mean_return(learned(memory="lstm"), CueRecall, 100) >= 0.95
        assert mean_return(learned(), CueRecall, 100) == pytest.approx(0.5, abs=0.2)

    def test_minibatches_of_sequences_hold_whole_environments(self):
        problem, sizes = problem_on(CueRecall, num_envs=4, total_steps=48), []
        agent = agent_on(problem, n_steps=12, batch_size=24, n_epochs=1, memory="gru", memory_size=4)
        updates = agent.updates.learn
        agent.updates.learn = lambda batch, number: (
            sizes.append(batch.target.shape),
            updates(batch, number),
        )[1]
        interact(agent, problem)
        assert sizes == [(12, 2), (12, 2)]


# Acting ----------------------------------------------------------------------------------------------


class TestActing:
    def test_epsilon_falls_with_the_steps_and_ends_where_it_should(self):
        problem = problem_on(Counting, num_envs=2, total_steps=200)
        agent, seen = agent_on(problem, epsilon_fraction=0.5, epsilon_final=0.1, n_steps=10), {}
        interact(agent, problem, lambda _: seen.update({agent.env_steps: agent.epsilon()}))
        assert seen[50] == pytest.approx(0.55)
        assert seen[100] == seen[200] == pytest.approx(0.1)
        assert agent.diagnostics()["epsilon"] == pytest.approx(0.1)

    def test_values_are_shown_in_units_of_reward(self):
        problem = problem_on(Counting, num_envs=2, total_steps=400)
        agent = interact(agent_on(problem, normalise_rewards=True, n_steps=10, hidden=(8,)), problem)
        obs, first = np.zeros((1, 1), np.float32), np.ones(1, np.bool_)
        for explore in (False, True):
            shown = agent.policy(explore=explore).inspect(obs, (), first)["q_values"]
            q = (
                agent.trained.network(torch.from_numpy(obs))[0].detach()
                / agent.trained.statistics.reward_scale
            )
            np.testing.assert_allclose(shown, q, rtol=1e-4)
        assert abs(agent.trained.statistics.reward_scale - 1) > 0.1

    def test_statistics_of_observations_wait_until_a_rollout_is_learned_from(self):
        problem, counts = problem_on(Counting, num_envs=2, total_steps=24), []
        agent = agent_on(problem, normalise_observations=True, n_steps=5, hidden=(8,))
        counted = agent.trained.network.normaliser.moments
        interact(agent, problem, lambda _: counts.append(int(counted.count)))
        assert counts == [0] * 4 + [10] * 5 + [20] * 3


# Refusals --------------------------------------------------------------------------------------------

BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"q_lambda": 1.5}, "q_lambda must be between 0.0 and 1.0, got 1.5"),
            ({"gamma": -0.1}, "gamma must be between 0.0 and 1.0, got -0.1"),
            ({"epsilon_final": 2}, "epsilon_final must be between 0.0 and 1.0, got 2"),
            ({"n_steps": 0}, "n_steps must be at least 1, got 0"),
            ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
            ({"n_epochs": 1.5}, "n_epochs must be a whole number, got 1.5"),
            ({"reward_clip": 0.0}, "reward_clip must be greater than 0.0, got 0.0"),
            ({"normalise_rewards": 1}, "normalise_rewards must be true or false, got 1"),
            ({"compile": "maybe"}, "compile 'maybe' is unknown (allowed: auto, yes, no)"),
            ({"layer_norm": "yes"}, "layer_norm must be true or false, got 'yes'"),
        ],
    )
    def test_values_out_of_range_are_refused_by_name(self, fields, says):
        with pytest.raises(UsageError) as caught:
            Config(**fields)
        assert str(caught.value) == says

    def test_actions_other_than_discrete_ones_are_refused_by_name(self):
        reason = refuse(Config(), dataclasses.replace(spec_of(BOX), action_space=BOX))
        assert reason is not None
        assert reason.startswith("pqn needs Discrete actions; toy has Box(")
        assert refuse(Config(), spec_of(BOX)) is None

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"memory": "lstm"}, "requires memory 'none'"),
            ({"optimiser": "sgd"}, "requires optimiser 'radam' or 'adam'"),
        ],
    )
    def test_what_cannot_be_compiled_is_refused(self, fields, says):
        reason = refuse(Config(compile="yes", **fields), spec_of(BOX))
        assert reason == f"compile 'yes' {says} (allowed: auto, no)"

    @pytest.mark.parametrize("what", ["reward", "next observation"])
    def test_what_is_not_finite_never_reaches_the_rollout(self, what):
        class Broken(Counting):
            steps = 0

            def step(self, action):
                obs, reward, *rest = super().step(action)
                self.steps += 1
                bad = np.nan if self.steps == 30 else 0.0
                return (
                    (obs, reward + bad, *rest) if what == "reward" else (obs + np.float32(bad), reward, *rest)
                )

        problem = problem_on(Broken)
        agent = agent_on(problem, n_steps=8, batch_size=8, n_epochs=1)
        with pytest.raises(EnvironmentFault, match=rf"{what.removeprefix('next ')}: nan"):
            interact(agent, problem)
        assert (agent.env_steps, agent.rollout.filled, agent.gradient_steps) == (29, 29 % 8, 3)
        assert all(p.isfinite().all() for p in agent.trained.network.parameters())


class TestConfig:
    def test_what_is_learned_has_a_known_fixed_point_only_without_lambda(self):
        rule = Config(q_lambda=0.0, gamma=0.9, epsilon_final=0.1, reward_clip=1.0).td_rule()
        assert (rule.loss, rule.gamma, rule.n_steps, rule.epsilon, rule.reward_clip) == (
            "squared",
            0.9,
            1,
            0.1,
            1.0,
        )
        assert rule.unknown is None
        assert "lambda-returns mix returns of many lengths" in Config().td_rule().unknown
        assert "normalise_rewards" in Config(q_lambda=0.0, normalise_rewards=True).td_rule().unknown

    def test_periods_are_told_in_transitions(self):
        config = Config(n_steps=5, epsilon_fraction=0.2)
        assert config.transitions(8, 1000) == {"n_steps": 40, "epsilon_fraction": 200}

    @pytest.mark.parametrize(
        ("fields", "total_steps", "device", "decided"),
        [
            # rollouts of 32 * 64 = 2048 steps in 16 minibatches, twice: 32 gradient steps each
            ({}, 468 * 2048, "cpu", "no"),  # 14,976 of them
            ({}, 469 * 2048, "cpu", "yes"),  # 15,008
            ({}, 469 * 2048, "cuda", "no"),
            ({"optimiser": "sgd"}, 469 * 2048, "cpu", "no"),
            ({"memory": "gru"}, 469 * 2048, "cpu", "no"),
            ({"compile": "no"}, 469 * 2048, "cpu", "no"),
        ],
    )
    def test_compiling_pays_in_long_runs(self, fields, total_steps, device, decided, monkeypatch):
        monkeypatch.setattr("rl_lab.updates.compile_choice.has_compiler", lambda: True)
        problem = problem_on(Counting, num_envs=64, total_steps=total_steps)
        problem = dataclasses.replace(problem, device=device)
        assert Config(**fields).resolve(problem).compile == decided
