"""A study that uses the seeds that a preset was chosen on is told so."""

import pytest

from rl_lab.studies.tuning import tuning_warnings
from rl_lab.training.registry import agent_names, preset_fields, presets_of, seeds_chosen_on
from rl_lab.types import UsageError


def test_names_agent_preset_and_seeds():
    preset = "recommended:MountainCar-v0"
    (line,) = tuning_warnings([("dqn", preset), ("ppo", "zoo:CartPole-v1"), ("dqn", preset)], range(2, 6))
    assert line.startswith(f"preset {preset} of dqn was chosen on seeds 2, 3, which")
    assert "seeds from 4" in line


@pytest.mark.parametrize(
    ("preset", "seeds"),
    [("zoo:CartPole-v1", range(5)), ("recommended:MountainCar-v0", range(4, 9))],
)
def test_is_silent_where_none_is_used_again(preset, seeds):
    assert tuning_warnings([("dqn", preset)], seeds) == []


def test_seeds_are_no_field_of_the_preset():
    assert seeds_chosen_on("dqn", "recommended:CartPole-v1") == tuple(range(23))
    assert "chosen_on_seeds" not in preset_fields("dqn", "recommended:CartPole-v1")
    assert seeds_chosen_on("dqn", "no such preset") == ()


def test_each_preset_of_our_own_says_on_which_seeds_it_was_chosen():
    """But for Acrobot's, which are the zoo's values."""
    own = [(a, p) for a in agent_names() for p in presets_of(a) if p.startswith("recommended:")]
    assert [(a, p) for a, p in own if not seeds_chosen_on(a, p)] == [("dqn", "recommended:Acrobot-v1")]


@pytest.mark.parametrize("written", ["5", "[a]", "[-1]", "[true]"])
def test_what_is_no_list_of_seeds_is_refused(written, tmp_path, monkeypatch):
    package = tmp_path / "seedy"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "presets.yaml").write_text(f"mine: {{quick: {{chosen_on_seeds: {written}}}}}")
    monkeypatch.syspath_prepend(tmp_path)
    entry = type("Entry", (), {"module": "seedy.agent"})
    monkeypatch.setattr("rl_lab.training.registry.agent_entry", lambda name: entry)
    with pytest.raises(UsageError, match=r"chosen_on_seeds .*allowed: a list of seeds"):
        seeds_chosen_on("mine", "quick")
