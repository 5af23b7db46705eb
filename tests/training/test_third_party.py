"""A package that others install brings an agent and an environment, found by name without a line here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from projects import install, module_project, package_project

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
PRESETS = """
counting-bandit:
  curious:
    total_steps: 60
    epsilon: 0.5
"""
ARMS = """
import gymnasium
from gymnasium import spaces


class Arms(gymnasium.Env):
    metadata = {{"render_modes": []}}
    observation_space, action_space = spaces.Discrete(1), spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {{}}

    def step(self, action):
        return 0, float(action == 2), True, False, {{}}


gymnasium.register("{name}/Arms-v0", Arms)
"""
BANDIT = '''
"""Averages the rewards of each arm."""

from dataclasses import dataclass

import numpy as np

from rl_lab.checks import within
from rl_lab.policies import EpsilonGreedy, ValuePolicy
from rl_lab.training.interaction import Interaction


@dataclass(frozen=True)
class Config:
    """Fields of the bandit."""

    epsilon: float = 0.3
    """Probability of a random arm."""

    def __post_init__(self):
        within(self, 0.0, 1.0, "epsilon")


class Bandit:
    collect_env_steps = 1

    def __init__(self, config, problem, streams):
        self.config, self.rng = config, streams["explore"]
        self.means, self.counts = np.zeros((1, int(problem.spec.action_space.n))), None
        self.counts, self.gradient_steps, self.step = np.zeros_like(self.means), 0, None

    def policy(self, *, explore):
        exploring = EpsilonGreedy(self.rng, lambda: self.config.epsilon) if explore else None
        return ValuePolicy(lambda obs, state, first: (self.means[obs], ()), self.means.shape[1], explore=exploring)

    def observe(self, step):
        self.step = step

    def update(self):
        for obs, action, reward in zip(self.step.obs, self.step.action, self.step.reward):
            self.counts[obs, action] += 1
            self.means[obs, action] += (reward - self.means[obs, action]) / self.counts[obs, action]
            self.gradient_steps += 1
        return {"mean": float(self.means.mean())}

    def diagnostics(self):
        return {}

    def state_dict(self):
        return {"weights": {"means": self.means}, "counts": self.counts, "gradient_steps": self.gradient_steps}

    def load_state_dict(self, state):
        self.means[...] = state["weights"]["means"]
        if "counts" in state:
            self.counts[...], self.gradient_steps = state["counts"], state["gradient_steps"]


def build(**fields):
    return Interaction(Config(**fields), Bandit, lambda config, spec: None)
'''
NAME = "their_lab_package"
SOLO = "their_solo_module"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Install the package, and a module that stands alone, into a folder of their own, without network."""
    target = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source")
    package = source / NAME
    package.mkdir()
    (source / "pyproject.toml").write_text(package_project(NAME))
    (package / "__init__.py").touch()
    (package / "presets.yaml").write_text(PRESETS)
    (package / "arms.py").write_text(ARMS.format(name=NAME))
    (package / "bandit.py").write_text(BANDIT)
    install(source, target)
    alone = tmp_path_factory.mktemp("alone")
    (alone / "pyproject.toml").write_text(module_project(SOLO))
    (alone / f"{SOLO}.py").write_text(BANDIT)
    install(alone, target)
    return target


def run(script: str, *words: object, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = os.environ | (
        {"PYTHONPATH": os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])}
        if site
        else {}
    )
    command = [sys.executable, str(SCRIPTS / script), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


QUICK = ["--wandb", "disabled", "--video-episodes", "0", "--eval-episodes", "2"]
WORDS = ["--agent", "counting-bandit", "--env-id", f"{NAME}/Arms-v0", *QUICK]


class TestThirdParty:
    def test_is_found_by_name_and_learns(self, site, tmp_path):
        words = [*WORDS, "--total-steps", "200", "--num-envs", "2", "--run-dir", tmp_path]
        done = run("train.py", *words, "--epsilon", "0.6", site=site)
        assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / "summary.json").read_bytes())
        assert (summary["agent"], summary["env_id"]) == ("counting-bandit", f"{NAME}/Arms-v0")
        assert summary["eval_returns"] == [1.0, 1.0]  # it found the third arm
        assert summary["gradient_steps"] == summary["env_steps"] == summary["episodes"] == 200
        assert json.loads((tmp_path / "config.json").read_bytes())["fields"] == {"epsilon": 0.6}

    def test_its_presets_are_found(self, site, tmp_path):
        done = run("train.py", *WORDS, "--preset", "curious", "--run-dir", tmp_path, site=site)
        assert done.returncode == 0, done.stderr
        config = json.loads((tmp_path / "config.json").read_bytes())
        assert (config["total_steps"], config["fields"]["epsilon"]) == (60, 0.5)

    def test_its_fields_stand_in_the_help_and_are_checked(self, site):
        told = run("train.py", "--agent", "counting-bandit", "--help", site=site)
        assert "--epsilon" in told.stdout
        assert "Probability of a random arm" in " ".join(told.stdout.split())
        wrong = run("train.py", *WORDS, "--epsilon", "2", site=site)
        assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
        assert "epsilon must be between 0.0 and 1.0, got 2.0" in wrong.stderr

    def test_an_agent_in_a_single_module_learns_and_has_no_presets(self, site, tmp_path):
        words = ["--agent", "solo-bandit", "--env-id", f"{NAME}/Arms-v0", *QUICK, "--total-steps", "20"]
        done = run("train.py", *words, "--run-dir", tmp_path, site=site)
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / "summary.json").read_bytes())["agent"] == "solo-bandit"
        told = run("train.py", "--agent", "solo-bandit", "--help", site=site)
        assert "Presets of solo-bandit: none" in told.stdout
        wrong = run("train.py", *words, "--preset", "curious", site=site)
        assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
        assert "has no preset 'curious' (allowed: none)" in wrong.stderr

    def test_without_the_package_the_name_is_unknown(self):
        done = run("train.py", *WORDS)
        assert done.returncode == 2
        assert "unknown agent 'counting-bandit'" in done.stderr
