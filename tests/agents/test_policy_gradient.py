"""Policy gradients: against SB3 and by hand on whole rollouts, their clock, state, refusals and learning."""

from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import pytest
import torch

from rl_lab.agents.policy_gradient import A2CConfig, PPOConfig, ReinforceConfig
from rl_lab.nn.distributions import categorical
from rl_lab.training.registry import make_learner, preset_fields
from rl_lab.types import Step
from toys import ConstantReward, Counting, CueRecall, Repeat, interact, problem_on
from toys import policy_agent_on as agent_on


def watched(agent):
    """Keep the rollouts that an agent learns from."""
    kept, original = [], agent.learn

    def learn(whole):
        kept.append(whole)
        return original(whole)

    agent.learn = learn
    return kept


# Rollouts --------------------------------------------------------------------------------------------


def linear_in_the_observation(agent):
    """Let the value be the observation itself."""
    agent.trained.network.value_head.weight.data[...] = 1.0
    agent.trained.network.value_head.bias.data[...] = 0.0


class TestRollouts:
    @pytest.mark.parametrize("num_envs", [1, 3])
    def test_every_successor_is_the_true_one(self, num_envs):
        """Counting's observation grows by one a step, across every end: V(s') = V(s) + 1, or nothing."""
        problem = problem_on(Counting, num_envs=num_envs, total_steps=40 * num_envs)
        agent = agent_on(problem, n_steps=40, hidden=(), gamma=0.5, gae_lambda=0.0)
        linear_in_the_observation(agent)
        kept, steps = watched(agent), []
        interact(agent, problem, steps.append)
        terminated = np.concatenate([step.terminated for step in steps])
        truncated = np.concatenate([step.truncated for step in steps])
        assert terminated.any()
        assert truncated.any()
        obs = kept[0].obs[:, 0].numpy()
        expected = 1 + 0.5 * (obs + 1) * ~terminated - obs
        np.testing.assert_allclose(kept[0].advantage, expected, rtol=1e-5)
        np.testing.assert_allclose(kept[0].target, obs + expected, rtol=1e-5)

    def test_a_cut_at_a_resume_bootstraps_from_what_was_seen_before_it(self):
        """Three steps at values 1, 2, 10; the second leads to 5, but the third opens an episode."""
        agent = agent_on(problem_on(Counting), n_steps=3, hidden=(), gamma=0.5, gae_lambda=1.0)
        linear_in_the_observation(agent)
        no = np.zeros(1, np.bool_)
        for obs, following, first in ((1, 2, True), (2, 5, False), (10, 20, True)):
            seen, ahead = (np.full((1, 1), x, np.float32) for x in (obs, following))
            extras = {"raw_action": np.zeros(1, np.int64), "log_prob": np.zeros(1), "value": np.full(1, obs)}
            agent.observe(
                Step(
                    seen,
                    np.zeros(1),
                    np.ones(1),
                    no,
                    no,
                    ahead,
                    np.array([first]),
                    (),
                    (),
                    None,
                    None,
                    extras,
                )
            )
        # deltas 1 + 1 - 1, 1 + 2.5 - 2, 1 + 10 - 10; the trace goes from the second to the first alone
        np.testing.assert_allclose(agent.rollout_batch().advantage, [1 + 0.5 * 1.5, 1.5, 1.0])

    def test_clipped_actions_are_learned_from_as_drawn(self):
        problem = problem_on(Repeat, num_envs=2, total_steps=40)
        agent, taken = agent_on(problem, n_steps=20), []
        kept = watched(agent)
        interact(agent, problem, lambda step: taken.append(step.action))
        raw = kept[0].action.numpy()
        assert (np.abs(raw) > 0.5).any()
        np.testing.assert_array_equal(np.concatenate(taken)[..., 0], raw.clip(-0.5, 0.5))

    def test_rewards_are_clipped_and_then_normalised(self):
        problem, steps = problem_on(Repeat, num_envs=3, total_steps=21), []
        agent = agent_on(problem, n_steps=8, gamma=0.0, hidden=(8,), reward_clip=0.3, normalise_rewards=True)
        interact(agent, problem, lambda step: steps.append(step.reward))
        scale = agent.trained.statistics.reward_scale
        assert abs(scale - 1) > 0.1
        rewards = np.concatenate(steps)
        assert (np.abs(rewards) > 0.3).any()
        np.testing.assert_allclose(agent.rollout_batch().target, rewards.clip(-0.3, 0.3) * scale, rtol=1e-5)

    @pytest.mark.parametrize("memory", ["lstm", "attention"])
    @pytest.mark.parametrize("share_encoder", [False, True])
    def test_an_unrolled_rollout_finds_what_was_acted_on(self, memory, share_encoder):
        """Values and log-probabilities come again, from the carry at its start, with resets inside."""
        problem = problem_on(CueRecall, num_envs=3, total_steps=42)
        agent = agent_on(problem, n_steps=7, memory=memory, memory_size=8, share_encoder=share_encoder)
        seen = []

        def look(whole):
            logits, value, _ = agent.trained.network(whole.obs, whole.state, whole.is_first)
            np.testing.assert_allclose(value.detach(), whole.value, atol=1e-5)
            found = categorical(logits, whole.action)[0]
            np.testing.assert_allclose(found.detach(), whole.log_prob, atol=1e-5)
            seen.append(whole.is_first[1:].any())
            return {}

        agent.learn = look
        interact(agent, problem)
        assert seen == [True, True]  # the second begins in the middle of episodes

    def test_reinforce_waits_for_the_end_of_an_episode_everywhere(self):
        problem = problem_on(Counting, num_envs=3, total_steps=300)
        agent = agent_on(problem, ReinforceConfig, n_steps=50)
        kept, ends = watched(agent), []
        interact(agent, problem, lambda step: ends.append(step.terminated | step.truncated))
        lengths = [len(whole.value) // 3 for whole in kept]
        assert len(lengths) > 5
        assert agent.collect_env_steps == 3
        for begin, length in zip(np.cumsum([0, *lengths]), lengths, strict=False):
            inside = np.array(ends[begin : begin + length])
            assert inside.any(axis=0).all()
            assert not inside[:-1].any(axis=0).all()

    def test_reinforce_learns_from_returns(self):
        """Alone, an episode of ConstantReward: 5 steps cut by the limit, what follows valued by the baseline."""
        problem = problem_on(ConstantReward, total_steps=5)
        agent = agent_on(problem, ReinforceConfig, gamma=0.5)
        kept = watched(agent)
        interact(agent, problem)
        baseline = kept[0].value[0].item()  # all observations are alike
        expected = [sum(0.5**k for k in range(n)) + 0.5**n * baseline for n in (5, 4, 3, 2, 1)]
        np.testing.assert_allclose(kept[0].target, expected, rtol=1e-5)


# Against SB3 -----------------------------------------------------------------------------------------


def twins(env_id, kind, **shared):
    """An SB3 model and an agent of ours with its weights, learning from two environments."""
    import stable_baselines3 as sb3
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike

    problem = problem_on(lambda: gymnasium.make(env_id), num_envs=2, total_steps=100_000)
    config = {"ppo": PPOConfig, "a2c": A2CConfig}[kind]
    agent = agent_on(problem, config, hidden=(64, 64), **shared)
    theirs = {{"clip_range_value": "clip_range_vf"}.get(k, k): v for k, v in shared.items()}
    if kind == "a2c" and theirs.pop("optimiser", None) is None:
        rmsprop = {"optimizer_class": RMSpropTFLike, "optimizer_kwargs": {"alpha": 0.99, "eps": 1e-5}}
        theirs["policy_kwargs"] = rmsprop
    model = getattr(sb3, kind.upper())("MlpPolicy", make_vec_env(env_id, 2), device="cpu", seed=1, **theirs)
    model.set_logger(Logger(None, []))
    with torch.no_grad():
        for ours, other in pairs(agent, model):
            ours.copy_(other)
    return agent, model, problem


def pairs(agent, model):
    network, policy = agent.trained.network, model.policy
    modules = [
        (network.policy_tower.encoder.layers[1], policy.mlp_extractor.policy_net[0]),
        (network.policy_tower.encoder.layers[3], policy.mlp_extractor.policy_net[2]),
        (network.value_tower.encoder.layers[1], policy.mlp_extractor.value_net[0]),
        (network.value_tower.encoder.layers[3], policy.mlp_extractor.value_net[2]),
        (network.policy_head, policy.action_net),
        (network.value_head, policy.value_net),
    ]
    both = [pair for a, b in modules for pair in ((a.weight, b.weight), (a.bias, b.bias))]
    return both + ([(network.policy_head.log_std, policy.log_std)] if hasattr(policy, "log_std") else [])


def give(model, agent):
    """Fill SB3's buffer with our rollout the way its collect_rollouts does."""
    columns, buffer, policy = agent.rollout.columns, model.rollout_buffer, model.policy
    buffer.reset()
    done = columns["terminated"] | columns["truncated"]
    for t in range(len(done)):
        reward = columns["reward"][t].copy()
        for i in np.flatnonzero(columns["truncated"][t] & ~columns["terminated"][t]):
            following = torch.from_numpy(columns["next_obs"][t, i : i + 1])
            reward[i] += model.gamma * policy.predict_values(following).item()
        action = columns["raw_action"][t].reshape(2, -1)
        value, log_prob = (torch.from_numpy(columns[name][t]) for name in ("value", "log_prob"))
        buffer.add(columns["obs"][t], action, reward, columns["is_first"][t], value, log_prob)
    last = policy.predict_values(torch.from_numpy(columns["next_obs"][-1])).detach()
    buffer.compute_returns_and_advantage(last, done[-1])


CASES = {
    "ppo-discrete": ("CartPole-v1", "ppo", {"n_epochs": 4, "ent_coef": 0.01}),
    "ppo-box": ("Pendulum-v1", "ppo", {"n_epochs": 4, "gamma": 0.9, "learning_rate": 1e-3}),
    "ppo-value-clip": ("CartPole-v1", "ppo", {"n_epochs": 3, "clip_range_value": 0.1}),
    "a2c-discrete": ("CartPole-v1", "a2c", {"gae_lambda": 0.9}),
    "a2c-box": ("Pendulum-v1", "a2c", {"optimiser": "rmsprop-torch"}),
}


class TestAgainstSB3:
    @pytest.mark.parametrize("case", CASES)
    def test_the_same_rollout_from_the_same_weights_gives_the_same_update(self, case):
        """220 steps: Pendulum's limit of 200 falls inside, and CartPole falls many times."""
        env_id, kind, shared = CASES[case]
        batch = {"batch_size": 440} if kind == "ppo" else {}
        agent, model, problem = twins(env_id, kind, n_steps=220, **batch, **shared)
        before = [ours.detach().clone() for ours, _ in pairs(agent, model)]
        agent.update = lambda: None
        interact(agent, dataclasses.replace(problem, total_steps=440))
        give(model, agent)
        whole = agent.rollout_batch()
        for ours, theirs in (("advantage", "advantages"), ("target", "returns")):
            expected = getattr(model.rollout_buffer, theirs).reshape(-1)
            np.testing.assert_allclose(getattr(whole, ours), expected, atol=1e-4, rtol=1e-5)
        # the same numbers for both, since SB3's are of single precision
        model.rollout_buffer.advantages = whole.advantage.numpy().reshape(220, 2)
        model.rollout_buffer.returns = whole.target.numpy().reshape(220, 2)
        found = agent.learn(whole)
        model.train()
        logged = model.logger.name_to_value
        assert found["value_loss"] == pytest.approx(logged["train/value_loss"], rel=1e-3)
        assert -found["entropy"] == pytest.approx(logged["train/entropy_loss"], rel=1e-4)
        for ours, theirs in pairs(agent, model):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
        moved = [(p - q).abs().max() for (p, _), q in zip(pairs(agent, model), before, strict=True)]
        assert max(moved) > 1e-4
        assert agent.gradient_steps == shared.get("n_epochs", 1)

    def test_the_weights_begin_as_orthogonally(self):
        agent = agent_on(problem_on(lambda: gymnasium.make("CartPole-v1")))
        first, _, second = list(agent.trained.network.policy_tower.encoder.layers)[1:4]
        np.testing.assert_allclose((second.weight @ second.weight.T).detach(), 2 * np.eye(64), atol=1e-4)
        np.testing.assert_allclose((first.weight.T @ first.weight).detach(), 2 * np.eye(4), atol=1e-4)
        head = agent.trained.network.policy_head.weight.detach()
        np.testing.assert_allclose(head @ head.T, 1e-4 * np.eye(2), atol=1e-7)
        assert all(
            (p == 0).all() for name, p in agent.trained.network.named_parameters() if name.endswith("bias")
        )

    @pytest.mark.parametrize("env_id", ["CartPole-v1", "LunarLander-v3", "Pendulum-v1"])
    def test_both_sides_have_the_same_presets(self, env_id):
        ours, theirs = (preset_fields(agent, f"zoo:{env_id}") for agent in ("ppo", "sb3-ppo"))
        assert ours == theirs
        fields = {k: v for k, v in ours.items() if k not in ("total_steps", "num_envs")}
        arguments = make_learner("sb3-ppo", **fields).config.arguments(ours["num_envs"])
        config = make_learner("ppo", **fields).config
        for name in (
            "gamma",
            "gae_lambda",
            "n_steps",
            "batch_size",
            "n_epochs",
            "ent_coef",
            "vf_coef",
            "max_grad_norm",
        ):
            assert getattr(config, name) == arguments[name]
        assert list(config.hidden) == arguments["policy_kwargs"]["net_arch"]
