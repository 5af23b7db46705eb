"""DQN's learning against thresholds, and its state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rl_lab.agents.dqn import DQN
from rl_lab.evaluation.evaluate import evaluate
from rl_lab.evaluation.exact import exact_figures
from rl_lab.nn.acting import make_acting_values
from toys import (
    ConstantReward,
    Counting,
    CueRecall,
    Identity,
    agent_on,
    interact,
    problem_on,
    sample,
    vector,
)


class TestDueling:
    def test_advantages_are_taken_from_their_mean(self):
        agent = agent_on(problem_on(lambda: Identity(3)), hidden=(), dueling=True)
        head = agent.trained.network.head
        head.value[0].weight.data[...] = torch.tensor([[1.0, 2.0, 3.0]])
        head.value[0].bias.data[...] = 0.0
        head.advantage[0].weight.data[...] = torch.tensor([[1.0, 0, 0], [2.0, 0, 0], [6.0, 0, 0]])
        head.advantage[0].bias.data[...] = 0.0
        q = agent.trained.network(torch.tensor([0, 1]))[0].detach().numpy()
        np.testing.assert_allclose(q, [[1 + 1 - 3, 1 + 2 - 3, 1 + 6 - 3], [2, 2, 2]], atol=1e-6)

    def test_the_last_width_is_that_of_both_streams(self):
        agent = agent_on(problem_on(Counting), hidden=(8, 16), dueling=True)
        assert agent.trained.network.encoder.size == 8
        assert [
            stream[0].out_features
            for stream in (agent.trained.network.head.value, agent.trained.network.head.advantage)
        ] == [
            16,
            16,
        ]

    def test_acting_on_views_equals_the_network(self):
        agent = agent_on(problem_on(Counting), hidden=(8, 16), dueling=True)
        obs = np.linspace(-1, 1, 5, dtype=np.float32)[:, None]
        acted = agent.policy(explore=False).inspect(obs, (), np.ones(5, np.bool_))["q_values"]
        np.testing.assert_allclose(
            acted, agent.trained.network(torch.from_numpy(obs))[0].detach().numpy(), atol=1e-6
        )


def mean_return(agent, make, episodes):
    return evaluate(agent.policy(explore=False), vector(make, 4), episodes=episodes, seed=1).returns.mean()


class TestLearning:
    def test_a_constant_reward_under_a_time_limit_is_worth_that_of_eternity(self):
        """The limit truncates, so that Q is 1 / (1 - gamma) = 5, not the 3.4 of five steps."""
        problem = problem_on(ConstantReward, total_steps=2_000)
        agent = interact(
            agent_on(
                problem, gamma=0.8, learning_rate=3e-3, learning_starts_env_steps=50, target_period_env_steps=20,
                hidden=(16,), batch_size=32,
            ),
            problem,
        )  # fmt: skip
        q = agent.policy(explore=False).inspect(np.zeros((1, 1), np.float32), (), np.ones(1, np.bool_))
        np.testing.assert_allclose(q["q_values"], 5.0, atol=0.05)

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"double": True, "target_tau": 0.5},
            {"dueling": True, "prioritised": True},
            {"n_steps": 3, "gradient_steps_per_update": 2, "train_period_env_steps": 8},
        ],
    )
    def test_the_identity_is_learned(self, fields):
        problem = problem_on(lambda: Identity(6), num_envs=2, total_steps=1_500)
        agent = interact(
            agent_on(problem, gamma=0.5, learning_starts_env_steps=100, target_period_env_steps=50, **fields),
            problem,
        )
        assert mean_return(agent, lambda: Identity(6), 5) * 5 >= 95  # of 100 steps

    @pytest.mark.long
    def test_a_cue_is_recalled_with_memory_and_cannot_be_without(self):
        def learn(**fields):
            problem = problem_on(CueRecall, num_envs=4, total_steps=6_000)
            return interact(
                agent_on(
                    problem, gamma=0.9, learning_rate=3e-3, learning_starts_env_steps=200,
                    train_period_env_steps=8, target_period_env_steps=100, batch_size=32,
                    hidden=(16,), memory_size=16, sequence_length=3, **fields,
                ),
                problem,
            )  # fmt: skip

        assert mean_return(learn(memory="lstm"), CueRecall, 100) >= 0.95
        assert mean_return(learn(), CueRecall, 100) == pytest.approx(0.5, abs=0.2)

    @pytest.mark.long
    def test_a_picture_is_learned_from(self):
        import rl_lab

        def make():
            return rl_lab.make_env("lab/GridWorldPixels-v0", {"map": "S..G"})

        problem = problem_on(make, total_steps=800)
        agent = interact(
            agent_on(
                problem, gamma=0.9, learning_starts_env_steps=100, epsilon_fraction=0.7, batch_size=16,
                hidden=(32,), target_period_env_steps=25, replay_capacity=1_000, double=True,
            ),
            problem,
        )  # fmt: skip
        assert agent.buffer.replay.observations.arrays[0].dtype == np.uint8
        found = exact_figures(agent.policy(explore=False), problem.model, 0.9, 200, 4)
        assert found["regret"] < 0.02


class TestState:
    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"memory": "lstm", "sequence_length": 3, "memory_size": 8},
            {"average_decay": 0.9, "layer_norm": True},
        ],
    )
    def test_a_loaded_agent_learns_on_to_the_bit(self, tmp_path, fields):
        from rl_lab.storage.checkpoint import Checkpoints

        fields |= {"learning_starts_env_steps": 50, "replay_capacity": 80, "target_period_env_steps": 30}
        problem = problem_on(CueRecall, num_envs=2, total_steps=200)
        agent = interact(agent_on(problem, **fields), problem)
        Checkpoints(tmp_path).save(200, {"agent": agent.state_dict()})
        other = agent_on(problem, **fields)
        values = other.policy(explore=False)
        other.load_state_dict(Checkpoints(tmp_path).load()[1]["agent"])
        assert (other.env_steps, other.gradient_steps) == (agent.env_steps, agent.gradient_steps)
        for one in (agent, other):
            one.sample._rng.bit_generator.state = np.random.PCG64(5).state
            for _ in range(5):
                one.learn(sample(one))
        for ours, theirs in zip(
            other.trained.network.parameters(), agent.trained.network.parameters(), strict=True
        ):
            assert torch.equal(ours, theirs)
        obs, first = np.eye(5, dtype=np.float32), np.ones(5, np.bool_)
        asked = [p.inspect(obs, p.initial_state(5), first) for p in (values, agent.policy(explore=False))]
        np.testing.assert_array_equal(asked[0]["q_values"], asked[1]["q_values"])

    def test_weights_alone_make_a_policy_without_a_replay(self):
        problem = problem_on(CueRecall, total_steps=20)
        agent = interact(agent_on(problem), problem)
        other = agent_on(problem)
        other.load_state_dict({"weights": agent.state_dict()["weights"]})
        assert other.buffer.replay is None
        assert isinstance(other, DQN)
        obs = np.eye(5, dtype=np.float32)
        ours, theirs = (a.policy(explore=False).inspect(obs, (), np.ones(5, bool)) for a in (other, agent))
        np.testing.assert_array_equal(ours["q_values"], theirs["q_values"])

    def test_the_average_is_judged_and_saved_and_the_live_network_acts(self):
        problem = problem_on(CueRecall, total_steps=40)
        agent = interact(agent_on(problem, average_decay=0.99, learning_starts_env_steps=10), problem)
        assert agent.gradient_steps > 0
        obs, first = np.eye(5, dtype=np.float32), np.ones(5, np.bool_)
        judged, acting = (agent.policy(explore=e).inspect(obs, (), first)["q_values"] for e in (False, True))
        np.testing.assert_allclose(
            acting, make_acting_values(agent.trained.network, agent.trained.device)(obs, (), first)[0]
        )
        assert np.abs(judged - acting).max() > 1e-4
        other = agent_on(problem, average_decay=0.99)
        other.load_state_dict({"weights": agent.state_dict()["weights"]})
        for explore in (False, True):
            np.testing.assert_array_equal(
                other.policy(explore=explore).inspect(obs, (), first)["q_values"], judged
            )

    def test_diagnostics_tell_where_it_stands(self):
        problem = problem_on(CueRecall, num_envs=2, total_steps=40)
        agent = agent_on(
            problem,
            replay_capacity=20,
            learning_starts_env_steps=10,
            learning_rate=0.01,
            learning_rate_final=0.002,
        )
        assert agent.diagnostics()["replay_size"] == 0
        interact(agent, problem)
        found = agent.diagnostics()
        assert found["replay_size"] == 20
        assert found["epsilon"] == pytest.approx(0.05)
        assert found["learning_rate"] == pytest.approx(0.002)
        assert 0 < found["replay_age_env_steps"] < 20
        assert found["sample_seconds"] > 0
        assert agent.diagnostics()["sample_seconds"] == 0
