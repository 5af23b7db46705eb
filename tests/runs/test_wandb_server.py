"""Whether W&B's server is contacted, and what it receives: nothing against the user's wish, and no secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rl_lab
from mirrored import CANARY
from rl_lab.runs.rows import read_rows
from rl_lab.training.launch import resume
from runs import QUICK, asking_to_stop
from wandb_reader import read_offline_runs
from wandb_server import KEY, Server, standing_in

pytestmark = pytest.mark.long  # each starts processes of W&B

QUICKLY = QUICK | {
    "wandb": None,
    "total_steps": 40,
    "log_every_steps": 20,
    "eval_episodes": 1,
    "eval_envs": 1,
}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server that W&B would use, with a key for it, and a working folder of its own."""
    for name in [name for name in os.environ if name.startswith("WANDB_") or name == "NETRC"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with standing_in() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        yield server


def learn(folder: Path, **fields) -> None:
    rl_lab.learn("q-learning", "FrozenLake-v1", run_dir=str(folder), **(QUICKLY | fields))


def config_of(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())


def settings(folder: Path, mode: str) -> None:
    folder.mkdir(parents=True)
    (folder / "settings").write_text(f"[default]\nmode = {mode}\n")


def test_online_the_run_arrives_under_its_names(server: Server, tmp_path, caplog):
    learn(
        tmp_path / "run", wandb_project="birds", wandb_entity="team", wandb_name="mine", group="g",
        wandb_tags=("a", "b"), wandb_notes="by hand", wandb_job_type="trial",
    )  # fmt: skip
    assert caplog.records == []
    assert (config_of(tmp_path / "run")["wandb"], config_of(tmp_path / "run")["wandb_source"]) == (
        "online",
        "an API key",
    )
    made = server.upserted()[0]
    names = ("project", "entity", "displayName", "groupName", "tags", "notes", "jobType")
    assert [made[name] for name in names] == ["birds", "team", "mine", "g", ["a", "b"], "by hand", "trial"]
    assert [row["env_steps"] for row in server.history()] == [
        row["env_steps"] for row in read_rows(tmp_path / "run")
    ]
    last = server.streamed()[-1]
    assert (last["complete"], last["exitcode"]) == (True, 0)


WISHES = {
    "--wandb offline": ({"wandb": "offline"}, {}, None),
    "--wandb disabled": ({"wandb": "disabled"}, {}, None),
    "WANDB_MODE=offline": ({}, {"WANDB_MODE": "offline"}, None),
    "WANDB_MODE=dryrun": ({}, {"WANDB_MODE": "dryrun"}, None),
    "WANDB_MODE=disabled": ({}, {"WANDB_MODE": "disabled"}, None),
    "WANDB_DISABLED=true": ({}, {"WANDB_DISABLED": "true"}, None),
    "wandb offline": ({}, {}, ("wandb", "offline")),
    "wandb disabled": ({}, {}, ("wandb", "disabled")),
    "of the user": ({}, {}, (".config/wandb", "offline")),
}


@pytest.mark.parametrize("wish", WISHES)
def test_against_the_users_wish_the_server_is_not_contacted(server: Server, tmp_path, monkeypatch, wish):
    fields, variables, file = WISHES[wish]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if file is not None:
        settings(tmp_path / file[0], file[1])
    learn(tmp_path / "run", **fields)
    assert server.requests == []
    stored = config_of(tmp_path / "run")
    mode = "disabled" if "disabled" in wish.lower() else "offline"
    assert stored["wandb"] == mode
    place = str(tmp_path / file[0] / "settings") if file else "--wandb" if wish.startswith("--") else wish
    assert stored["wandb_source"] == place
    assert len(read_offline_runs(tmp_path / "run")) == (mode == "offline")


def test_a_resumed_run_obeys_what_the_settings_say_by_then(server: Server, tmp_path):
    with asking_to_stop(20):
        learn(tmp_path / "run", wandb=None)
    assert server.streamed()[-1]["exitcode"] == 0
    assert '"state":"stopped"' in server.received().replace("\\", "")
    count = len(server.requests)
    settings(tmp_path / "wandb", "offline")
    resume(tmp_path / "run")
    assert len(server.requests) == count
    (run,) = read_offline_runs(tmp_path / "run")
    assert run.summary["state"] == "finished"
    segment = json.loads((tmp_path / "run" / "wandb" / "segment-1.json").read_text())
    assert segment["mode"] == "offline"


TOY = """
import gymnasium
import numpy as np


class Toy(gymnasium.Env):
    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, token="", server="", password="", render_mode=None):
        assert token.startswith("canary") and "canary" in server, (token, server)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return 1, 1.0, True, False, {}

gymnasium.register("toy/Toy-v0", Toy)
"""


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_secrets_reach_neither_the_run_folder_nor_the_server(server: Server, tmp_path, mode):
    """Five canaries: on the command line, in the environment, in a config file, in URLs and in netrc."""
    (tmp_path / "toys.py").write_text(TOY)
    (tmp_path / "code.py").write_text(f"KEY = '{CANARY}-code'\n")
    (tmp_path / "clean.py").write_text("x = 1\n")
    (tmp_path / "netrc").write_text(
        f"machine 127.0.0.1 login user password {KEY}\nmachine a.b login c password {CANARY}-netrc\n"
    )
    artifacts = ("model", "code") if mode == "offline" else ()  # which the stand-in does not take
    fields = {
        "env_kwargs": {"password": f"{CANARY}-config"},
        "wandb_tags": [CANARY],
        "wandb_job_type": f"{CANARY}",
    }
    (tmp_path / "config.yaml").write_text(json.dumps(fields))
    settings(tmp_path / "wandb", f"{mode}\napi_key = {CANARY}")
    host = server.url.removeprefix("http://")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")} | {
        "WANDB_BASE_URL": f"http://user:{CANARY}-url@{host}",
        "WANDB_NAME": f"run-of-{CANARY}-environment",
        "MY_SECRET": f"{CANARY}-environment",
        "HTTPS_PROXY": f"http://user:{CANARY}-proxy@proxy.example",
        "NETRC": str(tmp_path / "netrc"),
        "WANDB_API_KEY": KEY,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(rl_lab.__file__).parents[1])]),
    }
    words = [
        *(
            "--agent",
            "q-learning",
            "--env-id",
            "toys:toy/Toy-v0",
            "--config",
            "config.yaml",
            "--run-dir",
            "run",
        ),
        *(
            "--env-kwargs",
            f"token={CANARY}",
            f"server=http://user:{CANARY}-pw@host/",
            f"password={CANARY}-config",
        ),
        *("--wandb-notes", f"with token {CANARY} and {CANARY}-environment and {CANARY}-netrc"),
        *("--wandb-project", "birds", "--group", CANARY, "--wandb-upload", "system", *artifacts),
        *("--total-steps", "40", "--eval-episodes", "1", "--video-episodes", "0"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "rl_lab", "train", *words], env=environment, capture_output=True, text=True,
        check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    waited = "s for W&B"  # said where it takes long
    assert [line for line in done.stderr.splitlines() if "W&B" in line and waited not in line] == []
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if CANARY[:12].encode() in path.read_bytes()] == []
    assert CANARY[:12] not in server.received()
    assert bool(server.requests) is (mode == "online")
    stored = config_of(tmp_path / "run")
    assert stored["env_kwargs"]["token"] == "[removed]"
    assert stored["wandb_notes"].startswith("with token [removed] and [removed]")
    if mode == "offline":
        (run,) = read_offline_runs(tmp_path / "run")
        assert set(run.artifacts["code"]) == {"clean.py", "toys.py"}
        assert run.notes == stored["wandb_notes"]
