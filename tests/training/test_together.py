"""Runs whose agents learn as one program: each leaves what it would leave alone, and ends for itself."""

from __future__ import annotations

import json
from time import perf_counter

import numpy as np
import pytest

import rl_lab
from rl_lab.runs.callbacks import CallbackFailed
from rl_lab.training.launch import learn_together
from rl_lab.types import UsageError

QUIET = {
    "video_episodes": 0, "pictures": False, "eval_episodes": 2, "wandb": "disabled", "progress": False, "threads": 1,
    "compile": "no",
}  # fmt: skip
DQN = {
    "agent": "dqn", "env_id": "CartPole-v1", "hidden": (16,), "total_steps": 900, "learning_starts_env_steps": 64,
    "batch_size": 16, "target_period_env_steps": 100, "double": True, "dueling": True, "n_steps": 3,
    "adam_epsilon": 0.01, "checkpoint_every_steps": 700, "log_every_steps": 300, "eval_every_steps": 500,
    "eval_max_steps": 100,
}  # fmt: skip
PPO = {
    "agent": "ppo", "env_id": "CartPole-v1", "num_envs": 2, "hidden": (16,), "total_steps": 1_024, "n_steps": 64,
    "batch_size": 40, "n_epochs": 8, "linear_decay": True, "normalise_rewards": True, "average_decay": 0.9,
    "adam_epsilon": 0.01, "checkpoint_every_steps": 600, "log_every_steps": 256,
}  # fmt: skip

A2C = {
    "agent": "a2c", "env_id": "CartPole-v1", "num_envs": 2, "hidden": (16,), "total_steps": 2_048,
    "checkpoint_every_steps": 600, "log_every_steps": 256,
}  # fmt: skip


def learn(folder, fields, **more):
    return rl_lab.learn(run_dir=folder, **fields, **QUIET, **more)


def weights_of(result):
    return {name: value.numpy() for name, value in result.policy.network.state_dict().items()}


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def files_of(folder):
    """Return the names of a run's files; those of checkpoints without the hash of what they hold."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if "segments" not in path.parts]
    return {str(path).partition("-")[0] if path.parts[0] == "checkpoints" else str(path) for path in paths}


def assert_alike(one, other):
    """Check that two runs have learned and left the same within rounding, apart from their times."""
    there = weights_of(other)
    for name, value in weights_of(one).items():
        np.testing.assert_allclose(value, there[name], atol=1e-4, err_msg=name)
    assert one.summary.keys() - other.summary.keys() == {"runs_together"}
    assert not other.summary.keys() - one.summary.keys()
    for key in ("seed", "env_steps", "gradient_steps", "eval_returns", "config_sha256"):
        assert one.summary[key] == other.summary[key]
    assert files_of(one.run_dir) == files_of(other.run_dir)
    episodes = [(r.run_dir / "episodes.csv").read_text() for r in (one, other)]
    assert episodes[0] == episodes[1]
    of_rounding = {"clip_fraction"} if one.summary["agent"] == "a2c" else set()  # its clip range is 0
    for mine, theirs in zip(rows_of(one.run_dir), rows_of(other.run_dir), strict=True):
        assert mine.keys() == theirs.keys()
        for key, value in mine.items():
            if (
                key not in of_rounding
                and isinstance(value, float)
                and not key.endswith("seconds")
                and "per_second" not in key
            ):
                assert value == pytest.approx(theirs[key], rel=2e-3, abs=1e-4), key


@pytest.mark.parametrize(
    "fields",
    [
        DQN,
        *(
            pytest.param(f, marks=pytest.mark.long)
            for f in (DQN | {"num_envs": 3}, DQN | {"adam_epsilon": None, "optimiser": "rmsprop"}, PPO, A2C)
        ),
    ],
    ids=["dqn", "dqn on a vector", "dqn by RMSprop", "ppo", "a2c"],
)
def test_runs_that_learn_together_are_those_of_each_seed_alone(tmp_path, fields):
    began = perf_counter()
    together = learn(tmp_path / "many", fields, num_seeds=3, seed=4)
    seconds = [result.summary["wall_seconds"] for result in together]
    assert max(seconds) < sum(seconds) < perf_counter() - began  # each one's share
    assert {result.summary["runs_together"] for result in together} == {3}
    firsts = [next(r for r in rows_of(result.run_dir) if "act_seconds" in r) for result in together]
    assert len({row["act_seconds"] for row in firsts}) == 1
    assert [result.run_dir.name for result in together] == ["seed-4", "seed-5", "seed-6"]
    assert together[0].summary["gradient_steps"] > 200
    assert_alike(together[1], learn(tmp_path / "alone", fields, seed=5))
    first, last = weights_of(together[0]), weights_of(together[2])
    assert max(np.abs(first[name] - last[name]).max() for name in first) > 0.01


@pytest.mark.long
def test_prioritised_replays_learn_their_own_errors(tmp_path):
    fields = DQN | {"prioritised": True, "value_rescaling": True, "n_steps": 1, "total_steps": 600}
    fields = {k: v for k, v in fields.items() if k != "target_period_env_steps"}
    fields |= {"target_period_updates": 40, "average_decay": 0.9}
    together = learn(tmp_path / "many", fields, num_seeds=2)
    assert_alike(together[1], learn(tmp_path / "alone", fields, seed=1))


@pytest.mark.long
def test_a_run_that_ends_early_stays_as_it_was_and_the_others_go_on(tmp_path):
    def stop(event):
        if event.run_dir.name == "seed-1" and event.env_steps >= 500:
            event.stop("enough")

    results = learn(tmp_path / "many", DQN, num_seeds=3, callbacks=[stop])
    assert [result.summary is None for result in results] == [False, True, False]
    assert results[1].env_steps < 700
    assert "enough" in results[1].stopped_by
    alone = {seed: learn(tmp_path / f"alone-{seed}", DQN, seed=seed) for seed in (1, 2)}
    assert_alike(results[2], alone[2])
    resumed = rl_lab.resume(results[1].run_dir, progress=False)  # by itself
    there = weights_of(alone[1])
    for name, value in weights_of(resumed).items():
        np.testing.assert_allclose(value, there[name], atol=1e-4, err_msg=name)


def test_a_run_that_fails_is_told_and_the_others_go_on(tmp_path):
    def fail(event):
        if event.run_dir.name == "1" and event.env_steps >= 300:
            raise RuntimeError("broken on purpose")

    fields = {key: value for key, value in DQN.items() if key != "agent"} | QUIET | {"total_steps": 600}
    fields.pop("progress")
    runs = [fields | {"seed": seed, "run_dir": str(tmp_path / str(seed))} for seed in range(3)]
    failed = {}
    results = learn_together(
        "dqn", runs, progress=False, callbacks=[fail],
        failed=lambda run, error: failed.setdefault(run["seed"], error),
    )  # fmt: skip
    assert [result.run_dir.name for result in results] == ["0", "2"]
    assert all(result.summary["env_steps"] == 600 for result in results)
    assert isinstance(failed.pop(1), CallbackFailed)
    assert not failed


@pytest.mark.long
def test_a_failure_that_nobody_takes_ends_all_runs(tmp_path):
    def fail(event):
        if event.run_dir.name == "seed-1":
            raise RuntimeError("broken on purpose")

    with pytest.raises(CallbackFailed):
        learn(tmp_path / "many", DQN, num_seeds=2, callbacks=[fail])
    assert not (tmp_path / "many/seed-0/summary.json").exists()


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        (DQN | {"memory": "lstm", "dueling": False}, r"memory 'lstm' can't be batched \(allowed: 'none'\)"),
        (DQN | {"noisy": True}, r"noisy True can't be batched \(allowed: False\)"),
        (DQN | {"distribution": "quantile", "double": False}, "distribution 'quantile' can't be batched"),
        (DQN | {"normalise_observations": True}, "normalise_observations True can't be batched"),
        (DQN | {"l2": 0.1}, r"l2 0.1 can't be batched \(allowed: 0.0\)"),
        (PPO | {"target_kl": 0.01}, r"target_kl 0.01 can't be batched: .*\(allowed: None\)"),
        (PPO | {"dropout": 0.1}, "dropout 0.1 can't be batched"),
        *(
            (f | {"env_id": "lab/GridWorldPixels-v0"}, "encoder 'auto' has convolutions, .* 'cpu' .*'cuda'")
            for f in (DQN, PPO)
        ),
        (PPO | {"agent": "pqn"}, "several seeds of it don't learn as one program"),
    ],
)
def test_what_cannot_learn_together_is_refused_by_name(tmp_path, fields, why):
    if fields["agent"] == "pqn":
        fields = {"agent": "pqn", "env_id": "CartPole-v1"}
    with pytest.raises(UsageError, match=f"num_seeds 2 can't be given to agent '{fields['agent']}': {why}"):
        learn(tmp_path / "run", fields, num_seeds=2)
    assert not (tmp_path / "run").exists()


def test_replays_that_do_not_fit_into_memory_together_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("rl_lab.replay.footprint.free_memory", lambda: 10**7)
    fields = DQN | {"replay_capacity": 50_000}  # some 3 MB
    with pytest.raises(
        UsageError, match=r"5 replays are held at once, and replay_capacity 250000 needs .* together"
    ):
        learn(tmp_path / "run", fields, num_seeds=5)
    assert not (tmp_path / "run").exists()
