"""Comparing until it is decided: which runs are made, what is kept, and what a second call does."""

from __future__ import annotations

import json
from functools import partial
from itertools import count, product

import numpy as np
import pytest

import rl_lab
from rl_lab.evaluation.comparison.sequential import SequentialTest
from rl_lab.studies import decision
from rl_lab.studies import study as study_module
from rl_lab.studies.decision import Plan, decision_of
from rl_lab.studies.report import write_report
from rl_lab.studies.results import load_study
from rl_lab.studies.running import Stopped
from rl_lab.studies.study import run_study
from rl_lab.types import UsageError
from studies_made import QUIET, small_study

LAKE, CLIFF = "FrozenLake-v1", "CliffWalking-v1"
PLAN = Plan(max_seeds=20, group_size=5)


def scores_of(means):
    """Return the scores that runs get, by environment, agent and seed: normal around `means` with deviation 1."""
    rng = np.random.default_rng(3)
    return {cell: mean + rng.normal(size=60) for cell, mean in sorted(means.items())}


def small(plan=PLAN, **changes):
    return small_study(**({"seeds": plan.group_size, "until_decided": plan} | changes))


@pytest.fixture
def played(monkeypatch):
    """Runs are over at once, with scores from a table; returns the table, and the names of what was run."""
    scores, names, fail = {}, [], set()

    def run_task(task, stop, report):
        if task.name in fail:
            return "killed by a test"
        names.append(task.name)
        score = scores[task.fields["env_id"], task.agent][task.fields["seed"]]
        task.folder.mkdir(parents=True, exist_ok=True)
        told = {
            "eval_return_mean": score,
            "total_steps": task.total_steps,
            "env_steps": 1,
            "train_seconds": 0.1,
        }
        (task.folder / "summary.json").write_text(json.dumps(told))
        return None

    monkeypatch.setattr(study_module, "run_task", run_task)
    monkeypatch.setattr(study_module, "shared_terms", lambda *_, **__: {})  # makes environments
    monkeypatch.setattr(decision, "SequentialTest", partial(SequentialTest, permutations=999))  # quick
    return scores, names, fail


def run(study, out):
    lines = []
    assert run_study(study, out, tell=lines.append) == {}
    return lines


def seeds_run(names, env_id, agent):
    return sorted(int(name.split()[-1]) for name in names if name.startswith(f"{env_id} {agent} "))


def test_groups_begin_at_the_first_seed(tmp_path, played):
    scores, names, _ = played
    scores |= scores_of({(LAKE, "q-learning"): 9.0, (LAKE, "random"): 0.0})
    run(small(agents=("q-learning", "random"), env_ids=(LAKE,), first_seed=30), tmp_path)
    seeds = seeds_run(names, LAKE, "random")
    assert seeds[:5] == [30, 31, 32, 33, 34]
    assert seeds == list(range(30, 30 + len(seeds)))
    assert len(seeds) < PLAN.max_seeds
    assert load_study(tmp_path).seeds == tuple(seeds)


def test_a_clear_difference_ends_before_the_cap(tmp_path, played):
    scores, names, _ = played
    scores |= scores_of({(LAKE, "q-learning"): 6.0, (LAKE, "random"): 0.0})
    lines = run(small(), tmp_path)
    found = decision_of(tmp_path)
    (question,) = found["questions"]
    assert (question["verdict"], question["better"], question["level"]) == ("greater", "q-learning", 0.05)
    assert (question["look"], question["seeds"], found["decided"]) == (1, 5, True)
    table = {agent: scores[LAKE, agent][:5] for agent in ("q-learning", "random")}
    assert question["difference"] == pytest.approx(np.mean(table["q-learning"]) - np.mean(table["random"]))
    assert 0 < question["boundary"] < question["difference"]
    assert seeds_run(names, LAKE, "q-learning") == seeds_run(names, LAKE, "random") == list(range(5))
    assert (found["runs"], found["max_runs"], found["looks"], found["max_looks"]) == (10, 40, 1, 4)
    assert lines[0] == "look 1 of 4 needs 10 more runs (10 in all)"
    assert lines[-1] == found["sentence"]
    assert lines[-1].startswith(
        "q-learning is better than random on FrozenLake-v1: decided with 5 seeds each, at look 1"
    )
    assert lines[-1].endswith(
        "the probability of calling any two equal agents different is at most 0.05 over all 4 looks"
    )


def test_equal_agents_stop_at_the_cap_and_are_not_called_equal(tmp_path, played):
    scores, names, _ = played
    same = scores_of({(LAKE, "random"): 0.0})[LAKE, "random"]
    scores |= {(LAKE, "q-learning"): same, (LAKE, "random"): same}
    lines = run(small(), tmp_path)
    (question,) = decision_of(tmp_path)["questions"]
    assert (question["verdict"], question["better"], question["seeds"]) == ("no difference found", None, 20)
    assert len(names) == 40
    assert "which doesn't say that they are equal" in lines[-1]
    assert [line for line in lines if line.startswith("look")] == [
        f"look {k} of 4 needs 10 more runs ({10 * k} in all)" for k in (1, 2, 3, 4)
    ]


AGENTS = ("q-learning", "random", "value-iteration")
THREE = {
    (LAKE, "q-learning"): 0.0, (LAKE, "random"): 0.0, (LAKE, "value-iteration"): 6.0,
    (CLIFF, "q-learning"): 9.0, (CLIFF, "random"): 0.0, (CLIFF, "value-iteration"): 5.0,
}  # fmt: skip


def three(plan=PLAN):
    return small(plan, agents=AGENTS, env_ids=(LAKE, CLIFF))


def test_only_agents_with_an_undecided_pair_get_more_seeds(tmp_path, played):
    scores, names, _ = played
    scores |= scores_of(THREE)
    lines = run(three(), tmp_path)
    found = decision_of(tmp_path)
    assert found["family"] == 6
    assert found["seeds"] == {
        LAKE: {"q-learning": 20, "random": 20, "value-iteration": 10},
        CLIFF: {"q-learning": 10, "random": 10, "value-iteration": 10},
    }
    for env_id, agent in product((LAKE, CLIFF), AGENTS):
        assert seeds_run(names, env_id, agent) == list(range(found["seeds"][env_id][agent]))
    better = {(q["env_id"], q["x"], q["y"]): q["better"] for q in found["questions"]}
    assert better == {
        (LAKE, "q-learning", "random"): None,
        (LAKE, "q-learning", "value-iteration"): "value-iteration",
        (LAKE, "random", "value-iteration"): "value-iteration",
        (CLIFF, "q-learning", "random"): "q-learning",
        (CLIFF, "q-learning", "value-iteration"): "q-learning",
        (CLIFF, "random", "value-iteration"): "value-iteration",
    }
    assert lines[-1].startswith("5 of 6 differences were found with 80 runs of at most 120; ")
    assert "no difference found between q-learning and random on FrozenLake-v1 (20 seeds each)" in lines[-1]
    assert lines[-1].endswith("at most 0.05 over all 4 looks and 6 questions")


def test_agents_that_were_decided_early_miss_no_seeds(tmp_path, played):
    scores, _, _ = played
    scores |= scores_of(THREE)
    run(three(), tmp_path)
    loaded = load_study(tmp_path)
    assert {cell: len(runs) for cell, runs in loaded.runs.items()} == {
        (env_id, agent): 20 if (env_id == LAKE and agent != "value-iteration") else 10
        for env_id, agent in product((LAKE, CLIFF), AGENTS)
    }
    assert loaded.seeds == tuple(range(20))
    assert "All 80 runs finished" in write_report(tmp_path, files=False).read_text()


def test_a_second_call_does_nothing(tmp_path, played):
    scores, names, _ = played
    scores |= scores_of(THREE)
    last = run(three(), tmp_path)[-1]
    before = (tmp_path / "decision.json").read_bytes()
    names.clear()
    lines = run(small(agents=AGENTS[::-1], env_ids=(CLIFF, LAKE)), tmp_path)  # in any order
    assert names == []
    assert (tmp_path / "decision.json").read_bytes() == before
    assert lines[-1] == last


@pytest.mark.parametrize("runs", [1, 17, 41, 66])
def test_a_stopped_study_goes_on_at_the_same_look_with_the_same_permutations(
    tmp_path, played, monkeypatch, runs
):
    scores, names, _ = played
    scores |= scores_of(THREE)
    run(three(), tmp_path / "whole")
    all_names = sorted(names)
    original, started = study_module.run_task, count(1)

    def stopping(task, stop, report):
        if next(started) > runs:
            raise Stopped
        return original(task, stop, report)

    names.clear()
    with monkeypatch.context() as patch:
        patch.setattr(study_module, "run_task", stopping)
        with pytest.raises(Stopped):
            run_study(three(), tmp_path / "cut")
    assert not decision_of(tmp_path / "cut")["decided"]
    run(three(), tmp_path / "cut")
    assert sorted(names) == all_names  # each once
    whole, cut = (json.loads((tmp_path / name / "decision.json").read_bytes()) for name in ("whole", "cut"))
    assert cut == whole


def test_a_failed_run_leaves_it_undecided_and_is_done_by_the_next_call(tmp_path, played):
    scores, names, fail = played
    scores |= scores_of(THREE)
    name = f"{CLIFF} random seed 7"
    fail.add(name)
    lines = []
    failures = run_study(three(), tmp_path, tell=lines.append)
    assert failures == {name: "killed by a test"}
    assert (
        lines[-1]
        == "undecided after look 1 of 4: 1 of 60 runs have no score; the same call goes on from here"
    )
    assert decision_of(tmp_path)["decided"] is False
    assert [run.seed for run in load_study(tmp_path).runs[CLIFF, "random"] if not run.done] == [7]
    fail.clear()
    names.clear()
    run(three(), tmp_path)
    assert names[0] == name
    assert len(names) == 21


def test_a_run_without_a_number_as_its_score_is_named(tmp_path, played):
    scores, _, _ = played
    scores |= scores_of({(LAKE, "q-learning"): 6.0, (LAKE, "random"): 0.0})
    scores[LAKE, "random"][2] = np.nan
    failures = run_study(small(), tmp_path, tell=lambda line: None)
    assert failures == {f"{LAKE} random seed 2": "finished without a score"}


def test_a_study_with_a_fixed_number_of_seeds_is_taken_up(tmp_path, played):
    scores, names, _ = played
    scores |= scores_of({(LAKE, "q-learning"): 6.0, (LAKE, "random"): 0.0})
    run(small_study(seeds=7), tmp_path)
    assert decision_of(tmp_path) is None
    names.clear()
    run(small(), tmp_path)
    assert names == []
    assert decision_of(tmp_path)["questions"][0]["seeds"] == 5
    assert len(load_study(tmp_path).runs[LAKE, "random"]) == 7
    run(small_study(seeds=12), tmp_path)  # adds seeds, and leaves the plan
    assert len(load_study(tmp_path).runs[LAKE, "random"]) == 12
    run(small(), tmp_path)
    assert decision_of(tmp_path)["questions"][0]["seeds"] == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plan": Plan(alpha=0.01, max_seeds=20)}, "alpha 0.01 can't be given .* which began with 0.05"),
        ({"plan": Plan(max_seeds=40)}, "max_seeds 40 can't be given .* which began with 20"),
        ({"plan": Plan(max_seeds=20, group_size=10)}, "group_size 10 can't be given .* which began with 5"),
        ({"agents": AGENTS}, "agents value-iteration can't be added"),
        ({"env_ids": (LAKE, CLIFF)}, "env_ids CliffWalking-v1 can't be added"),
        ({"agents": AGENTS, "until_decided": None, "seeds": 5}, "agents value-iteration can't be added"),
    ],
)
def test_a_plan_can_not_change(tmp_path, played, changes, message):
    scores, _, _ = played
    scores |= scores_of({(LAKE, "q-learning"): 6.0, (LAKE, "random"): 0.0})
    run(small(), tmp_path)
    held = (tmp_path / "study.json").read_bytes()
    with pytest.raises(UsageError, match=message):
        run_study(small(**changes), tmp_path)
    assert (tmp_path / "study.json").read_bytes() == held


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"until_decided": True, "seeds": 4}, "seeds 4 can't be given beside until_decided"),
        ({"alpha": 0.1}, "alpha 0.1 does nothing without until_decided"),
        ({"group_size": 4}, "group_size 4 does nothing without until_decided"),
        ({"until_decided": True, "alpha": 1.5}, "alpha must be between 0 and 1, got 1.5"),
        (
            {"until_decided": True, "group_size": 3},
            r"max_seeds 40 isn't a whole number .* \(allowed: 39 or 42\)",
        ),
        ({"until_decided": True, "max_seeds": 3}, r"\(allowed: 5 or a multiple of it\)"),
        ({"until_decided": True, "max_seeds": 0}, "max_seeds must be a whole number of at least 1"),
        ({"until_decided": True, "max_seeds": 2, "group_size": 2}, "can't tell agents apart"),
        ({"until_decided": True, "agents": "random"}, "needs two agents or more, got random"),
        ({"until_decided": True, "eval_episodes": 0}, "eval_episodes is 0 for q-learning"),
    ],
)
def test_wrong_plans_are_refused_before_anything_is_written(tmp_path, fields, message):
    given = {"agents": ["q-learning", "random"]} | QUIET | fields
    with pytest.raises(UsageError, match=message):
        rl_lab.compare(LAKE, out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_damaged_decision_is_taken_again(tmp_path, played, text):
    scores, _, _ = played
    scores |= scores_of({(LAKE, "q-learning"): 6.0, (LAKE, "random"): 0.0})
    run(small(), tmp_path)
    held = (tmp_path / "decision.json").read_bytes()
    (tmp_path / "decision.json").write_text(text)
    assert decision_of(tmp_path) is None
    run(small(), tmp_path)
    assert (tmp_path / "decision.json").read_bytes() == held
