"""A signal while an update is being compiled: the compilers end, the run is saved and goes on exactly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gymnasium
import pytest
from gymnasium.wrappers import FrameStackObservation

import rl_lab
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.runs.rows import read_rows
from rl_lab.runs.run import Run
from rl_lab.runs.signals import STOPPED
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.training.session import Session
from rl_lab.updates import compile_choice, compile_process, compiling
from rl_lab.updates.compiling import has_compiler
from runs import asking_to_stop, differences, learn
from slow_compiler import signalled, slow_compiler, slow_script, wait_for_begin, was_ended
from toys import Masked
from uncompiled import uncompiled

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no C++ compiler")
ROOT = Path(__file__).resolve().parents[2]
TRAIN = str(ROOT / "scripts" / "train.py")

if "test/Masked-v0" not in gymnasium.registry:
    gymnasium.register("test/Masked-v0", Masked)
if "test/ZeroPadded-v0" not in gymnasium.registry:  # an episode's first frames differ from one another
    gymnasium.register(
        "test/ZeroPadded-v0",
        lambda: FrameStackObservation(gymnasium.make("CartPole-v1"), 4, padding_type="zero"),
    )
MLP = {  # the steps of these two are compiled for other tests, too
    "learning_starts_env_steps": 40, "replay_capacity": 120, "batch_size": 8, "hidden": (16,),
    "train_period_env_steps": 4, "target_period_env_steps": 50,
}  # fmt: skip
PPO = {"n_steps": 16, "hidden": (8,), "batch_size": 16, "n_epochs": 2}
COMMON = {"total_steps": 200, "log_every_steps": 50, "eval_max_steps": 50, "seed": 3, "compile": "yes"}
RUNS = {"dqn": ("CartPole-v1", MLP | COMMON), "ppo": ("test/Masked-v0", PPO | COMMON)}
STOP = 133  # within a rollout, and between two updates
SECONDS_TO_STOP = 10  # what docs/reliability.md promises


@contextmanager
def slow_compiling(folder: Path) -> Iterator[None]:
    """Find no compiled code within a `with` block, and a compiler that doesn't get anywhere."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "cache"))
        patch.setattr(compiling, "_COMPILED", {})
        patch.setattr(compile_process, "SCRIPT", slow_script(folder))
        yield


def steps_saved(run: Path) -> int:
    return Checkpoints(run / "checkpoints").load()[0]


@pytest.mark.long
@needs_compiler
@pytest.mark.parametrize("name", RUNS)
def test_first_compilation_and_that_of_a_resumed_run_are_stopped_and_change_no_bit(tmp_path, name):
    env_id, fields = RUNS[name]
    whole, run, first, second = (tmp_path / part for part in ("whole", "run", "first", "second"))
    learn(whole, name, env_id, **fields)
    with slow_compiling(first), signalled(signal.SIGTERM, first):
        assert learn(run, name, env_id, signals=True, **fields).summary is None
    assert was_ended(first)
    assert list((first / "cache" / "rl_lab").iterdir()) == []  # nothing half-written
    assert steps_saved(run) == 0
    with asking_to_stop(STOP):
        assert rl_lab.resume(run).summary is None
    with slow_compiling(second), signalled(signal.SIGINT, second):
        assert rl_lab.resume(run, signals=True).summary is None
    assert was_ended(second)
    assert steps_saved(run) == STOP
    assert rl_lab.resume(run).summary is not None
    assert differences(fingerprint(whole), fingerprint(run)) == set()


SEVERAL = {"train_period_env_steps": 12, "gradient_steps_per_update": 4, "n_steps": 3, "num_envs": 2}


@pytest.mark.parametrize(
    ("agent", "env_id", "fields"),
    [
        ("dqn", "CartPole-v1", MLP | SEVERAL | {"double": True, "normalise_rewards": True}),
        ("dqn", "Taxi-v4", MLP | {"prioritised": True, "dueling": True, "value_rescaling": True}),
        ("dqn", "test/Masked-v0", MLP | {"num_envs": 3, "average_decay": 0.9}),
        ("dqn", "test/ZeroPadded-v0", MLP | {"n_steps": 2}),
        ("qr-dqn", "test/ZeroPadded-v0", MLP | {"num_envs": 2}),
        ("ppo", "test/ZeroPadded-v0", PPO),
        ("ppo", "test/Masked-v0", PPO | {"batch_size": 12, "normalise_rewards": True}),
        ("ppo", "Pendulum-v1", PPO | {"num_envs": 3}),
        ("a2c", "CartPole-v1", {"optimiser": "adam", "hidden": (8,)}),
    ],
)
def test_whatever_the_updates_need_is_compiled_before_the_first_step(
    tmp_path, monkeypatch, agent, env_id, fields
):
    """Later, no signal would be answered before the compiler is done."""
    compiled_at, steps = [], []
    monkeypatch.setattr(compiling, "_COMPILED", {})
    monkeypatch.setattr(
        compiling, "_load_or_compile",
        lambda function, trees, should_stop: compiled_at.append(len(steps)) or uncompiled("", function, *trees),
    )  # fmt: skip
    monkeypatch.setattr(compile_choice, "has_compiler", lambda: True)
    monkeypatch.setattr(Session, "moment", lambda self: steps.append(self.at.env_steps))
    monkeypatch.setattr(Run, "due", lambda self, env_steps: True)
    learn(tmp_path, agent, env_id, **(COMMON | fields))
    assert len(steps) > 50
    assert compiled_at == [0] * len(compiled_at) != []


def start(run: Path, folder: Path) -> subprocess.Popen:
    """Start a run with an empty cache and the slow compiler of `folder`."""
    words = {"agent": "dqn", "env_id": RUNS["dqn"][0], "run_dir": run, "wandb": "disabled", "hidden": 16}
    words |= {name: value for name, value in RUNS["dqn"][1].items() if name != "hidden"}
    options = [text for name, value in words.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    slow = {"CXX": str(slow_compiler(folder)), "TORCHINDUCTOR_CACHE_DIR": str(folder / "cache")}
    return subprocess.Popen(
        [sys.executable, TRAIN, *options], env=os.environ | slow, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.long
def test_script_stops_while_the_compiler_runs_with_code_75(tmp_path):
    process = start(tmp_path / "run", tmp_path)
    wait_for_begin(tmp_path)
    process.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    told = process.communicate(timeout=50)[0]
    assert time.monotonic() - sent < SECONDS_TO_STOP
    assert (process.returncode, "continue with: rl-lab train --resume --run-dir=" in told) == (STOPPED, True)
    assert was_ended(tmp_path)
    assert list((tmp_path / "cache" / "rl_lab").iterdir()) == []
    assert steps_saved(tmp_path / "run") == 0
    assert read_rows(tmp_path / "run") == []


@pytest.mark.long
def test_no_compiler_outlives_a_run_that_is_killed(tmp_path):
    process = start(tmp_path / "run", tmp_path)
    wait_for_begin(tmp_path)
    process.kill()
    process.communicate(timeout=50)
    assert was_ended(tmp_path)
