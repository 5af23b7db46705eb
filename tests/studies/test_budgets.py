"""Studies that get more steps: what is extended, what is refused with which reason, and what keeps its horizon."""

from __future__ import annotations

import json

import pytest

import rl_lab
from rl_lab.cli.compare import CompareOptions, study_of
from rl_lab.cli.parsing import parse
from rl_lab.runs.rows import read_rows
from rl_lab.studies import study as study_module
from rl_lab.studies import worker
from rl_lab.studies.decision import Plan
from rl_lab.studies.horizons import keep_horizons
from rl_lab.studies.results import load_study
from rl_lab.studies.study import run_study
from rl_lab.training.launch import learn
from rl_lab.types import UsageError
from studies_made import QUIET, small_study, summaries

LAKE = "FrozenLake-v1"
CONSTANT = {"epsilon_initial": 0.2, "epsilon_final": 0.2, "learning_rate": 0.5, "learning_rate_final": 0.5}
AGENTS = ("q-learning", "random", "value-iteration")


def _without_signals(begin):
    return lambda *args, signals, **fields: begin(*args, **fields)


@pytest.fixture(autouse=True)
def worked(monkeypatch):
    """Runs are made in this process; returns their names."""
    names = []
    for begin in ("learn", "resume"):  # without signals, which only the main thread takes
        monkeypatch.setattr(worker, begin, _without_signals(getattr(worker, begin)))

    def run_task(task, stop, report):
        names.append(task.name)
        task.folder.mkdir(parents=True, exist_ok=True)
        worker._work(task.learner, task.fields)

    monkeypatch.setattr(study_module, "run_task", run_task)
    return names


def study(steps, agents=("q-learning",), own=CONSTANT, **changes):
    fields_of = {"q-learning": own} if "q-learning" in agents else {}
    given = {"seeds": 1, "agents": agents, "fields": QUIET | {"total_steps": steps}, "fields_of": fields_of}
    return small_study(**(given | changes))


def run(given, out):
    lines = []
    assert run_study(given, out, tell=lines.append) == {}
    return lines


def figures(out):
    """Return what the runs of a study ended with, by agent and seed."""
    names = ("total_steps", "env_steps", "eval_returns", "weights_sha256")
    return {(s["agent"], s["seed"]): {n: s[n] for n in names} for s in summaries(out).values()}


def evaluated_at(folder):
    return [row["env_steps"] for row in read_rows(folder) if "eval_returns" in row]


def test_runs_get_more_steps_and_equal_those_that_had_them_from_the_beginning(tmp_path, worked):
    run(study(200, AGENTS), tmp_path / "out")
    worked.clear()
    lines = run(study(330, AGENTS), tmp_path / "out")
    assert sorted(worked) == [f"{LAKE} {agent} seed 0" for agent in AGENTS]
    run(study(330, AGENTS, fields=QUIET | {"total_steps": 330, "eval_every_steps": 20}), tmp_path / "whole")
    assert figures(tmp_path / "out") == figures(tmp_path / "whole")
    assert {f["total_steps"] for f in figures(tmp_path / "out").values()} == {330}
    assert load_study(tmp_path / "out").total_steps == 330
    worked.clear()
    assert run(study(330, AGENTS), tmp_path / "out") == ["3 of 3 runs are done already"]
    assert worked == []
    assert "runs are done already" not in lines[0]


def test_a_run_whose_extension_was_killed_is_done_by_the_next_call(tmp_path, worked, monkeypatch):
    run(study(200), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(study_module, "run_task", lambda task, stop, report: "killed")
        assert list(run_study(study(330), tmp_path)) == [f"{LAKE} q-learning seed 0"]
    worked.clear()
    run(study(330), tmp_path)
    assert worked == [f"{LAKE} q-learning seed 0"]
    assert figures(tmp_path)["q-learning", 0]["env_steps"] == 330


def test_further_seeds_are_evaluated_when_the_extended_ones_are(tmp_path):
    run(study(200), tmp_path)
    lines = run(study(400, seeds=2), tmp_path)
    assert lines[0] == (
        f"{LAKE} q-learning: eval_every_steps 20 and log_every_steps 2 and checkpoint_every_steps 40 in further runs,"
        " as in those that have begun"
    )
    folders = sorted(summaries(tmp_path))
    assert evaluated_at(folders[0]) == evaluated_at(folders[1]) == list(range(20, 401, 20))
    run(study(400, seeds=3), tmp_path)
    assert evaluated_at(sorted(summaries(tmp_path))[2]) == list(range(20, 401, 20))


@pytest.mark.parametrize(
    ("agent", "own", "named"),
    [
        (
            "q-learning",
            {},
            "epsilon_fraction 0.5 and learning_rate_final 0.01 spread a schedule over the budget"
            r" \(allowed: a new folder, or --keep-horizon, which compares q-learning@200 beside it\)",
        ),
        (
            "q-learning",
            CONSTANT | {"stop_at_return": -1.0},
            r"it was stopped early: .* \(allowed: a new folder\)",
        ),
    ],
)
def test_what_can_not_be_extended_is_refused_with_the_reason(tmp_path, agent, own, named):
    run(study(200, own=own), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(
        UsageError, match=f"^total_steps 300 can't extend the runs of 200 steps in .*: {named}$"
    ):
        run_study(study(300, own=own), tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_an_agent_that_can_not_resume_is_not_extended(tmp_path, monkeypatch):
    given = {"agents": ("sb3-a2c",), "env_ids": ("CartPole-v1",)}
    task = study_module.tasks_of(study(200, **given), tmp_path)[0]
    monkeypatch.setattr(study_module, "run_task", lambda task, stop, report: "not run")
    run_study(study(200, **given), tmp_path)
    run_study(study(300, **given), tmp_path)  # since no run has begun
    task.folder.mkdir(parents=True)
    (task.folder / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="agent 'sb3-a2c' can't resume exactly"):
        run_study(study(400, **given), tmp_path)


CLIFF = "CliffWalking-v1"


def study_by_env(lake, cliff, own=CONSTANT, **changes):
    """Return a study with a budget for each environment, as a study's file gives them."""
    budgets = {LAKE: {"total_steps": lake}, CLIFF: {"total_steps": cliff, "eval_max_steps": 20}}
    given = {"env_ids": (LAKE, CLIFF), "env_fields": budgets, "fields": QUIET}
    return study(lake, own=own, **(given | changes))


def test_budgets_of_single_environments_are_extended_alone(tmp_path, worked):
    run(study_by_env(200, 100), tmp_path)
    worked.clear()
    run(study_by_env(330, 100), tmp_path)
    assert worked == [f"{LAKE} q-learning seed 0"]
    assert {s["env_id"]: s["env_steps"] for s in summaries(tmp_path).values()} == {LAKE: 330, CLIFF: 100}
    worked.clear()
    run(study_by_env(330, 140), tmp_path)
    assert worked == [f"{CLIFF} q-learning seed 0"]


def test_a_study_with_one_budget_gets_larger_ones_by_environment(tmp_path, worked):
    run(study(200), tmp_path)
    worked.clear()
    run(study(200, env_fields={LAKE: {"total_steps": 330}}, fields=QUIET | {"total_steps": 200}), tmp_path)
    assert worked == [f"{LAKE} q-learning seed 0"]
    worked.clear()
    run(study(400), tmp_path)
    assert worked == [f"{LAKE} q-learning seed 0"]


def test_a_budget_of_one_environment_that_cannot_grow_is_refused_with_the_reason(tmp_path):
    run(study_by_env(200, 100, own={}), tmp_path)
    with pytest.raises(
        UsageError,
        match=r"^total_steps 130 .* 100 steps .*CliffWalking.*spread .* \(allowed: a new folder\)$",
    ):
        run_study(study_by_env(200, 130, own={}), tmp_path)
    with pytest.raises(
        UsageError, match=r"total_steps 90 instead of 100 for q-learning on CliffWalking-v1; "
    ):
        run_study(study_by_env(200, 90, own={}), tmp_path)
    with pytest.raises(UsageError, match=r"keep_horizon can't be given .* \(they do on CliffWalking-v1\)"):
        keep_horizons(study_by_env(200, 130, own={}, fields=QUIET | {"total_steps": 200}), tmp_path)


def test_fewer_steps_are_another_study(tmp_path):
    run(study(200), tmp_path)
    with pytest.raises(UsageError, match="already holds another study"):
        run_study(study(100), tmp_path)


def test_a_study_until_it_is_decided_keeps_its_budget(tmp_path, monkeypatch):
    plan = {"agents": ("q-learning", "random"), "seeds": 5, "until_decided": Plan(max_seeds=10)}
    monkeypatch.setattr(study_module, "run_task", lambda task, stop, report: "not run")
    run_study(study(200, **plan), tmp_path)
    with pytest.raises(
        UsageError, match=r"total_steps 300 can't extend .* which compares until it is decided"
    ):
        run_study(study(300, **plan), tmp_path)


# Variants that keep the former horizon ---------------------------------------------------------------


def test_a_variant_keeps_the_horizon_beside_the_agent_that_keeps_its_budget(tmp_path, worked):
    agents = ("q-learning", "random")
    run(study(200, agents, own={}), tmp_path)
    longer = keep_horizons(study(330, agents, own={}), tmp_path)
    assert longer.agents == ("q-learning", "random", "q-learning@200")
    worked.clear()
    run(longer, tmp_path)
    assert worked == [f"{LAKE} random seed 0", f"{LAKE} q-learning@200 seed 0"]
    loaded = load_study(tmp_path)
    steps = {agent: loaded.runs[LAKE, agent][0].scalar("env_steps") for agent in loaded.agents}
    assert steps == {"q-learning": 200, "random": 330, "q-learning@200": 330}
    worked.clear()
    run(keep_horizons(study(330, agents, own={}), tmp_path), tmp_path)
    assert worked == []
    run(keep_horizons(study(400, agents, own={}), tmp_path), tmp_path)  # a horizon of its own: it is extended
    assert worked == [f"{LAKE} random seed 0", f"{LAKE} q-learning@200 seed 0"]
    assert load_study(tmp_path).runs[LAKE, "q-learning@200"][0].scalar("env_steps") == 400


def test_a_variant_is_what_its_agent_is_until_the_horizon(tmp_path):
    fields = QUIET | {"eval_every_steps": 50, "log_every_steps": 50, "env_id": LAKE}
    short = learn("q-learning", run_dir=str(tmp_path / "short"), **fields | {"total_steps": 200})
    learn("q-learning", run_dir=str(tmp_path / "long"), **fields | {"total_steps": 300, "horizon_steps": 200})
    rows = {name: read_rows(tmp_path / name) for name in ("short", "long")}
    epsilons = {name: [row["epsilon"] for row in found if "epsilon" in row] for name, found in rows.items()}
    assert epsilons["long"][: len(epsilons["short"])] == epsilons["short"]
    assert epsilons["long"][-1] == epsilons["short"][-1]
    returns = {
        name: [r["eval_returns"] for r in found if "eval_returns" in r] for name, found in rows.items()
    }
    assert returns["long"][: len(returns["short"])] == returns["short"]
    assert len(returns["long"]) == 6
    longer = rl_lab.resume(tmp_path / "short", total_steps=200)
    assert longer.summary["weights_sha256"] == short.summary["weights_sha256"]


@pytest.mark.parametrize("agent", ["dqn", "ppo"])
def test_schedules_of_networks_end_at_the_horizon(tmp_path, agent):
    fields = {
        "learning_rate": 1e-3,
        "learning_rate_final": 1e-4,
        "hidden": (8,),
        "compile": "no",
        "eval_episodes": 0,
    }
    fields |= {
        "ppo": {"n_steps": 16, "batch_size": 8, "n_epochs": 1},
        "dqn": {"learning_starts_env_steps": 8},
    }[agent]
    given = QUIET | fields | {"total_steps": 128, "log_every_steps": 16}
    learn(agent, "CartPole-v1", run_dir=str(tmp_path), **given | {"horizon_steps": 64})
    rates = {r["env_steps"]: r["learning_rate"] for r in read_rows(tmp_path) if "learning_rate" in r}
    assert all(rate > 1.01e-4 for step, rate in rates.items() if step < 64)
    assert [rate for step, rate in rates.items() if step > 64 + 16] == pytest.approx([1e-4] * 3, rel=0.01)


def test_an_agent_that_does_not_say_what_depends_on_the_budget_has_no_horizon():
    with pytest.raises(UsageError, match="agent 'sb3-a2c' can't spread its schedules over horizon_steps 50"):
        learn("sb3-a2c", "CartPole-v1", horizon_steps=50)


def test_a_variant_may_be_asked_for_in_a_new_study(tmp_path):
    given = study(300, ("q-learning", "q-learning@100"), own={"initial_value": 0.5})
    assert given.fields_for("q-learning@100")["initial_value"] == 0.5  # as of its agent
    run(given, tmp_path)
    configs = {
        path.parent.parent.name: json.loads(path.read_bytes()) for path in tmp_path.rglob("config.json")
    }
    assert {name: (c["agent"], c["horizon_steps"]) for name, c in configs.items()} == {
        "q-learning": ("q-learning", None),
        "q-learning@100": ("q-learning", 100),
    }


@pytest.mark.parametrize("agent", ["q-learning@", "q-learning@x", "q-learning@0", "q-learning@-5"])
def test_what_is_no_variant_is_refused(tmp_path, agent):
    with pytest.raises(
        UsageError, match=rf"agent '{agent}' is no variant of 'q-learning' \(allowed: q-learning@STEPS\)"
    ):
        run_study(study(200, (agent,)), tmp_path / "out")


def options(*words):
    given = ["--env-id", LAKE, "--agents", "q-learning", "--set", "eval_episodes=0", *words]
    return parse(CompareOptions, given, program="rl-lab compare", about="")


def test_the_command_line_keeps_horizons_and_says_where_that_does_nothing(tmp_path):
    with pytest.raises(UsageError, match=r"keep_horizon does nothing: out .* holds no study"):
        study_of(options("--keep-horizon", "--out", str(tmp_path)))
    run(study(200, own={}), tmp_path)
    longer = study_of(options("--keep-horizon", "--total-steps", "300", "--out", str(tmp_path)))
    assert longer.agents == ("q-learning", "q-learning@200")
    with pytest.raises(UsageError, match=r"no agent of the study in .* gets more steps"):
        study_of(options("--keep-horizon", "--total-steps", "200", "--out", str(tmp_path)))
