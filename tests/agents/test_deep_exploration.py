"""Deep sea: several heads find what random actions can't, within a stated number of episodes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "scripts" / "results" / "deep_sea.json"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("deep_sea_script", ROOT / "scripts" / "deep_sea.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.long
def test_heads_solve_a_sea_of_12_within_900_episodes_and_epsilon_does_not(script):
    heads = script.explored("heads", 12, 900, seed=0)
    assert heads["treasures"] > 20
    assert heads["regret"] < 0.02
    assert script.explored("epsilon-greedy", 12, 300, seed=0)["treasures"] == 0


def test_the_results_kept_are_those_of_a_sea_of_20(script):
    """Made by `python scripts/deep_sea.py`: every seed finds the treasure by heads, and none by epsilon."""
    kept = json.loads(RESULTS.read_bytes())
    assert (kept["size"], kept["episodes"]) == (20, 900)
    fields = {kind: script.SHARED | own for kind, own in script.EXPLORING.items()}
    assert kept["fields"] == json.loads(json.dumps(fields))
    for run in kept["runs"]:
        assert (run["treasures"] > 0) == (run["kind"] == "heads")
    assert {run["seed"] for run in kept["runs"]} == {0, 1, 2}
