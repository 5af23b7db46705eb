"""The maps of a page: one scale for all agents, as far as it is known what they were drawn from."""

from __future__ import annotations

import base64
import json

import pytest

from rl_lab.evaluation.run_maps import FILE, RunMaps, read_maps
from rl_lab.studies.page.media import maps
from rl_lab.studies.results import load_study, run_directory
from runs import learn

LAKE = "FrozenLake-v1"
AGENTS = ["value-iteration", "q-learning"]


@pytest.fixture
def study(tmp_path):
    for agent in AGENTS:
        learn(run_directory(tmp_path, LAKE, agent, 0), agent, LAKE, total_steps=300, pictures=True)
    info = {"env_ids": [LAKE], "agents": AGENTS, "seeds": 1, "total_steps": 300}
    (tmp_path / "study.json").write_text(json.dumps(info))
    return tmp_path


def test_all_agents_have_one_scale_and_older_runs_keep_their_own(study, monkeypatch):
    drawn = []
    real = RunMaps.draw
    monkeypatch.setattr(
        RunMaps,
        "draw",
        lambda self, name, limits=None: drawn.append((name, limits)) or real(self, name, limits),
    )
    rows = {row["kind"]: row for row in maps(load_study(study), LAKE)}
    regrets = rows["regrets"]
    assert {kind: row["shared"] for kind, row in rows.items()} == {
        "values": True, "regrets": True, "value_errors": True, "residuals": False,
    }  # fmt: skip
    learned = read_maps(run_directory(study, LAKE, "q-learning", 0) / "pictures").limits()
    assert (
        "regrets",
        learned["regrets"],
    ) in drawn  # value iteration, which has none, beside those of Q-learning
    on_disk = [run_directory(study, LAKE, agent, 0) / "pictures" / "regrets.png" for agent in AGENTS]
    embedded = [base64.b64decode(p["source"].partition(",")[2]) for p in regrets["pictures"]]
    assert [content == path.read_bytes() for content, path in zip(embedded, on_disk, strict=True)] == [
        False,
        True,
    ]

    (run_directory(study, LAKE, "q-learning", 0) / "pictures" / FILE).unlink()
    rows = {row["kind"]: row for row in maps(load_study(study), LAKE)}
    assert not any(row["shared"] for row in rows.values())
    shown = [base64.b64decode(p["source"].partition(",")[2]) for p in rows["regrets"]["pictures"]]
    assert shown == [path.read_bytes() for path in on_disk]
