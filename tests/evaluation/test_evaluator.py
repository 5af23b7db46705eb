"""What a run gets from evaluation: figures, or nothing where it was cut short; pictures and a film."""

from __future__ import annotations

import imageio.v3 as imageio
import pytest

from rl_lab.cli.groups import field_texts
from rl_lab.cli.watch import WatchOptions
from rl_lab.evaluation.evaluator import RunEvaluator
from rl_lab.evaluation.exact import FIGURES
from rl_lab.evaluation.watch import FILMED_STEPS, WATCHED_STEPS
from rl_lab.runs.config import RunConfig
from rl_lab.training.registry import make_learner
from rl_lab.training.setup import problem_of


def evaluator_of(folder, env_id="FrozenLake-v1", **fields):
    """An evaluator, and a policy that it can measure."""
    quick = {"eval_episodes": 3, "eval_envs": 2, "eval_gamma": 0.9, "preprocess": "none"}
    config, learner = RunConfig(env_id, **(quick | fields)), make_learner("random")
    problem = problem_of(config, learner)
    return RunEvaluator(config, problem, folder), learner.load(problem, {})


def test_figures_are_those_of_the_episodes_and_of_the_model(tmp_path):
    evaluator, policy = evaluator_of(tmp_path)
    found = evaluator.measure(policy, lambda: False)
    assert len(found["eval_returns"]) == 3
    assert found["eval_return_mean"] == sum(found["eval_returns"]) / 3
    assert found["optimal_return"] - found["regret"] < found["optimal_return"]
    assert evaluator.measure(policy, lambda: False)["eval_returns"] == found["eval_returns"]


def test_the_worst_episodes_have_a_figure_where_a_level_is_set(tmp_path):
    """Of five episodes, 40 % are the two worst."""
    evaluator, policy = evaluator_of(tmp_path, "CartPole-v1", eval_episodes=5, eval_cvar_level=0.4)
    found = evaluator.measure(policy, lambda: False)
    worst = sorted(found["eval_returns"])
    assert found["eval_return_cvar"] == sum(worst[:2]) / 2 < worst[-1]
    plain, policy = evaluator_of(tmp_path, "CartPole-v1", eval_episodes=5)
    assert "eval_return_cvar" not in plain.measure(policy, lambda: False)


def test_exact_figures_need_a_model(tmp_path):
    evaluator, policy = evaluator_of(tmp_path, "CartPole-v1")
    found = evaluator.measure(policy, lambda: False)
    assert [found[name] for name in FIGURES] == [None] * len(FIGURES)


def test_nothing_exact_comes_from_a_model_that_is_not_what_is_played(tmp_path):
    evaluator, policy = evaluator_of(tmp_path, "odd_models:odd/Leaking-v0")
    found = evaluator.measure(policy, lambda: False)
    assert [found[name] for name in FIGURES] == [None] * len(FIGURES)
    assert "reward -0.01; the model allows" in found["model_fault"]


def test_without_episodes_only_exact_figures_are_left(tmp_path):
    evaluator, policy = evaluator_of(tmp_path, eval_episodes=0)
    found = evaluator.measure(policy, lambda: True)
    assert (found["eval_returns"], found["eval_return_mean"]) == ([], None)
    assert found["regret"] > 0


@pytest.mark.parametrize("steps", [0, 3])
def test_one_that_is_cut_short_has_no_figures(tmp_path, steps):
    evaluator, policy = evaluator_of(tmp_path)
    answers = iter([False] * steps + [True])
    assert evaluator.measure(policy, lambda: next(answers)) is None


@pytest.mark.parametrize(
    ("fields", "files"),
    [
        ({"pictures": False, "video_episodes": 0}, set()),
        ({"pictures": False, "video_episodes": 1}, {"final.mp4"}),
        ({"pictures": True, "video_episodes": 0}, {"values.png", "regrets.png", "maps.npz"}),
    ],
)
def test_shows_what_the_config_asks_for(tmp_path, fields, files):
    evaluator, policy = evaluator_of(tmp_path, **fields)
    assert evaluator.show(policy) == []
    assert {path.name for path in tmp_path.rglob("*.*")} - {"value_errors.png"} == files


def test_says_why_there_is_no_film(tmp_path):
    (tmp_path / "videos").write_text("no folder")
    evaluator, policy = evaluator_of(tmp_path, pictures=False)
    (line,) = evaluator.show(policy)
    assert line.startswith("no video: ")
    assert "can't be written: Not a directory" in line


def test_says_why_there_are_no_pictures_and_films_all_the_same(tmp_path):
    (tmp_path / "pictures").write_text("no folder")
    evaluator, policy = evaluator_of(tmp_path)
    (line,) = evaluator.show(policy)
    assert line.startswith("no pictures: FileExistsError")
    assert (tmp_path / "videos" / "final.mp4").stat().st_size > 0


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, ["drawing pictures", "filming"]),
        ({"pictures": False}, ["filming"]),
        ({"video_episodes": 0}, ["drawing pictures"]),
        ({"pictures": False, "video_episodes": 0}, []),
    ],
)
def test_tells_what_it_begins(tmp_path, fields, told):
    evaluator, policy = evaluator_of(tmp_path, **fields)
    heard = []
    evaluator.show(policy, heard.append)
    assert heard == told


@pytest.mark.parametrize(("episodes", "which"), [(1, "the episode"), (2, "2 of 2 episodes")])
def test_a_film_ends_after_some_steps_of_an_episode_and_says_so(tmp_path, monkeypatch, episodes, which):
    monkeypatch.setattr("rl_lab.evaluation.watch.FILMED_STEPS", 5)
    evaluator, policy = evaluator_of(tmp_path, "CliffWalking-v1", pictures=False, video_episodes=episodes)
    assert evaluator.show(policy) == [
        f"final.mp4 ends after 5 steps of {which} (rl-lab watch shows up to 3000)"
    ]
    assert len(imageio.imread(tmp_path / "videos" / "final.mp4")) == 6 * episodes


def test_the_limits_are_those_that_the_help_states():
    assert f"the first {FILMED_STEPS} steps of each" in field_texts(RunConfig)["video_episodes"]
    assert f"each up to {WATCHED_STEPS} steps" in field_texts(WatchOptions)["episodes"]
