"""An agent of a W&B sweep drives `rl-lab train`: its run is this run, and what it optimises is in the summary."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import rl_lab
from pages import ROOT, blocks_of
from rl_lab.runs.tracking import mirror_environment
from wandb_reader import read_offline_runs
from wandb_server import KEY, standing_in

PARAMETERS = {
    "agent": "q-learning", "env_id": "FrozenLake-v1", "total_steps": 60, "learning_rate": 0.25, "gamma": 0.95,
    "pictures": False, "wandb_tags": ["sweep", "tabular"],
}  # fmt: skip
SHORT = {"eval_episodes": 2, "video_episodes": 0, "eval_every_steps": 60}
BIN = Path(sys.executable).parent


def example() -> dict:
    """The sweep that the page shows."""
    (block,) = [b for b in blocks_of(ROOT / "docs" / "wandb.md") if b.text.startswith("# sweep.yaml")]
    return yaml.safe_load(block.text)


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return kept | {
        "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
        "PYTHONPATH": str(Path(rl_lab.__file__).parents[1]),
        "HOME": str(folder),
        **more,
    }


def test_the_example_has_the_parameters_that_are_tested_here():
    assert set(example()["parameters"]) == set(PARAMETERS)
    assert example()["metric"]["name"] == "eval/return_mean"


def test_what_an_agent_sets_reaches_the_mirror(tmp_path, monkeypatch):
    for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(name, "x")
    passed = mirror_environment(tmp_path, "offline")
    assert {"WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"} <= set(passed)


@pytest.mark.long
def test_with_an_agents_command_and_environment_the_run_is_the_agents(tmp_path):
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    values = {name: {"value": value} for name, value in (PARAMETERS | SHORT).items()}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"wandb_version": 1} | values))
    words = create_sweep_command_args({"args": values})["args"]
    assert "--pictures=False" in words
    assert "--wandb_tags=['sweep', 'tabular']" in words
    of_agent = {
        "WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "abcd1234", "WANDB_SWEEP_PARAM_PATH": str(tmp_path / "params.yaml"),
        "WANDB_DIR": str(tmp_path), "WANDB_PROJECT": "lakes", "WANDB_ENTITY": "team", "WANDB_MODE": "offline",
    }  # fmt: skip
    command = [part for word in example()["command"] for part in (words if word == "${args}" else [word])]
    done = subprocess.run(
        command,
        env=environment(tmp_path, **of_agent),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    waited = "s for W&B"  # said where it takes long
    assert [line for line in done.stderr.splitlines() if "W&B" in line and waited not in line] == []
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-abcd1234")
    (run,) = read_offline_runs(folder)
    assert (run.run_id, run.sweep_id, run.project, run.entity) == ("abcd1234", "s1", "lakes", "team")
    assert run.tags == ["sweep", "tabular"]
    assert run.config["learning_rate"] == 0.25
    assert 0 <= run.summary["eval/return_mean"] <= 1


@pytest.mark.long
def test_wandbs_own_agent_trains_and_ends(tmp_path):
    """The agent of W&B, against a stand-in of its server that hands out one run."""
    args = {name: {"value": value} for name, value in (PARAMETERS | SHORT).items()}
    with standing_in() as server:
        server.sweep = example()
        server.commands = [{"type": "run", "run_id": "abcd1234", "program": "rl-lab", "args": args}]
        done = subprocess.run(
            [str(BIN / "wandb"), "agent", "--count", "1", "team/lakes/s1"],
            env=environment(tmp_path, WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY),
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        made = [variables for variables in server.upserted() if variables.get("name") == "abcd1234"]
        assert made
        assert (made[0]["sweep"], made[0]["project"], made[0]["entity"]) == ("s1", "lakes", "team")
        last = server.streamed()[-1]
        assert (last["complete"], last["exitcode"]) == (True, 0)
        assert '"eval/return_mean":' in server.received().replace("\\", "")
