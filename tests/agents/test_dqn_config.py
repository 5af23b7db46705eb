"""Each field of DQN's config reaches what it governs."""

from __future__ import annotations

from functools import partial

import gymnasium
import numpy as np
import pytest
import torch

from rl_lab.agents.dqn import DQN, Config
from rl_lab.envs.gridworld import GridWorld
from rl_lab.replay.prioritised import Prioritised
from rl_lab.seeding import Streams
from rl_lab.training.setup import configure, problem_of
from rl_lab.updates.compile_choice import resolve_compile
from rl_lab.updates.compiling import has_compiler
from rl_lab.updates.optimisers import CentredRMSprop
from toys import Counting, Identity, Parts, agent_on, interact, problem_on, sample

BRIEF = {"learning_starts_env_steps": 20, "hidden": (8,), "batch_size": 8}


def trained(steps: int = 100, **fields) -> DQN:
    problem = problem_on(Counting, total_steps=steps)
    return interact(agent_on(problem, **BRIEF | fields), problem)


class TestReplay:
    def test_n_steps_and_gamma(self):
        agent = trained(n_steps=3, gamma=0.5)
        discounts = set(agent.buffer.replay.sample(500, np.random.default_rng(0)).discount.tolist())
        assert discounts == {0.5, 0.25, 0.125}

    def test_priorities(self):
        sampler = trained(prioritised=True, priority_alpha=0.3).buffer.replay._sampler
        assert isinstance(sampler, Prioritised)
        assert sampler.alpha == 0.3

    def test_beta_rises_with_the_steps(self, monkeypatch):
        seen = {}
        agent = agent_on(
            problem := problem_on(Counting, total_steps=200), prioritised=True, priority_beta=0.2, **BRIEF
        )

        def remember(step):
            draw = agent.buffer.replay._sampler.draw
            if draw.__name__ == "draw":

                def drawn(batch_size, rng, first, held, beta):
                    seen[agent.env_steps] = beta
                    return draw(batch_size, rng, first, held, beta)

                monkeypatch.setattr(agent.buffer.replay._sampler, "draw", drawn)

        interact(agent, problem, remember)
        assert seen[100] == pytest.approx(0.6)
        assert seen[200] == pytest.approx(1.0)

    @pytest.mark.parametrize("memory", ["none", "lstm"])
    def test_clipped_rewards(self, memory):
        problem = problem_on(Counting, total_steps=100)
        agent = interact(
            agent_on(problem, reward_clip=0.25, memory=memory, sequence_length=2, **BRIEF), problem
        )
        assert np.abs(sample(agent).reward).max() == 0.25
        assert agent.buffer.replay.columns["reward"].max() == 1.0


class TestUpdate:
    def test_optimiser_and_clipping(self):
        agent = trained(optimiser="rmsprop", max_grad_value=0.1, max_grad_norm=0.2)
        assert isinstance(agent.trained.optimiser, CentredRMSprop)
        assert (agent.updates.clip.value, agent.updates.clip.norm) == (0.1, 0.2)

    def test_the_step_size_falls_over_the_budget(self):
        agent = trained(100, learning_rate=1e-2, learning_rate_final=2e-3)
        assert agent.trained.optimiser.param_groups[0]["lr"] == pytest.approx(2e-3)
        agent.env_steps, agent.buffer.replay.written = 48, agent.buffer.replay.written
        agent.env_steps += 4  # as four more steps would
        agent.update()
        assert agent.trained.optimiser.param_groups[0]["lr"] == pytest.approx(1e-2 - 8e-3 * 0.52)

    def test_a_soft_target_counted_in_updates(self):
        agent = trained(target_tau=0.5, target_period_updates=1, learning_rate=0.1)
        before = [p.clone() for p in agent.target.network.parameters()]
        agent.learn(sample(agent))
        for old, target, online in zip(
            before, agent.target.network.parameters(), agent.trained.network.parameters(), strict=True
        ):
            torch.testing.assert_close(target.data, (old.data + online.data) / 2)

    def test_layers_of_both_streams_are_normalised(self):
        head = agent_on(
            problem_on(Counting), dueling=True, layer_norm=True, hidden=(8, 8)
        ).trained.network.head
        for stream in (head.value, head.advantage):
            assert [type(m).__name__ for m in stream] == ["Linear", "LayerNorm", "ReLU", "Linear"]


class TestEpsilon:
    @pytest.mark.parametrize(("waits", "at_60"), [(False, 0.55), (True, 0.75)])
    def test_falls_from_the_start_or_from_where_learning_starts(self, waits, at_60):
        agent = agent_on(
            problem_on(Counting, total_steps=200), learning_starts_env_steps=40, epsilon_final=0.1,
            epsilon_fraction=0.6, epsilon_initial=1.0, epsilon_waits=waits,
        )  # fmt: skip
        agent.env_steps = 39
        assert agent.epsilon() == 1.0
        agent.env_steps = 60 if not waits else 40 + 120 * (0.25 / 0.9)
        assert agent.epsilon() == pytest.approx(at_60)


class TestCompile:
    @pytest.mark.parametrize(
        ("total_steps", "fields", "pays"),
        [
            (60_000, {}, True),  # 15,000 gradient steps
            (59_996, {}, False),
            (60_000, {"memory": "lstm"}, False),
            (60_000, {"optimiser": "rmsprop"}, False),
            (60_000, {"encoder": "cnn"}, False),
            (199_996, {"encoder": "cnn"}, False),
            (200_000, {"encoder": "cnn"}, True),  # 50,000 gradient steps
            (10, {"compile": "yes"}, True),
            (60_000, {"compile": "no"}, False),
        ],
    )
    def test_auto_goes_by_what_pays(self, total_steps, fields, pays):
        resolved = Config(**fields).resolve(problem_on(lambda: Identity(3), total_steps=total_steps))
        assert resolved.compile == ("yes" if pays and has_compiler() else "no") or fields == {
            "compile": "yes"
        }

    @pytest.mark.parametrize(("encoder", "steps"), [("auto", 50_000), ("mlp", 15_000)])
    def test_it_is_convolutions_that_need_more_steps(self, encoder, steps, monkeypatch):
        monkeypatch.setattr("rl_lab.updates.compile_choice.has_compiler", lambda: True)
        image = problem_on(lambda: GridWorld(observation="pixels"))
        choices = [
            resolve_compile(Config(encoder=encoder), image, taken, None).compile
            for taken in (steps - 1, steps)
        ]
        assert choices == ["no", "yes"]

    @pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
    def test_a_compiled_run_learns_as_an_eager_one(self):
        """The function is the one that `tests/training/test_resume.py` compiles."""
        problem, fields = (
            problem_on(partial(gymnasium.make, "CartPole-v1"), total_steps=120),
            {"hidden": (16,)},
        )
        one, other = (
            interact(agent_on(problem, compile=choice, **BRIEF | fields), problem) for choice in ("yes", "no")
        )
        assert one.updates._compile_key is not None
        assert other.updates._compile_key is None
        assert one.gradient_steps == other.gradient_steps > 0
        for p, q in zip(one.trained.network.parameters(), other.trained.network.parameters(), strict=True):
            torch.testing.assert_close(p, q, atol=1e-4, rtol=1e-4)


def test_nature_is_put_together_as_published():
    from rl_lab.training.registry import preset_fields

    fields = preset_fields("dqn", "nature") | {"replay_capacity": 1_000, "learning_starts_env_steps": 40}
    learner, config = configure("dqn", fields | {"env_id": "ALE/Pong-v5", "total_steps": 60})
    problem = problem_of(config, learner)
    assert problem.spec.frame_stack == 4
    assert problem.spec.observation_space.shape == (4, 84, 84)
    agent = interact(DQN(learner.config, problem, Streams(0)), problem)
    assert agent.gradient_steps == 5  # one every fourth step
    assert isinstance(agent.trained.optimiser, CentredRMSprop)
    assert agent.trained.optimiser.param_groups[0]["lr"] == 2.5e-4
    assert agent.buffer.replay.observations.arrays[0].shape[2:] == (84, 84)  # frames, kept once
    assert agent.buffer.replay._reward_clip == 1.0
    convolutions = [m for m in agent.trained.network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [(c.out_channels, c.kernel_size[0], c.stride[0]) for c in convolutions] == [
        (32, 8, 4), (64, 4, 2), (64, 3, 1),
    ]  # fmt: skip
    assert sum(p.numel() for p in agent.trained.network.parameters()) == 1_687_206  # six actions


@pytest.mark.parametrize(
    "fields", [{}, {"dueling": True, "n_steps": 2}, {"memory": "gru", "sequence_length": 4}]
)
def test_observations_of_several_parts_are_learned_from_and_acted_on(fields):
    problem = problem_on(Parts, num_envs=2, total_steps=80)
    agent = interact(agent_on(problem, **BRIEF | fields), problem)
    assert agent.gradient_steps > 0
    obs, _ = problem.make(2).reset(seed=[1, 2])
    policy = agent.policy(explore=False)
    q = policy.inspect(obs, policy.initial_state(2), np.ones(2, np.bool_))["q_values"]
    assert q.shape == (2, 3)
    assert np.isfinite(q).all()
