"""DQN's clock against a count, and its parameters against SB3's."""

from __future__ import annotations

from itertools import groupby

import gymnasium
import numpy as np
import pytest
import torch

import rl_lab.agents.dqn.agent
from clocked import Clock
from rl_lab.replay.transitions import Transitions
from rl_lab.training.registry import preset_fields
from rl_lab.updates.td import Outcome
from toys import (
    Counting,
    agent_on,
    interact,
    problem_on,
)


class TestAgainstSB3:
    @pytest.mark.parametrize("hidden", [(256, 256), (16,)])
    def test_the_same_batches_from_the_same_weights_give_the_same_parameters(self, hidden):
        """100 updates with a copy of the target after every 10th."""
        from stable_baselines3.common.buffers import ReplayBufferSamples

        agent, model = self.twins(hidden)
        rng = np.random.default_rng(0)
        for update in range(100):
            drawn = self.draw(rng)
            column = [torch.as_tensor(x)[:, None].float() for x in (drawn.terminated, drawn.reward)]
            samples = ReplayBufferSamples(
                torch.as_tensor(drawn.obs), torch.as_tensor(drawn.action)[:, None],
                torch.as_tensor(drawn.next_obs), *column,
            )  # fmt: skip
            model.replay_buffer.sample = lambda *_, samples=samples, **__: samples
            model.train(gradient_steps=1, batch_size=64)
            agent.learn(drawn)
            if update % 10 == 9:
                self.update_targets(agent, model)
        for ours, theirs in (
            (agent.trained.network, model.q_net),
            (agent.target.network, model.q_net_target),
        ):
            for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
                torch.testing.assert_close(p, q, atol=1e-6, rtol=0)
        first = next(agent.trained.network.parameters())
        assert (first - self.initial).abs().max() > 0.01  # they did go somewhere

    def twins(self, hidden):
        from stable_baselines3 import DQN as SB3DQN
        from stable_baselines3.common.logger import Logger

        model = SB3DQN(
            "MlpPolicy", "CartPole-v1", learning_rate=2.3e-3, gamma=0.99, seed=3, device="cpu",
            buffer_size=100, policy_kwargs={"net_arch": list(hidden)},
        )  # fmt: skip
        model.set_logger(Logger(None, []))
        problem = problem_on(lambda: gymnasium.make("CartPole-v1"))
        agent = agent_on(problem, learning_rate=2.3e-3, gamma=0.99, hidden=hidden)
        with torch.no_grad():
            for ours, theirs in (
                (agent.trained.network, model.q_net),
                (agent.target.network, model.q_net_target),
            ):
                for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
                    p.copy_(q)
        self.initial = next(agent.trained.network.parameters()).detach().clone()
        return agent, model

    @staticmethod
    def draw(rng):
        return Transitions(
            obs=rng.normal(size=(64, 4)).astype(np.float32),
            action=rng.integers(2, size=64),
            reward=rng.normal(size=64).astype(np.float32),
            discount=np.full(64, 0.99, np.float32),
            terminated=rng.random(64) < 0.2,
            next_obs=rng.normal(size=(64, 4)).astype(np.float32),
            next_mask=None,
            weight=None,
            index=np.arange(64),
            age=0.0,
        )

    @staticmethod
    def update_targets(agent, model):
        from stable_baselines3.common.utils import polyak_update as theirs

        rl_lab.agents.dqn.agent.polyak_update(agent.trained.network, agent.target.network, 1.0)
        theirs(model.q_net.parameters(), model.q_net_target.parameters(), 1.0)


class TestClock:
    def test_the_preset_of_cartpole_learns_in_bursts_and_synchronises_while_collecting(self, monkeypatch):
        fields = preset_fields("dqn", "zoo:CartPole-v1")
        total = fields.pop("total_steps")
        fields = rl_lab.agents.dqn.build(**fields).config.__dict__ | {"replay_capacity": 1_000, "hidden": ()}
        clock = Clock(monkeypatch, **fields)
        assert clock.agent.collect_env_steps == 256
        env_steps = -(-total // 256) * 256
        clock.run(env_steps)
        assert (env_steps, len(clock.learned)) == (50_176, 24_704)
        when, how_many = np.unique(clock.learned, return_counts=True)
        assert when.tolist() == list(range(1_024, 50_177, 256))  # the first multiple behind 1000
        assert set(how_many) == {128}
        assert clock.synchronised == [(step, 1.0) for step in range(10, 50_177, 10)]

    def test_within_a_burst_the_target_stands_still(self, monkeypatch):
        clock = Clock(
            monkeypatch,
            train_period_env_steps=256,
            gradient_steps_per_update=128,
            target_period_env_steps=10,
            learning_starts_env_steps=0,
        )
        order = []
        monkeypatch.setattr(rl_lab.agents.dqn.agent, "polyak_update", lambda *_: order.append("target"))
        monkeypatch.setattr(
            clock.agent, "learn", lambda drawn: order.extend(["learn"] * 16) or Outcome(*torch.zeros(4, 16))
        )
        clock.run(1_280)  # 1280 is due for both
        runs = [(k, len(list(g))) for k, g in groupby(order)]
        assert runs == [("target", n) if k == "target" else (k, 128) for k, n in runs]
        assert [n for k, n in runs if k == "target"] == [25, 26, 25, 26, 26]
        assert order[-128:] == ["learn"] * 128  # the target goes first

    @pytest.mark.parametrize(
        ("num_envs", "period", "expected"),
        [
            (1, 10, list(range(10, 101, 10))),
            (4, 10, [12, 20, 32, 40, 52, 60, 72, 80, 92, 100]),  # the first step behind each multiple
            (4, 8, list(range(8, 101, 8))),
            (4, 3, list(range(4, 101, 4))),  # once a step, however many multiples it passes
            (3, 50, [51, 102]),
        ],
    )
    @pytest.mark.parametrize("tau", [1.0, 0.25])
    def test_target_periods_are_counted_in_environment_steps(
        self, monkeypatch, num_envs, period, expected, tau
    ):
        clock = Clock(monkeypatch, num_envs, target_period_env_steps=period, target_tau=tau).run(100)
        assert clock.synchronised == [(step, tau) for step in expected]

    @pytest.mark.parametrize(
        ("num_envs", "starts", "period", "expected"),
        [
            (1, 0, 4, [4, 8, 12, 16, 20]),
            (1, 8, 4, [12, 16, 20]),  # strictly behind, as in SB3
            (1, 7, 4, [8, 12, 16, 20]),
            (2, 8, 4, [12, 16, 20]),
            (2, 0, 1, sorted([*range(2, 21, 2)] * 2)),  # two are due in each step
            (3, 0, 4, [6, 9, 12, 18, 21]),
        ],
    )
    def test_no_gradient_step_comes_before_learning_starts(
        self, monkeypatch, num_envs, starts, period, expected
    ):
        fields = {"learning_starts_env_steps": starts, "train_period_env_steps": period}
        assert Clock(monkeypatch, num_envs, **fields).run(20).learned == expected

    def test_epsilon_is_one_until_learning_starts_and_then_follows_the_budget(self, monkeypatch):
        clock = Clock(
            monkeypatch, learning_starts_env_steps=100, epsilon_fraction=0.5, epsilon_final=0.1
        )  # of 1000 steps
        found = {}
        for step in (0, 99, 100, 250, 500, 900):
            clock.run(step)
            found[step] = clock.agent.epsilon()
        assert found == pytest.approx({0: 1, 99: 1, 100: 0.82, 250: 0.55, 500: 0.1, 900: 0.1})

    def test_a_soft_update_moves_by_its_share(self):
        problem = problem_on(Counting, total_steps=4)
        agent = agent_on(problem, target_period_env_steps=4, target_tau=0.25)
        with torch.no_grad():
            for ours, theirs in zip(
                agent.target.network.parameters(), agent.trained.network.parameters(), strict=True
            ):
                theirs.fill_(8.0)
                ours.fill_(4.0)
        interact(agent, problem)
        assert {float(w) for p in agent.target.network.parameters() for w in p.flatten()} == {5.0}
