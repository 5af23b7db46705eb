"""A step of vanilla DQN can be read in one sitting."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "way_of_a_step.py"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True)


@pytest.fixture(scope="module")
def way(tmp_path_factory) -> list[dict]:
    path = tmp_path_factory.mktemp("way") / "way.json"
    done = run("--json", str(path))
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text())


def test_an_update_of_dqn_enters_few_files_with_few_lines(way):
    assert len(way) <= 10
    assert sum(row["lines"] for row in way) <= 2_000


def test_the_way_begins_at_the_agent_and_holds_loss_and_gradient_step(way):
    functions = {row["file"]: row["functions"] for row in way}
    assert way[0]["file"] == "rl_lab/agents/dqn/agent.py"
    assert functions["rl_lab/agents/dqn/agent.py"][0] == "DQN.observe"
    assert "TDLoss.__call__" in functions["rl_lab/updates/td.py"]
    assert "take_step" in functions["rl_lab/updates/gradients.py"]


def test_an_agent_without_steps_is_refused():
    done = run("--agent", "value-iteration", "--env-id", "FrozenLake-v1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: agent 'value-iteration' doesn't learn from steps")
