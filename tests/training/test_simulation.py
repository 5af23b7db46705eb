"""Simulated runs: files as of any run, exact resume, and several seeds in one call as each alone."""

from __future__ import annotations

import json

import numpy as np
import pytest

import rl_lab
from rl_lab.mdp.simulate import Simulation
from rl_lab.mdp.simulated_learners import Knowledge
from rl_lab.runs.progress import NullProgress
from rl_lab.runs.rows import read_episodes, read_rows
from rl_lab.training.simulated_session import ends_of
from rl_lab.types import UsageError

QUIET = {
    "wandb": "disabled", "pictures": False, "video_episodes": 0, "eval_episodes": 2, "progress": False,
}  # fmt: skip
TIMES = ("seconds", "per_second", "rss", "run_dir", "wall")


def learn(folder, agent="q-learning", env_id="FrozenLake-v1", **fields):
    return rl_lab.learn(
        agent, env_id, **{"simulated": True, "total_steps": 2_000, "run_dir": folder} | QUIET | fields
    )


def timeless(row):
    return {k: v for k, v in row.items() if not any(word in k for word in TIMES)}


def files_of(result):
    """Everything that a run has written, but for times, names of folders and hashes of them."""
    rows = [timeless(row) for row in read_rows(result.run_dir)]
    summary = timeless(json.loads((result.run_dir / "summary.json").read_bytes()))
    summary.pop("config_sha256")
    actions = (result.run_dir / "actions/actions.bin").read_bytes()
    return rows, summary, read_episodes(result.run_dir), actions


def test_a_simulated_run_writes_what_a_run_writes(tmp_path):
    result = learn(tmp_path / "run", seed=3)
    rows, summary, episodes, actions = files_of(result)
    assert (summary["env_steps"], summary["gradient_steps"], summary["agent"]) == (2_000, 2_000, "q-learning")
    assert json.loads((tmp_path / "run/config.json").read_bytes())["fields"]["simulated"] is True
    assert [row["env_steps"] for row in rows if "td_error" in row] == list(range(20, 2_001, 20))
    assert all("regret" in row for row in rows if "eval_returns" in row)
    assert [e["episode"] for e in episodes] == list(range(len(episodes)))
    assert {e["seed"] for e in episodes} == {-1}
    ends = np.cumsum([e["length"] for e in episodes])
    assert [e["env_steps"] for e in episodes] == ends.tolist()
    assert len(actions) == ends[-1]
    assert all(e["terminated"] or e["truncated"] for e in episodes)
    assert {e["return"] for e in episodes} == {0.0, 1.0}
    policy = rl_lab.load_policy(result.run_dir)
    told = policy.inspect(np.arange(16), (), np.ones(16, bool))
    assert told["q_values"].max() > 0.1


def test_the_return_of_an_episode_is_that_of_all_its_pieces(tmp_path):
    result = learn(
        tmp_path / "run", env_id="CliffWalking-v1", total_steps=1_500, log_every_steps=7, eval_episodes=0
    )
    episodes = read_episodes(result.run_dir)
    assert max(e["length"] for e in episodes) > 14
    for episode in episodes:  # -1 for each step, -100 for one into the cliff
        falls, rest = divmod(-episode["return"] - episode["length"], 99)
        assert (falls >= 0, rest) == (True, 0.0)


class StopsAt:
    def __init__(self, env_steps):
        self.env_steps = env_steps

    def on_row(self, event):
        return event.env_steps < self.env_steps


@pytest.mark.parametrize("agent", ["q-learning"])
def test_a_run_that_is_stopped_and_resumed_ends_as_one_that_never_stopped(tmp_path, agent):
    whole = learn(tmp_path / "whole", agent)
    stopped = learn(tmp_path / "stopped", agent, callbacks=[StopsAt(700)])
    assert stopped.summary is None
    resumed = rl_lab.resume(stopped.run_dir, progress=False)
    mine, theirs = files_of(whole), files_of(resumed)
    theirs[1].pop("callback_stops", None)
    for one, other in zip(mine, theirs, strict=True):
        assert one == other


def test_several_seeds_in_one_call_write_what_each_alone_writes(tmp_path):
    together = learn(tmp_path / "many", num_seeds=3, seed=5)
    assert [r.run_dir.name for r in together] == ["seed-5", "seed-6", "seed-7"]
    for seed, result in zip((5, 6, 7), together, strict=True):
        alone = learn(tmp_path / f"alone-{seed}", seed=seed)
        assert files_of(alone) == files_of(result)
        assert result.summary["train_seconds"] > 0
    assert len({r.summary["weights_sha256"] for r in together}) == 3


def test_groups_of_seeds_are_as_large_as_the_memory_holds(tmp_path, monkeypatch):
    from rl_lab.training import simulated_together

    one = learn(tmp_path / "one", num_seeds=3)
    sizes = []
    monkeypatch.setattr(simulated_together, "_group_size", lambda simulation, stops: 2)
    whole = simulated_together._ahead
    monkeypatch.setattr(
        simulated_together, "_ahead", lambda s, stops: sizes.append(len(s.seeds)) or whole(s, stops)
    )
    two = learn(tmp_path / "two", num_seeds=3)
    assert sizes == [2, 1]
    assert [files_of(a) for a in one] == [files_of(b) for b in two]


def test_a_run_that_exceeds_the_memory_by_itself_is_not_simulated_ahead(tmp_path, monkeypatch):
    from rl_lab.training import simulated_together

    one = learn(tmp_path / "one", num_seeds=2)
    monkeypatch.setattr(simulated_together, "MEMORY_BYTES", 1_000)
    monkeypatch.setattr(simulated_together, "_ahead", None)
    two = learn(tmp_path / "two", num_seeds=2)
    assert [files_of(a) for a in one] == [files_of(b) for b in two]


def test_the_size_of_a_group_follows_from_what_its_runs_keep(monkeypatch):
    from rl_lab.training import simulated_together

    class Sized:
        knowledge = Knowledge(*[np.zeros(0)] * len(Knowledge._fields))._replace(q=np.zeros(100))

    kept = 3 * (2 * 800) + 17 * 30  # at three stops the table twice, and 30 steps
    monkeypatch.setattr(simulated_together, "MEMORY_BYTES", 7 * kept + 1)
    assert simulated_together._group_size(Sized(), [10, 20, 30]) == 7
    monkeypatch.setattr(simulated_together, "MEMORY_BYTES", kept - 1)
    assert simulated_together._group_size(Sized(), [10, 20, 30]) == 0


def test_a_warm_start_begins_with_the_table_of_another_run(tmp_path):
    first = learn(tmp_path / "first")
    second = learn(tmp_path / "second", total_steps=1, init_from=first.run_dir)
    tables = [
        rl_lab.load_policy(r.run_dir).inspect(np.arange(16), (), np.ones(16, bool))["q_values"]
        for r in (first, second)
    ]
    assert (tables[0] != tables[1]).sum() <= 1


@pytest.mark.parametrize(
    ("agent", "env_id", "fields", "why"),
    [
        ("q-learning", "FrozenLake-v1", {"num_envs": 2}, "num_envs 2 can't be simulated"),
        ("q-learning", "Blackjack-v1", {}, r"model\(\); or q-learning without simulated\)$"),
        ("q-learning", "FrozenLake-v1", {"dataset": "nowhere"}, "can't learn from dataset"),
    ],
)
def test_what_cannot_be_simulated_is_refused_in_a_line(tmp_path, agent, env_id, fields, why):
    with pytest.raises(UsageError, match=why) as caught:
        learn(tmp_path / "run", agent, env_id, **fields)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_several_seeds_of_an_agent_that_cannot_be_simulated_are_refused(tmp_path):
    with pytest.raises(UsageError, match="num_seeds 2 can't be given to agent 'random'"):
        rl_lab.learn("random", "FrozenLake-v1", num_seeds=2, run_dir=tmp_path / "run", **QUIET)


@pytest.mark.parametrize(
    ("agent", "fields", "why"),
    [
        ("q-learning", {"num_envs": 2}, "num_envs 2 can't be simulated"),
        ("q-learning", {"init_from": "nowhere"}, "nowhere"),
    ],
)
def test_several_seeds_that_are_refused_leave_no_folder(tmp_path, agent, fields, why):
    with pytest.raises(UsageError, match=why):
        learn(tmp_path / "run", agent, num_seeds=2, **fields)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("terminated", "limit", "ends"),
    [
        ([0, 1, 0, 0, 1], None, [2, 5]),
        ([0, 0, 0, 0, 0], None, []),
        ([0, 0, 0, 0, 0], 2, [2, 4]),
        ([0, 1, 0, 0, 0, 1, 0], 3, [2, 5, 6]),
        ([0, 0, 1], 3, [3]),
        ([0, 0, 0, 0, 1], 2, [2, 4, 5]),
        ([], 3, []),
    ],
)
def test_episodes_end_where_they_terminate_or_reach_the_limit(terminated, limit, ends):
    assert list(ends_of(np.array(terminated, bool), limit)) == ends


class Told(NullProgress):
    def __init__(self, *_):
        self.done = []

    def doing(self, what):
        self.done.append(what)


def test_a_run_that_has_to_compile_says_so(tmp_path, monkeypatch):
    shown = Told()
    monkeypatch.setattr(Simulation, "is_compiled", True)
    learn(tmp_path / "warm", total_steps=20, progress=lambda *_: shown)
    assert "compiling" not in " ".join(shown.done)
    monkeypatch.setattr(Simulation, "is_compiled", False)
    learn(tmp_path / "cold", total_steps=20, progress=lambda *_: shown)
    assert "compiling the simulation, which takes up to minutes once" in shown.done
    assert shown.done[-1] == ""
