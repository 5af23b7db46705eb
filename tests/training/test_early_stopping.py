"""Runs that evaluations end early: at the right one, complete, and the same after any stop or kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import rl_lab
from contracts import require_run_directory
from rl_lab.cli.parsing import main
from rl_lab.cli.train import train
from rl_lab.evaluation.evaluate import Interrupted
from rl_lab.evaluation.evaluator import RunEvaluator
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.runs.rows import read_rows
from rl_lab.runs.run import Run
from rl_lab.storage import formats
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.studies.report import write_report
from rl_lab.studies.study import Study, run_study
from runs import QUICK, asking_to_stop, differences, learn

LAKE = ("q-learning", "FrozenLake-v1")
FIELDS = {"total_steps": 1000, "eval_every_steps": 100, "log_every_steps": 50, "seed": 3}
HUMP = [1, 2, 5, 3, 4, 4, 9, 9, 9, 9]  # at 100, 200, ...; three without a new best after 600 steps


@pytest.fixture
def scripted(monkeypatch):
    """Let evaluations at 100, 200, ... steps have these mean returns; with `cut`, let a signal cut one short."""

    def script(returns, cut=None):
        asked = []

        def played(self, policy, should_stop):
            run = should_stop.__self__
            at = run._moments.at
            asked.append(at)
            if at == cut:
                run.stop_requested = True
                raise Interrupted
            value = float(returns[-(-at // 100) - 1])
            return {"eval_returns": [value], "eval_return_mean": value, "eval_return_iqm": value}

        monkeypatch.setattr(RunEvaluator, "_played", played)
        return asked

    return script


def evaluated(folder: Path) -> list[int]:
    """The steps of the evaluations' rows."""
    return [row["env_steps"] for row in read_rows(folder) if "eval_returns" in row]


class TestStops:
    @pytest.mark.parametrize(
        ("fields", "returns", "at", "why"),
        [
            ({"stop_at_return": 5}, HUMP, 300, "the evaluation return 5 has reached 5"),
            ({"stop_after_evals": 1}, HUMP, 400, "no evaluation return above 5 in 1 evaluations"),
            ({"stop_after_evals": 3}, HUMP, 600, "no evaluation return above 5 in 3 evaluations"),
            ({"stop_after_evals": 4}, HUMP, 1000, None),  # 9 at 700 comes in time; the last one ends no run early
            (
                {"stop_after_evals": 2, "stop_min_delta": 4},  # 1 is the best until there is more than 5
                HUMP, 300, "no evaluation return above 5 in 2 evaluations",
            ),
            ({"stop_after_evals": 3, "stop_at_return": 2}, HUMP, 200, "the evaluation return 2 has reached 2"),
            ({"stop_at_return": -3}, [-9, -4, -3.5, -2], 400, "the evaluation return -2 has reached -3"),
            ({"stop_at_return": 8}, [0] * 9 + [8], 1000, None),
        ],
    )  # fmt: skip
    def test_at_the_right_evaluation_and_says_why(self, tmp_path, scripted, fields, returns, at, why):
        asked = scripted(returns)
        summary = learn(tmp_path, *LAKE, **FIELDS, **fields).summary
        assert (summary["env_steps"], summary["total_steps"]) == (at, 1000)
        assert summary["stopped_early"] == why
        assert json.loads((tmp_path / "summary.json").read_bytes()) == summary
        assert evaluated(tmp_path) == asked == list(range(100, at + 1, 100))  # each once, the last included
        assert summary["eval_return_mean"] == returns[at // 100 - 1]
        assert Checkpoints(tmp_path / "checkpoints").load()[0] == at

    def test_with_what_the_same_run_had_learned_there(self, tmp_path, scripted):
        scripted(HUMP)
        learn(tmp_path / "early", *LAKE, stop_at_return=5, **FIELDS)
        learn(tmp_path / "cut", *LAKE, stop_at=300, **FIELDS)
        differing = differences(fingerprint(tmp_path / "early"), fingerprint(tmp_path / "cut"))
        assert differing == {"summary"}

    def test_not_stopping_equals_the_run_without_the_options_to_the_bit(self, tmp_path):
        learn(tmp_path / "asked", *LAKE, stop_at_return=2, stop_after_evals=9, **FIELDS)  # 1 is all there is
        learn(tmp_path / "not", *LAKE, **FIELDS)
        assert differences(fingerprint(tmp_path / "asked"), fingerprint(tmp_path / "not")) == set()
        summaries = [json.loads((tmp_path / n / "summary.json").read_bytes()) for n in ("asked", "not")]
        assert [s["stopped_early"] for s in summaries] == [None, None]

    @pytest.mark.parametrize("num_envs", [1, 4])
    @pytest.mark.parametrize(
        ("agent", "env_id", "fields"),
        [
            ("random", "CartPole-v1", {}),
            ("q-learning", "FrozenLake-v1", {}),
            ("dqn", "CartPole-v1", {"hidden": (4,), "learning_starts_env_steps": 8, "batch_size": 4}),
            ("ppo", "CartPole-v1", {"hidden": (4,)}),
            ("clone", "FrozenLake-v1", {"oracle": True, "hidden": (4,)}),
            ("sb3-dqn", "CartPole-v1", {"hidden": (4,), "learning_starts_env_steps": 8}),
            ("sb3-ppo", "CartPole-v1", {"hidden": (4,)}),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_every_learner_that_is_evaluated_on_its_way(self, tmp_path, agent, env_id, fields, num_envs):
        """SB3 and rollouts stop in the middle of what they collect."""
        given = {"total_steps": 200, "eval_every_steps": 50, "num_envs": num_envs, "device": "cpu"}
        summary = learn(tmp_path, agent, env_id, stop_at_return=-1e9, **given, **fields).summary
        assert summary["env_steps"] == {1: 50, 4: 52}[num_envs]
        assert summary["stopped_early"].endswith("has reached -1e+09")
        require_run_directory(tmp_path)
        assert rl_lab.load_policy(tmp_path).act is not None

    def test_and_films_the_policy_and_tells_it(self, tmp_path, capsys):
        words = "--total-steps 400 --stop-at-return -1 --eval-episodes 2 --wandb disabled --agent q-learning"
        command = [*words.split(), "--env-id", "FrozenLake-v1", "--run-dir", str(tmp_path)]
        assert ended(command) == 0
        out, err = capsys.readouterr()
        assert "stopped early at 40 steps: the evaluation return 0 has reached -1\n" in err
        assert "40 environment steps" in out
        assert ", stopped early\n" in out
        assert (tmp_path / "videos" / "final.mp4").exists()
        assert ended(["--resume", "--run-dir", str(tmp_path)]) == 0
        told = out.replace("\nrun directory", "; run directory")
        assert capsys.readouterr().out == f"finished already, nothing to resume: {told}"


def ended(command) -> int:
    with pytest.raises(SystemExit) as left:
        main(train, command)
    return left.value.code


# Stops and kills on the way ----------------------------------------------------------------------------


class Died(BaseException):
    """As a kill, it lets nothing be saved."""


def dying(patch, name, when):
    """Let runs die once a method of Run has returned and `when` holds."""
    original = getattr(Run, name)

    def method(self, *args, **kwargs):
        out = original(self, *args, **kwargs)
        if when(self, *args):
            raise Died
        return out

    patch.setattr(Run, name, method)


PATIENT = FIELDS | {"stop_after_evals": 3, "checkpoint_every_steps": 150, "keep_best": 0}


@pytest.fixture
def whole(tmp_path, scripted):
    scripted(HUMP)
    learn(tmp_path / "whole", *LAKE, **PATIENT)
    return tmp_path / "whole"


def require_same_end(whole: Path, cut: Path) -> None:
    summaries = [json.loads((folder / "summary.json").read_bytes()) for folder in (whole, cut)]
    assert [s["stopped_early"] for s in summaries] == ["no evaluation return above 5 in 3 evaluations"] * 2
    assert differences(fingerprint(whole), fingerprint(cut)) == set()
    assert evaluated(cut) == [100, 200, 300, 400, 500, 600]


class TestExactResume:
    @pytest.mark.parametrize("at", [120, 299, 340, 420, 449, 520, 595, 600])
    def test_after_a_death_that_repeats_evaluations(self, whole, tmp_path, at):
        """Checkpoints lie at 150, 300, 450, 600: from 420 on, say, the fourth evaluation is played again."""
        with pytest.MonkeyPatch.context() as patch:
            dying(patch, "due", lambda run, steps: steps >= at)
            with pytest.raises(Died):
                learn(tmp_path / "cut", *LAKE, **PATIENT)
        rl_lab.resume(tmp_path / "cut")
        require_same_end(whole, tmp_path / "cut")

    @pytest.mark.parametrize("at", [[7], [301, 302, 303], [399, 401, 500, 599], [400, 600]])
    def test_after_signals(self, whole, tmp_path, at):
        """One that comes with the evaluation that ends the run is late: the run is complete."""
        learn(tmp_path / "cut", *LAKE, stop_at=at[0], **PATIENT)
        for stop in at[1:]:
            with asking_to_stop(stop):
                assert (rl_lab.resume(tmp_path / "cut").summary is None) == (stop < 600)
        rl_lab.resume(tmp_path / "cut")
        require_same_end(whole, tmp_path / "cut")

    @pytest.mark.parametrize("which", [300, 400, 600])
    def test_after_signals_inside_an_evaluation_and_inside_its_repetition(
        self, whole, tmp_path, scripted, which
    ):
        scripted(HUMP, cut=which)
        assert learn(tmp_path / "cut", *LAKE, **PATIENT).summary is None
        before = Checkpoints(tmp_path / "cut" / "checkpoints").load()[0]
        assert rl_lab.resume(tmp_path / "cut").summary is None
        assert Checkpoints(tmp_path / "cut" / "checkpoints").load()[0] == before == which
        scripted(HUMP)
        rl_lab.resume(tmp_path / "cut")
        require_same_end(whole, tmp_path / "cut")

    @pytest.mark.parametrize("then", ["nothing", "a signal"])
    @pytest.mark.parametrize("after", ["save", "_summarise"])
    def test_after_a_death_at_its_end(self, whole, tmp_path, scripted, after, then):
        """The end is done again, without a step more, and stands once."""
        with pytest.MonkeyPatch.context() as patch:
            dying(patch, after, lambda run, steps, *rest: steps == 600)
            with pytest.raises(Died):
                learn(tmp_path / "cut", *LAKE, **PATIENT)
        assert Checkpoints(tmp_path / "cut" / "checkpoints").load()[0] == 600
        if then == "a signal":
            scripted(HUMP, cut=600)
            assert rl_lab.resume(tmp_path / "cut").summary is None
        scripted([*HUMP[:6], 100, 100, 100, 100])  # nobody asks for these
        rl_lab.resume(tmp_path / "cut")
        require_same_end(whole, tmp_path / "cut")

    def test_after_a_real_kill_with_real_evaluations(self, tmp_path):
        """No return exceeds another by 2, so that the first of four evaluations stays the best."""
        fields = PATIENT | {"stop_min_delta": 2.0}
        learn(tmp_path / "whole", *LAKE, **fields)
        given = QUICK | fields | {"run_dir": str(tmp_path / "cut")}
        code = (
            "import os, signal, rl_lab\nfrom rl_lab.runs.run import Run\noriginal = Run.due\n"
            "def due(self, steps):\n"
            "    if steps == 350:\n        os.kill(os.getpid(), signal.SIGKILL)\n"
            "    return original(self, steps)\n"
            f"Run.due = due\nrl_lab.learn(*{LAKE!r}, **{given!r})"
        )
        killed = subprocess.run([sys.executable, "-c", code], env=os.environ, timeout=120, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert evaluated(tmp_path / "cut") == [100, 200, 300]
        assert rl_lab.resume(tmp_path / "cut").summary["env_steps"] == 400
        assert differences(fingerprint(tmp_path / "whole"), fingerprint(tmp_path / "cut")) == set()

    def test_a_checkpoint_from_before_there_was_a_rule_goes_on(self, tmp_path, monkeypatch):
        """Format 1 had none at first."""
        learn(tmp_path / "whole", *LAKE, **FIELDS)
        state = Run._state
        with monkeypatch.context() as patch:
            patch.setattr(formats, "FORMAT", 1)
            patch.setattr(
                Run, "_state", lambda *a: {k: v for k, v in state(*a).items() if k != "early_stopping"}
            )
            learn(tmp_path / "cut", *LAKE, stop_at=350, **FIELDS)
        rl_lab.resume(tmp_path / "cut")
        assert differences(fingerprint(tmp_path / "whole"), fingerprint(tmp_path / "cut")) == set()


class TestOnceItIsDone:
    def test_a_resume_leaves_it_as_it_is(self, whole):
        before = {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}
        assert rl_lab.resume(whole).summary["env_steps"] == 600
        assert {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()} == before

    @pytest.mark.parametrize("words", [["--stop-after-evals", "9"], ["--stop-at-return", "7"]])
    def test_a_resume_with_another_rule_is_refused_as_for_any_run(self, whole, capsys, words):
        assert ended(["--resume", "--run-dir", str(whole), *words]) == 2
        assert "(allowed with --resume: the same)" in capsys.readouterr().err

    def test_a_comparison_counts_it_and_does_not_run_it_again(self, tmp_path):
        fields = {**QUICK, "total_steps": 400, "stop_at_return": -1.0}
        study = Study(("FrozenLake-v1",), ("q-learning", "random"), 1, fields)
        told = []
        assert run_study(study, tmp_path, tell=told.append) == {}
        assert all(line.endswith(", stopped early at 40 steps") for line in told)
        assert run_study(study, tmp_path, tell=told.append) == {}
        assert told[2:] == ["2 of 2 runs are done already"]
        assert write_report(tmp_path, files=False).read_text().count("1 of 1") >= 2
