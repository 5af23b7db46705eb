"""Studies in files: what they hold, what they refuse, and what the command line puts in its place."""

from __future__ import annotations

import dataclasses

import pytest

import rl_lab
from rl_lab.cli.compare import CompareOptions, study_of
from rl_lab.cli.parsing import parse
from rl_lab.studies.study_file import read_study_file
from rl_lab.types import UsageError

WHOLE = """
about: A question.
expected_time: about a minute on one core
agents: [q-learning, random]
seeds: 4
fields:
  eval_gamma: 9e-1
  "q-learning:learning_rate": 0.5
environments:
  FrozenLake-v1: {total_steps: 300, "q-learning:gamma": 0.8}
  CliffWalking-v1:
"""


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "study.yaml"
    found.write_text(WHOLE)
    return found


def study_from(path, *words):
    return study_of(parse(CompareOptions, ["--study", str(path), *words], program="rl-lab compare", about=""))


def test_holds_a_whole_study(path):
    file = read_study_file(path)
    assert (file.about, file.expected_time) == ("A question.", "about a minute on one core")
    study = file.study()
    assert (study.env_ids, study.agents, study.seeds) == (
        ("FrozenLake-v1", "CliffWalking-v1"), ("q-learning", "random"), 4,
    )  # fmt: skip
    assert study.fields_for("q-learning", "FrozenLake-v1") == {
        "eval_gamma": 0.9, "learning_rate": 0.5, "total_steps": 300, "gamma": 0.8,
    }  # fmt: skip
    assert study.fields_for("random", "CliffWalking-v1") == {"eval_gamma": 0.9}


def test_the_command_tells_how_long_it_takes(path, capsys):
    assert study_from(path) == read_study_file(path).study()
    assert capsys.readouterr().out == "A question. Expected time: about a minute on one core.\n"


@pytest.mark.parametrize(
    ("words", "agent", "fields"),
    [
        (["--total-steps", "50"], "q-learning", {"total_steps": 50, "gamma": 0.8, "learning_rate": 0.5}),
        (
            ["--set", "gamma=0.7", "--agents", "q-learning"],
            "q-learning",
            {"total_steps": 300, "gamma": 0.7, "learning_rate": 0.5},
        ),
        (
            ["--set", "q-learning:gamma=0.6"],
            "q-learning",
            {"total_steps": 300, "gamma": 0.6, "learning_rate": 0.5},
        ),
        (
            ["--set", "learning_rate=0.1", "--agents", "q-learning"],
            "q-learning",
            {"total_steps": 300, "gamma": 0.8, "learning_rate": 0.1},
        ),
        (["--set", "random:total_steps=9"], "random", {"total_steps": 9}),
    ],
)
def test_other_options_take_precedence(path, words, agent, fields):
    assert study_from(path, *words).fields_for(agent, "FrozenLake-v1") == {"eval_gamma": 0.9} | fields


def test_set_adds_up_and_a_field_is_given_once(path):
    words = ["--set", "q-learning:gamma=0.6", "eval_episodes=3", "--set", "q-learning:learning_rate=0.1"]
    found = study_from(path, *words).fields_for("q-learning", "FrozenLake-v1")
    assert (found["gamma"], found["eval_episodes"], found["learning_rate"]) == (0.6, 3, 0.1)
    for twice in (["eval_episodes=4"], ["--set", "eval_episodes=4"]):
        with pytest.raises(UsageError, match=r"^--set gives 'eval_episodes' 2 times \(allowed: once\)$"):
            study_from(path, *words[:3], *twice)
    assert study_from(path, *words[:3], "--set", "random:eval_episodes=4").fields["eval_episodes"] == 3


def test_seeds_agents_environments_and_preset_can_be_given_too(path):
    study = study_from(path, "--seeds", "2", "--agents", "q-learning", "--env-id", "FrozenLake-v1", "Taxi-v4")
    assert (study.seeds, study.agents, study.env_ids) == (2, ("q-learning",), ("FrozenLake-v1", "Taxi-v4"))
    assert study.fields_for("q-learning", "FrozenLake-v1")["total_steps"] == 300


def test_a_preset_given_takes_the_place_of_all_that_the_file_names(path):
    path.write_text(
        WHOLE.replace("random]", "dqn]").replace("FrozenLake-v1: {", "CartPole-v1: {preset: nature, ")
        + 'preset: "zoo:{env_id}"\n'
    )
    file = read_study_file(path)
    with pytest.raises(UsageError, match="no preset 'zoo:CliffWalking-v1'"):
        file.study()
    file = dataclasses.replace(file, environments={"CartPole-v1": file.environments["CartPole-v1"]})
    assert file.study().fields_for("dqn", "CartPole-v1")["optimiser"] == "rmsprop"  # nature's
    study = file.overridden({}, "zoo:CartPole-v1").study()
    assert study.fields_for("dqn", "CartPole-v1")["learning_rate"] == 2.3e-3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "is not YAML"),
        ("seeds: 1\nseeds: 2\n", ": 'seeds' stands twice, in lines 1 and 2 (allowed: once)"),
        ("- 1", "must hold name: value pairs"),
        (WHOLE + "agent: [x]\n", "unknown entry 'agent' (close: agents)"),
        (WHOLE.replace("about: A question.", ""), "entries are missing: about"),
        ("environments: {FrozenLake-v1: }", "entries are missing: about, expected_time, agents"),
        (WHOLE.replace("A question.", ""), "about must be text, got None"),
        (WHOLE.replace("about a minute on one core", "5"), "expected_time must be text, got 5"),
        (WHOLE.replace("[q-learning, random]", "random"), "agents must be a list of names, got 'random'"),
        (WHOLE.replace("seeds: 4", "seeds: many"), "seeds must be a whole number, got 'many'"),
        (
            WHOLE.replace("  CliffWalking-v1:", "  CliffWalking-v1: 5"),
            "CliffWalking-v1 must hold name: value pairs",
        ),
        (WHOLE.replace("seeds: 4", "preset: [a]"), "preset must be text"),
    ],
)
def test_a_wrong_file_is_refused_in_a_line_that_names_it(path, text, says):
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_study_file(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"study file '.*nowhere.yaml': No such file"):
        read_study_file(tmp_path / "nowhere.yaml")


def test_what_the_file_says_of_an_agent_that_is_left_out_goes_with_it(path):
    study = study_from(path, "--agents", "random")
    assert (study.agents, study.fields_of) == (("random",), {})
    assert study.fields_for("random", "FrozenLake-v1") == {"eval_gamma": 0.9, "total_steps": 300}


@pytest.mark.parametrize("agent", ["q-learning", "dqn"])
def test_fields_given_for_an_agent_that_is_left_out_are_refused(path, agent):
    with pytest.raises(UsageError, match=f"fields are given for agent '{agent}', which isn't compared"):
        study_from(path, "--agents", "random", "--set", f"{agent}:gamma=0.5")


def test_python_takes_a_file_and_what_takes_precedence_over_it(path, monkeypatch):
    made = []
    monkeypatch.setattr(
        "rl_lab.studies.compare.compare_study", lambda study, *args, **options: made.append(study)
    )
    rl_lab.compare(study=path)
    rl_lab.compare(study=str(path), until_decided=True, max_seeds=10)
    rl_lab.compare(
        "CliffWalking-v1", "random", study=path, seeds=2, first_seed=7, gamma=0.7,
        agent_fields={"random": {"gamma": 0.6}},
    )  # fmt: skip
    whole, decided, changed = made
    assert whole == read_study_file(path).study()
    assert (decided.seeds, decided.until_decided.max_seeds) == (5, 10)
    assert decided.env_fields == whole.env_fields
    assert (changed.env_ids, changed.agents) == (("CliffWalking-v1",), ("random",))
    assert (changed.seeds, changed.first_seed) == (2, 7)
    assert changed.fields_for("random", "CliffWalking-v1") == {"eval_gamma": 0.9, "gamma": 0.6}
