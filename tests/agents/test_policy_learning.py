"""Policy gradients: what they learn and can't, how they act, and what they refuse."""

from __future__ import annotations

import dataclasses
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import rl_lab
from rl_lab.agents.policy_gradient import A2CConfig, PPOConfig, ReinforceConfig, refuse
from rl_lab.evaluation.evaluate import evaluate
from rl_lab.evaluation.exact import exact_figures
from rl_lab.types import EnvironmentFault, UsageError
from runs import learn
from toys import Counting, CueRecall, Identity, Masked, Repeat, interact, problem_on, spec_of, vector
from toys import policy_agent_on as agent_on


def mean_return(agent, make, episodes):
    return evaluate(agent.policy(explore=False), vector(make, 4), episodes=episodes, seed=1).returns.mean()


# Learning --------------------------------------------------------------------------------------------

QUICK_PPO = {
    "n_steps": 32,
    "batch_size": 64,
    "n_epochs": 6,
    "gamma": 0.5,
    "learning_rate": 5e-3,
    "hidden": (32,),
}
RECURRENT = {"memory": "lstm", "memory_size": 16, "clip_range_value": 0.5, "target_kl": 0.1}


class TestLearning:
    @pytest.mark.parametrize(
        ("config", "fields"),
        [
            (PPOConfig, QUICK_PPO),
            (PPOConfig, QUICK_PPO | {"share_encoder": True, "activation": "relu", "initialisation": "default"}),
            pytest.param(PPOConfig, QUICK_PPO | RECURRENT, marks=pytest.mark.long),
            (A2CConfig, {"gamma": 0.5, "learning_rate": 1e-2, "hidden": (32,)}),
            (ReinforceConfig, {"gamma": 0.5, "learning_rate": 2e-2, "hidden": (32,), "normalise_advantages": True}),
        ],
        ids=["ppo", "ppo-shared", "ppo-lstm", "a2c", "reinforce"],
    )  # fmt: skip
    def test_the_identity_is_learned(self, config, fields):
        problem = problem_on(lambda: Identity(6), num_envs=4, total_steps=8_000)
        agent = interact(agent_on(problem, config, **fields), problem)
        assert mean_return(agent, lambda: Identity(6), 5) * 5 >= 95  # of 100 steps

    @pytest.mark.parametrize("config", [PPOConfig, A2CConfig])
    def test_continuous_actions_are_learned(self, config):
        """At random the distance is about 0.5 a step; standing still at 0 it is 0.375."""
        fields = QUICK_PPO if config is PPOConfig else {"gamma": 0.5, "learning_rate": 3e-3, "n_steps": 16}
        steps = 10_000 if config is PPOConfig else 24_000
        problem = problem_on(Repeat, num_envs=4, total_steps=steps)
        agent = interact(agent_on(problem, config, log_std_initial=-1.0, **fields), problem)
        assert mean_return(agent, Repeat, 10) > -0.1 * 10

    @pytest.mark.long
    def test_a_cue_is_recalled_with_memory_and_cannot_be_without(self):
        def learned(**fields):
            problem = problem_on(CueRecall, num_envs=8, total_steps=8_000)
            shared = {
                "n_steps": 12,
                "batch_size": 48,
                "n_epochs": 4,
                "gamma": 0.9,
                "learning_rate": 5e-3,
                "hidden": (16,),
            }
            return interact(agent_on(problem, memory_size=16, **shared, **fields), problem)

        assert mean_return(learned(memory="lstm"), CueRecall, 100) >= 0.95
        assert mean_return(learned(), CueRecall, 100) == pytest.approx(0.5, abs=0.2)

    def test_illegal_actions_are_never_taken(self):
        """The environment refuses them, however much the policy would like to."""
        problem = problem_on(Masked, num_envs=4, total_steps=8_000)
        agent = agent_on(problem, **QUICK_PPO)
        agent.trained.network.policy_head.bias.data[...] = torch.tensor([3.0, 0.0, 3.0, 0.0])
        interact(agent, problem)
        assert mean_return(agent, Masked, 5) * 5 >= 95
        agent.trained.network.policy_head.bias.data[...] = torch.tensor([99.0, -99.0, 99.0, -99.0])
        for explore in (False, True):
            evaluate(agent.policy(explore=explore), vector(Masked, 4), episodes=4, seed=1)

    @pytest.mark.long
    def test_a_picture_is_learned_from(self):
        def make():
            return rl_lab.make_env("lab/GridWorldPixels-v0", {"map": "S..G"})

        problem = problem_on(make, num_envs=4, total_steps=2_000)
        fields = QUICK_PPO | {"gamma": 0.9, "share_encoder": True}
        agent = interact(agent_on(problem, **fields), problem)
        assert agent.rollout.columns["obs"].dtype == np.uint8
        assert exact_figures(agent.policy(explore=False), problem.model, 0.9, 200, 4)["regret"] < 0.02


# Acting ----------------------------------------------------------------------------------------------


class TestActing:
    OBS, FIRST = np.linspace(-1, 1, 8, dtype=np.float32)[:, None], np.ones(8, np.bool_)

    @pytest.mark.parametrize("fields", [{}, {"share_encoder": True, "activation": "relu"}, {"hidden": ()}])
    def test_views_of_the_weights_equal_the_network_and_follow_it(self, fields):
        for make in (Counting, Repeat):
            agent = agent_on(problem_on(make), **fields)
            obs = self.OBS if make is Counting else np.tile(self.OBS, (1, 2))
            for _ in range(2):
                parameters, value, _ = agent.trained.network(torch.from_numpy(obs))
                ours = agent._outputs(obs, (), self.FIRST)
                np.testing.assert_allclose(ours[1], value.detach(), atol=1e-6, rtol=1e-5)
                for mine, theirs in zip(
                    *((x if isinstance(x, tuple) else (x,)) for x in (ours[0], parameters)), strict=True
                ):
                    np.testing.assert_allclose(mine, theirs.detach(), atol=1e-6, rtol=1e-5)
                for p in agent.trained.network.parameters():
                    p.data += 0.1

    def test_only_the_exploring_policy_has_probabilities_and_draws_by_them(self):
        agent = agent_on(problem_on(Counting), initialisation="default")
        greedy, exploring = (agent.policy(explore=explore) for explore in (False, True))
        assert set(greedy.inspect(self.OBS, (), self.FIRST)) == {"value", "logits"}
        found = exploring.inspect(self.OBS, (), self.FIRST)
        assert set(found) == {"value", "logits", "probabilities"}
        drawn = np.stack([exploring.act(self.OBS, (), self.FIRST).action for _ in range(4_000)])
        shares = np.stack([(drawn == a).mean(0) for a in range(3)], axis=1)
        np.testing.assert_allclose(shares, found["probabilities"], atol=0.04)
        chosen = greedy.act(self.OBS, (), self.FIRST)
        np.testing.assert_array_equal(chosen.action, found["probabilities"].argmax(1))
        assert chosen.extras == {}

    def test_box_actions_are_inspected_by_their_value_mean_and_deviation(self):
        agent = agent_on(problem_on(Repeat))
        shown = agent.policy(explore=True).inspect(np.zeros((8, 2), np.float32), (), self.FIRST)
        assert set(shown) == {"value", "mean", "std"}
        assert shown["std"].shape == shown["mean"].shape

    def test_acting_in_a_vector_equals_acting_alone(self):
        agent = agent_on(problem_on(CueRecall), memory="lstm", memory_size=8)
        policy, obs = agent.policy(explore=False), np.eye(5, dtype=np.float32)
        together, apart = policy.initial_state(5), [policy.initial_state(1) for _ in range(5)]
        for t in range(4):
            first = np.full(5, t == 2)
            together = policy.act(obs, together, first).state
            apart = [policy.act(obs[i : i + 1], s, first[:1]).state for i, s in enumerate(apart)]
        for k, part in enumerate(together):
            np.testing.assert_allclose(part, np.concatenate([s[k] for s in apart]), atol=1e-6)


# Refusals --------------------------------------------------------------------------------------------

BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)


class TestRefusals:
    @pytest.mark.parametrize(
        ("config", "fields", "says"),
        [
            (PPOConfig, {"learning_rate": 0.0}, "learning_rate must be greater than 0.0, got 0.0"),
            (PPOConfig, {"gae_lambda": 1.5}, "gae_lambda must be between 0.0 and 1.0, got 1.5"),
            (PPOConfig, {"clip_range": 0.0}, "clip_range must be greater than 0.0, got 0.0"),
            (PPOConfig, {"clip_range_value": -1.0}, "clip_range_value must be greater than 0.0, got -1.0"),
            (PPOConfig, {"target_kl": 0.0}, "target_kl must be greater than 0.0, got 0.0"),
            (PPOConfig, {"batch_size": 0}, "batch_size must be at least 1, got 0"),
            (PPOConfig, {"n_epochs": 1.5}, "n_epochs must be a whole number, got 1.5"),
            (PPOConfig, {"hidden": (0,)}, "hidden must be whole numbers from 1, got (0,)"),
            (PPOConfig, {"linear_decay": 1}, "linear_decay must be true or false, got 1"),
            (PPOConfig, {"compile": "maybe"}, "compile 'maybe' is unknown (allowed: auto, yes, no)"),
            (
                A2CConfig,
                {"optimiser": "sdg"},
                "optimiser 'sdg' is unknown (allowed: adam, rmsprop, rmsprop-torch, sgd, momentum, nesterov, adagrad,"
                " adamw, radam)",
            ),
            (A2CConfig, {"n_steps": 0}, "n_steps must be at least 1, got 0"),
            (A2CConfig, {"max_grad_norm": float("nan")}, "max_grad_norm must be greater than 0.0, got nan"),
            (ReinforceConfig, {"ent_coef": -1}, "ent_coef must be at least 0, got -1"),
            (ReinforceConfig, {"gamma": 2}, "gamma must be between 0.0 and 1.0, got 2"),
        ],
    )
    def test_values_out_of_range_are_refused_by_name(self, config, fields, says):
        with pytest.raises(UsageError) as caught:
            config(**fields)
        assert str(caught.value) == says

    @pytest.mark.parametrize("name", ["memory", "activation", "initialisation", "encoder"])
    def test_unknown_names_are_refused_with_those_that_are_known(self, name):
        with pytest.raises(UsageError, match=rf"^{name} 'guess' is unknown \(allowed: .*\)$"):
            PPOConfig(**{name: "guess"})

    @pytest.mark.parametrize("config", [PPOConfig, A2CConfig, ReinforceConfig])
    def test_actions_without_any_part_are_refused_by_name(self, config):
        reason = refuse(config(), dataclasses.replace(spec_of(BOX), action_space=spaces.Tuple([])))
        assert reason == f"{config.NAME} needs actions with at least one part; toy has Tuple()"

    @pytest.mark.parametrize(
        "actions",
        [
            spaces.Discrete(2),
            spaces.Discrete(2, start=-1),
            spaces.MultiDiscrete([2, 2]),
            spaces.MultiBinary(3),
            spaces.Box(-1, 1, (2, 2)),
            spaces.Box(-np.inf, np.inf, (1,)),
            spaces.Box(0, 5, (2,), np.int64),
            spaces.Dict({"turn": spaces.Discrete(3), "push": spaces.Tuple([spaces.Box(0, 1)])}),
        ],
    )
    def test_all_other_actions_are_taken(self, actions):
        assert refuse(PPOConfig(), dataclasses.replace(spec_of(BOX), action_space=actions)) is None

    def test_observations_are_refused_by_the_encoder(self):
        reason = refuse(PPOConfig(encoder="cnn"), spec_of(BOX))
        assert reason is not None
        assert "'cnn' takes images" in reason

    @pytest.mark.parametrize(
        ("config", "says"),
        [
            (PPOConfig(compile="yes", memory="lstm"), "requires memory 'none'"),
            (A2CConfig(compile="yes"), "requires optimiser 'adam'"),
            (
                ReinforceConfig(compile="yes"),
                "isn't possible with reinforce, whose rollouts differ in length",
            ),
        ],
    )
    def test_what_cannot_be_compiled_is_refused(self, config, says):
        assert refuse(config, spec_of(BOX)) == f"compile 'yes' {says} (allowed: auto, no)"

    @pytest.mark.parametrize("agent", ["ppo", "a2c", "reinforce"])
    def test_recorded_steps_are_refused(self, agent, tmp_path):
        with pytest.raises(UsageError, match="can't learn from dataset"):
            learn(tmp_path, agent, "CartPole-v1", dataset="somewhere")

    @pytest.mark.parametrize(("what", "num_envs"), [("reward", 1), ("next observation", 2)])
    def test_what_is_not_finite_never_reaches_the_rollout(self, what, num_envs):
        class Broken(Counting):
            steps = 0

            def step(self, action):
                obs, reward, *rest = super().step(action)
                self.steps += 1
                bad = np.nan if self.steps == 60 else 0.0
                return (
                    (obs, reward + bad, *rest) if what == "reward" else (obs + np.float32(bad), reward, *rest)
                )

        problem = problem_on(Broken, num_envs=num_envs)
        agent = agent_on(problem, n_steps=16, batch_size=8, n_epochs=1)
        with pytest.raises(EnvironmentFault, match=rf"{what.removeprefix('next ')}: nan"):
            interact(agent, problem)
        assert agent.env_steps == 59 * num_envs
        assert agent.rollout.filled == 59 % 16
        assert agent.gradient_steps == 3 * 2 * num_envs
        assert all(p.isfinite().all() for p in agent.trained.network.parameters())

    @pytest.mark.parametrize("what", ["reward", "next_obs"])
    def test_a_step_that_is_not_finite_is_refused_whoever_hands_it_over(self, what):
        problem, steps = problem_on(Counting, total_steps=3), []
        agent = interact(agent_on(problem, n_steps=16, batch_size=8), problem, steps.append)
        broken = dataclasses.replace(
            steps[-1], checked=False, **{what: getattr(steps[-1], what) * np.float32(np.nan)}
        )
        with pytest.raises(FloatingPointError, match="that is not finite"):
            agent.observe(broken)
        assert agent.rollout.filled == 3

    def test_building_an_agent_leaves_the_global_generator_alone(self):
        problem = problem_on(partial(gymnasium.make, "CartPole-v1"))
        torch.manual_seed(0)
        before = torch.get_rng_state()
        agent_on(problem).trained.network.state_dict()
        one, other = agent_on(problem), agent_on(dataclasses.replace(problem, seed=1))
        weights = [next(iter(a.trained.network.parameters())) for a in (one, agent_on(problem), other)]
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])
        assert len(before)
