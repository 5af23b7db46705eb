"""Agents that learn from rollouts resume to the bit, within a rollout too, and need all that is saved for it."""

from __future__ import annotations

import copy
import shutil

import gymnasium
import numpy as np
import pytest

import rl_lab
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.training import running
from rl_lab.training.loading import read_weights
from rl_lab.updates.compiling import has_compiler
from runs import asking_to_stop, differences, learn
from toys import Masked

gymnasium.register("test/Masked-v0", Masked)
SMALL = {"n_steps": 16, "hidden": (8,), "log_every_steps": 50, "eval_max_steps": 50, "seed": 3}
ATTENTION = {"batch_size": 16, "n_epochs": 1, "memory": "attention", "context": 4, "memory_size": 8}
COMPILED = {"batch_size": 16, "n_epochs": 2, "compile": "yes" if has_compiler() else "no"}
RUNS = {
    "ppo": ("ppo", "CartPole-v1", {"batch_size": 12, "n_epochs": 2, "linear_decay": True}),
    "ppo-lstm": ("ppo", "CartPole-v1", {"batch_size": 16, "n_epochs": 2, "memory": "lstm", "memory_size": 8}),
    "ppo-attention": ("ppo", "CartPole-v1", ATTENTION),
    "ppo-box": ("ppo", "Pendulum-v1", {"batch_size": 12, "n_epochs": 2}),
    "ppo-masked": ("ppo", "Taxi-v4", {"batch_size": 12, "n_epochs": 2}),
    "ppo-compiled": ("ppo", "test/Masked-v0", COMPILED),  # the step of tests/updates/test_policy_updates.py
    "a2c": ("a2c", "CartPole-v1", {"n_steps": 5}),
    "reinforce": ("reinforce", "CartPole-v1", {"n_steps": 100}),
    "pqn": ("pqn", "CartPole-v1", {"batch_size": 12, "normalise_rewards": True, "learning_rate_final": 0.0}),
    "pqn-lstm": ("pqn", "CartPole-v1", {"batch_size": 16, "memory": "lstm", "memory_size": 8}),
    "pqn-masked": ("pqn", "test/Masked-v0", {"batch_size": 12}),
    "pqn-compiled": ("pqn", "test/Masked-v0", COMPILED),  # the step of tests/updates/test_return_loss.py
}  # fmt: skip
STOP = 134  # vector steps: within a rollout of each of them


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory):
    """Uninterrupted runs, made when first asked for."""
    made = {}

    def whole(name, num_envs):
        if (name, num_envs) not in made:
            made[name, num_envs] = tmp_path_factory.mktemp(name) / "run"
            run(made[name, num_envs], name, num_envs)
        return made[name, num_envs]

    return whole


def run(folder, name, num_envs, **asked):
    agent, env_id, fields = RUNS[name]
    return learn(
        folder, agent, env_id, total_steps=208 * num_envs, num_envs=num_envs, **(SMALL | fields), **asked
    )


class TestResuming:
    @pytest.mark.parametrize("num_envs", [pytest.param(1, marks=pytest.mark.long), 3])
    @pytest.mark.parametrize(
        "name", [pytest.param(n, marks=[pytest.mark.long] * (n == "pqn-compiled")) for n in RUNS]
    )
    def test_a_stop_in_the_middle_of_a_rollout_changes_no_bit(self, whole_runs, tmp_path, name, num_envs):
        assert run(tmp_path, name, num_envs, stop_at=STOP * num_envs).summary is None
        saved = Checkpoints(tmp_path / "checkpoints").load()[1]["agent"]
        assert len(saved["rollout"]["columns"]["reward"]) % RUNS[name][2].get("n_steps", 16) > 0
        with asking_to_stop((STOP + 1) * num_envs):
            rl_lab.resume(tmp_path)
        rl_lab.resume(tmp_path)
        assert differences(fingerprint(whole_runs(name, num_envs)), fingerprint(tmp_path)) == set()

    @pytest.mark.parametrize(
        ("name", "part"),
        [("ppo-lstm", part) for part in ("rollout", "carry", "optimiser", "streams")]
        + [("pqn-lstm", "carry")],
    )
    def test_nothing_can_be_left_out(self, whole_runs, tmp_path, monkeypatch, part, name):
        def leave_out(members):
            agent = members["agent"]
            if part == "rollout":
                agent["rollout"] = {}
            elif part == "carry":
                agent["rollout"]["state"] = tuple(np.zeros_like(x) for x in agent["rollout"]["state"])
            elif part == "optimiser":
                agent["optimiser"] = {}
            else:
                members["streams"]["numpy"]["minibatches"] = members["streams"]["numpy"]["explore"]

        run(tmp_path, name, 3, stop_at=STOP * 3)
        members = copy.deepcopy(Checkpoints(tmp_path / "checkpoints").load()[1])
        shutil.copytree(tmp_path, tmp_path / "again")
        for folder, change in ((tmp_path, leave_out), (tmp_path / "again", lambda m: None)):
            changed = copy.deepcopy(members)
            change(changed)
            monkeypatch.setattr(running, "_restored", lambda *_, changed=changed: changed)
            rl_lab.resume(folder)
        same = fingerprint(whole_runs(name, 3))
        assert differences(same, fingerprint(tmp_path / "again")) == set()
        assert differences(same, fingerprint(tmp_path)) != set()

    def test_a_warm_start_takes_the_weights_alone(self, whole_runs, tmp_path):
        source = whole_runs("ppo", 1)
        result = run(tmp_path, "ppo", 1, init_from=str(source), learning_rate=1e-12)
        loaded = read_weights(source)
        for name, value in read_weights(result.run_dir).items():
            np.testing.assert_allclose(value, loaded[name], atol=1e-6)
