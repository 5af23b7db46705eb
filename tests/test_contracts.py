"""Every registered learner and environment keeps its contract."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import rl_lab
import rl_lab.envs  # registers lab/*
from contracts import (
    SUMMARY_KEYS,
    documented_fields,
    implements,
    learn_for,
    require_documented_config,
    require_environment,
    require_refusals,
    require_run_directory,
    require_same_play,
    require_state_in_place,
    require_works_from_construction,
)
from rl_lab.agent import Agent, Policy
from rl_lab.environments.make import make_env
from rl_lab.problem import Problem
from rl_lab.runs.config import RunConfig
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.seeding import Streams
from rl_lab.training.interaction import Interaction
from rl_lab.training.learner import Learner
from rl_lab.training.registry import agent_names
from rl_lab.training.setup import configure, problem_of
from runs import differences, learn

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

ENVIRONMENTS = (
    "CartPole-v1",
    "FrozenLake-v1",
    "Pendulum-v1",
    "lab/Bandit-v0",
)  # each learner takes the first that it can
BOUNDS = {"low": (-2.4, -3.0, -0.21, -3.0), "high": (2.4, 3.0, 0.21, 3.0)}  # of CartPole's observations
SMALL: dict[str, dict[str, Any]] = {
    "semi-gradient-sarsa": {**BOUNDS, "tiles": (3,), "trace_decay": 0.9, "traces": "replacing"},
    "semi-gradient-q": {**BOUNDS, "features": "fourier", "fourier_order": 1},
    "lstd": {"update_period_env_steps": 50, "capacity": 100},
    "lspi": {"update_period_env_steps": 50},
    "dqn": {"learning_starts_env_steps": 20, "replay_capacity": 1000, "batch_size": 8},
    **{
        name: {"learning_starts_env_steps": 20, "train_period_env_steps": 20, "batch_size": 8, "hidden": (8,)}
        for name in ("c51", "qr-dqn", "iqn")
    },
    "clone": {"oracle": True, "learning_starts_env_steps": 20, "batch_size": 8},
    "sb3-dqn": {"learning_starts_env_steps": 20, "replay_capacity": 1000, "batch_size": 8},
    "ppo": {"n_steps": 64, "batch_size": 32, "n_epochs": 2},
    "pqn": {"n_steps": 64, "batch_size": 32},
    "sb3-ppo": {"n_steps": 64, "batch_size": 32, "n_epochs": 2},
    "sb3-qrdqn": {
        "learning_starts_env_steps": 20,
        "replay_capacity": 1000,
        "batch_size": 8,
        "n_quantiles": 5,
    },
    "sb3-recurrent-ppo": {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "memory_size": 8},
}
STEPS = 300
RELATIVES = {  # agents that are another one with other parts
    "semi-gradient-q", "lstd", "bandit-epsilon-greedy", "bandit-gradient", "bandit-thompson",
}  # fmt: skip
RANDOM = ("random", "td-prediction")  # their greedy policies draw


def each(names: list[str]) -> list[Any]:
    """Return names as parameters of tests; those of relatives are left to the long ones."""
    return [pytest.param(name, marks=pytest.mark.long if name in RELATIVES else ()) for name in names]


@cache
def subject(name: str) -> tuple[Learner, Problem]:
    """A learner and the first problem that it takes."""
    for env_id in ENVIRONMENTS:
        fields = {"env_id": env_id, "total_steps": STEPS, "seed": 4} | SMALL.get(name, {})
        learner, config = configure(name, fields)
        problem = problem_of(config, learner)
        if learner.refuse(problem) is None:
            return learner, problem
    raise AssertionError(f"{name} takes none of {ENVIRONMENTS}")


@pytest.fixture(scope="module", params=each(agent_names()))
def trained(request, tmp_path_factory):
    """Each learner after a short run: (name, learner, problem, result)."""
    name = request.param
    learner, problem = subject(name)
    folder = tmp_path_factory.mktemp(name)
    fields = SMALL.get(name, {})
    return name, learner, problem, learn(folder, name, problem.env_id, total_steps=STEPS, seed=4, **fields)


class TestLearners:
    def test_has_what_the_protocol_asks_for(self, trained):
        assert implements(Learner, trained[1]) == set()

    def test_config_is_frozen_and_documented(self, trained):
        require_documented_config(trained[1].Config)

    def test_refuses_in_one_line_or_not_at_all(self, trained):
        _, learner, problem, _ = trained
        others = [problem_of(RunConfig(env_id=env_id), learner) for env_id in ENVIRONMENTS]
        accepted = require_refusals(learner, [problem, *others])
        assert accepted[0]

    def test_leaves_a_whole_run_directory(self, trained):
        require_run_directory(trained[3].run_dir)

    def test_stored_policy_acts_like_the_one_that_was_returned(self, trained):
        _, _, problem, result = trained
        assert implements(Policy, result.policy) == set()
        require_same_play(result.policy, rl_lab.load_policy(result.run_dir), problem.make)

    def test_greedy_policy_is_deterministic(self, trained):
        name, _, problem, result = trained
        if name not in RANDOM:
            require_same_play(result.policy, result.policy, problem.make)
        envs = problem.make(3)
        obs, info = envs.reset(seed=[1, 2, 3])
        state = result.policy.initial_state(3)
        acts = [result.policy.act(obs, state, np.ones(3, bool), info.get("action_mask")) for _ in range(5)]
        envs.close()
        assert (len({a.action.tobytes() for a in acts}) == 1) == (name not in RANDOM)

    def test_two_runs_with_one_seed_are_equal(self, trained, tmp_path):
        name, _, problem, result = trained
        again = learn(tmp_path, name, problem.env_id, total_steps=STEPS, seed=4, **SMALL.get(name, {}))
        assert differences(fingerprint(result.run_dir), fingerprint(again.run_dir)) == set()

    def test_another_seed_gives_another_run(self, trained, tmp_path):
        name, _, problem, result = trained
        other = learn(tmp_path, name, problem.env_id, total_steps=STEPS, seed=5, **SMALL.get(name, {}))
        changed = differences(fingerprint(result.run_dir), fingerprint(other.run_dir))
        assert ("episodes.csv" in changed) == (
            not getattr(trained[1], "knows_model", False)
        )  # a solver draws nothing

    def test_evaluating_more_often_changes_no_result(self, trained, tmp_path):
        name, _, problem, result = trained
        fields = SMALL.get(name, {}) | {"eval_every_steps": 40}
        other = learn(tmp_path, name, problem.env_id, total_steps=STEPS, seed=4, **fields)
        changed = differences(fingerprint(result.run_dir), fingerprint(other.run_dir))
        assert changed <= {"metrics"}


def interacting() -> list[str]:
    return [name for name in agent_names() if isinstance(subject(name)[0], Interaction)]


def build(name: str) -> Agent:
    learner, problem = subject(name)
    return learner.build_agent(learner.config, problem, Streams(problem.seed))


@pytest.mark.parametrize("name", each(interacting()))
class TestAgents:
    def test_has_what_the_protocols_ask_for(self, name):
        assert implements(Agent, build(name)) == set()
        assert implements(Policy, build(name).policy(explore=True)) == set()

    def test_works_from_construction(self, name):
        require_works_from_construction(build(name), subject(name)[1].make)

    def test_state_comes_back_in_place(self, name, tmp_path):
        agent = build(name)
        learn_for(agent, subject(name)[1], 101)
        require_state_in_place(agent, build(name), tmp_path, subject(name)[1].make)

    def test_weights_alone_make_the_policy(self, name):
        agent, fresh = build(name), build(name)
        learn_for(agent, subject(name)[1], 101)
        fresh.load_state_dict({"weights": agent.state_dict()["weights"]})
        require_same_play(fresh.policy(explore=False), agent.policy(explore=False), subject(name)[1].make)
        assert fresh.gradient_steps == 0


def lab_environments() -> list[str]:
    return sorted(i for i in gymnasium.registry if i.startswith("lab/"))


class TestEnvironments:
    @pytest.mark.parametrize("env_id", lab_environments())
    def test_keeps_the_contract(self, env_id):
        require_environment(partial(make_env, env_id))

    def test_there_are_some(self):
        assert len(lab_environments()) >= 3


class TestTheContractItself:
    def test_sees_a_field_without_a_docstring(self):
        @dataclass(frozen=True)
        class Config:
            """Fields."""

            told: int = 1
            """What this one is for."""
            untold: int = 2

        assert documented_fields(Config) == {"told"}
        with pytest.raises(AssertionError, match="untold"):
            require_documented_config(Config)

    def test_sees_a_config_that_can_change(self):
        @dataclass
        class Config:
            """Fields."""

        with pytest.raises(AssertionError):
            require_documented_config(Config)

    def test_knows_every_key_of_the_summary(self):
        assert len(SUMMARY_KEYS) == 19

    def test_sees_an_environment_that_remembers(self):
        class Forgetless(gymnasium.Env):
            observation_space, action_space = spaces.Discrete(50), spaces.Discrete(2)
            metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
            render_mode = "rgb_array"
            count = 0

            def reset(self, *, seed=None, options=None):
                self.count = min(self.count + 1, 49)
                return self.count, {}

            def step(self, action):
                return self.count, 0.0, True, False, {}

        from contracts import require_determinism

        with pytest.raises(AssertionError):
            require_determinism(Forgetless(), Forgetless())
