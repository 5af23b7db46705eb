"""What the page says beside its verdicts: budgets, seeds, scales, episodes that were cut off, and all of it as JSON."""

from __future__ import annotations

import json

import pytest

from page_studies import LAKE, describe, write_run
from rl_lab.environments.make import make_env
from rl_lab.evaluation.comparison.normalisation import episode_scale
from rl_lab.mdp.model import extract_model
from rl_lab.studies.page.charts import SHARE
from rl_lab.studies.page.contents import contents_of
from rl_lab.studies.page.curves import SECONDS, STEPS
from rl_lab.studies.page.scales import scale_of
from rl_lab.studies.page.tables import files_of
from rl_lab.studies.report import write_report
from rl_lab.studies.results import load_study, run_directory
from runs import learn

ENVS = ("a/A-v0", "b/B-v0")
CUT = {"eval_returns": [-9.0, -9.0], "eval_capped_episodes": 1, "eval_limit": "9 steps an episode"}


def give_budget(run, total_steps):
    config = json.loads((run / "config.json").read_bytes()) | {"total_steps": total_steps}
    (run / "config.json").write_text(json.dumps(config))


@pytest.fixture
def budgets(tmp_path):
    """Agents on two environments; evaluations every 100 of 300 steps on the one, and of 3,000 on the other."""
    describe(tmp_path, ["dqn", "ppo", "solver"], seeds=1, env_ids=ENVS)
    for env_id in ENVS:
        for agent, last in (("dqn", 3.0), ("ppo", 1.0)):
            run = write_run(
                tmp_path, agent, 0, [0.0, 1.0, 2.0, last], env_id, env_steps=300, train_seconds=6.0
            )
            give_budget(run, 300)
        write_run(tmp_path, "solver", 0, [3.0], env_id, env_steps=0, train_seconds=0.5)
    longer = run_directory(tmp_path, ENVS[1], "ppo", 0)
    rows = [json.loads(line) for line in (longer / "metrics.jsonl").read_text().splitlines()]
    rows = [row | {"env_steps": 10 * row["env_steps"]} for row in rows]
    (longer / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    give_budget(longer, 3000)
    info = json.loads((tmp_path / "study.json").read_bytes()) | {"total_steps": 3000}  # the largest one
    (tmp_path / "study.json").write_text(json.dumps(info))
    return tmp_path


def test_budgets_that_differ_are_told_and_efficiency_is_shown_over_their_shares_too(budgets):
    contents = contents_of(load_study(budgets))
    assert contents.budget == "300 to 3,000 environment steps"
    chart = contents.overall.charts[0]
    assert list(chart.views) == [STEPS, SECONDS, SHARE]
    lines = {axis: {line.agent: line for line in panels[0].lines} for axis, panels in chart.views.items()}
    ends = {axis: {agent: line.x[-1] for agent, line in of.items()} for axis, of in lines.items()}
    assert ends == {
        STEPS: {"dqn": 300, "ppo": 300, "solver": 3000},  # as far as all runs of an agent go
        SECONDS: {"dqn": 6, "ppo": 6, "solver": 6},
        SHARE: {"dqn": 1, "ppo": 1, "solver": 1},
    }
    scale = contents.scales[ENVS[0]]
    assert (scale.low, scale.high) == (1.0, 3.0)
    assert lines[SHARE]["ppo"].y[0] == -0.5
    assert lines[SHARE]["ppo"].y[-1] == 0.0
    after_300_of_3000 = (0.3 - 1) / 2
    assert lines[STEPS]["ppo"].y[-1] == pytest.approx((0.0 + after_300_of_3000) / 2)
    assert set(lines[SECONDS]["solver"].y) == {1.0}


def test_budgets_of_an_environment_that_differ_between_agents_stand_beside_its_verdict(budgets):
    contents = contents_of(load_study(budgets))
    first, second = (env.compared.verdict.notes for env in contents.environments)
    assert not any("Budgets" in note for note in first)
    assert "Budgets differ: dqn 300 steps, ppo 3,000 steps." in second
    assert "Budgets differ between agents on b/B-v0." in contents.overall.verdict.notes


def test_curves_reach_as_far_as_the_budgets_on_their_environment(budgets):
    contents = contents_of(load_study(budgets))
    ranges = [panels[0].x_range for env in contents.environments for panels in [env.charts[0].views[STEPS]]]
    assert ranges == [(0.0, 306.0), (0.0, 3060.0)]  # and a little


def test_where_budgets_are_equal_there_are_no_shares(tmp_path):
    describe(tmp_path, ["dqn", "ppo"], seeds=1, env_ids=ENVS)
    for env_id in ENVS:
        for agent, last in (("dqn", 3.0), ("ppo", 1.0)):
            write_run(tmp_path, agent, 0, [0.0, last], env_id, env_steps=100)
    contents = contents_of(load_study(tmp_path))
    assert contents.budget == "300 environment steps"
    assert list(contents.overall.charts[0].views) == [STEPS]  # no row tells any seconds


def test_different_numbers_of_seeds_are_told(tmp_path):
    """Agents that were decided early on one of two environments miss no seeds there."""
    describe(tmp_path, ["dqn", "ppo"], seeds=1, env_ids=ENVS)
    given = {ENVS[0]: {"dqn": 1, "ppo": 1}, ENVS[1]: {"dqn": 3, "ppo": 3}}
    for env_id, of in given.items():
        for agent, seeds in of.items():
            for seed in range(seeds):
                write_run(
                    tmp_path, agent, seed, [len(agent) + 10.0 * seed + (agent == "dqn")], env_id, env_steps=1
                )
    (tmp_path / "decision.json").write_text(json.dumps({"seeds": given, "questions": []}))
    contents = contents_of(load_study(tmp_path))
    assert contents.seeds_each == "1 to 3 seeds"
    assert contents.missing == 0
    assert contents.overall.verdict.notes == ()
    assert "p = " not in files_of(contents)["results.md"].decode()
    first = contents.environments[0].compared.verdict
    assert (first.decided, first.text.partition(":")[0]) == (False, "On a/A-v0, it is not decided")


def test_evaluation_episodes_that_were_cut_off_are_counted_beside_the_results(tmp_path):
    describe(tmp_path, ["dqn", "ppo"])
    for seed in range(2):
        write_run(tmp_path, "dqn", seed, [-9.0], env_steps=1, **CUT)
        write_run(tmp_path, "ppo", seed, [-3.0], env_steps=1, eval_returns=[-3.0], eval_capped_episodes=0)
    wanted = (
        "Final evaluation episodes that were cut off, after 9 steps an episode: dqn 2 of 4. Their returns are not "
        "those of whole games."
    )
    assert contents_of(load_study(tmp_path)).environments[0].cut_off == wanted
    html = write_report(tmp_path, files=False).read_text()
    assert wanted in html
    assert "2 seeds each (0, 1), 300 environment steps per run." in html
    assert f"- {wanted}" in files_of(contents_of(load_study(tmp_path)))["results.md"].decode()
    describe(tmp_path, ["ppo"])
    assert contents_of(load_study(tmp_path)).environments[0].cut_off is None


@pytest.mark.parametrize(
    ("env_id", "fields", "steps"),
    [
        ("FrozenLake-v1", {}, 100),
        ("FrozenLake-v1", {"eval_max_steps": 20}, 20),
        ("CliffWalking-v1", {"eval_max_steps": 50}, 50),
        ("CliffWalking-v1", {"eval_total_steps": 70}, 70),
    ],
)
def test_the_scale_is_exact_wherever_the_model_is_known(tmp_path, env_id, fields, steps):
    """Without a time limit, for as long as an evaluation lets an episode go on."""
    described = describe(tmp_path, ["random"], seeds=1, env_ids=(env_id,))
    learn(run_directory(described, env_id, "random", 0), "random", env_id, total_steps=50, **fields)
    scale = scale_of(load_study(tmp_path), env_id)
    assert scale == episode_scale(extract_model(make_env(env_id)), steps)
    assert scale.source == f"exact, from random play to the optimum within {steps} steps"


def test_without_a_model_the_scale_runs_from_random_play_to_the_best_agent(tmp_path):
    describe(tmp_path, ["random", "dqn", "ppo"])
    for agent, scores in (("random", [0.0, 2.0]), ("dqn", [5.0, 9.0]), ("ppo", [3.0, 4.0])):
        for seed, score in enumerate(scores):
            write_run(tmp_path, agent, seed, [score], env_steps=1)
    scale = scale_of(load_study(tmp_path), LAKE)
    assert (scale.low, scale.high) == (1.0, 7.0)
    assert scale.source == "measured, from random play to dqn, the best agent here"


def test_everything_that_the_page_says_is_in_numbers_json(tmp_path):
    describe(tmp_path, ["dqn", "ppo"], seeds=1)
    run = write_run(tmp_path, "dqn", 0, [0.5], env_steps=1)
    question = {"env_id": LAKE, "x": "dqn", "y": "ppo", "verdict": "undecided", "seeds": 1}
    decision = {"alpha": 0.05, "questions": [question]}
    (tmp_path / "decision.json").write_text(json.dumps(decision))
    (run / "diagnosis.json").write_text('{"split": {"regret": 0.5}, "calibration": {"bias": NaN}}')
    files = files_of(contents_of(load_study(tmp_path)))
    found = json.loads(files["numbers.json"])
    assert found["decision"] == decision
    diagnosis = {"split": {"regret": 0.5}, "calibration": {"bias": None}}
    assert found["diagnoses"] == [{"env_id": LAKE, "agent": "dqn"} | diagnosis]
    assert found["joined"] == []
    assert "- ppo, seed 0: never started" in files["results.md"].decode()
