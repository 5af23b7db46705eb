"""The studies in scripts/studies: every name in them exists, and each runs from end to end with tiny budgets."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml

from rl_lab.studies.study import tasks_of
from rl_lab.studies.study_file import StudyFile, read_study_file
from rl_lab.training.launch import learn
from rl_lab.training.registry import config_of, presets_of

ROOT = Path(__file__).parents[2]
STUDIES = {path.stem: path for path in sorted((ROOT / "scripts" / "studies").glob("*.yaml"))}
# Fields of runs that are over soon.
TINY = {
    "total_steps": 64, "eval_episodes": 1, "eval_every_steps": 64, "eval_max_steps": 20, "eval_envs": 1,
    "video_episodes": 0, "pictures": False, "wandb": "disabled", "device": "cpu", "num_envs": 2,
}  # fmt: skip
SMALL = {
    "n_steps": 16, "batch_size": 16, "n_epochs": 1, "replay_capacity": 200, "learning_starts_env_steps": 32,
    "train_period_env_steps": 16, "target_period_env_steps": 32, "gradient_steps_per_update": 1,
}  # fmt: skip


def tiny(file: StudyFile) -> StudyFile:
    """The study with fields of its agents that make their runs short, but for those that others rule out."""
    small = {
        f"{agent}:{name}": value
        for agent in file.agents
        for name, value in SMALL.items()
        if name in {*config_of(agent).__dataclass_fields__}
        and (name, agent) != ("n_steps", "dqn")
        and (name != "target_period_env_steps" or f"{agent}:target_period_updates" not in file.fields)
    }
    return file.overridden(TINY | small)


def test_they_are_those_that_the_pages_name():
    assert set(STUDIES) == {"classic", "exact", "memory", "minatar", "pixels", "qr-dqn"}


@pytest.mark.parametrize("name", STUDIES)
def test_says_what_it_asks_and_how_long_it_takes_on_what(name):
    file = read_study_file(STUDIES[name])
    assert file.about.endswith(".")
    assert re.fullmatch(r"about \d+ (minutes|hours) with \d workers on \d cores", file.expected_time)
    assert file.seeds >= 3


@pytest.mark.parametrize(
    ("name", "agents"),
    [("classic", {"dqn", "sb3-dqn", "ppo", "sb3-ppo"}), ("qr-dqn", {"qr-dqn", "sb3-qrdqn"})],
)
def test_agents_stand_beside_sb3s_at_the_zoos_settings(name, agents):
    study = read_study_file(STUDIES[name]).study()
    assert study.seeds == 10
    assert set(study.env_ids) == {"CartPole-v1", "Acrobot-v1", "MountainCar-v0", "LunarLander-v3"}
    assert set(study.agents) == agents
    for env_id in study.env_ids:
        for agent in study.agents:
            preset = presets_of(agent)[f"zoo:{env_id}"]
            assert preset.items() <= study.fields_for(agent, env_id).items()


def test_minatar_is_played_with_the_authors_pqn_and_all_parts_of_rainbow():
    study = read_study_file(STUDIES["minatar"]).study()
    assert study.seeds == 5
    assert study.env_ids == (
        "MinAtar/Breakout-v0",
        "MinAtar/Asterix-v0",
    )  # with the six actions of their authors
    pqn, rainbow, dqn = (study.fields_for(agent, study.env_ids[0]) for agent in ("pqn", "c51", "dqn"))
    assert [fields.pop("hidden") for fields in (pqn, rainbow, dqn)] == [[128]] * 3
    own = presets_of("pqn")["minatar"] | {"total_steps": 1_000_000}
    assert own.pop("hidden") == (128,)
    assert pqn.items() >= own.items()
    parts = {"distribution": "categorical"} | rainbow
    assert parts.items() >= presets_of("dqn")["rainbow"].items()
    for name in ("total_steps", "encoder", "channels", "gamma"):
        assert {fields.get(name, 0.99) for fields in (rainbow, dqn)} == {pqn[name]}


def test_both_sides_of_exact_and_pixels_have_the_same_hyperparameters():
    for name in ("exact", "pixels"):
        study = read_study_file(STUDIES[name]).study()
        for ours in ("dqn", "ppo"):
            one, other = (study.fields_for(agent, study.env_ids[0]) for agent in (ours, f"sb3-{ours}"))
            shared = (one.keys() & other.keys()) - {"hidden"}
            assert len(shared) > 3
            assert {n: one[n] for n in shared} == {n: other[n] for n in shared}


def test_no_key_stands_twice_in_a_file():
    """YAML would take the last one without a word."""
    for path in STUDIES.values():
        for node in _mappings(yaml.compose(path.read_text())):
            counts = Counter(key.value for key, _ in node.value)
            assert max(counts.values(), default=1) == 1, (path, counts)


def _mappings(node):
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from _mappings(value)


@pytest.mark.long
@pytest.mark.parametrize("name", STUDIES)
def test_every_agent_takes_every_environment_as_the_file_says(name, tmp_path):
    file = read_study_file(STUDIES[name])
    tasks = tasks_of(file.study(), tmp_path, lambda line: None)
    cells = Counter((task.fields["env_id"], task.agent) for task in tasks)
    assert len(cells) == len(file.environments) * len(file.agents)
    assert set(cells.values()) == {file.seeds}


@pytest.mark.long
@pytest.mark.parametrize("name", STUDIES)
def test_runs_with_tiny_budgets(name, tmp_path):
    file = dataclasses.replace(tiny(read_study_file(STUDIES[name])), seeds=1)
    tasks = tasks_of(file.study(), tmp_path, lambda line: None)
    for task in tasks:
        summary = learn(task.agent, **task.fields).summary
        assert summary is not None, task.name
        assert summary["eval_return_mean"] is not None


def test_make_runs_one_by_its_name():
    command = ["make", "-n", "-o", ".venv/.stamp", "study", "NAME=classic", "SEEDS=2", "WORKERS=3"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "scripts/compare.py --study scripts/studies/classic.yaml --out runs/studies/classic" in told
    assert "--seeds 2" in told
    assert "--workers 3" in told
    plain = subprocess.run(command[:-2], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--seeds" not in plain
    nameless = subprocess.run(command[:5], cwd=ROOT, capture_output=True, text=True, check=False)
    assert nameless.returncode != 0
    assert "NAME=classic" in nameless.stderr
