"""Checks before a run happen in a process of its own: whatever an environment does there is one typed line."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

import odd_models  # noqa: F401  registers odd/Leaking-v0
from faulty import Faulty
from rl_lab.environments import check_env, trial, workers
from rl_lab.environments.make import make_envs, vector_of
from rl_lab.environments.trial import tried
from rl_lab.runs.config import RunConfig
from rl_lab.training.registry import make_learner
from rl_lab.training.setup import problem_of
from rl_lab.types import EnvironmentFault, UsageError

PATIENCE = 60.0  # seconds, since a machine may be busy


@pytest.fixture(autouse=True)
def no_process_is_left():
    before = set(multiprocessing.active_children())
    yield
    assert set(multiprocessing.active_children()) <= before


def problem(
    fault="", at=60, first_episode=0, seconds=PATIENCE, env_id="lab-test/Faulty-v0", kwargs=None, **fields
):
    kwargs = {"fault": fault, "at": at, "first_episode": first_episode} if kwargs is None else kwargs
    config = RunConfig(
        env_id, num_envs=2, vector="async", env_kwargs=kwargs, env_timeout_seconds=seconds, **fields
    )
    return problem_of(config, make_learner("random"))


class HangsOpenly(Faulty):
    """Hangs after it has made a file that says so."""

    def __init__(self, hanging: str, fault: str, at: int = 60):
        self.hanging = hanging
        super().__init__(fault, at)

    def _break(self, fault):
        Path(self.hanging).touch()
        super()._break(fault)


gymnasium.register("lab-test/HangsOpenly-v0", HangsOpenly, disable_env_checker=True)


class TestEarlyFaults:
    @pytest.mark.parametrize(
        ("fault", "at", "where", "what"),
        [
            ("exit", 3, r"seed \d+, step 3", r"its process ended \(exit code 7\)"),
            ("kill", 0, r"seed \d+, reset", r"its process was killed by signal 9 \(exit code -9\)"),
            ("kill made", 0, "while it is made", r"its process was killed by signal 9 \(exit code -9\)"),
            ("exit made", 0, "while it is made", r"its process ended \(exit code 7\)"),
        ],
    )
    def test_are_told_in_one_line_at_once(self, fault, at, where, what):
        begun = time.monotonic()
        with pytest.raises(
            EnvironmentFault, match=rf"^environment number 0 \(worker process, {where}\): {what}$"
        ):
            problem(fault, at, seconds=3600.0).spec  # noqa: B018
        assert time.monotonic() - begun < PATIENCE

    @pytest.mark.parametrize(
        ("fault", "at", "where"),
        [
            ("hang", 3, r"seed \d+, step 3"),
            ("hang", 0, r"seed \d+, reset"),
            ("hang made", 0, "while it is made"),
        ],
    )
    def test_that_take_long_are_told_in_one_line_in_time(self, tmp_path, monkeypatch, fault, at, where):
        """By a clock that stands until the environment hangs, and goes on by 0.1 s whenever it is looked at."""
        clock, hanging = SimpleNamespace(now=0.0), tmp_path / "hanging"

        def monotonic():
            clock.now += 0.1 * hanging.exists()
            return clock.now

        monkeypatch.setattr(trial, "time", SimpleNamespace(monotonic=monotonic))
        kwargs = {"hanging": str(hanging), "fault": fault, "at": at}
        with pytest.raises(
            EnvironmentFault,
            match=rf"^environment number 0 \(worker process, {where}\): no answer within 0\.5 s$",
        ):
            problem(env_id="lab-test/HangsOpenly-v0", kwargs=kwargs, seconds=0.5).spec  # noqa: B018
        assert 0.5 < clock.now < 0.5 + 1

    def test_of_the_brief_check_too(self, monkeypatch):
        monkeypatch.setattr(check_env, "LONG_SECONDS", PATIENCE)  # it goes on for the whole of an episode
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
        there = problem(env_id=env_id, kwargs={})
        assert here.spec == there.spec
        assert here.warnings == there.warnings == []
        assert (here.model is None) == (there.model is None)


def test_a_wrong_model_is_found_there():
    found = problem(env_id="odd/Leaking-v0", kwargs={})
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
    one = problem(env_id="lab-test/Elsewhere-v0", kwargs={"log": str(tmp_path / "log")})
    assert (one.spec.num_envs, one.warnings) == (2, [])
    pids = set((tmp_path / "log").read_text().split())
    assert len(pids) == 2
    assert str(os.getpid()) not in pids
    envs = make_envs("lab-test/Elsewhere-v0", 1, {"log": str(tmp_path / "log")})
    assert type(envs.env.env).__name__ == "OwnGlobals"  # as was found out there
    envs.close()


class TestWork:
    def test_returns_what_it_returns(self):
        assert tried(lambda: os.getpid(), PATIENCE) != os.getpid()

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
            tried(work, PATIENCE)

    def test_may_take_longer_than_a_step(self, monkeypatch):
        """Each step takes less than the limit, all of them more, by a clock that goes on with the steps."""
        now, looked = multiprocessing.RawValue("d", 0.0), multiprocessing.Event()

        def monotonic():
            looked.set()
            return now.value

        def work():
            env = make_envs("lab-test/Faulty-v0", 1)
            env.reset(seed=[0])
            for _ in range(5):
                now.value += 0.25
                looked.clear()
                assert looked.wait(PATIENCE)
                env.step(np.zeros(1, np.int64))
            return "done"

        monkeypatch.setattr(trial, "time", SimpleNamespace(monotonic=monotonic))
        assert tried(work, 1.0) == "done"
        assert now.value > 1.0


def second_breaks(fault):
    """Make an environment; the second worker process breaks while it does."""
    second = multiprocessing.current_process().name.endswith("-1")
    return Faulty(f"{fault} made" if second else "")


class AfterTheFirst(threading.Timer):
    """Goes off when its time is over and the first environment is made."""

    def run(self):
        makers = self.function.__self__._makers
        until = time.monotonic() + PATIENCE
        while not makers[0].made.exists() and time.monotonic() < until:
            if self.finished.wait(0.01):
                return
        super().run()


class TestVectors:
    """The processes of a vector itself."""

    def test_do_not_wait_for_ever_for_an_environment_to_be_made(self, monkeypatch):
        monkeypatch.setattr(workers, "threading", SimpleNamespace(Timer=AfterTheFirst))
        begun = time.monotonic()
        with pytest.raises(
            EnvironmentFault,
            match=r"^environment number 1 \(worker process, while it is made\): no answer within 0\.5 s$",
        ):
            vector_of(partial(second_breaks, "hang"), 2, vector="async", env_timeout_seconds=0.5)
        assert time.monotonic() - begun < PATIENCE  # far from the hour that the environment sleeps

    @pytest.mark.parametrize(
        ("fault", "says"),
        [
            ("exit", r"its process ended \(exit code 7\)"),
            ("kill", r"its process was killed by signal 9 \(exit code -9\)"),
        ],
    )
    def test_do_not_wait_at_all_if_its_process_is_over(self, fault, says):
        begun = time.monotonic()
        with pytest.raises(
            EnvironmentFault, match=rf"^environment number 1 \(worker process, while it is made\): {says}$"
        ):
            vector_of(partial(second_breaks, fault), 2, vector="async", env_timeout_seconds=3600.0)
        assert time.monotonic() - begun < PATIENCE
