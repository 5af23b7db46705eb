"""Every deep agent takes the fields of network and optimiser, and each of them reaches what it governs."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

from rl_lab.agents.clone import Clone
from rl_lab.agents.clone import Config as CloneConfig
from rl_lab.agents.dqn import DQN
from rl_lab.agents.dqn import Config as DQNConfig
from rl_lab.agents.policy_gradient import PolicyGradient, PPOConfig, ReinforceConfig
from rl_lab.agents.pqn import PQN
from rl_lab.agents.pqn import Config as PQNConfig
from rl_lab.nn.encoders import Embeddings
from rl_lab.nn.layers import Dropout
from rl_lab.seeding import Streams
from rl_lab.updates.gradients import ActiveDropout
from rl_lab.updates.td import select
from toys import Counting, CueRecall, Identity, interact, problem_on, sample


class Scaled(gymnasium.Env):
    """Observes (t, 1000 t, 5) and is paid 100 for action 1, in episodes of 10 steps."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._seen(), {}

    def step(self, action):
        self.t += 1
        return self._seen(), 100.0 * float(action == 1), False, self.t == 10, {}

    def _seen(self):
        return np.array([self.t, 1000 * self.t, 5], np.float32)


class Spot(Scaled):
    """Shows one bright pixel of 12x12 instead, always the same."""

    observation_space = spaces.Box(0, 255, (12, 12), np.uint8)

    def _seen(self):
        return (np.arange(144).reshape(12, 12) == 78).astype(np.uint8) * 255


EARLY = {"learning_starts_env_steps": 8, "batch_size": 8, "train_period_env_steps": 4}


AGENTS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "dqn": (DQN, DQNConfig, EARLY),
    "ppo": (PolicyGradient, PPOConfig, {"n_steps": 8, "batch_size": 8, "n_epochs": 2}),
    "reinforce": (PolicyGradient, ReinforceConfig, {"n_steps": 8}),
    "pqn": (PQN, PQNConfig, {"n_steps": 8, "batch_size": 8, "n_epochs": 2, "learning_rate": 1e-3}),
    "clone": (Clone, CloneConfig, EARLY | {"held_out": 0.0}),
}


REPLAYING = ("dqn", "clone")
every_agent = pytest.mark.parametrize("name", AGENTS)


def made(name: str, make=Scaled, *, num_envs: int = 1, steps: int = 40, **fields):
    """An agent and its problem."""
    agent, config, own = AGENTS[name]
    problem = problem_on(make, num_envs=num_envs, total_steps=steps)
    return agent(config(**own | {"hidden": (8,)} | fields), problem, Streams(0)), problem


def trained(name: str, make=Scaled, **fields):
    """An agent at the end of its budget; a clone watches its own choices."""
    return interact(*made(name, make, **fields))


def network(agent) -> nn.Module:
    return agent.trained.network


def optimiser(agent) -> torch.optim.Optimizer:
    return agent.trained.optimiser


def parts(agent, kind) -> list[nn.Module]:
    return [part for part in network(agent).modules() if isinstance(part, kind)]


@every_agent
class TestNetwork:
    def test_layers(self, name):
        agent, _ = made(name, activation="elu", layer_norm=True, dropout=0.25)
        assert parts(agent, nn.ELU)
        assert not parts(agent, nn.ReLU | nn.Tanh)
        assert parts(agent, nn.LayerNorm)
        assert {layer.probability for layer in parts(agent, Dropout)} == {0.25}

    def test_initialisation(self, name):
        agent, _ = made(name, initialisation="orthogonal")
        first = parts(agent, nn.Linear)[0].weight.detach()  # [8, 3], its gain sqrt(2)
        torch.testing.assert_close(first.T @ first, 2 * torch.eye(3))
        other, _ = made(name, initialisation="default")
        assert not torch.equal(parts(other, nn.Linear)[0].weight, first)

    def test_pooling(self, name):
        agent, _ = made(name, Spot, encoder="small", pooling="average")
        assert parts(agent, nn.AvgPool2d)

    def test_embeddings(self, name):
        agent, _ = made(name, Identity, embedding_size=5)
        assert [layer.table.weight.shape[1] for layer in parts(agent, Embeddings)][:1] == [5]

    def test_memory(self, name):
        window = {"sequence_length": 4} if name in REPLAYING else {}
        agent, _ = made(name, CueRecall, memory="gru", memory_size=6, memory_layers=2, **window)
        towers = 2 if name in ("ppo", "reinforce") else 1
        assert [part.shape for part in agent.policy(explore=False).initial_state(3)] == [(3, 6)] * 2 * towers
        agent, _ = made(name, CueRecall, memory="attention", memory_size=8, context=5, **window)
        assert agent.policy(explore=False).initial_state(3)[0].shape == (3, 4, 8)

    @pytest.mark.parametrize("core", ["rnn", "gru", "lstm", "attention"])
    def test_every_memory_learns(self, name, core):
        window = {"sequence_length": 4} if name in REPLAYING else {}
        agent = trained(name, CueRecall, memory=core, memory_size=8, memory_layers=2, context=3, **window)
        assert agent.gradient_steps > 0

    def test_dropping_is_part_of_the_loss_alone(self, name):
        """It drops where there is a gradient: neither what is chosen nor what is bootstrapped from, nor in acting."""
        own = {"dqn": {"double": True}, "clone": {"value_weight": 1.0}}.get(name, {})
        agent, problem = made(name, dropout=0.5, hidden=(64,), activation="gelu", steps=80, **own)
        dropped: dict[bool, set[bool]] = {True: set(), False: set()}
        for layer in parts(agent, Dropout):
            layer.register_forward_hook(
                lambda module, x, y: dropped[torch.is_grad_enabled()].add(not torch.equal(x[0], y))
            )
        interact(agent, problem)
        agent.policy(explore=False).act(np.array([[1, 2, 3]], np.float32), (), np.zeros(1, np.bool_))
        assert dropped == {True: {True}, False: {False}}


DROPS: Any = {"memory": "lstm", "sequence_length": 4, "dropout": 0.8, "hidden": (64,), "steps": 80}


class TestDroppingOverWindows:
    """What is chosen or bootstrapped from is the same whatever is dropped; what is learned is not."""

    def test_of_double_q_learning(self):
        agent, problem = made("dqn", CueRecall, double=True, **DROPS)
        interact(agent, problem)
        loss, drawn = agent.updates.loss, agent.buffer.replay.sample(16, np.random.default_rng(0))
        batch = select(loss.add_next_values(agent.target.network, loss.batch(drawn, 16, torch.from_numpy)), 0)
        (_, q, target), (_, other, same) = self.twice(
            agent.trained.network, lambda: loss(agent.trained.network, batch)
        )
        assert not torch.equal(q, other)
        assert torch.equal(target, same)

    def test_of_clones_values(self):
        agent, problem = made("clone", CueRecall, value_weight=1.0, **DROPS)
        interact(agent, problem)
        drawn = agent._sample()
        (outputs, after), (other, same) = self.twice(agent.trained.network, lambda: agent._outputs(drawn))
        assert not torch.equal(outputs, other)
        assert torch.equal(after, same)

    def twice(self, network, once):
        found = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            with ActiveDropout(network):
                found.append(once())
        return found


@every_agent
class TestOptimiser:
    @pytest.mark.parametrize(
        ("choice", "kind"),
        [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW), ("adagrad", torch.optim.Adagrad)],
    )
    def test_by_name(self, name, choice, kind):
        assert type(optimiser(trained(name, optimiser=choice))) is kind

    def test_the_step_size_warms_up_and_decays(self, name):
        agent, problem = made(
            name, steps=80, learning_rate=1.0, learning_rate_final=0.5, learning_rate_decay="cosine",
            warm_up_env_steps=20, max_grad_norm=1e-9, optimiser="sgd",
        )  # fmt: skip
        rates, taken = {}, [0]

        def watch(_):
            if agent.gradient_steps > taken[-1]:
                rates[agent.env_steps] = optimiser(agent).param_groups[0]["lr"]
            taken.append(agent.gradient_steps)

        interact(agent, problem, watch)
        assert min(rates) < 20 < max(rates)
        for t, rate in rates.items():
            at = (
                t - 4 if name == "pqn" else t
            )  # whose last one of two steps is taken half way through the rollout
            falling = 0.5 + 0.25 * (1 + math.cos(math.pi * (at - 20) / 60))
            assert rate == pytest.approx(at / 20 if at < 20 else falling)

    def test_penalties_and_decay_leave_biases_alone(self, name):
        agent, _ = made(name, l1=0.1, l2=0.2, weight_decay=0.5, learning_rate=0.01, optimiser="sgd")
        params = dict(network(agent).named_parameters())
        before = {key: p.detach().clone() for key, p in params.items()}
        for p in params.values():
            p.grad = torch.zeros_like(p)
        optimiser(agent).step()
        for key, p in params.items():
            w = before[key]
            expected = w * (1 - 0.01 * 0.5) - 0.01 * (0.1 * w.sign() + 0.2 * w)
            torch.testing.assert_close(p.detach(), expected if w.ndim > 1 else w)

    def test_gradients_are_scaled_up(self, name):
        agent = trained(name, Counting, normalise_gradients=True, max_grad_norm=7.0, learning_rate=1e-9)
        norm = torch.cat([p.grad.flatten() for p in network(agent).parameters()]).norm()
        assert norm.item() == pytest.approx(7.0, rel=1e-4)

    def test_gradients_are_bounded_entry_by_entry(self, name):
        agent = trained(name, Counting, max_grad_value=1e-7, learning_rate=1e-9)
        assert max(p.grad.abs().max() for p in network(agent).parameters()).item() == pytest.approx(1e-7)

    def test_the_average_is_what_is_judged_and_saved(self, name):
        agent = trained(name, average_decay=0.99)
        state = agent.state_dict()
        key = next(key for key in state["weights"] if key.endswith("weight"))
        assert not torch.equal(state["weights"][key], state["online"][key])
        fresh, _ = made(name)
        fresh.load_state_dict({"weights": state["weights"]})
        obs, first = np.array([[1, 2, 3]], np.float32), np.zeros(1, np.bool_)
        ours, theirs = (a.policy(explore=False).inspect(obs, (), first) for a in (agent, fresh))
        assert ours.keys() == theirs.keys()
        for figure, value in ours.items():
            np.testing.assert_array_equal(value, theirs[figure])

    def test_the_live_network_acts_and_its_carry_is_what_is_stored(self, name):
        window = {"sequence_length": 4} if name in REPLAYING else {}
        agent = trained(name, CueRecall, average_decay=0.99, memory="lstm", memory_size=4, **window)
        obs, first = np.eye(5, dtype=np.float32), np.ones(5, np.bool_)
        policy = agent.policy(explore=True)
        acted = policy.act(obs, policy.initial_state(5), first).state
        with torch.no_grad():
            live = network(agent)(
                torch.from_numpy(obs), network(agent).initial_state(5), torch.from_numpy(first)
            )
        for ours, theirs in zip(acted, live[-1], strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-6)
        judged = agent.policy(explore=False).act(obs, policy.initial_state(5), first).state
        assert any(np.abs(ours - theirs).max() > 1e-4 for ours, theirs in zip(acted, judged, strict=True))


class TestNormalisation:
    @every_agent
    @pytest.mark.parametrize("num_envs", [1, 3])
    def test_observations_are_those_that_were_learned_from(self, name, num_envs):
        agent, problem = made(
            name, num_envs=num_envs, steps=40 * num_envs, normalise_observations=True, average_decay=0.5
        )
        seen = []
        interact(agent, problem, lambda step: seen.append(step.obs.astype(np.float64)))
        moments, everything = network(agent).normaliser.moments, np.concatenate(seen)
        assert float(moments.count) == 40 * num_envs
        np.testing.assert_allclose(moments.mean.numpy(), everything.mean(axis=0))
        np.testing.assert_allclose(moments.variance, everything.var(axis=0))
        judged = agent.state_dict()["weights"]["normaliser.moments.mean"]
        before = judged.clone()
        policy = agent.policy(explore=False)
        for _ in range(3):
            policy.act(np.full((2, 3), 77, np.float32), (), np.zeros(2, np.bool_))
        assert torch.equal(judged, before)

    def test_no_target_is_made_of_raw_observations(self):
        """However late its first update: at the first gradient step the target is the network itself."""
        agent, problem = made("dqn", normalise_observations=True, target_period_env_steps=1000)
        interact(agent, problem)
        assert agent.gradient_steps > 1
        assert float(agent.target.network.normaliser.moments.count) == 12  # that of the first gradient step

    @every_agent
    def test_acting_sees_what_learning_sees(self, name):
        agent = trained(name, normalise_observations=True)
        obs = np.array([[3, 3000, 5], [9, 9000, 5]], np.float32)
        found = agent.policy(explore=False).inspect(obs, (), np.zeros(2, np.bool_))
        with torch.no_grad():
            out = network(agent)(torch.from_numpy(obs))
        expected = out[1] if "value" in found else out[0]
        figure = found["value"] if "value" in found else next(iter(found.values()))
        np.testing.assert_allclose(figure, expected.numpy(), atol=1e-5)
        assert np.abs(expected.numpy()).max() < 50  # thousands went in

    def test_a_rollout_is_learned_from_as_it_was_acted(self):
        found = []
        agent, problem = made("ppo", normalise_observations=True, n_epochs=1, batch_size=64)
        learn_ = agent.learn
        agent.learn = lambda whole: found.append(learn_(whole)) or found[-1]
        interact(agent, problem)
        assert len(found) == 5
        assert max(abs(figures["approx_kl"]) for figures in found) < 1e-6

    @pytest.mark.parametrize("memory", ["none", "lstm"])
    def test_rewards_of_dqn(self, memory):
        agent = trained("dqn", normalise_rewards=True, gamma=0.9, memory=memory, sequence_length=4, n_steps=2)
        scale = agent.trained.statistics.reward_scale
        assert 0 < scale < 0.02  # returns of hundreds
        drawn = sample(agent)
        raw = agent.updates.loss.batch(drawn, agent.config.batch_size, torch.as_tensor)
        batch = agent._augment(raw)
        torch.testing.assert_close(batch.reward, raw.reward * scale)
        assert raw.reward.max() > 50
        obs, first = np.zeros((1, 3), np.float32), np.zeros(1, np.bool_)
        policy = agent.policy(explore=False)
        told = policy.inspect(obs, policy.initial_state(1), first)["q_values"]
        with torch.no_grad():
            q = agent.trained.network(
                torch.from_numpy(obs), agent.trained.network.initial_state(1), torch.from_numpy(first)
            )[0]
        np.testing.assert_allclose(told * scale, q.numpy(), rtol=1e-4)  # told in rewards

    def test_rewards_of_ppo(self):
        agent, problem = made("ppo", normalise_rewards=True, gae_lambda=1.0, gamma=1.0, vf_coef=0.0)
        targets = []
        prepare = agent.rollout_batch
        agent.rollout_batch = lambda: targets.append(prepare()) or targets[-1]
        interact(agent, problem)
        assert 0 < agent.trained.statistics.reward_scale < 0.02
        assert max(whole.target.abs().max() for whole in targets) < 20  # raw ones are up to 800
        obs, first = np.array([[1, 1000, 5]], np.float32), np.zeros(1, np.bool_)
        told = agent.policy(explore=False).inspect(obs, (), first)["value"]
        np.testing.assert_allclose(
            told * agent.trained.statistics.reward_scale, agent._outputs(obs, (), first)[1], rtol=1e-5
        )

    def test_a_single_reward_stays_within_ten_deviations_in_ppo(self):
        agent, _ = made("ppo", normalise_rewards=True)
        first = np.zeros(1, np.bool_)
        for reward in [0.0] * 1000 + [1.0]:
            agent.trained.statistics.observe_rewards(np.array([reward]), first)
        assert agent.trained.statistics.reward_scale > 20
        assert agent.trained.statistics.scaled(np.array([[0.1], [1.0]])).max() == 10

    def test_rewards_that_are_clipped_are_normalised_by_what_is_left_of_them(self):
        agent = trained("dqn", normalise_rewards=True, reward_clip=1.0, gamma=0.9)
        assert 0.1 < agent.trained.statistics.reward_scale < 5  # returns of up to 10, not of hundreds

    @pytest.mark.parametrize("name", ["dqn", "ppo", "pqn"])
    def test_whoever_takes_the_weights_tells_the_same_values(self, name):
        agent = trained(name, normalise_rewards=True, average_decay=0.5)
        fresh, _ = made(name, num_envs=3, normalise_rewards=True, average_decay=0.5)
        fresh.load_state_dict({"weights": agent.state_dict()["weights"]})
        obs, first = np.array([[1, 1000, 5]], np.float32), np.zeros(1, np.bool_)
        ours, theirs = (
            next(iter(a.policy(explore=False).inspect(obs, (), first).values())) for a in (agent, fresh)
        )
        np.testing.assert_array_equal(ours, theirs)


class TestShift:
    @every_agent
    @pytest.mark.parametrize("memory", ["none", "lstm"])
    def test_images_move_when_learned_from_and_at_no_other_time(self, name, memory):
        window = {"sequence_length": 4} if name in REPLAYING else {}
        agent, problem = made(
            name, Spot, random_shift=2, memory=memory, memory_size=4, encoder="mlp", **window
        )
        still, moved = set(), set()

        def watch(module, inputs):
            flat = inputs[0].reshape(-1, 12, 12)
            (moved if torch.is_grad_enabled() else still).update(map(tuple, flat.nonzero()[:, 1:].tolist()))

        encoder = getattr(network(agent), "encoder", None) or network(agent).policy_tower.encoder
        encoder.register_forward_pre_hook(watch)
        interact(agent, problem)
        assert len(moved) > 3
        assert all(abs(y - 6) <= 2 and abs(x - 6) <= 2 for y, x in moved)
        if name != "dqn":  # dqn's successors move as well
            assert still <= {(6, 6)}

    def test_windows_move_as_a_whole(self):
        agent, problem = made("dqn", Spot, random_shift=2, memory="lstm", sequence_length=4, encoder="mlp")
        interact(agent, problem)
        obs = agent._augment(
            agent.updates.loss.batch(sample(agent), agent.config.batch_size, torch.as_tensor)
        ).obs[0]  # [T + 1, B, 12, 12]
        for window in obs.unbind(1):
            places = {tuple(place) for place in window.nonzero()[:, 1:].tolist()}
            assert len(places) == 1
        assert len({tuple(place) for place in obs.nonzero()[:, 2:].tolist()}) > 1
