"""Deep sea: several heads find what random actions can't, within a stated number of episodes."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "agents" / "distributions.md"
RESULTS = ROOT / "scripts" / "results" / "deep_sea.json"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("deep_sea_script", ROOT / "scripts" / "deep_sea.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.long
def test_heads_solve_a_sea_of_20_within_900_episodes_and_epsilon_does_not(script):
    heads = script.explored("heads", 20, 900, seed=0)
    assert heads["first_episode"] <= 718  # the last of those on the page
    assert heads["treasures"] > 20
    assert heads["regret"] < 0.01
    greedy = script.explored("epsilon-greedy", 20, 900, seed=0)
    assert (greedy["first_episode"], greedy["treasures"]) == (None, 0)
    assert greedy["regret"] > 0.5


def test_the_results_kept_are_those_of_a_sea_of_20(script):
    """Made by `python scripts/deep_sea.py`: every seed finds the treasure by heads, and none by epsilon."""
    kept = json.loads(RESULTS.read_bytes())
    assert (kept["size"], kept["episodes"]) == (20, 900)
    fields = {kind: script.SHARED | own for kind, own in script.EXPLORING.items()}
    assert kept["fields"] == json.loads(json.dumps(fields))
    for run in kept["runs"]:
        assert (run["treasures"] > 0) == (run["kind"] == "heads")
    assert Counter(run["kind"] for run in kept["runs"]) == {"heads": 3, "epsilon-greedy": 3}
    assert {run["seed"] for run in kept["runs"]} == {0, 1, 2}


def test_the_page_says_what_was_kept():
    kept = json.loads(RESULTS.read_bytes())
    page = " ".join(PAGE.read_text(encoding="utf8").split())
    heads = [run for run in kept["runs"] if run["kind"] == "heads"]
    greedy = [run for run in kept["runs"] if run["kind"] == "epsilon-greedy"]
    first = [run["first_episode"] for run in heads]
    said = f"first found it in episode {min(first)} to {max(first)} of {kept['episodes']} and ended without regret"
    assert said in page
    assert {run["regret"] for run in heads} == {0.0}
    assert "epsilon-greedy actions with the same network never did" in page
    assert {run["first_episode"] for run in greedy} == {None}
    assert min(run["regret"] for run in greedy) > 0.5
    assert f"with {kept['size']} rows" in page
