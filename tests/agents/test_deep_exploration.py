"""Deep sea: several heads find what random actions can't, within a stated number of episodes."""

from __future__ import annotations

import importlib.util
import json
import sys
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
    assert heads["first_episode"] is not None
    assert heads["treasures"] > 20
    assert heads["regret"] < 0.01
    greedy = script.explored("epsilon-greedy", 20, 900, seed=0)
    assert (greedy["first_episode"], greedy["treasures"]) == (None, 0)
    assert greedy["regret"] > 0.5


def test_the_results_kept_are_those_of_the_script(script):
    """Made by `python scripts/deep_sea.py`: nine of ten seeds find the treasure by heads, and none by epsilon."""
    kept, options = json.loads(RESULTS.read_bytes()), script.Options()
    assert (kept["size"], kept["episodes"]) == (options.size, options.episodes) == (20, 2_000)
    fields = {kind: script.SHARED | own for kind, own in script.EXPLORING.items()}
    assert kept["fields"] == json.loads(json.dumps(fields))
    seeds = set(range(options.first_seed, options.first_seed + options.seeds))
    for kind, finders in {"heads": 9, "epsilon-greedy": 0}.items():
        runs = [run for run in kept["runs"] if run["kind"] == kind]
        assert {run["seed"] for run in runs} == seeds
        assert len(runs) == len(seeds) == 10
        assert sum(run["treasures"] > 0 for run in runs) == finders


def test_the_page_says_what_was_kept():
    kept = json.loads(RESULTS.read_bytes())
    page = " ".join(PAGE.read_text(encoding="utf8").split())
    heads = [run for run in kept["runs"] if run["kind"] == "heads"]
    greedy = [run for run in kept["runs"] if run["kind"] == "epsilon-greedy"]
    first = [run["first_episode"] for run in heads if run["first_episode"] is not None]
    assert f"On {len(first)} of {len(heads)} seeds on which nothing was chosen, ten heads" in page
    said = f"first found it in episode {min(first)} to {max(first)} of {kept['episodes']:,} and ended without regret"
    assert said in page
    assert {run["regret"] for run in heads if run["treasures"]} == {0.0}
    assert "epsilon-greedy actions with the same network never found it" in page
    assert {run["first_episode"] for run in greedy} == {None}
    assert min(run["regret"] for run in greedy) > 0.5
    assert f"with {kept['size']} rows" in page
