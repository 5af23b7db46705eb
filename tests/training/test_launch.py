"""Starting a run: what was opened is closed again, however it ends."""

from __future__ import annotations

import pytest

from rl_lab.runs.config import RunConfig
from rl_lab.runs.progress import NullProgress
from rl_lab.training import launch
from rl_lab.training.learner import Learner
from rl_lab.training.registry import make_learner
from rl_lab.training.setup import problem_of, resolved
from runs import QUICK


class Shown(NullProgress):
    """Counts how often it is closed."""

    closed = 0

    def close(self):
        self.closed += 1


def test_the_progress_display_is_closed_if_the_run_cannot_begin(tmp_path, monkeypatch):
    shown = Shown()

    def refuses(*args, **kwargs):
        raise OSError("no run")

    monkeypatch.setattr(launch, "make_progress", lambda total_steps, at: shown)
    monkeypatch.setattr(launch, "Run", refuses)
    with pytest.raises(OSError, match="no run"):
        launch.learn("random", "FrozenLake-v1", progress=True, run_dir=tmp_path, **QUICK)
    assert shown.closed == 1


class TestResolved:
    def problem(self):
        return problem_of(RunConfig("FrozenLake-v1", device="cpu"), object())

    def test_leaves_the_learner_that_was_given_as_it_was(self):
        learner = make_learner("dqn")
        decided = resolved("dqn", learner, self.problem())
        assert (learner.config.compile, type(decided)) == ("auto", type(learner))
        assert decided.config.compile in ("yes", "no")

    def test_builds_a_learner_again_that_cannot_do_it_itself(self):
        class Plain:
            config = make_learner("dqn").config

        learner: Learner = Plain()
        assert resolved("dqn", learner, self.problem()).config.compile in ("yes", "no")
