"""An environment that breaks ends a run with one line, whoever learns, and leaves its checkpoints good."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rl_lab
from commands import QUICK, call
from rl_lab.cli.train import train
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import CheckpointMissing
from rl_lab.types import EnvironmentFault, UsageError
from runs import learn

SUPPORT = str(Path(__file__).resolve().parents[1] / "support")
FAULTY = "faulty:lab-test/Faulty-v0"
AGENTS = ("random", "dqn", "ppo", "a2c", "reinforce", "pqn", "sb3-dqn", "sb3-ppo", "sb3-a2c", "sb3-qrdqn")
AGENTS += ("sb3-recurrent-ppo",)
SMALL = {  # networks, and passes over what was played
    "ppo": {"hidden": (8,), "n_epochs": 2},
    "sb3-ppo": {"hidden": (8,), "n_epochs": 2},
    "sb3-qrdqn": {"hidden": (8,), "n_quantiles": 8},
    "sb3-recurrent-ppo": {"hidden": (8,), "n_epochs": 2, "memory_size": 8},
}
FAULTS = ("nan reward", "huge reward", "nan", "infinite", "longer", "raise", "quit", "no reward")


def break_in(folder: Path, agent: str, fault: str, at: int = 60, first_episode: int = 2, **fields):
    """Train in an environment that breaks at step `at` from its third episode on, which no check before plays."""
    kwargs = {"fault": fault, "at": at, "first_episode": first_episode}
    own = {"learning_starts_env_steps": 20} if "dqn" in agent else {}
    own |= SMALL.get(agent, {}) | {"total_steps": 400, "checkpoint_every_steps": 50}
    learn(folder, agent, FAULTY, env_kwargs=kwargs, **own | fields)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("agent", AGENTS)
def test_every_agent_hears_of_it_in_the_same_words(agent, fault, tmp_path):
    with pytest.raises(
        EnvironmentFault, match=r"^environment lab-test/Faulty-v0 \(number 0, seed \d+, step 60\): \S"
    ):
        break_in(tmp_path / "run", agent, fault)
    assert not (tmp_path / "run" / "summary.json").exists()
    try:
        _, members = Checkpoints(tmp_path / "run" / "checkpoints").load()
    except CheckpointMissing:
        return  # an agent that saves at the ends of rollouts alone had none yet
    assert all(np.isfinite(np.asarray(w, np.float64)).all() for w in members["weights"].values())


@pytest.mark.parametrize(
    ("agent", "steps"), [("random", 250), ("dqn", 250), ("sb3-dqn", None)], ids=lambda value: str(value)
)
def test_the_error_tells_how_to_go_on_if_the_agent_can(agent, steps, tmp_path):
    folder = tmp_path / "a run"
    with pytest.raises(EnvironmentFault) as broken:
        break_in(folder, agent, "raise")
    told = getattr(broken.value, "__notes__", [])
    command = f"rl-lab train --resume --run-dir='{folder}'"
    expected = f"it was saved at {steps} environment steps; continue from there with: {command}"
    assert told == ([] if steps is None else [expected])


def test_without_a_checkpoint_there_is_nothing_to_go_on_from(tmp_path):
    with pytest.raises(EnvironmentFault) as broken:
        break_in(tmp_path, "random", "raise", checkpoint_every_steps=300, keep_best=0)
    assert not hasattr(broken.value, "__notes__")


def test_a_resumed_run_that_breaks_again_tells_it_too(tmp_path):
    with pytest.raises(EnvironmentFault):
        break_in(tmp_path, "random", "raise", total_steps=800)
    with pytest.raises(EnvironmentFault) as broken:
        rl_lab.resume(tmp_path)  # its environment is a new one, which breaks in its own third episode
    assert "it was saved at 450 environment steps" in broken.value.__notes__[0]


def test_the_command_prints_it_below_the_error(tmp_path, capsys):
    run_dir = tmp_path / "run"
    words = [
        "--agent",
        "random",
        "--env-id",
        FAULTY,
        "--env-kwargs",
        "fault=raise",
        "at=60",
        "first_episode=2",
    ]
    code, _, err = call(
        capsys,
        train,
        *words,
        *QUICK,
        "--total-steps",
        "400",
        "--checkpoint-every-steps",
        "50",
        "--run-dir",
        run_dir,
    )
    assert code == 1
    error, told = err.splitlines()[-2:]
    assert error.startswith("error: environment lab-test/Faulty-v0 (number 0, seed ")
    assert told.endswith(f"continue from there with: rl-lab train --resume --run-dir={run_dir}")


@pytest.mark.parametrize(("agent", "at"), [("random", 5), ("dqn", 60), ("ppo", 5), ("sb3-dqn", 5)])
def test_a_fault_in_the_first_episode_is_a_wrong_environment(agent, at, tmp_path):
    with pytest.raises(UsageError, match=rf"step {at}\): reward: nan"):
        break_in(tmp_path / "run", agent, "nan reward", at=at, first_episode=0)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("fault", "seconds", "cause", "at", "first_episode"),
    [
        pytest.param("kill", 60, "exit code -9", 60, 2, marks=pytest.mark.long),
        pytest.param("exit", 60, "exit code 7", 60, 2, marks=pytest.mark.long),
        pytest.param("hang", 10, "no answer within 10 s", 60, 2, marks=pytest.mark.long),
        ("exit", 60, "exit code 7", 3, 0),  # in the checks before the run
    ],
)
def test_a_broken_worker_ends_the_run_with_one_line_and_leaves_no_process(
    fault, seconds, cause, at, first_episode, tmp_path
):
    words = ["--agent", "dqn", "--env-id", FAULTY, "--num-envs", "2", "--vector", "async", *QUICK]
    more = ["--env-kwargs", f"fault={fault}", f"at={at}", f"first_episode={first_episode}"]
    more += ["--total-steps", "800", "--env-timeout-seconds", str(seconds)]
    done = subprocess.run(
        [sys.executable, "-m", "rl_lab", "train", *words, *more, "--run-dir", str(tmp_path / "run")],
        env=os.environ | {"PYTHONPATH": f"{SUPPORT}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(errors) == 1
    assert errors[0].startswith("error: environment number 0 (worker process, seed ")
    assert f"step {at}): " in errors[0]
    assert cause in errors[0]
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_a_comparison_counts_it_as_failed_with_its_cause(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", SUPPORT, prepend=":")
    kwargs = {"fault": "nan reward", "at": 60, "first_episode": 2}
    found = rl_lab.compare(
        FAULTY, ["random", "sb3-dqn"], seeds=1, out=tmp_path / "study", total_steps=300, env_kwargs=kwargs,
        eval_episodes=2, wandb="disabled",
    )  # fmt: skip
    assert len(found.failures) == 2
    assert all("step 60): reward: nan" in cause for cause in found.failures.values())
