"""A run that gets a larger budget later is, to the bit, one that had it from the beginning; or it says why not."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import rl_lab
from rl_lab.cli.train import train
from rl_lab.runs.description import read_description
from rl_lab.runs.directory import RunDirectory, read_summary
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.runs.rows import read_rows
from rl_lab.storage.errors import NotWritten
from rl_lab.training.extension import extended
from rl_lab.training.registry import config_of
from rl_lab.types import UsageError
from runs import SMALL_DQN, learn, stopping_in_evaluation

CONSTANT = {"epsilon_initial": 0.2, "epsilon_final": 0.2}
TABLE = CONSTANT | {"learning_rate": 0.5, "learning_rate_final": 0.5}
PPO = {"n_steps": 16, "batch_size": 8, "n_epochs": 1, "hidden": (8,), "compile": "no"}
DQN = SMALL_DQN | CONSTANT | {"compile": "no", "checkpoint_every_steps": 100}
RUNS = {
    "q-learning": ("FrozenLake-v1", TABLE | {"num_envs": 2, "eval_every_steps": 50}),
    "q-learning, ends between evaluations": ("FrozenLake-v1", TABLE | {"eval_every_steps": 70}),
    "random": ("CartPole-v1", {}),
    "dqn": ("CartPole-v1", DQN | {"prioritised": True, "priority_beta": 1.0, "stop_after_evals": 50}),
    "ppo, a rounded budget": ("CartPole-v1", PPO | {"num_envs": 2}),
    "dqn, averaged weights and normalisers": (
        "CartPole-v1",
        DQN | {"average_decay": 0.9, "normalise_observations": True, "normalise_rewards": True},
    ),
    "dqn, a memory": ("CartPole-v1", DQN | {"memory": "gru", "memory_size": 8}),
    "ppo, a memory": ("CartPole-v1", PPO | {"memory": "lstm", "memory_size": 8}),
    "dqn, compiled": ("CartPole-v1", DQN | {"compile": "yes"}),
}


def periods_of(folder):
    config = json.loads((folder / "config.json").read_bytes())
    return {name: config[name] for name in ("eval_every_steps", "log_every_steps", "checkpoint_every_steps")}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if "compiled" in name else []) for name in RUNS]
)
def test_equals_a_run_that_began_with_the_budget(tmp_path, name):
    agent = name.split(",")[0]
    env_id, fields = RUNS[name]
    short = learn(tmp_path / "run", agent, env_id, total_steps=200, **fields)
    longer = rl_lab.resume(tmp_path / "run", total_steps=330)
    assert longer.summary["env_steps"] >= 330
    whole = learn(tmp_path / "whole", agent, env_id, total_steps=330, **fields | periods_of(tmp_path / "run"))
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")
    assert longer.summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert longer.summary["config_sha256"] == whole.summary["config_sha256"] != short.summary["config_sha256"]
    assert longer.summary["eval_returns"] == whole.summary["eval_returns"]
    evaluated = [
        [(row["env_steps"], row["eval_returns"]) for row in read_rows(tmp_path / n) if "eval_returns" in row]
        for n in ("run", "whole")
    ]
    assert evaluated[0] == evaluated[1]


ENDS = ("in the last evaluation", "before the summary")


def evaluated_at(folder):
    return [row["env_steps"] for row in read_rows(folder) if "eval_returns" in row]


def cut_short(folder, monkeypatch, end, agent, env_id, **fields):
    """Train for 200 steps, but for the very end."""
    if end == "in the last evaluation":
        with stopping_in_evaluation(200 // fields["eval_every_steps"] - 1):
            assert learn(folder, agent, env_id, total_steps=200, **fields).summary is None
        return
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "write_summary", lambda *_: 1 / 0)  # as a kill would
        with pytest.raises(ZeroDivisionError):
            learn(folder, agent, env_id, total_steps=200, **fields)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    ("agent", "env_id", "fields"),
    [
        ("q-learning", "FrozenLake-v1", TABLE | {"eval_every_steps": 50, "log_every_steps": 50}),
        ("ppo", "CartPole-v1", PPO | {"num_envs": 2, "eval_every_steps": 32}),  # which ends at 224
    ],
)
def test_a_run_that_was_cut_short_at_its_very_end_loses_no_evaluation(
    tmp_path, monkeypatch, end, agent, env_id, fields
):
    cut_short(tmp_path / "run", monkeypatch, end, agent, env_id, **fields)
    rl_lab.resume(tmp_path / "run", total_steps=400)
    learn(tmp_path / "whole", agent, env_id, total_steps=400, **fields | periods_of(tmp_path / "run"))
    assert evaluated_at(tmp_path / "run") == evaluated_at(tmp_path / "whole")
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


def test_a_later_stop_of_an_extended_run_repeats_no_evaluation(tmp_path):
    """The run had not ended when it was extended; each stop comes right after an evaluation."""
    fields = TABLE | {"eval_every_steps": 50, "log_every_steps": 50, "checkpoint_every_steps": 50}
    learn(tmp_path, "q-learning", "FrozenLake-v1", stop_at=100, total_steps=200, **fields)
    for stop in (200, 250):

        def there(event, step=stop):
            return event.kind != "evaluation" or event.env_steps != step

        assert rl_lab.resume(tmp_path, total_steps=400, callbacks=[there]).env_steps == stop
    rl_lab.resume(tmp_path)
    assert evaluated_at(tmp_path) == [50, 100, 150, 200, 250, 300, 350, 400]


def test_the_extension_is_recorded_and_the_former_result_kept(tmp_path):
    short = learn(tmp_path, "q-learning", "FrozenLake-v1", total_steps=200, **TABLE)
    rl_lab.resume(tmp_path, total_steps=300)
    rl_lab.resume(tmp_path, total_steps=350)
    config = json.loads((tmp_path / "config.json").read_bytes())
    assert config["total_steps"] == 350
    assert config["extended_from"] == [
        {"total_steps": 200, "env_steps": 200},
        {"total_steps": 300, "env_steps": 300},
    ]
    assert json.loads((tmp_path / "summary-200.json").read_bytes()) == short.summary
    assert read_summary(tmp_path)["total_steps"] == 350
    assert periods_of(tmp_path) == {
        "eval_every_steps": 20, "log_every_steps": 2, "checkpoint_every_steps": 40,
    }  # fmt: skip


def test_a_stopped_run_can_be_extended_before_it_ends_and_an_extended_one_stopped(tmp_path):
    learn(tmp_path / "run", "q-learning", "FrozenLake-v1", stop_at=120, total_steps=200, **TABLE)
    assert rl_lab.resume(tmp_path / "run", total_steps=260).summary["env_steps"] == 260
    learn(
        tmp_path / "whole",
        "q-learning",
        "FrozenLake-v1",
        total_steps=260,
        **TABLE | periods_of(tmp_path / "run"),
    )
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


def test_the_same_budget_changes_nothing(tmp_path):
    learn(tmp_path, "q-learning", "FrozenLake-v1", total_steps=200, **TABLE)
    before = (tmp_path / "config.json").read_bytes(), (tmp_path / "summary.json").read_bytes()
    result = rl_lab.resume(tmp_path, total_steps=200)
    assert result.finished_before
    assert before == ((tmp_path / "config.json").read_bytes(), (tmp_path / "summary.json").read_bytes())


def test_a_run_that_goes_on_was_not_finished_before(tmp_path):
    learn(tmp_path, "q-learning", "FrozenLake-v1", stop_at=100, total_steps=200, **TABLE)
    assert not rl_lab.resume(tmp_path).finished_before


@pytest.mark.parametrize(
    ("agent", "fields", "steps", "named"),
    [
        ("q-learning", TABLE | {"epsilon_final": 0.1}, 300, "epsilon_fraction 0.5 spreads a schedule"),
        ("q-learning", {}, 300, "epsilon_fraction 0.5 and learning_rate_final 0.01 spread a schedule"),
        ("q-learning", TABLE, 100, "total_steps 100 is below the run's 200"),
        ("q-learning", TABLE | {"stop_at_return": 0.0}, 300, "it was stopped early: "),
        ("q-learning", TABLE | {"stop_after_evals": 1, "stop_min_delta": 2.0}, 300, "it was stopped early: "),
    ],
)
def test_is_refused_with_the_reason_and_the_command_of_a_new_run(tmp_path, agent, fields, steps, named):
    folder, anew = tmp_path / "a run", tmp_path / "anew"
    learn(folder, agent, "FrozenLake-v1", total_steps=200, **fields)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match=named) as refused:
        rl_lab.resume(folder, total_steps=steps)
    if steps > 200:
        words = shlex.split(str(refused.value).partition("from its weights, ")[2].removesuffix(")"))
        assert words[:2] == ["rl-lab", "train"]
        assert train([*words[2:], f"--run-dir={anew}"]) == 0
        assert read_description(anew).config.init_from == str(folder)
        assert read_summary(anew)["env_steps"] == steps
        assert read_description(anew).fields == read_description(folder).fields
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_agent_that_does_not_say_what_depends_on_the_budget_is_not_extended(tmp_path):
    learn(tmp_path, "random", "FrozenLake-v1", total_steps=20)
    unknown = SimpleNamespace(config=object())
    with pytest.raises(
        UsageError,
        match="agent 'random' has no budget of steps, or doesn't say which of its fields depend on it",
    ):
        extended(read_description(tmp_path), unknown, tmp_path, 30)


def test_a_solution_stays_what_it_is(tmp_path):
    short = learn(tmp_path, "value-iteration", "FrozenLake-v1", total_steps=200)
    longer = rl_lab.resume(tmp_path, total_steps=300).summary
    assert (longer["total_steps"], longer["env_steps"]) == (300, 0)
    assert longer["weights_sha256"] == short.summary["weights_sha256"]
    assert longer["eval_returns"] == short.summary["eval_returns"]


def test_a_run_with_a_horizon_of_its_own_is_extended_whatever_its_schedules_are(tmp_path):
    fields = {"horizon_steps": 150, "eval_every_steps": 50}
    learn(tmp_path / "run", "q-learning", "FrozenLake-v1", total_steps=200, **fields)
    rl_lab.resume(tmp_path / "run", total_steps=330)
    learn(
        tmp_path / "whole",
        "q-learning",
        "FrozenLake-v1",
        total_steps=330,
        **fields | periods_of(tmp_path / "run"),
    )
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


def test_an_agent_that_says_it_is_extended_whether_or_not_it_stops_early(tmp_path):
    learn(tmp_path, "random", "FrozenLake-v1", total_steps=20)
    theirs = SimpleNamespace(config=SimpleNamespace(budget_fields=lambda: ()))
    assert extended(read_description(tmp_path), theirs, tmp_path, 30).config.total_steps == 30


@pytest.mark.parametrize("given", [np.int64(30), np.float32(30), 3e1])
def test_a_budget_may_be_any_whole_number(tmp_path, given):
    learn(tmp_path, "random", "FrozenLake-v1", total_steps=20)
    assert rl_lab.resume(tmp_path, total_steps=given).summary["env_steps"] == 30
    assert json.loads((tmp_path / "config.json").read_bytes())["total_steps"] == 30


@pytest.mark.parametrize("given", ["300", True, 30.5, float("nan"), 0, -5, [300]])
def test_what_is_no_budget_is_refused(tmp_path, given):
    learn(tmp_path, "random", "FrozenLake-v1", total_steps=20)
    with pytest.raises(UsageError, match=r"^total_steps must be (a whole number|at least 1), got "):
        rl_lab.resume(tmp_path, total_steps=given)


def test_a_result_that_cannot_be_kept_is_said_and_the_run_is_as_it_was(tmp_path, monkeypatch):
    learn(tmp_path, "random", "FrozenLake-v1", total_steps=20)
    before = (tmp_path / "config.json").read_bytes(), (tmp_path / "summary.json").read_bytes()

    def refuses(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuses)
    with pytest.raises(NotWritten, match=r"summary-20\.json could not be written: No space left on device$"):
        rl_lab.resume(tmp_path, total_steps=30)
    assert before == ((tmp_path / "config.json").read_bytes(), (tmp_path / "summary.json").read_bytes())


@pytest.mark.parametrize(
    ("agent", "fields", "named"),
    [
        ("random", {}, ()),
        ("dqn", {}, ("epsilon_fraction",)),
        ("dqn", {"epsilon_fraction": 0.0}, ()),
        ("dqn", CONSTANT | {"prioritised": True}, ("priority_beta",)),
        ("dqn", CONSTANT | {"priority_beta": 0.4}, ()),
        ("dqn", CONSTANT | {"learning_rate_final": 1e-5}, ("learning_rate_final",)),
        ("dqn", CONSTANT | {"learning_rate": 1e-3, "learning_rate_final": 1e-3, "warm_up_env_steps": 50}, ()),
        ("ppo", {}, ()),
        ("ppo", {"linear_decay": True}, ("linear_decay",)),
        ("a2c", {"learning_rate_final": 0.0}, ("learning_rate_final",)),
        ("reinforce", {}, ()),
        ("pqn", {}, ("epsilon_fraction",)),
        ("pqn", CONSTANT | {"learning_rate_final": 0.0}, ("learning_rate_final",)),
        ("clone", {"learning_rate_final": 0.0}, ("learning_rate_final",)),
    ],
)
def test_fields_that_depend_on_the_budget_are_known(agent, fields, named):
    assert config_of(agent)(**fields).budget_fields() == named
