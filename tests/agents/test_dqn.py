"""DQN: its updates against hand, what its replays add, and what must not happen."""

from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import rl_lab.agents.dqn.agent
from clocked import Clock
from rl_lab.agents.dqn import Config, gradient_steps_per_call, refuse
from rl_lab.agents.dqn.config import make_loss
from rl_lab.nn.acting import make_acting_values
from rl_lab.nn.cores import CORES
from rl_lab.replay.sequences import Sequences
from rl_lab.replay.transitions import Transitions
from rl_lab.types import EnvironmentFault, UsageError
from rl_lab.updates.optimisers import OPTIMISERS
from rl_lab.updates.q_updates import QUpdates, figures_of
from rl_lab.updates.td import select
from toys import (
    Counting,
    CueRecall,
    Identity,
    agent_on,
    interact,
    problem_on,
    sample,
    spec_of,
)

ONLINE = [[1.0, 3.0], [2.0, 0.0], [5.0, 6.0]]  # q(s, a) of the three states


TARGET = [[4.0, 8.0], [10.0, 20.0], [-6.0, -2.0]]


def table_agent(**fields):
    """A DQN over three states whose networks are the tables above."""
    agent = agent_on(problem_on(lambda: Identity(3)), hidden=(), gamma=0.5, **fields)
    agent.num_actions = 2
    for network, table in ((agent.trained.network, ONLINE), (agent.target.network, TARGET)):
        network.head = torch.nn.Linear(3, 2)
        network.head.weight.data[...] = torch.tensor(table).T
        network.head.bias.data[...] = 0.0
    before = agent.updates
    descent = torch.optim.SGD(agent.trained.network.parameters(), lr=1.0)
    agent.updates = QUpdates(agent.trained.network, agent.target.network, before.loss, descent, before.clip)
    return agent


def transitions(obs, action, reward, terminated, next_obs, next_mask=None, discount=0.5, weight=None):
    return Transitions(
        obs=np.array(obs),
        action=np.array(action),
        reward=np.array(reward, np.float32),
        discount=np.full(len(action), discount, np.float32),
        terminated=np.array(terminated, np.bool_),
        next_obs=np.array(next_obs),
        next_mask=None if next_mask is None else np.array(next_mask, np.bool_),
        weight=None if weight is None else np.array(weight, np.float32),
        index=np.arange(len(action)),
        age=0.0,
    )


def figures(agent, drawn):
    """One gradient step on all that was drawn."""
    agent.updates.batch_size = len(drawn.action)
    return figures_of([agent.learn(drawn)])


class TestArithmetic:
    """One transition from state 0 with action 1, where q = 3."""

    @pytest.mark.parametrize(
        ("fields", "terminated", "mask", "target"),
        [
            ({}, 0, None, 1 + 0.5 * 20),  # the greatest value of the target network at state 1
            ({}, 1, None, 1),
            ({}, 0, [1, 0], 1 + 0.5 * 10),  # action 1 is illegal there
            ({"double": True}, 0, None, 1 + 0.5 * 10),  # the online network takes action 0 there
            ({"double": True}, 0, [0, 1], 1 + 0.5 * 20),
            ({"double": True}, 1, [0, 1], 1),
        ],
    )
    def test_targets_and_losses_equal_those_computed_by_hand(self, fields, terminated, mask, target):
        drawn = transitions([0], [1], [1.0], [terminated], [1], None if mask is None else [mask])
        error = target - 3
        for loss, expected in (("huber", abs(error) - 0.5), ("squared", error**2)):
            found = figures(table_agent(loss=loss, **fields), drawn)
            assert found["target_mean"] == pytest.approx(target, abs=1e-6)
            assert found["loss"] == pytest.approx(expected, abs=1e-6)
            assert found["td_error"] == pytest.approx(abs(error), abs=1e-6)
            assert found["q_mean"] == found["q_max"] == 3

    def test_a_small_error_is_squared_by_the_huber_loss(self):
        found = figures(table_agent(), transitions([1], [0], [1.6], [1], [0]))  # q = 2, target = 1.6
        assert found["loss"] == pytest.approx(0.5 * 0.4**2, abs=1e-6)

    def test_losses_are_averaged_over_the_batch(self):
        drawn = transitions([0, 1], [1, 0], [1, 1.6], [0, 1], [1, 0])  # errors 8 and -0.4
        found = figures(table_agent(), drawn)
        assert found["loss"] == pytest.approx((7.5 + 0.08) / 2, abs=1e-6)
        assert found["target_mean"] == pytest.approx((11 + 1.6) / 2, abs=1e-6)

    def test_one_gradient_step_moves_only_what_was_taken(self):
        agent = table_agent(loss="squared")
        figures(agent, transitions([0, 1], [1, 0], [1, 1.6], [0, 1], [1, 0]))
        # d/dq of the mean of (q - target)^2 is (q - target): -8 and 0.4; the norm of all of it is below 10 but
        # the bias shares it: sqrt(2 * (8^2 + 0.4^2)) = 11.33, so that it is scaled by 10 / 11.33
        scale = 10 / np.sqrt(2 * (8**2 + 0.4**2))
        expected = np.array(ONLINE)
        expected[0, 1] += 8 * scale
        expected[1, 0] -= 0.4 * scale
        np.testing.assert_allclose(agent.trained.network.head.weight.detach().numpy().T, expected, atol=1e-5)

    def test_the_target_network_is_left_alone(self):
        agent = table_agent()
        figures(agent, transitions([0], [1], [1.0], [0], [1]))
        np.testing.assert_array_equal(agent.target.network.head.weight.detach().numpy().T, TARGET)
        assert all(p.grad is None for p in agent.target.network.parameters())

    @pytest.mark.parametrize("double", [False, True])
    def test_windows_equal_their_valid_transitions_one_by_one(self, double):
        """Two windows of three steps; the second ends after its first."""
        window = Sequences(
            obs=np.array([[0, 1], [1, 2], [2, 0], [0, 0]]),
            action=np.array([[1, 0], [0, 1], [1, 1]]),
            reward=np.array([[1, 2], [3, 4], [5, 6]], np.float32),
            terminated=np.array([[0, 0], [0, 1], [1, 0]], np.bool_),
            next_mask=np.array([[[1, 1], [1, 0]], [[1, 1], [0, 1]], [[1, 1], [1, 1]]], np.bool_),
            valid=(valid := np.array([[1, 1], [1, 0], [1, 0]], np.bool_)),
            learned=valid,
            opens=np.array([True, False]),
            state=(),
            weight=None,
            index=np.arange(2),
            age=0.0,
        )
        single = transitions(
            [0, 1, 2, 1], [1, 0, 1, 0], [1, 3, 5, 2], [0, 0, 1, 0], [1, 2, 0, 2],
            [[1, 1], [1, 1], [1, 1], [1, 0]],
        )  # fmt: skip
        one, other = table_agent(double=double), table_agent(double=double)
        one.updates.loss = make_loss(dataclasses.replace(one.config, memory="lstm"))
        found, expected = figures(one, window), figures(other, single)
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-6)
        assert found["grad_norm"] == pytest.approx(expected["grad_norm"], abs=1e-5)
        torch.testing.assert_close(one.trained.network.head.weight, other.trained.network.head.weight)


class TestStoredCarry:
    def test_windows_are_learned_from_the_carry_they_were_acted_with(self):
        """Unrolled over its own replay, the network finds the values that it acted on."""
        problem = problem_on(CueRecall, num_envs=2, total_steps=60)
        agent = agent_on(
            problem, memory="lstm", memory_size=8, sequence_length=5, learning_starts_env_steps=60
        )
        seen = []

        def remember(step):
            carry = tuple(np.where(step.is_first[:, None], 0, part) for part in step.state)
            q, _ = make_acting_values(agent.trained.network, agent.trained.device)(
                step.obs, carry, np.zeros(2, np.bool_)
            )
            seen.append(q)

        interact(agent, problem, remember)
        drawn = agent.buffer.replay.sample(32, np.random.default_rng(0))
        batch = select(agent.updates.loss.batch(drawn, agent.config.batch_size, torch.as_tensor), 0)
        q = agent.trained.network(batch.obs, batch.state, torch.zeros(batch.obs.shape[:2], dtype=torch.bool))[
            0
        ]
        rows = np.stack(seen)  # [K, N, A]
        for b in range(32):
            for t in np.flatnonzero(drawn.valid[:, b]):
                distance = np.abs(rows - q[t, b].detach().numpy()).max(axis=-1)
                assert distance.min() < 1e-5


class TestWhatReplayAdds:
    def test_importance_weights_scale_each_error(self):
        """Errors 8 and -0.4 with Huber losses 7.5 and 0.08, weighted 1 and 0.5."""
        drawn = transitions([0, 1], [1, 0], [1, 1.6], [0, 1], [1, 0], weight=[1.0, 0.5])
        assert figures(table_agent(), drawn)["loss"] == pytest.approx((7.5 + 0.5 * 0.08) / 2, abs=1e-6)

    def test_the_discount_is_that_of_the_steps_really_used(self):
        drawn = transitions([0], [1], [1.0], [0], [1], discount=0.5**3)
        assert figures(table_agent(), drawn)["target_mean"] == pytest.approx(1 + 0.125 * 20, abs=1e-6)

    def test_priorities_follow_the_errors(self):
        """After a gradient step the errors of the drawn transitions are their priorities."""
        problem = problem_on(CueRecall, total_steps=60)
        agent = interact(agent_on(problem, prioritised=True, learning_starts_env_steps=60), problem)
        told = {}
        agent.buffer.replay.update_priorities = lambda index, errors: told.update(index=index, errors=errors)
        drawn = sample(agent)
        q = (
            agent.trained.network(torch.from_numpy(drawn.obs))[0]
            .detach()
            .numpy()[np.arange(64), drawn.action]
        )
        best = agent.target.network(torch.from_numpy(drawn.next_obs))[0].numpy().max(axis=1)
        target = drawn.reward + 0.99 * (1 - drawn.terminated) * best
        agent.learn(drawn)
        np.testing.assert_array_equal(told["index"], drawn.index)
        np.testing.assert_allclose(told["errors"], target - q, atol=1e-6)

    def test_beta_rises_to_one_over_the_budget(self):
        agent = agent_on(problem_on(Counting, total_steps=100), prioritised=True, priority_beta=0.4)
        found = []
        for step in (0, 50, 100):
            agent.env_steps = step
            found.append(agent.sample._beta(agent.env_steps))
        assert found == pytest.approx([0.4, 0.7, 1.0])

    def test_clipped_rewards_are_learned_from_and_raw_ones_kept(self):
        problem = problem_on(lambda: Scaled(Counting(), 5.0), total_steps=40)
        agent = interact(agent_on(problem, reward_clip=1.0, learning_starts_env_steps=40), problem)
        assert set(sample(agent).reward) == {1.0}
        assert set(agent.buffer.replay.columns["reward"][:40, 0]) == {5.0}

    @pytest.mark.parametrize(
        ("fields", "steps"),
        [
            ({}, 1),
            ({"gradient_steps_per_update": 128}, 16),
            ({"gradient_steps_per_update": 128, "batch_size": 512}, 4),
            ({"gradient_steps_per_update": 128, "batch_size": 4096}, 1),
            ({"gradient_steps_per_update": 6}, 6),
            ({"gradient_steps_per_update": 6, "target_period_updates": 10}, 2),
            ({"gradient_steps_per_update": 34}, 2),
            ({"gradient_steps_per_update": 8, "prioritised": True}, 1),
            ({"gradient_steps_per_update": 8, "memory": "lstm"}, 1),
        ],
    )
    def test_a_call_never_runs_over_a_change_of_target_or_priorities(self, fields, steps):
        assert gradient_steps_per_call(Config(**fields)) == steps

    def test_a_target_period_in_updates_takes_the_place_of_that_in_environment_steps(self, monkeypatch):
        """Else the target would also move every 3 environment steps."""
        clock = Clock(
            monkeypatch, target_period_updates=50, target_period_env_steps=3, learning_starts_env_steps=100
        )
        assert clock.run(60).synchronised == []

    def test_a_target_period_in_updates_counts_gradient_steps(self, monkeypatch):
        problem = problem_on(Counting, total_steps=60)
        agent = agent_on(
            problem, learning_starts_env_steps=0, target_period_updates=6, gradient_steps_per_update=4
        )
        seen = []
        monkeypatch.setattr(
            rl_lab.agents.dqn.agent, "polyak_update", lambda *_: seen.append(agent.gradient_steps)
        )
        interact(agent, problem)
        assert agent.gradient_steps == 60
        assert seen == list(range(6, 61, 6))


class Scaled(gymnasium.RewardWrapper):
    def __init__(self, env, scale):
        super().__init__(env)
        self._scale = scale

    def reward(self, reward):
        return self._scale * reward


class TestFailures:
    @pytest.mark.parametrize("reward", [float("nan"), float("inf"), -float("inf")])
    @pytest.mark.parametrize("loss", ["huber", "squared"])
    def test_a_loss_that_is_not_finite_raises_and_leaves_the_weights(self, reward, loss):
        agent = agent_on(problem_on(Counting), loss=loss)
        before = [p.detach().clone() for p in agent.trained.network.parameters()]
        drawn = transitions(
            np.ones((2, 1), np.float32), [0, 1], [1, reward], [0, 0], np.ones((2, 1), np.float32)
        )
        with pytest.raises(FloatingPointError) as caught:
            agent.learn(drawn)
        assert "\n" not in str(caught.value)
        assert agent.gradient_steps == 0
        for p, kept in zip(agent.trained.network.parameters(), before, strict=True):
            assert torch.equal(p, kept)

    def test_an_observation_that_is_not_finite_raises_too(self):
        agent = agent_on(problem_on(Counting))
        seen = np.full((1, 1), np.nan, np.float32)
        with pytest.raises(FloatingPointError):
            agent.learn(transitions(seen, [0], [1], [0], seen))
        assert all(p.isfinite().all() for p in agent.trained.network.parameters())

    @pytest.mark.parametrize("num_envs", [1, 2])
    def test_a_broken_environment_stops_training_at_the_very_step(self, num_envs):
        class Broken(Counting):
            steps = 0

            def step(self, action):
                obs, reward, *rest = super().step(action)
                self.steps += 1
                return obs, float("nan") if self.steps == 60 else reward, *rest

        problem = problem_on(Broken, num_envs=num_envs)
        agent = agent_on(problem, learning_starts_env_steps=20)
        with pytest.raises(EnvironmentFault, match="reward: nan"):
            interact(agent, problem)
        assert agent.env_steps == 59 * num_envs == len(agent.buffer.replay)
        assert agent.gradient_steps > 0
        assert all(p.isfinite().all() for p in agent.trained.network.parameters())

    @pytest.mark.parametrize("what", ["reward", "next_obs"])
    def test_a_step_that_is_not_finite_is_refused_whoever_hands_it_over(self, what):
        problem, steps = problem_on(Counting, total_steps=3), []
        agent = interact(agent_on(problem), problem, steps.append)
        broken = dataclasses.replace(
            steps[-1], checked=False, **{what: getattr(steps[-1], what) * np.float32(np.nan)}
        )
        with pytest.raises(FloatingPointError, match="not finite"):
            agent.observe(broken)
        assert len(agent.buffer.replay) == 3

    def test_the_seed_decides_the_weights(self):
        def weights(seed):
            torch.manual_seed(torch.seed() % 1_000)
            return next(agent_on(problem_on(Counting, seed=seed)).trained.network.parameters())

        assert torch.equal(weights(1), weights(1))
        assert not torch.equal(weights(1), weights(2))

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"learning_rate": 0.0}, "learning_rate must be greater than 0.0, got 0.0"),
            ({"learning_rate": float("nan")}, "learning_rate must be greater than 0.0, got nan"),
            ({"gamma": 1.5}, "gamma must be between 0.0 and 1.0, got 1.5"),
            ({"target_tau": 0.0}, "target_tau must be greater than 0.0, got 0.0"),
            ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
            ({"n_steps": 0}, "n_steps must be at least 1, got 0"),
            ({"reward_clip": 0.0}, "reward_clip must be greater than 0.0, got 0.0"),
            (
                {"optimiser": "lion"},
                f"optimiser 'lion' is unknown (allowed: {', '.join(OPTIMISERS)})",
            ),
            ({"priority_eta": 1.5}, "priority_eta must be between 0.0 and 1.0, got 1.5"),
            ({"burn_in_steps": -1}, "burn_in_steps must be at least 0, got -1"),
            (
                {"memory": "lstm", "sequence_length": 16, "burn_in_steps": 8, "sequence_period_steps": 9},
                "sequence_period_steps 9 must be at most sequence_length 16 - burn_in_steps 8 = 8, or steps are"
                " left out",
            ),
            ({"memory": "ntm"}, f"memory 'ntm' is unknown (allowed: {', '.join(CORES)})"),
            (
                {"memory": "lstm", "sequence_length": 16, "burn_in_steps": 16},
                "sequence_period_steps 1 must be at most sequence_length 16 - burn_in_steps 16 = 0, or steps are"
                " left out",
            ),
            ({"value_rescaling": 1}, "value_rescaling must be true or false, got 1"),
            ({"loss": "l1"}, "loss 'l1' is unknown (allowed: huber, squared)"),
        ],
    )
    def test_values_out_of_range_are_refused_by_name(self, fields, says):
        with pytest.raises(UsageError) as caught:
            Config(**fields)
        assert str(caught.value) == says

    @pytest.mark.parametrize(
        ("spec", "fields", "says"),
        [
            (spec_of(spaces.Text(5)), {}, "Dict or Tuple observations, not Text"),
            (spec_of(spaces.Discrete(2)), {"encoder": "cnn"}, "takes images"),
            (
                spec_of(spaces.Discrete(2), num_envs=4),
                {"memory": "lstm", "replay_capacity": 60},
                "sequence_length 16 is longer than the replay, which holds 15 steps of each",
            ),
            (spec_of(spaces.Discrete(2)), {"replay_capacity": 10**15}, "allowed: up to"),
        ],
    )
    def test_problems_it_cannot_take_are_refused_in_a_line(self, spec, fields, says):
        reason = refuse(Config(**fields), spec)
        assert reason is not None
        assert says in reason
        assert "\n" not in reason

    def test_actions_that_are_not_discrete_are_refused_with_who_takes_them(self):
        spec = spec_of(spaces.Discrete(2))
        for actions in (spaces.MultiDiscrete([2, 2]), spaces.Box(-1, 1, (1,))):
            reason = refuse(Config(), dataclasses.replace(spec, action_space=actions))
            assert reason is not None
            assert reason.startswith("dqn needs Discrete actions; toy has ")
            assert "ppo, a2c and reinforce" in reason
        for actions in (spaces.Discrete(2), spaces.Discrete(2, start=-3)):
            assert refuse(Config(), dataclasses.replace(spec, action_space=actions)) is None
