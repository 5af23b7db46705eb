"""Saliency over films: drawn where and with what the policy is asked, refused where it would do nothing."""

from __future__ import annotations

import numpy as np
import pytest

from commands import call, require_refusal
from rl_lab.cli.watch import watch
from rl_lab.explanation.saliency import saliency_overlay
from rl_lab.types import UsageError
from rl_lab.watching.films import played
from rl_lab.watching.sources import Environment, watched
from runs import SMALL_DQN, learn


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run on images, by a policy with memory."""
    folder = tmp_path_factory.mktemp("salient") / "run"
    fields = SMALL_DQN | {"total_steps": 60, "memory": "lstm", "memory_size": 8, "encoder": "cnn"}
    learn(folder, "dqn", "lab/GridWorldPixels-v0", **fields)
    return folder


def first_moments(source, count=3, **fields):
    shown = played(source, episodes=1, **fields)
    return [next(shown) for _ in range(count)]


def test_each_frame_is_that_of_the_decision_with_its_carry(run_dir):
    source = watched(run_dir)
    plain, painted = first_moments(source), first_moments(source, saliency="gradient")
    assert [m.action for m in plain] == [m.action for m in painted]
    asked = []
    policy, space = source.policy, source.problem.spec.observation_space
    act = policy.act
    source.policy.act = lambda *given: asked.append(given) or act(*given)
    first_moments(source)
    carries = [given[1] for given in asked]
    assert np.abs(carries[2][0]).max() > 0
    for moment, before, (obs, state, is_first, mask) in zip(painted, plain, asked, strict=True):
        expected = saliency_overlay(
            policy, obs, state, is_first, before.frame, space=space, method="gradient", mask=mask
        )
        np.testing.assert_array_equal(moment.frame, expected)
        assert not np.array_equal(moment.frame, before.frame)


@pytest.mark.long
def test_the_command_writes_it(run_dir, tmp_path, capsys):
    words = (run_dir, "--saliency", "gradient", "--sheet", tmp_path / "a.png")
    code, _, err = call(capsys, watch, *words)
    assert (code, err) == (0, "")
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--saliency", "guess"], ["guess", "perturbation"]),
        (["--saliency", "gradient", "--training-episode", "last"], ["--saliency gradient", "replays"]),
        (["--saliency", "gradient", "--progress", "p.mp4"], ["--saliency gradient", "--progress p.mp4"]),
    ],
)
def test_what_it_cannot_show_is_refused(run_dir, tmp_path, monkeypatch, capsys, words, named):
    monkeypatch.chdir(tmp_path)
    require_refusal(call(capsys, watch, run_dir, *words), *named)


def test_without_images_no_film_is_begun():
    source = watched("random", environment=Environment("FrozenLake-v1", {}))
    with pytest.raises(UsageError, match="needs an image"):
        played(source, episodes=1, saliency="perturbation")  # without asking for the first moment


def test_without_images_it_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ("random", "--env-id", "FrozenLake-v1", "--saliency", "perturbation", "--gif", "a.gif")
    require_refusal(call(capsys, watch, *words), "needs an image")
    assert list(tmp_path.iterdir()) == []
