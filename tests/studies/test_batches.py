"""Comparisons in batches: the seeds of an agent learn together, and each as it would alone."""

from __future__ import annotations

import json
import time

import pytest
import torch

import rl_lab
from rl_lab.studies import batches, running
from rl_lab.studies.batches import batched_fields, batches_of, run_batch
from rl_lab.studies.compare import with_batches
from rl_lab.studies.results import run_directory
from rl_lab.studies.running import StopFlag, Stopped, Task
from rl_lab.studies.study import Study
from rl_lab.types import UsageError

FIELDS = {
    "total_steps": 500, "eval_episodes": 2, "video_episodes": 0, "pictures": False, "wandb": "disabled",
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


@pytest.mark.long
def test_a_batched_comparison_shows_what_single_simulated_runs_show_and_one_failure_leaves_the_others_alone(
    tmp_path,
):
    folders = [run_directory(tmp_path / "batched", "FrozenLake-v1", "q-learning", seed) for seed in range(3)]
    (folders[1] / ".lock").mkdir(parents=True)  # can't be opened as a file
    found = rl_lab.compare(
        "FrozenLake-v1",
        "q-learning",
        seeds=3,
        out=tmp_path / "batched",
        batched=True,
        progress=False,
        **FIELDS,
    )
    assert list(found.failures) == ["FrozenLake-v1 q-learning seed 1"]
    assert "Is a directory" in (folders[1] / "error.txt").read_text()
    returns = []
    for seed in (0, 2):
        alone = rl_lab.learn(
            "q-learning", "FrozenLake-v1", simulated=True, seed=seed, run_dir=tmp_path / str(seed), progress=False,
            **FIELDS,
        )  # fmt: skip
        assert summary_of(folders[seed]) == summary_of(alone.run_dir)
        returns.append(alone.eval_return_mean)
    [row] = found.table
    assert row["return_iqm"] == pytest.approx(sum(returns) / 2)
    study = json.loads((tmp_path / "batched/study.json").read_bytes())
    assert study["fields"]["q-learning"]["simulated"] is True


@pytest.mark.long
@pytest.mark.parametrize(
    ("agent", "fields"),
    [
        ("dqn", {"total_steps": 600, "learning_starts_env_steps": 64, "batch_size": 16}),
        ("ppo", {"total_steps": 512, "num_envs": 2, "n_steps": 64, "batch_size": 32}),
    ],
)
def test_a_batched_comparison_of_networks_shows_what_single_runs_show(tmp_path, agent, fields):
    fields = FIELDS | {"hidden": (8,), "compile": "no", "eval_max_steps": 100, "threads": 1} | fields
    found = rl_lab.compare(
        "CartPole-v1", agent, seeds=2, out=tmp_path, batched=True, progress=False, **fields
    )
    returns = []
    for seed in range(2):
        alone = rl_lab.learn(
            agent, "CartPole-v1", seed=seed, run_dir=tmp_path / str(seed), progress=False, **fields
        )
        folder = run_directory(tmp_path, "CartPole-v1", agent, seed)
        there = json.loads((folder / "summary.json").read_bytes())
        assert there["runs_together"] == 2
        for name in ("seed", "env_steps", "gradient_steps", "eval_returns"):
            assert there[name] == alone.summary[name]
        for mine, own in zip(
            rl_lab.load_policy(folder).network.parameters(), alone.policy.network.parameters(), strict=True
        ):
            torch.testing.assert_close(mine, own, atol=1e-4, rtol=0)
        returns.append(alone.eval_return_mean)
    assert there["gradient_steps"] > 60
    [row] = found.table
    assert row["return_iqm"] == pytest.approx(sum(returns) / 2)


def test_replays_that_do_not_fit_into_memory_together_are_filled_one_by_one(monkeypatch):
    monkeypatch.setattr("rl_lab.replay.footprint.free_memory", lambda: 10**7)
    fields = {"replay_capacity": 50_000, "env_id": "CartPole-v1"}  # some 3 MB
    tasks = [task("dqn", seed, **fields) for seed in range(5)]
    assert batches_of(tasks) == [[task] for task in tasks]
    assert batches_of(tasks[:2]) == [tasks[:2]]
    with pytest.raises(UsageError, match="5 replays are held at once"):
        with_batches(Study(("CartPole-v1",), ("dqn",), 5, {**FIELDS, "replay_capacity": 50_000}))


def test_runs_that_differ_in_the_seed_alone_are_together_where_they_can_be(monkeypatch):
    monkeypatch.setattr("rl_lab.studies.batches.MOST_RUNS", 3)
    tasks = [
        *(task("sarsa", seed, simulated=True) for seed in range(4)),
        task("sarsa", 0, simulated=True, gamma=0.5),
        *(task("dqn", seed) for seed in range(2)),
        task("sarsa@500", 1, simulated=True, horizon_steps=500),
        *(task("dqn", seed, noisy=True) for seed in range(2)),
        *(task("sarsa", seed) for seed in range(2)),
    ]
    groups = batches_of(tasks)
    assert [[tasks.index(t) for t in group] for group in groups] == [
        [0, 1, 2], [3], [4], [5, 6], [7], [8], [9], [10], [11],
    ]  # fmt: skip


def test_a_gpu_takes_a_thousand_seeds_that_have_no_mirror_process(monkeypatch):
    fields = {"replay_capacity": 1_000, "device": "cuda"}
    monkeypatch.setattr("rl_lab.training.setup.resolve_device", lambda asked: asked)
    monkeypatch.setattr("rl_lab.runs.open_files.resource.getrlimit", lambda _: (1_024, most_files))
    most_files = 10_000

    def sizes(**own):
        return [
            len(group) for group in batches_of([task("dqn", seed, **fields | own) for seed in range(1_050)])
        ]

    assert sizes(wandb="disabled") == [1_000, 50]
    assert sizes(wandb="offline") == [100] * 10 + [50]
    assert sizes(wandb="disabled", device="cpu") == [100] * 10 + [50]
    most_files = 4_000
    assert sizes(wandb="disabled") == [100] * 10 + [50]  # as there isn't room for the files of a thousand


def test_a_process_is_told_of_more_runs_than_fit_on_a_command_line(tmp_path):
    deep = tmp_path.joinpath(*["folder" * 40] * 8)  # 2,000 characters
    tasks = [task("dqn", seed, run_dir=str(deep / str(seed)), env_id="Nowhere-v0") for seed in range(100)]
    found = run_batch(tasks, StopFlag(), [lambda _: None] * 100)
    assert set(found) == {found[0]}
    assert "Nowhere" in found[0]


@pytest.mark.parametrize("runs", [1, 100])
def test_a_process_that_ends_before_it_was_told_its_runs_is_told_of_by_its_exit_code(
    tmp_path, monkeypatch, runs
):
    """The first line fits into the pipe, the second doesn't."""
    monkeypatch.setattr("rl_lab.studies.running._worker", lambda _: ["/bin/sh", "-c", "exec <&-; exit 3"])
    started = running._batch_work

    def late(*words):
        time.sleep(0.5)
        return started(*words)

    monkeypatch.setattr("rl_lab.studies.running._batch_work", late)
    tasks = [task("dqn", seed, run_dir=str(tmp_path / ("folder" * 40) / str(seed))) for seed in range(runs)]
    assert run_batch(tasks, StopFlag(), [lambda _: None] * runs) == ["the process ended with 3"] * runs


def test_agents_that_cannot_be_simulated_are_named():
    told = []
    reasons = {"q-learning": None, "random": "it acts", "sarsa": None}
    fields = batched_fields(reasons, {"sarsa": {"simulated": False}}, told.append)
    assert fields == {"q-learning": {"simulated": True}, "sarsa": {"simulated": False}}
    assert told == ["not batched, each run in a process of its own: random (it acts)"]
    with pytest.raises(
        UsageError, match=r"batched does nothing for random \(it acts\) \(allowed with tabular"
    ):
        batched_fields({"random": "it acts (allowed: others)"}, {}, told.append)


@pytest.mark.parametrize(
    ("agent", "env_ids", "fields", "why"),
    [
        ("q-learning", ("FrozenLake-v1", "CliffWalking-v1"), {}, None),
        ("random", ("FrozenLake-v1",), {}, "several seeds of it don't learn as one program"),
        ("reinforce", ("FrozenLake-v1",), {}, "reinforce learns from whole episodes"),
        ("sb3-dqn", ("FrozenLake-v1",), {}, "it doesn't act in environments"),
        ("dyna-q", ("FrozenLake-v1",), {}, None),
        ("q-learning", ("FrozenLake-v1", "Blackjack-v1"), {}, "Blackjack-v1 gives no model"),
        ("q-learning", ("FrozenLake-v1",), {"num_envs": 2}, "num_envs 2 can't be simulated"),
        ("q-learning", ("FrozenLake-v1",), {"dataset": "nowhere"}, "can't learn from dataset"),
    ],
)
def test_agents_are_simulated_where_all_of_their_runs_can_be(agent, env_ids, fields, why):
    told = []
    study = Study(env_ids, ("sarsa@500", agent), seeds=2, fields_of={agent: fields})
    if "Blackjack-v1" in env_ids:
        with pytest.raises(UsageError, match=r"batched does nothing for sarsa@500 \(.*" + why):
            with_batches(study, told.append)
        return
    found = with_batches(study, told.append)
    assert found.fields_of["sarsa@500"] == {"simulated": True}
    assert found.fields_of[agent] == (fields if why else {"simulated": True})
    assert [why in line for line in told] == ([True] if why else [])


def test_what_forbids_simulation_for_all_agents_is_refused():
    study = Study(("FrozenLake-v1",), ("q-learning",), seeds=2, fields={"simulated": False})
    with pytest.raises(UsageError, match="batched and simulated False rule each other out"):
        with_batches(study, print)


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


def test_reports_of_a_batch_reach_the_run_that_they_are_of(tmp_path, monkeypatch):
    def worker(task, stop, report, batch):
        assert batch == [{"seed": seed, "run_dir": str(tmp_path / str(seed))} for seed in (3, 4)]
        report({"env_steps": 5, "run": 1})
        report({})  # broken on its way
        return 1, "the last line"

    monkeypatch.setattr(batches, "run_worker", worker)
    runs = [task("q-learning", seed, run_dir=str(tmp_path / str(seed))) for seed in (3, 4)]
    seen = [[], []]
    assert run_batch(runs, StopFlag(), [seen[0].append, seen[1].append]) == ["the last line"] * 2
    assert seen == [[{}], [{"env_steps": 5, "run": 1}]]
    assert (tmp_path / "4/error.txt").read_text() == "the last line"
