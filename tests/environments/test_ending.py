"""What environments raise when they are closed is said once and costs nothing; `sys.exit()` in them ends no program."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

from commands import QUICK as WORDS
from commands import call
from faulty import Faulty
from forms import OwnVector
from rl_lab.cli.solve import solve
from rl_lab.cli.train import train
from rl_lab.environments import ending as module
from rl_lab.environments.contract import Contract
from rl_lab.environments.ending import CloseRaised, ending
from rl_lab.environments.form_vector import FormVector
from rl_lab.environments.global_draws import draws_globally
from rl_lab.environments.make import make_env, vector_of
from rl_lab.types import EnvironmentFault, UsageError
from runs import learn
from telling import WIDTHS, play

FAULTY = "faulty:lab-test/Faulty-v0"
SAYS = r"^environment Faulty: close raised RuntimeError: the arm is stuck \(faulty\.py, line \d+\)$"


@pytest.fixture(autouse=True)
def unsaid(monkeypatch):
    monkeypatch.setattr(module, "_said", set())


class TestClosing:
    def test_is_said_once_in_a_line(self):
        with pytest.warns(CloseRaised, match=SAYS) as said:
            play(lambda: Faulty("raise closed", at=2), 3, "sync")
        assert len(said) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            play(lambda: Faulty("raise closed", at=2), 1, "sync")

    def test_closes_the_other_environments_all_the_same(self):
        closed = []

        class Breaks(Faulty):
            def close(self):
                closed.append(self)
                raise RuntimeError("no connection")

        with pytest.warns(CloseRaised):
            vector_of(Breaks, 3).close()
        assert len(closed) == 3

    def test_may_quit(self):
        with pytest.warns(CloseRaised, match="close raised SystemExit"):
            play(lambda: Faulty("quit closed", at=2), 1, "sync")

    def test_in_worker_processes_leaves_the_vector_as_it_is(self, capfd):
        play(lambda: Faulty("raise closed", at=2), 2, "async")
        assert "Traceback" not in capfd.readouterr().err

    def test_of_a_vectorised_form_too(self):
        class Breaks(OwnVector):
            def close(self, **kwargs):
                raise RuntimeError("no connection")

        with pytest.warns(CloseRaised, match=r"^environment E-v0: close raised RuntimeError: no connection"):
            FormVector(Breaks(2), "E-v0").close()

    def test_is_known_of_an_environment_that_is_held_to_its_contract(self):
        env = Contract(Faulty("raise closed", at=0))
        env.reset(seed=0)
        with pytest.warns(CloseRaised):
            env.close()
        assert "close raised RuntimeError" in env.close_fault

    def test_does_not_hide_what_ended_a_block(self):
        env = Faulty("raise closed", at=0)

        def fail():
            with ending(env):
                env.reset()
                raise ValueError("first")

        with pytest.warns(CloseRaised), pytest.raises(ValueError, match="first"):
            fail()


class TestRuns:
    def test_lose_nothing_and_say_it_once(self, capsys, tmp_path):
        words = ["--agent", "random", "--env-id", FAULTY, "--env-kwargs", "fault='raise closed'", "at=3"]
        more = ["--total-steps", 200, *WORDS, "--video-episodes", 1, "--run-dir", tmp_path / "run"]
        with pytest.warns(
            CloseRaised, match="^environment lab-test/Faulty-v0: close raised RuntimeError"
        ) as said:
            code, _, err = call(capsys, train, *words, *more)
        assert (code, len(said)) == (0, 1)
        assert (tmp_path / "run" / "videos" / "final.mp4").exists()
        assert "Traceback" not in err

    def test_that_are_tried_in_a_process_say_it_once_too(self, capfd, tmp_path):
        kwargs = {"fault": "raise closed", "at": 0}
        with pytest.warns(CloseRaised) as said:
            learn(tmp_path, "random", FAULTY, env_kwargs=kwargs, total_steps=200, num_envs=2, vector="async")
        assert len(said) == 1
        assert "close raised" not in capfd.readouterr().err

    def test_end_with_a_fault_where_an_environment_quits(self, capsys, tmp_path):
        words = [
            "--agent",
            "random",
            "--env-id",
            FAULTY,
            "--env-kwargs",
            "fault=quit",
            "at=60",
            "first_episode=2",
        ]
        more = ["--total-steps", 400, "--checkpoint-every-steps", 50, *WORDS, "--run-dir", tmp_path / "run"]
        code, _, err = call(capsys, train, *words, *more)
        assert code == 1
        assert "step 60): step raised SystemExit (faulty.py, line " in err.splitlines()[-2]
        assert err.splitlines()[-2].startswith("error: environment lab-test/Faulty-v0 (number 0, seed ")
        assert not (tmp_path / "run" / "summary.json").exists()


class TestQuitting:
    @WIDTHS
    @pytest.mark.parametrize(("at", "where"), [(0, "reset"), (2, "step")])
    def test_is_a_fault_of_a_reset_or_step(self, at, where, num_envs, vector):
        with pytest.raises(EnvironmentFault, match=rf"Faulty \(.*\): {where} raised SystemExit \(faulty\.py"):
            play(lambda: Faulty("quit", at=at), num_envs, vector)

    def test_is_a_fault_of_a_method_that_gives_masks(self):
        class Quits(Faulty):
            def action_masks(self):
                sys.exit("no masks")

        with pytest.raises(EnvironmentFault, match="action mask: action_masks raised SystemExit: no masks"):
            play(Quits, 1, "sync")

    def test_is_a_fault_of_a_vectorised_form(self):
        class Quits(OwnVector):
            def step(self, actions):
                sys.exit()

        envs = FormVector(Quits(2), "E-v0")
        envs.reset(seed=[0, 1])
        with pytest.raises(EnvironmentFault, match=r"the vector of E-v0 .*: step raised SystemExit"):
            envs.step(np.zeros(2, np.int64))

    def test_is_told_of_a_constructor(self):
        with pytest.raises(
            EnvironmentFault,
            match=rf"^environment '{FAULTY}', while it is made: SystemExit \(faulty\.py, line \d+\)$",
        ):
            make_env(FAULTY, {"fault": "quit made"})

    def test_is_told_of_a_module(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "quitting_envs.py").write_text("import sys\nsys.exit(3)\n")
        with pytest.raises(UsageError, match=r"module 'quitting_envs' can't be imported: SystemExit: 3$"):
            make_env("quitting_envs:Own-v0")

    def test_hides_no_draws_from_global_generators(self):
        class Draws(Faulty):
            def reset(self, **kwargs):
                np.random.random()  # noqa: NPY002
                return super().reset(**kwargs)

        assert draws_globally(Draws("quit", at=0))
        assert not draws_globally(Faulty("quit", at=3))

    def test_before_a_run_is_a_wrong_environment(self, tmp_path):
        with pytest.raises(UsageError, match=r"step 3\): step raised SystemExit"):
            learn(tmp_path / "run", "random", FAULTY, env_kwargs={"fault": "quit", "at": 3}, total_steps=100)
        assert not (tmp_path / "run").exists()

    def test_while_a_model_is_compared_with_play_is_a_fault(self, capsys, monkeypatch):
        from gymnasium.envs.toy_text import FrozenLakeEnv

        monkeypatch.setattr(FrozenLakeEnv, "step", lambda self, action: sys.exit())
        code, _, err = call(capsys, solve, "--env-id", "FrozenLake-v1")
        assert code == 1
        assert err.startswith("error: environment FrozenLake-v1 (number 0, seed ")
        assert "step raised SystemExit" in err
