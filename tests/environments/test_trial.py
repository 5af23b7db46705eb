"""Checks before a run happen in a process of its own: whatever an environment does there is one typed line."""

from __future__ import annotations

import multiprocessing
import os
import time
from functools import partial

import gymnasium
import numpy as np
import pytest

import odd_models  # noqa: F401  registers odd/Leaking-v0
from faulty import Faulty
from rl_lab.environments.make import make_envs, vector_of
from rl_lab.environments.trial import tried
from rl_lab.runs.config import RunConfig
from rl_lab.training.registry import make_learner
from rl_lab.training.setup import problem_of
from rl_lab.types import EnvironmentFault, UsageError


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    assert not multiprocessing.active_children()


def problem(
    fault="", at=60, first_episode=0, seconds=1.0, env_id="lab-test/Faulty-v0", kwargs=None, **fields
):
    kwargs = {"fault": fault, "at": at, "first_episode": first_episode} if kwargs is None else kwargs
    config = RunConfig(
        env_id, num_envs=2, vector="async", env_kwargs=kwargs, env_timeout_seconds=seconds, **fields
    )
    return problem_of(config, make_learner("random"))


class TestEarlyFaults:
    @pytest.mark.parametrize(
        ("fault", "at", "where", "what"),
        [
            ("exit", 3, r"seed \d+, step 3", r"its process ended \(exit code 7\)"),
            ("kill", 0, r"seed \d+, reset", r"its process was killed by signal 9 \(exit code -9\)"),
            ("kill made", 0, "while it is made", r"its process was killed by signal 9 \(exit code -9\)"),
            ("exit made", 0, "while it is made", r"its process ended \(exit code 7\)"),
            ("hang", 3, r"seed \d+, step 3", r"no answer within 0\.5 s"),
            ("hang", 0, r"seed \d+, reset", r"no answer within 0\.5 s"),
            ("hang made", 0, "while it is made", r"no answer within 0\.5 s"),
        ],
    )
    def test_are_told_in_one_line_in_time(self, fault, at, where, what):
        begun = time.monotonic()
        with pytest.raises(
            EnvironmentFault, match=rf"^environment number 0 \(worker process, {where}\): {what}$"
        ):
            problem(fault, at, seconds=0.5).spec  # noqa: B018
        assert time.monotonic() - begun < 0.5 + 1

    def test_of_the_brief_check_too(self):
        late = problem("exit", 60)
        assert late.spec.num_envs == 2  # thirty steps show nothing
        with pytest.raises(EnvironmentFault, match=r"step 60\): its process ended \(exit code 7\)"):
            late.warnings  # noqa: B018

    def test_that_are_errors_are_told_as_ever(self):
        with pytest.raises(UsageError, match=r"step 3\): step raised RuntimeError: the arm is stuck"):
            problem("raise", 3).warnings  # noqa: B018


def test_what_is_known_afterwards_is_what_a_look_in_this_process_tells():
    for env_id in ("FrozenLake-v1", "Taxi-v4", "CartPole-v1"):
        config = RunConfig(env_id, num_envs=2)
        here = problem_of(config, make_learner("random"))
        there = problem(env_id=env_id, kwargs={}, seconds=20.0)
        assert here.spec == there.spec
        assert here.warnings == there.warnings == []
        assert (here.model is None) == (there.model is None)


def test_a_wrong_model_is_found_there():
    found = problem(env_id="odd/Leaking-v0", kwargs={}, seconds=20.0)
    assert found.model is None
    assert "reward -0.01; the model allows" in found.model_fault


class Elsewhere(gymnasium.Env):
    """Says in which processes it was stepped."""

    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, log):
        self.log = log

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        with open(self.log, "a") as file:
            file.write(f"{os.getpid()}\n")
        return 0, float(np.random.random()), True, False, {}  # noqa: NPY002  so that draws are looked for


gymnasium.register("lab-test/Elsewhere-v0", Elsewhere)


def test_the_main_process_takes_no_step(tmp_path):
    one = problem(env_id="lab-test/Elsewhere-v0", kwargs={"log": str(tmp_path / "log")}, seconds=20.0)
    assert (one.spec.num_envs, one.warnings) == (2, [])
    pids = set((tmp_path / "log").read_text().split())
    assert len(pids) == 2
    assert str(os.getpid()) not in pids
    envs = make_envs("lab-test/Elsewhere-v0", 1, {"log": str(tmp_path / "log")})
    assert type(envs.env.env).__name__ == "OwnGlobals"  # as was found out there
    envs.close()


class TestWork:
    def test_returns_what_it_returns(self):
        assert tried(lambda: os.getpid(), 5.0) != os.getpid()

    @pytest.mark.parametrize(
        ("error", "kind", "says"),
        [
            (UsageError("no"), UsageError, "^no$"),
            (EnvironmentFault("no"), EnvironmentFault, "^no$"),
            (KeyError("no"), EnvironmentFault, r"^KeyError: 'no' \(test_trial\.py, line \d+\)$"),
            (KeyError(), EnvironmentFault, r"^KeyError \(test_trial\.py, line \d+\)$"),
            (SystemExit(3), EnvironmentFault, r"^SystemExit: 3 \(test_trial\.py, line \d+\)$"),
        ],
    )
    def test_raises_what_it_raises(self, error, kind, says):
        def work():
            raise error

        with pytest.raises(kind, match=says):
            tried(work, 5.0)

    def test_may_take_longer_than_a_step(self):
        """Each step takes less than the limit, all of them more."""

        def work():
            env = make_envs("lab-test/Faulty-v0", 1)
            env.reset(seed=[0])
            for _ in range(5):
                time.sleep(0.25)
                env.step(np.zeros(1, np.int64))
            return "done"

        assert tried(work, 1.0) == "done"


def second_breaks(fault):
    """Make an environment; the second worker process breaks while it does."""
    second = multiprocessing.current_process().name.endswith("-1")
    return Faulty(f"{fault} made" if second else "")


class TestVectors:
    """The processes of a vector itself."""

    @pytest.mark.parametrize(
        ("fault", "says"),
        [
            ("hang", r"no answer within 0\.5 s"),
            ("exit", r"its process ended \(exit code 7\)"),
            ("kill", r"its process was killed by signal 9 \(exit code -9\)"),
        ],
    )
    def test_do_not_wait_for_ever_for_an_environment_to_be_made(self, fault, says):
        begun = time.monotonic()
        with pytest.raises(
            EnvironmentFault, match=rf"^environment number 1 \(worker process, while it is made\): {says}$"
        ):
            vector_of(partial(second_breaks, fault), 2, vector="async", env_timeout_seconds=0.5)
        assert time.monotonic() - begun < 2.5
