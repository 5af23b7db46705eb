"""What a W&B run gets beside rows where it is asked for: pictures, the model, code, use of the machine."""

from __future__ import annotations

import json
import re
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest

import rl_lab
from mirrored import make_run_dir, wait_for
from rl_lab.runs.tracking import start_mirror
from rl_lab.runs.wandb_uploads import code_files, model_files
from runs import QUICK, SMALL_DQN
from wandb_reader import read_offline_run, read_offline_runs, texts_in

pytestmark = pytest.mark.long  # each starts processes of W&B


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    fields = QUICK | SMALL_DQN | {"total_steps": 100, "checkpoint_every_steps": 50}
    rl_lab.learn("dqn", "CartPole-v1", run_dir=str(folder), **fields)
    return folder


def test_the_models_files_alone_make_the_policy(run_dir, tmp_path):
    for path in model_files(run_dir):
        target = tmp_path / path.relative_to(run_dir)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    whole = sum(path.stat().st_size for path in (run_dir / "checkpoints").rglob("*") if path.is_file())
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < whole / 2
    for best in (False, True):
        states = []
        for folder in (run_dir, tmp_path):
            policy = rl_lab.load_policy(folder, best=best)
            obs = np.linspace(-0.1, 0.1, 12, dtype=np.float32).reshape(3, 4)
            states.append(policy.inspect(obs, policy.initial_state(3), np.ones(3, bool))["q_values"])
        if not best:  # the model is the last one, whatever the best was
            np.testing.assert_array_equal(*states)


def test_a_run_without_a_checkpoint_has_no_model(tmp_path):
    assert list(model_files(tmp_path)) == []


def test_code_is_the_python_files_without_packages_and_runs(tmp_path, run_dir):
    kept = ("train.py", "agents/mine.py")
    passed_over = (
        ".venv/x.py",
        "venv/x.py",
        "lib/site-packages/x.py",
        "wandb/x.py",
        "notes.txt",
        "runs/x.py",
    )
    for name in (*kept, *passed_over, "study/run/x.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / "study" / "run" / name).write_text("{}")
    assert sorted(str(path.relative_to(tmp_path)) for path in code_files(tmp_path)) == sorted(kept)


def test_code_that_holds_a_secret_or_is_huge_is_left_out_and_named(tmp_path, capsys):
    (tmp_path / "secret.py").write_text("KEY = '0123456789abcdef0123456789abcdef01234567'\n")
    (tmp_path / "huge.py").write_text("x = 1\n" * 200_000)
    assert list(code_files(tmp_path)) == []
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == [
        str(tmp_path / "huge.py"),
        str(tmp_path / "secret.py"),
    ]


WANTED = {
    (): (set(), set()),
    ("videos",): (set(), {"videos"}),
    ("pictures", "model", "code"): ({"model", "code"}, {"images"}),
}


@pytest.mark.parametrize("wanted", WANTED, ids=lambda names: "+".join(names) or "nothing")
def test_a_run_gets_what_it_was_asked_for_and_no_more(tmp_path, monkeypatch, wanted):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("x = 1\n")
    fields = {
        "wandb": "offline",
        "wandb_upload": wanted,
        "pictures": True,
        "video_episodes": 1,
        "total_steps": 50,
    }
    rl_lab.learn("q-learning", "FrozenLake-v1", run_dir="run", **(QUICK | fields))
    (run,) = read_offline_runs(tmp_path / "run")
    artifacts, media = WANTED[wanted]
    assert set(run.artifacts) == artifacts
    assert {Path(name).parts[1] for name in run.files if name.startswith("media/")} == media
    assert run.stats == 0
    for files in run.artifacts.values():
        assert all(local.is_file() for local in files.values())  # so that they can be uploaded later
    if "code" in wanted:
        assert set(run.artifacts["code"]) == {"mine.py"}
        assert "config.json" in run.artifacts["model"]


def stored_stats(run_dir: Path) -> int:
    """How many rows of system metrics are on the disk already, of a run that goes on."""
    begun = [path for path in run_dir.glob("wandb/offline-run-*/*.wandb") if path.stat().st_size]
    return max((read_offline_run(path).stats for path in begun), default=0)


def test_use_of_the_machine_is_stored_where_it_was_asked_for(tmp_path):
    run_dir = make_run_dir(tmp_path, rows=2)
    config = json.loads((run_dir / "config.json").read_text())
    (run_dir / "config.json").write_text(json.dumps(config | {"wandb_upload": ["system"]}))
    mirror = start_mirror(run_dir, "offline")
    wait_for(lambda: stored_stats(run_dir) >= 2)
    mirror.close("finished", timeout_seconds=300.0)
    (run,) = read_offline_runs(run_dir)
    assert run.stats >= 2
    texts = texts_in(next(run.folder.glob("*.wandb")))
    assert any("cpu" in text for text in texts)
    words = {word for text in texts for word in re.findall(r"[\w.-]+", text)}
    assert socket.gethostname() not in words  # a short name is found in bytes by chance
