"""All agents of a study play and are evaluated alike; what differs is refused, or told where it may."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rl_lab.evaluation import evaluate
from rl_lab.runs.config import RunConfig
from rl_lab.studies import worker
from rl_lab.studies.fairness import shared_limit, tell_budgets
from rl_lab.studies.results import load_study, run_directory
from rl_lab.studies.study import run_study, tasks_of
from rl_lab.studies.table import table_of
from rl_lab.training.launch import learn
from rl_lab.types import UsageError
from studies_made import QUIET, small_study, summaries

pytestmark = pytest.mark.usefixtures("runs_in_this_process")


def told(study):
    lines = []
    tasks_of(study, Path("out"), lines.append)
    return lines


@pytest.mark.parametrize(
    ("name", "value", "listed"),
    [
        ("env_kwargs", {"is_slippery": False}, r"q-learning \{\}, random \{'is_slippery': False\}"),
        ("wrappers", ["gymnasium.wrappers:RecordEpisodeStatistics"], "q-learning .., random"),
        ("eval_episodes", 5, "q-learning 4, random 5"),
        ("eval_max_steps", 50, "q-learning 100, random 50"),
        ("eval_total_steps", 70, "q-learning None, random 70"),
        ("final_policy", "best", "q-learning .last., random .best."),
    ],
)
def test_other_terms_for_one_agent_are_refused(name, value, listed):
    study = small_study(fields_of={"random": {name: value}})
    with pytest.raises(
        UsageError, match=rf"FrozenLake-v1: {name} differs between agents: {listed}.*allowed: the same"
    ):
        tasks_of(study, Path("out"))
    tasks_of(small_study(fields=QUIET | {name: value}), Path("out"))


def test_a_preset_that_changes_the_environment_of_one_agent_alone_is_refused():
    study = small_study(
        env_ids=("lab/TMaze-v0",),
        agents=("dqn", "random"),
        preset="recommended:lab/TMaze-v0",
        fields={"wandb": "disabled"},
    )
    with pytest.raises(
        UsageError, match=r"lab/TMaze-v0: env_kwargs differs .*dqn \{'length': 10\}, random \{\}"
    ):
        tasks_of(study, Path("out"))


def test_fields_that_do_nothing_are_told_of_the_agent():
    fields_of = {"lspi": {"tilings": 4}, "dqn": {"head_share": 0.5}}
    lines = told(small_study(agents=("lspi", "dqn"), fields_of=fields_of, fields=QUIET | {"eval_gamma": 0.9}))
    assert lines[:2] == [
        "warning: lspi: tilings 4 does nothing without features tiles",
        "warning: dqn: head_share 0.5 does nothing without heads 2 or more",
    ]


def test_an_older_study_with_such_a_field_grows(tmp_path):
    study = small_study(
        agents=("lspi",), seeds=1, fields_of={"lspi": {"tilings": 4, "update_period_env_steps": 300}}
    )
    assert run_study(study, tmp_path) == {}
    assert run_study(replace(study, seeds=2), tmp_path) == {}
    assert len(summaries(tmp_path)) == 2


def test_what_agents_do_to_learn_may_differ():
    fields_of = {"q-learning": {"num_envs": 2, "learning_rate": 0.5, "eval_every_steps": 50}}
    assert told(small_study(fields_of=fields_of)) == []


def test_budgets_that_differ_are_told():
    study = small_study(fields_of={"random": {"total_steps": 1000}})
    assert told(study) == ["FrozenLake-v1: budgets differ: q-learning 600 steps, random 1,000 steps"]


def test_agents_with_one_budget_share_a_place_in_the_line():
    lines = []
    configs = {
        a: RunConfig(env_id="E", total_steps=n) for a, n in (("a", 5), ("b", 7_000), ("c", 5), ("d", 5))
    }
    tell_budgets("E", configs, lines.append)
    assert lines == ["E: budgets differ: a, c and d 5 steps, b 7,000 steps"]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"threads": 2}, "threads differs: q-learning 1, random 2"),
        ({"stop_at_return": 0.5}, "stop_at_return differs: q-learning None, random 0.5"),
        ({"stop_after_evals": 3}, "stop_after_evals differs: q-learning None, random 3"),
    ],
)
def test_where_agents_begin_and_end_and_what_they_have_is_told_if_it_differs(given, line):
    assert told(small_study(fields_of={"random": given})) == [f"FrozenLake-v1: {line}"]
    assert told(small_study(fields=QUIET | given)) == []


def test_weights_to_begin_from_that_are_not_there_are_refused_before_anything_runs(tmp_path):
    fields_of = {"dqn": {"init_from": str(tmp_path / "nowhere")}}
    study = small_study(agents=("dqn", "random"), fields_of=fields_of)
    with pytest.raises(UsageError, match="nowhere"):
        run_study(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_finished_study_needs_the_weights_no_more(tmp_path):
    learn("dqn", "FrozenLake-v1", run_dir=tmp_path / "first", progress=False, **QUIET)
    fields_of = {"dqn": {"init_from": str(tmp_path / "first")}}
    study = small_study(agents=("dqn",), seeds=1, fields_of=fields_of)
    assert run_study(study, tmp_path / "out") == {}
    shutil.rmtree(tmp_path / "first")
    assert run_study(study, tmp_path / "out") == {}
    with pytest.raises(UsageError, match="first"):
        run_study(replace(study, seeds=2), tmp_path / "out")


def test_among_how_many_evaluations_the_best_is_chosen_is_told_if_it_differs():
    best = QUIET | {"final_policy": "best"}
    more = {"random": {"eval_every_steps": 50}}
    assert told(small_study(fields=best, fields_of=more)) == [
        "FrozenLake-v1: the best policy is chosen among different numbers of evaluations: 10 of q-learning, "
        "12 of random"
    ]
    assert told(small_study(fields=best)) == []


@pytest.mark.parametrize(
    ("agents", "line"),
    [
        (("q-learning", "sb3-dqn"), "sb3-dqn ignores action masks and may act illegally"),
        (("sb3-dqn", "sb3-ppo"), "sb3-dqn and sb3-ppo ignore action masks and may act illegally"),
    ],
)
def test_agents_that_ignore_action_masks_are_told(agents, line):
    given = {"agents": agents, "fields": QUIET | {"eval_gamma": 0.99}}
    assert f"Taxi-v4: {line}" in told(small_study(env_ids=("Taxi-v4",), **given))
    assert not [line for line in told(small_study(**given)) if "masks" in line]


def test_agents_without_the_preset_are_told():
    study = small_study(
        env_ids=("CartPole-v1",),
        agents=("dqn", "random", "ppo"),
        preset="recommended:CartPole-v1",
        fields=QUIET | {"final_policy": "last"},
    )
    (line, *_) = told(study)
    assert line == "CartPole-v1: random and ppo have no preset 'recommended:CartPole-v1'; their defaults hold"


CONFIGS = {
    "long": RunConfig(env_id="E", total_steps=1_000_000, eval_episodes=2),
    "short": RunConfig(env_id="E", total_steps=50_000, eval_episodes=2),
}


class TestWhereAnEvaluationEnds:
    def test_is_that_of_the_largest_budget_where_episodes_have_no_limit(self):
        assert CONFIGS["long"].eval_steps(None) == 100_000  # a tenth of the budget
        assert CONFIGS["short"].eval_steps(None) == 5_000
        assert shared_limit(CONFIGS, lambda: None) == 100_000

    def test_needs_nothing_where_episodes_have_one_or_budgets_are_equal(self):
        assert shared_limit(CONFIGS, lambda: 500) is None
        assert shared_limit({"a": CONFIGS["long"], "b": CONFIGS["long"]}, lambda: None) is None

    def test_is_given_to_all_runs(self):
        cliff = {"total_steps": 400_000, "eval_episodes": 4, "wandb": "disabled"}
        study = small_study(
            env_ids=("CliffWalking-v1",), fields=cliff, fields_of={"random": {"total_steps": 500}}
        )
        limits = {task.fields["eval_total_steps"] for task in tasks_of(study, Path("out"))}
        assert limits == {40_000}


@pytest.fixture
def evaluated(monkeypatch):
    """Return which evaluation episodes each agent plays, as {agent: {(seed of the run, episode): seed}}."""
    found: dict[str, dict] = {}
    work, seed_of = worker._work, evaluate.evaluation_seed

    def noted(learner, fields):
        found[learner] = {}
        work(learner, fields)

    def told(seed, episode):
        found[next(reversed(found))][seed, episode] = seed_of(seed, episode)
        return seed_of(seed, episode)

    monkeypatch.setattr(worker, "_work", noted)
    monkeypatch.setattr(evaluate, "evaluation_seed", told)
    return found


def training_seeds(folder):
    """Return the seeds of a run's finished training episodes, by environment and episode."""
    with (folder / "episodes.csv").open() as file:
        return {(row["env_index"], row["episode"]): row["seed"] for row in csv.DictReader(file)}


def _first(seeds, episodes):
    """Return those of the episodes that count; environments that play ahead begin further ones."""
    return {(run_seed, episode): seed for (run_seed, episode), seed in seeds.items() if episode < episodes}


@pytest.mark.parametrize("pair", [("dqn", "sb3-dqn"), ("ppo", "sb3-ppo")])
def test_budgets_are_rounded_alike_and_episodes_are_the_same(tmp_path, pair, evaluated):
    own = {
        "dqn": {
            "train_period_env_steps": 24,
            "hidden": [8],
            "replay_capacity": 500,
            "learning_starts_env_steps": 10,
        },
        "ppo": {"n_steps": 24, "num_envs": 2, "batch_size": 48, "hidden": [8], "n_epochs": 1},
    }[pair[0]]
    study = small_study(
        env_ids=("CartPole-v1",), agents=pair, seeds=1, fields=QUIET | {"total_steps": 100} | own
    )
    assert run_study(study, tmp_path, tell=lambda line: None) == {}
    found = {s["agent"]: (s["total_steps"], s["env_steps"]) for s in summaries(tmp_path).values()}
    assert set(found.values()) == {(100, {"dqn": 120, "ppo": 144}[pair[0]])}
    rows = table_of(load_study(tmp_path))
    assert [(row["total_steps"], row["env_steps"]) for row in rows] == [found[agent] for agent in pair]
    for row in rows:
        assert row["wall_seconds"] > row["train_seconds"] > 0
        assert row["cpu_seconds"] > 0
        assert row["peak_rss_mb"] > 10
        assert row["compile_seconds"] == 0
    assert json.dumps(rows)
    ours, sb3s = (training_seeds(run_directory(tmp_path, "CartPole-v1", agent, 0)) for agent in pair)
    both = ours.keys() & sb3s.keys()
    assert len(both) >= 3
    assert [ours[episode] for episode in both] == [sb3s[episode] for episode in both]
    assert list(evaluated) == list(pair)
    of_ours, of_sb3 = (_first(of, QUIET["eval_episodes"]) for of in evaluated.values())
    assert of_ours == of_sb3
    assert {episode for _, episode in of_ours} == set(range(QUIET["eval_episodes"]))
