"""The interface carries agents of other kinds: off-policy on Box actions, and on-policy with extras of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from gymnasium import spaces

import rl_lab
from contracts import (
    learn_for,
    play,
    require_same_play,
    require_state_in_place,
    require_works_from_construction,
)
from rl_lab.environments.make import make_envs
from rl_lab.problem import Problem
from rl_lab.runs.config import RunConfig
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.seeding import Streams
from rl_lab.training import registry
from rl_lab.training.interaction import Interaction
from rl_lab.training.setup import problem_of
from rl_lab.types import Array, Decision, EnvSpec, Metrics, Step
from runs import differences, learn


@dataclass(frozen=True)
class LinearConfig:
    """Fields of the agents below."""

    rollout_vector_steps: int = 8
    """Vector steps between updates of the on-policy agent."""


class LinearPolicy:
    """action = clip(w . obs + noise), with what an on-policy agent wants remembered in extras."""

    def __init__(self, w: Array, space: spaces.Box, rng: np.random.Generator | None):
        self.w, self.space, self.rng = w, space, rng

    def initial_state(self, num_envs):
        return ()

    def act(self, obs, state, is_first, mask=None):
        mean = obs @ self.w  # [N, 1]
        noise = 0.0 if self.rng is None else self.rng.normal(size=mean.shape)
        raw = mean + noise
        action = np.clip(raw, self.space.low, self.space.high).astype(self.space.dtype)
        extras = {"log_prob": -0.5 * (np.square(raw - mean)).sum(-1), "value": obs.sum(-1), "raw": raw}
        return Decision(action, (), extras)

    def inspect(self, obs, state, is_first, mask=None):
        return {"value": obs.sum(-1)}


class LinearAgent:
    """Off-policy: moves its weights a little towards the actions that were rewarded."""

    collect_env_steps = 1

    def __init__(self, config: LinearConfig, problem: Problem, streams: Streams):
        self.space, self.rng = problem.spec.action_space, streams["explore"]
        self.w = np.zeros((problem.spec.observation_space.shape[0], 1))
        self.gradient_steps = 0
        self.seen: Step | None = None

    def policy(self, *, explore):
        return LinearPolicy(self.w, self.space, self.rng if explore else None)

    def observe(self, step: Step):
        assert step.action.shape == (len(step.reward), *self.space.shape)
        assert step.action.dtype == self.space.dtype
        assert all(self.space.contains(a) for a in step.action)
        self.seen = step

    def update(self) -> Metrics | None:
        step, self.seen = self.seen, None
        self.w += 1e-3 * (step.obs.T @ (step.action * step.reward[:, None])) / len(step.reward)
        self.gradient_steps += 1
        return {"w_norm": float(np.linalg.norm(self.w))}

    def diagnostics(self):
        return {}

    def state_dict(self):
        return {"weights": {"w": self.w}, "gradient_steps": self.gradient_steps}

    def load_state_dict(self, state):
        self.w[...] = state["weights"]["w"]
        self.gradient_steps = state.get("gradient_steps", 0)


class OnPolicyAgent(LinearAgent):
    """Collects a rollout with its extras, learns from it once it is full, and throws it away."""

    def __init__(self, config, problem, streams):
        super().__init__(config, problem, streams)
        self.length = config.rollout_vector_steps
        self.collect_env_steps = self.length * problem.num_envs
        self.rollout: dict[str, list[Array]] = {}

    def observe(self, step: Step):
        kept = {"obs": step.obs, "action": step.action, "reward": step.reward, **step.extras}
        for name, column in kept.items():
            self.rollout.setdefault(name, []).append(np.array(column))

    def update(self) -> Metrics | None:
        if len(self.rollout["reward"]) < self.length:
            return None
        columns = {name: np.stack(column) for name, column in self.rollout.items()}  # [T, N, ...]
        assert columns["log_prob"].shape == columns["reward"].shape
        np.testing.assert_array_equal(columns["value"], columns["obs"].sum(-1))  # of the same step
        np.testing.assert_array_equal(
            columns["action"], np.clip(columns["raw"], self.space.low, self.space.high).astype(np.float32)
        )
        mean = columns["obs"] @ self.w  # still the weights that acted
        np.testing.assert_allclose(columns["log_prob"], -0.5 * np.square(columns["raw"] - mean).sum(-1))
        advantage = columns["reward"] - columns["value"]  # [T, N]
        gradient = np.einsum("tno,tna,tn->oa", columns["obs"], columns["raw"] - mean, advantage)
        self.w += 1e-4 * gradient / advantage.size
        self.gradient_steps += 1
        self.rollout = {}
        return {"advantage": float(advantage.mean())}

    def state_dict(self):
        return super().state_dict() | {"rollout": self.rollout}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.rollout = {name: list(column) for name, column in state.get("rollout", {}).items()}


def refuse(config: LinearConfig, spec: EnvSpec) -> str | None:
    return None if isinstance(spec.action_space, spaces.Box) else "needs Box actions"


KINDS = {"box-actions": LinearAgent, "on-policy": OnPolicyAgent}


@pytest.fixture
def dummies(monkeypatch):
    """Let the registry know the agents above."""

    def factory(name: str):
        return lambda **fields: Interaction(LinearConfig(**fields), KINDS[name], refuse)

    monkeypatch.setattr(registry, "_factory", factory)


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
class TestOtherKindsOfAgents:
    def test_are_driven_by_the_loop(self, kind, num_envs):
        problem = problem_of(RunConfig(env_id="Pendulum-v1", num_envs=num_envs), object())
        agent = KINDS[kind](LinearConfig(), problem, Streams(0))
        learn_for(agent, problem, 48 * num_envs)
        assert agent.gradient_steps == (48 if kind == "box-actions" else 6)
        assert np.abs(agent.w).max() > 0

    def test_resume_exactly_in_the_middle(self, dummies, tmp_path, kind, num_envs):
        """450 vector steps cross Pendulum's limit of 200 twice; the stop falls within a rollout."""
        run = partial(learn, agent=kind, env_id="Pendulum-v1", total_steps=450 * num_envs, num_envs=num_envs)
        run(tmp_path / "whole")
        stopped = run(tmp_path / "stopped", stop_at=203 * num_envs)
        assert stopped.summary is None
        resumed = rl_lab.resume(tmp_path / "stopped")
        assert differences(fingerprint(tmp_path / "whole"), fingerprint(tmp_path / "stopped")) == set()
        assert resumed.summary["env_steps"] == {"box-actions": 450, "on-policy": 456}[kind] * num_envs
        assert resumed.summary["episodes"] == 2 * num_envs
        require_same_play(
            resumed.policy, rl_lab.load_policy(tmp_path / "stopped"), partial(make_envs, "Pendulum-v1")
        )

    def test_a_stop_between_the_budget_and_its_rounding_is_honoured(self, dummies, tmp_path, kind, num_envs):
        """With rollouts of 8 the on-policy budget of 50 becomes 56 vector steps."""
        total = 50 * num_envs
        stopped = learn(
            tmp_path, kind, "Pendulum-v1", total_steps=total, num_envs=num_envs, stop_at=total + num_envs
        )
        assert (stopped.summary is None) == (kind == "on-policy")

    def test_keep_the_contract_of_agents(self, tmp_path, kind, num_envs):
        problem = problem_of(RunConfig(env_id="Pendulum-v1", num_envs=num_envs), object())
        make = partial(KINDS[kind], LinearConfig(), problem)
        require_works_from_construction(make(Streams(0)), problem.make)
        agent = make(Streams(0))
        learn_for(agent, problem, 13 * num_envs)
        require_state_in_place(agent, make(Streams(0)), tmp_path, problem.make)
        envs = problem.make(num_envs)
        assert len(play(agent.policy(explore=True), envs, 3)[0]) == num_envs
        envs.close()
