"""On a GPU every deep agent learns, resumes and acts; its updates are those of the CPU.

These tests see a GPU only where they are asked for by name: `pytest tests/test_cuda.py`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

import rl_lab
from rl_lab.agents.dqn import DQN, Config
from rl_lab.runs.rows import read_rows
from rl_lab.seeding import Streams
from rl_lab.training.launch import resume
from runs import learn
from toys import Counting, interact, problem_on

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")

REPLAYED: dict[str, Any] = {"learning_starts_env_steps": 40, "batch_size": 8}
WINDOWS = REPLAYED | {"memory": "lstm", "sequence_length": 4, "burn_in_steps": 1, "double": True}
ROLLOUTS = {"n_steps": 32, "batch_size": 16, "n_epochs": 2}
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dqn": ("dqn", "CartPole-v1", REPLAYED),
    "dqn, prioritised": ("dqn", "CartPole-v1", REPLAYED | {"prioritised": True}),
    "dqn, dropout": ("dqn", "CartPole-v1", REPLAYED | {"dropout": 0.5}),
    "dqn, images": ("dqn", "lab/GridWorldPixels-v0", REPLAYED),
    "dqn, lstm": ("dqn", "CartPole-v1", WINDOWS),
    "dqn, lstm, prioritised": ("dqn", "CartPole-v1", WINDOWS | {"prioritised": True}),
    "ppo": ("ppo", "CartPole-v1", ROLLOUTS),
    "ppo, lstm": ("ppo", "CartPole-v1", ROLLOUTS | {"memory": "lstm"}),
    "a2c, Box actions": ("a2c", "Pendulum-v1", {}),
    "reinforce": ("reinforce", "CartPole-v1", {"n_steps": 32}),
    "pqn": ("pqn", "CartPole-v1", {"num_envs": 4, "n_steps": 8, "batch_size": 16}),
    "pqn, lstm": ("pqn", "CartPole-v1", {"num_envs": 4, "n_steps": 8, "batch_size": 16, "memory": "lstm"}),
    "c51": ("c51", "CartPole-v1", REPLAYED | {"v_min": 0.0, "v_max": 100.0, "prioritised": True}),
    "qr-dqn": ("qr-dqn", "CartPole-v1", REPLAYED | {"quantiles": 10}),
    "iqn": ("iqn", "CartPole-v1", REPLAYED | {"fractions": 8, "target_fractions": 8}),
    "dqn, noisy, Munchausen": ("dqn", "CartPole-v1", REPLAYED | {"noisy": True, "munchausen": True}),
    "dqn, heads": ("dqn", "CartPole-v1", REPLAYED | {"heads": 3, "prior_scale": 1.0}),
    "clone": ("clone", "FrozenLake-v1", REPLAYED | {"oracle": True}),
}


@pytest.mark.parametrize("name", RUNS)
def test_it_learns_resumes_and_acts(name, tmp_path):
    agent, env_id, fields = RUNS[name]
    cut = learn(
        tmp_path / "run", agent, env_id, stop_at=160, device="cuda", total_steps=320, hidden=(16,), **fields
    )
    result = resume(cut.run_dir)
    assert result.summary["env_steps"] >= 320
    losses = [row["loss"] for row in read_rows(result.run_dir) if "loss" in row]
    assert losses
    assert np.isfinite(losses).all()
    envs = rl_lab.make_envs(env_id, num_envs=2)
    assert len(rl_lab.evaluate(rl_lab.load_policy(result.run_dir), envs, episodes=2, seed=0).returns) == 2


def test_dropout_goes_on_where_it_was(tmp_path):
    fields = RUNS["dqn, dropout"][2] | {"device": "cuda", "total_steps": 320, "hidden": (16,)}
    whole = learn(tmp_path / "whole", "dqn", "CartPole-v1", **fields)
    cut = resume(learn(tmp_path / "cut", "dqn", "CartPole-v1", stop_at=160, **fields).run_dir)
    for one, other in zip(*(r.policy.network.parameters() for r in (whole, cut)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@pytest.fixture
def full_precision(monkeypatch):
    """Products of matrices and convolutions with all bits of float32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def test_its_updates_are_those_of_the_cpu(full_precision):
    weights = []
    for device in ("cpu", "cuda"):
        problem = dataclasses.replace(problem_on(Counting, total_steps=200), device=device)
        agent = DQN(Config(hidden=(16,), compile="no", **REPLAYED), problem, Streams(0))
        interact(agent, problem)
        assert agent.gradient_steps > 10
        weights.append([p.detach().cpu() for p in agent.trained.network.parameters()])
    for ours, theirs in zip(*weights, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["dqn", "dqn, images", "ppo"])
def test_seeds_learn_together_what_they_learn_alone(name, tmp_path, full_precision):
    agent, env_id, fields = RUNS[name]
    fields = fields | {
        "device": "cuda", "total_steps": 320, "hidden": (16,), "compile": "no", "adam_epsilon": 0.01,
    }  # fmt: skip
    together = learn(tmp_path / "many", agent, env_id, num_seeds=3, **fields)
    alone = learn(tmp_path / "alone", agent, env_id, seed=1, **fields)
    assert together[1].summary["gradient_steps"] == alone.summary["gradient_steps"] > 10
    nets = [list(result.policy.network.parameters()) for result in (together[1], alone, together[2])]
    for mine, own in zip(*nets[:2], strict=True):
        torch.testing.assert_close(mine, own, atol=1e-3, rtol=1e-3)
    assert max(float((mine - other).abs().max()) for mine, other in zip(nets[0], nets[2], strict=True)) > 0.01
