"""Comparisons of simulated agents: the seeds of an agent run together, and each as it would alone."""

from __future__ import annotations

import json

import pytest

import rl_lab
from rl_lab.studies.batches import batches_of, run_batch, simulated_fields
from rl_lab.studies.results import run_directory
from rl_lab.studies.running import StopFlag, Stopped, Task
from rl_lab.types import UsageError

FIELDS = {
    "total_steps": 2_000, "eval_episodes": 2, "video_episodes": 0, "pictures": False, "wandb": "disabled",
}  # fmt: skip


def task(agent, seed, **fields):
    given = {"env_id": "FrozenLake-v1", "seed": seed, "run_dir": f"{agent}/{seed}"} | fields
    return Task(agent, given)


def summary_of(folder):
    summary = json.loads((folder / "summary.json").read_bytes())
    return {
        name: summary[name]
        for name in ("weights_sha256", "eval_returns", "regret", "exact_eval_return", "env_steps", "seed")
    }


def test_a_batched_comparison_shows_what_single_simulated_runs_show(tmp_path):
    found = rl_lab.compare(
        "FrozenLake-v1",
        "q-learning",
        seeds=3,
        out=tmp_path / "batched",
        batched=True,
        progress=False,
        **FIELDS,
    )
    assert not found.failures
    alone = [
        rl_lab.learn(
            "q-learning", "FrozenLake-v1", simulated=True, seed=seed, run_dir=tmp_path / str(seed), progress=False,
            **FIELDS,
        )
        for seed in range(3)
    ]  # fmt: skip
    folders = [run_directory(tmp_path / "batched", "FrozenLake-v1", "q-learning", seed) for seed in range(3)]
    assert [summary_of(f) for f in folders] == [summary_of(r.run_dir) for r in alone]
    [row] = found.table
    assert row["seeds"] == 3
    assert (
        json.loads((tmp_path / "batched/study.json").read_bytes())["fields"]["q-learning"]["simulated"]
        is True
    )


def test_simulated_runs_that_differ_in_the_seed_alone_are_together(monkeypatch):
    monkeypatch.setattr("rl_lab.studies.batches.MOST_RUNS", 3)
    tasks = [
        *(task("sarsa", seed, simulated=True) for seed in range(4)),
        task("sarsa", 0, simulated=True, gamma=0.5),
        *(task("dqn", seed) for seed in range(2)),
        task("sarsa@500", 1, simulated=True, horizon_steps=500),
    ]
    groups = batches_of(tasks)
    assert [[tasks.index(t) for t in group] for group in groups] == [[0, 1, 2], [3], [4], [5], [6], [7]]


def test_agents_that_cannot_be_simulated_are_named():
    told = []
    fields = simulated_fields(["q-learning", "dqn", "sarsa"], {"sarsa": {"simulated": False}}, told.append)
    assert fields == {"q-learning": {"simulated": True}, "sarsa": {"simulated": False}}
    assert told == ["dqn: not simulated, each run in a process of its own"]
    with pytest.raises(
        UsageError, match=r"batched does nothing for dqn \(allowed with one of: .*q-learning.*\)"
    ):
        simulated_fields(["dqn"], {}, told.append)


def test_batches_run_on_this_machine_alone(tmp_path):
    with pytest.raises(UsageError, match="batched can't be combined with engine 'ray'"):
        rl_lab.compare(
            "FrozenLake-v1", "q-learning", out=tmp_path, batched=True, engine="ray", progress=False
        )


def test_nothing_is_started_once_a_stop_was_asked_for(tmp_path):
    runs = [task("q-learning", seed, run_dir=str(tmp_path / str(seed))) for seed in range(2)]
    outcomes = run_batch(runs, StopFlag(True), [print, print])
    assert all(isinstance(outcome, Stopped) for outcome in outcomes)
    assert not (tmp_path / "0").exists()


def test_a_run_that_fails_says_why_and_the_others_go_on(tmp_path):
    fields = {"simulated": True, "env_id": "FrozenLake-v1", **FIELDS}
    runs = [Task("q-learning", fields | {"seed": s, "run_dir": str(tmp_path / str(s))}) for s in (0, 2)]
    (tmp_path / "2").mkdir()
    (tmp_path / "2/.lock").mkdir()  # can't be opened as a file
    seen = [[], []]
    outcomes = run_batch(runs, StopFlag(), [seen[0].append, seen[1].append])
    assert outcomes[0] is None
    assert "Is a directory" in outcomes[1]
    assert (tmp_path / "2/error.txt").read_text() == outcomes[1]
    assert max(values.get("env_steps", 0) for values in seen[0]) == 2_000
    assert not seen[1]
