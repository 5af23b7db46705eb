"""The test behind `until_decided`: its error rate over looks, pairs and environments, and what is said of it."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from rl_lab.evaluation.comparison.sequential import SequentialTest
from rl_lab.studies import decision
from rl_lab.studies.decision import Plan, cell_name, first_document, look

ENVS, AGENTS = ("one", "two"), ("a", "b", "c")
CELLS = [(env_id, agent) for env_id in ENVS for agent in AGENTS]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Takes few permutations; returns a function that sets the seed of their draws."""
    drawn = {"permutations": 399, "seed": 0}
    monkeypatch.setattr(
        decision, "SequentialTest", lambda *args, **kwargs: SequentialTest(*args, **kwargs, **drawn)
    )
    return lambda seed: drawn.update(seed=seed)


def found_in_the_end(plan, scores):
    """Return the outcomes of all questions after the last look, by environment and agents."""
    test = plan.test_of(ENVS, AGENTS)
    verdicts = test.look({cell_name(cell): values for cell, values in scores.items()}).verdicts
    pairs = [(env_id, x, y) for env_id in ENVS for x, y in combinations(AGENTS, 2)]
    return {pair: verdict.outcome for pair, verdict in zip(pairs, verdicts, strict=True)}


def step_by_step(plan, scores):
    """Return the last document of a study that gives agents more seeds only while it needs them."""
    seeds = dict.fromkeys(CELLS, plan.group_size)
    while True:
        document, more = look(
            plan, ENVS, AGENTS, {cell: scores[cell][:n].tolist() for cell, n in seeds.items()}
        )
        if more == seeds:
            return document
        seeds = more


def test_of_all_pairs_and_environments_none_equal_is_called_different_in_95_of_a_hundred(quick):
    """On one environment all are equal; on the other, one differs. Runs with the same seed have something in common."""
    plan, rng, wrong = Plan(max_seeds=20), np.random.default_rng(4), 0
    truly = {("two", "a", "c"), ("two", "b", "c")}
    for repetition in range(150):
        quick(repetition)
        luck = rng.normal(size=20)  # of the seeds
        scores = {cell: 0.5 * luck + rng.normal(size=20) for cell in CELLS}
        scores["two", "c"] += 5.0
        found = found_in_the_end(plan, scores)
        wrong += any(outcome != "no difference found" for pair, outcome in found.items() if pair not in truly)
        assert all(found[pair] == "less" for pair in truly)
    assert wrong <= stats.binom.ppf(0.999, 150, 0.05)


def test_each_question_at_the_whole_alpha_would_not_do(quick):
    plan, rng, wrong = Plan(max_seeds=20), np.random.default_rng(5), 0
    for repetition in range(100):
        alone = SequentialTest(groups=4, permutations=399, seed=repetition)
        scores = [rng.normal(size=(2, 20)) for _ in range(6)]  # of six questions
        found = [alone.look({"x": x, "y": y}).verdicts[0].outcome for x, y in scores]
        wrong += any(outcome != "no difference found" for outcome in found)
    assert plan.looks == 4
    assert wrong / 100 > 0.15


def test_giving_decided_agents_no_more_seeds_changes_no_verdict(quick):
    plan, rng = Plan(max_seeds=20), np.random.default_rng(6)
    saved = 0
    for repetition in range(15):
        quick(repetition)
        means = dict(zip(CELLS, rng.choice([0.0, 0.8, 2.0], size=len(CELLS)), strict=True))
        scores = {cell: means[cell] + rng.normal(size=20) for cell in CELLS}
        document = step_by_step(plan, scores)
        outcomes = {(q["env_id"], q["x"], q["y"]): q["verdict"] for q in document["questions"]}
        assert outcomes == found_in_the_end(plan, scores)
        assert document["runs"] == sum(sum(of.values()) for of in document["seeds"].values())
        saved += document["max_runs"] - document["runs"]
    assert saved >= 50


def test_the_level_of_a_question_is_that_of_the_closed_test():
    rng = np.random.default_rng(7)
    scores = {cell: 30.0 * AGENTS.index(cell[1]) + rng.normal(size=5) for cell in CELLS}
    document, more = look(
        Plan(max_seeds=20, alpha=0.3), ENVS, AGENTS, {c: v.tolist() for c, v in scores.items()}
    )
    assert {q["level"] for q in document["questions"]} == {
        0.3
    }  # all cross at 0.3 / 6, so that no other is left
    assert document["decided"]
    assert set(more.values()) == {5}


def test_before_the_first_look_nothing_is_known():
    document = first_document(Plan(), ENVS, AGENTS)
    assert (document["decided"], document["questions"], document["looks"], document["runs"]) == (
        False,
        [],
        0,
        0,
    )
    assert document["seeds"] == {env_id: dict.fromkeys(AGENTS, 5) for env_id in ENVS}
    assert document["sentence"].startswith("nothing is known before the first look")


def test_a_decision_is_plain_json():
    rng = np.random.default_rng(8)
    document, _ = look(Plan(), ENVS, AGENTS, {cell: rng.normal(size=5).tolist() for cell in CELLS})
    assert json.loads(json.dumps(document)) == document


@pytest.mark.parametrize(
    ("verdict", "better", "text"),
    [
        (
            "greater",
            "x",
            "x is better than y on e: decided with 10 seeds each, at look 2 of 8 (mean returns differ by",
        ),
        (
            "less",
            "y",
            "y is better than x on e: decided with 10 seeds each, at look 2 of 8 (mean returns differ by",
        ),
        (
            "undecided",
            None,
            "x against y on e is undecided with 10 seeds each, at look 2 of 8 (mean returns differ by",
        ),
        (
            "no difference found",
            None,
            "no difference between x and y on e was found with 10 seeds each",
        ),
    ],
)
def test_a_question_is_told_in_words(verdict, better, text):
    question = {
        "env_id": "e",
        "x": "x",
        "y": "y",
        "verdict": verdict,
        "better": better,
        "look": 2,
        "seeds": 10,
    }
    told = decision._sentence_on(question | {"difference": -3.25, "boundary": 2.5}, Plan())
    assert told.startswith(text)
    assert "differ by 3.25, the boundary is 2.5" in told
