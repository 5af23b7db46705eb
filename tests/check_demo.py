"""What `make demo` must have left behind; run after it: `pytest tests/check_demo.py`."""

import json
from pathlib import Path

import imageio.v3 as iio
import pytest

from browsers import PATIENCE, needs_browser, running_browser
from wandb_reader import read_offline_runs

OUT = Path(__file__).parent.parent / "runs" / "demo"
STUDIES = {"frozenlake": ("value-iteration", "q-learning"), "cartpole": ("dqn", "sb3-dqn")}


def summaries(study: str) -> list[dict]:
    return [json.loads(path.read_bytes()) for path in sorted((OUT / study).glob("runs/**/summary.json"))]


def test_every_run_of_both_studies_is_finished():
    found = {study: sorted({(s["agent"], s["seed"]) for s in summaries(study)}) for study in STUDIES}
    assert found == {
        study: sorted((a, s) for a in agents for s in (0, 1)) for study, agents in STUDIES.items()
    }


def test_exact_optimum_is_known_and_reached_on_frozen_lake():
    runs = summaries("frozenlake")
    assert all(abs(s["optimal_return"] - 0.542) < 5e-4 for s in runs)
    assert [s["regret"] for s in runs if s["agent"] == "value-iteration"] == [0.0, 0.0]
    assert all(s["regret"] < 0.05 for s in runs)


def test_both_sides_of_cartpole_did_the_same_work():
    runs = summaries("cartpole")
    assert {(s["env_steps"], s["gradient_steps"]) for s in runs} == {(50_176, 24_704)}
    assert max(s["eval_return_mean"] for s in runs) > 100


def test_best_agents_video_moves_and_is_not_black():
    frames = iio.imread(OUT / "best_agent.mp4")
    assert len(frames) >= 50
    assert frames.mean() > 20
    assert (frames != frames[0]).any(axis=(1, 2, 3)).sum() > len(frames) // 2


@pytest.mark.parametrize(("study", "agents"), STUDIES.items())
def test_wandb_holds_every_run_with_its_curve_and_group(study, agents):
    runs = read_offline_runs(OUT / study)
    (page,) = [run for run in runs if run.job_type == "comparison"]
    assert page.group == runs[0].group
    assert {"index.html", "tables/numbers.json"} <= set(page.artifacts["page"])
    runs.remove(page)
    assert sorted(run.job_type for run in runs) == sorted(agent for agent in agents for _ in (0, 1))
    assert len({run.group for run in runs}) == 1
    for run in runs:
        rows = [json.loads(line) for line in (run.folder.parent.parent / "metrics.jsonl").open()]
        wanted = [(r["env_steps"], r["eval_return_mean"]) for r in rows if "eval_return_mean" in r]
        assert run.curve("eval/return_mean") == wanted
        assert any(name.endswith(".mp4") for name in run.files)


@needs_browser
@pytest.mark.parametrize(("study", "agents"), STUDIES.items())
def test_page_shows_the_curves_of_all_agents_in_a_browser(study, agents):
    with running_browser() as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto((OUT / study / "index.html").absolute().as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        curves = page.locator('figure[data-kind="returns"] .scatterlayer path.js-line')
        assert curves.count() >= len(agents)
        assert curves.first.bounding_box()["width"] > 100
        for agent in agents:
            assert page.locator(f'.legend button[data-agent="{agent}"]').first.is_visible()
        assert page.locator("video").count() == len(agents)
        assert page.locator(".verdict p").first.is_visible()
