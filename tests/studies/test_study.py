"""Studies: runs in processes of their own, taken up again where they stopped, never averaged away."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from rl_lab.cli.compare import CompareOptions, study_of
from rl_lab.cli.parsing import parse
from rl_lab.runs import tracking
from rl_lab.studies import running, worker
from rl_lab.studies import study as study_module
from rl_lab.studies.results import load_study
from rl_lab.studies.running import StopFlag, Stopped, run_task
from rl_lab.studies.study import run_study, tasks_of
from rl_lab.training.launch import learn
from rl_lab.training.registry import config_of
from rl_lab.types import UsageError
from runs import QUICK, asking_to_stop
from studies_made import QUIET, small_study, summaries


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    lines = []
    assert run_study(small_study(), out, workers=2, tell=lines.append) == {}
    return out, lines


def test_every_agent_and_seed_is_run_once(finished):
    out, lines = finished
    found = sorted((s["agent"], s["seed"]) for s in summaries(out).values())
    assert found == [("q-learning", 0), ("q-learning", 1), ("random", 0), ("random", 1)]
    assert len(lines) == 4


def test_all_runs_of_an_environment_share_a_group(finished):
    out, _ = finished
    groups = {json.loads((f / "config.json").read_bytes())["group"] for f in summaries(out)}
    assert len(groups) == 1


def test_second_call_runs_only_what_is_missing(finished):
    out, _ = finished
    missing = out / "runs/FrozenLake-v1/random/seed_1"
    before = {folder: (folder / "summary.json").stat().st_mtime_ns for folder in summaries(out)}
    old = json.loads((missing / "summary.json").read_bytes())
    (missing / "summary.json").unlink()
    lines = []
    assert run_study(small_study(), out, tell=lines.append) == {}
    after = {folder: (folder / "summary.json").stat().st_mtime_ns for folder in summaries(out)}
    assert [folder for folder in after if after[folder] != before[folder]] == [missing]
    assert json.loads((missing / "summary.json").read_bytes())["eval_returns"] == old["eval_returns"]
    assert lines[0] == "3 of 4 runs are done already"


def test_agents_take_turns_seed_by_seed(tmp_path):
    order = [(t.fields["seed"], t.agent) for t in tasks_of(small_study(), tmp_path)]
    assert order == [(0, "q-learning"), (0, "random"), (1, "q-learning"), (1, "random")]


def test_a_study_builds_one_learner_for_each_agent_and_environment(built, tmp_path, monkeypatch):
    monkeypatch.setattr(study_module, "run_task", lambda task, stop, report: "not run")
    agents, env_ids = ("q-learning", "random", "dqn"), ("FrozenLake-v1", "CliffWalking-v1")
    failures = run_study(small_study(agents=agents, env_ids=env_ids, seeds=3), tmp_path)
    assert len(failures) == 18
    assert sorted(built) == sorted(agents * len(env_ids))


@pytest.mark.parametrize(
    ("agent", "resumes"),
    [("q-learning", True), pytest.param("sb3-a2c", False, marks=pytest.mark.long)],
)
def test_a_worker_goes_on_with_a_stopped_run_or_starts_it_again(built, tmp_path, agent, resumes):
    folder, fields = (
        tmp_path / "run",
        QUICK | {"env_id": "CliffWalking-v1", "total_steps": 200, "eval_max_steps": 50},
    )
    with asking_to_stop(100):
        assert learn(agent, run_dir=str(folder), **fields).summary is None
    built.clear()
    assert worker._work(agent, fields | {"run_dir": str(folder)}) == 0
    assert (folder / "summary.json").exists()
    assert built == [agent] * (1 if resumes else 2)


def test_own_fields_override_shared_ones_which_override_the_preset(tmp_path):
    given = small_study(
        env_ids=("CartPole-v1",),
        agents=("dqn", "sb3-dqn"),
        fields={"batch_size": 16} | QUIET,
        fields_of={"dqn": {"batch_size": 8}},
        preset="zoo:CartPole-v1",
    )
    assert given.fields_for("dqn")["batch_size"] == 8
    assert given.fields_for("sb3-dqn")["batch_size"] == 16
    assert given.fields_for("dqn")["learning_rate"] == given.fields_for("sb3-dqn")["learning_rate"] == 2.3e-3
    others = small_study(env_ids=("CartPole-v1",), agents=("dqn", "random"), preset="zoo:CartPole-v1")
    assert "learning_rate" not in others.fields_for("random")


def test_failure_leaves_its_cause_in_one_line(tmp_path):
    task = tasks_of(small_study(seeds=1, agents=("q-learning",)), tmp_path)[0]
    task.folder.mkdir(parents=True)
    (task.folder / "config.json").write_text("{")
    cause = run_task(task, StopFlag())
    assert cause is not None
    assert "\n" not in cause
    assert (task.folder / "error.txt").read_text() == cause


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"agents": ("q-learnin", "random")}, "q-learnin"),
        ({"env_ids": ("CartPole-v1",)}, "CartPole-v1"),
        ({"seeds": 0}, "0"),
        ({"fields": QUIET | {"epsilonn": 1}}, "epsilonn"),
        ({"fields_of": {"dqn": {}}}, "dqn"),
        ({"agents": ("random", "q-learning", "random")}, "agents must be distinct.* random, random"),
        ({"env_ids": ("FrozenLake-v1", "FrozenLake-v1")}, "env_ids must be distinct"),
        ({"env_ids": ("m:Env-v0", "m/Env-v0")}, "env_ids must be distinct"),
        ({"agents": ()}, "agents are missing"),
        ({"fields": QUIET | {"env_id": "Taxi-v4"}}, "env_id can't be given for the runs of a study"),
        ({"fields_of": {"random": {"seed": 3}}}, "seed can't be given for the runs of a study"),
        ({"fields": QUIET | {"run_dir": "x"}}, "run_dir can't be given for the runs of a study"),
        ({"preset": "zoo:CartPol-v1"}, "'q-learning' has no preset 'zoo:CartPol-v1'"),
    ],
)
def test_wrong_studies_are_refused_before_anything_runs(tmp_path, changes, named):
    with pytest.raises(UsageError, match=named):
        run_study(small_study(**changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "how"),
    [
        ({"seeds": 1}, "seeds 1 instead of 2"),
        ({"agents": ("random",)}, "agents lack q-learning, eval_gamma None instead of 0.99"),
        ({"env_ids": ("CliffWalking-v1",)}, "env_ids lack FrozenLake-v1"),
        (
            {"fields": QUIET | {"total_steps": 500, "wandb_notes": "no matter"}},
            "total_steps 500 instead of 600 for q-learning, total_steps 500 instead of 600 for random",
        ),
        (
            {"fields_of": {"q-learning": {"epsilon_final": 0.5}}},
            r"epsilon_final 0.5 instead of 0\.\d+ for q-learning",
        ),
        (
            {"agents": ("q-learning", "random", "value-iteration"), "fields": QUIET | {"eval_gamma": 0.5}},
            "eval_gamma 0.5 instead of None for q-learning, .* for random, eval_gamma 0.5 instead of 0.99",
        ),
    ],
)
def test_folder_of_another_study_is_refused(finished, changes, how):
    out, _ = finished
    held = (out / "study.json").read_bytes()
    with pytest.raises(
        UsageError,
        match=rf"already holds another study \({how}; allowed: .* more seeds, agents or environments",
    ):
        run_study(small_study(**changes), out)
    assert (out / "study.json").read_bytes() == held


def test_a_default_that_is_given_makes_no_other_study(finished):
    out, _ = finished
    gamma = config_of("q-learning").__dataclass_fields__["gamma"].default
    lines = []
    same = {"fields": QUIET | {"eval_cvar_level": None}, "fields_of": {"q-learning": {"gamma": gamma}}}
    assert run_study(small_study(**same), out, tell=lines.append) == {}
    assert lines == ["4 of 4 runs are done already"]
    assert run_study(small_study(), out, tell=lines.append) == {}  # nor does one that isn't given any more
    with pytest.raises(UsageError, match=f"gamma 0.5 instead of {gamma} for q-learning"):
        run_study(small_study(fields_of={"q-learning": {"gamma": 0.5}}), out)


def test_what_wandb_gets_makes_no_other_study(finished):
    out, _ = finished
    lines = []
    idle = {"wandb_tags": ["again"], "wandb_notes": "more", "stall_seconds": 5}
    assert run_study(small_study(fields=QUIET | idle), out, tell=lines.append) == {}
    assert lines == ["4 of 4 runs are done already"]


@pytest.mark.long
def test_a_study_is_extended_by_seeds_agents_and_environments(tmp_path):
    first = small_study(seeds=1, agents=("q-learning",))
    run_study(first, tmp_path)
    (before,) = summaries(tmp_path)
    weights = (before / "summary.json").read_bytes()
    lines = []
    whole = small_study(env_ids=("FrozenLake-v1", "CliffWalking-v1"))
    assert run_study(whole, tmp_path, workers=2, tell=lines.append) == {}
    assert lines[0] == "1 of 8 runs are done already"
    assert len(summaries(tmp_path)) == 8
    assert (before / "summary.json").read_bytes() == weights
    assert [len(runs) for runs in load_study(tmp_path).runs.values()] == [2, 2, 2, 2]


def test_an_agent_that_would_change_the_discount_of_the_evaluation_is_another_study(tmp_path):
    run_study(small_study(seeds=1, agents=("random",)), tmp_path)  # which has no discount of its own
    with pytest.raises(UsageError, match="already holds another study"):
        run_study(small_study(seeds=1), tmp_path)


# The discount of the evaluation ----------------------------------------------------------------------


def eval_gammas(given):
    return {t.agent: t.fields.get("eval_gamma") for t in tasks_of(given, Path("out"))}


def test_different_gammas_are_refused_since_regrets_would_not_compare():
    differing = {"agents": ("q-learning", "value-iteration"), "fields_of": {"q-learning": {"gamma": 0.9}}}
    with pytest.raises(UsageError, match=r"q-learning 0\.9, value-iteration 0\.99 .*eval_gamma="):
        tasks_of(small_study(**differing), Path("out"))
    given = small_study(**differing, fields=QUIET | {"eval_gamma": 0.95})
    assert eval_gammas(given) == {"q-learning": 0.95, "value-iteration": 0.95}


def test_all_agents_are_evaluated_with_the_gamma_of_those_that_have_one():
    given = small_study(fields_of={"q-learning": {"gamma": 0.9}})
    assert eval_gammas(given) == {"q-learning": 0.9, "random": 0.9}


def test_an_eval_gamma_of_one_agent_alone_is_refused():
    with pytest.raises(UsageError, match="eval_gamma"):
        tasks_of(
            small_study(agents=("q-learning", "dqn"), fields_of={"dqn": {"eval_gamma": 0.5}}), Path("out")
        )


# The folder and the command line ---------------------------------------------------------------------


def test_runs_lie_where_the_report_looks_for_them(tmp_path):
    given = small_study(env_ids=("rl_lab.envs:lab/GridWorld-v0",), agents=("random",), seeds=1)
    (task,) = tasks_of(given, tmp_path)
    described = {"env_ids": given.env_ids, "agents": given.agents, "seeds": 1, "total_steps": 1}
    (tmp_path / "study.json").write_text(json.dumps(described))
    (run,) = load_study(tmp_path).of_env("rl_lab.envs:lab/GridWorld-v0")
    assert task.folder == run.directory == tmp_path / "runs/rl_lab.envs_lab_GridWorld-v0/random/seed_0"


def test_config_of_a_run_gives_the_fields_of_all_agents(tmp_path):
    learn("q-learning", "FrozenLake-v1", run_dir=str(tmp_path / "run"), gamma=0.9, **QUIET)
    words = ["--env-id", "FrozenLake-v1", "--agents", "q-learning", "--seeds", "2"]
    words += ["--config", str(tmp_path / "run/config.json")]
    options = parse(CompareOptions, words, program="rl-lab compare", about="")
    tasks = tasks_of(study_of(options), tmp_path / "out")
    assert [t.fields["seed"] for t in tasks] == [0, 1]
    assert {(t.fields["gamma"], t.fields["eval_gamma"], t.fields["total_steps"]) for t in tasks} == {
        (0.9, 0.9, 600)
    }
    assert {t.fields["group"] for t in tasks} == {"out-FrozenLake-v1"}


def test_folders_in_the_current_directory_hide_no_installed_package(tmp_path, monkeypatch):
    for name in ("rl_lab", "numpy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not the installed one')")
    monkeypatch.chdir(tmp_path)
    assert run_study(small_study(seeds=1, agents=("random",)), tmp_path / "out") == {}
    mirror = [*tracking._command(tmp_path, "offline", 0), "--help"]
    assert subprocess.run(mirror, capture_output=True, check=False).returncode == 0


# Signals ---------------------------------------------------------------------------------------------


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


IGNORES = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1]).touch()
time.sleep(600)
"""


def test_a_worker_that_does_not_stop_is_killed_and_is_no_failure(tmp_path, monkeypatch):
    ready = tmp_path / "ready"
    monkeypatch.setattr(running, "STOP_SECONDS", 0.2)
    monkeypatch.setattr(running, "_command", lambda task, pipe: [sys.executable, "-c", IGNORES, str(ready)])
    task, stop = tasks_of(small_study(), tmp_path)[0], StopFlag()

    def ask():
        wait_for(ready.exists)
        stop.stop_requested = True

    threading.Thread(target=ask).start()
    with pytest.raises(Stopped):
        run_task(task, stop)
    assert not (task.folder / "error.txt").exists()


def test_an_interrupt_without_signals_stops_the_workers_and_starts_no_other(tmp_path):
    """Where the caller keeps its own handlers, a KeyboardInterrupt must not wait for the whole queue."""

    def interrupt(line):
        raise KeyboardInterrupt

    given = small_study(agents=("q-learning",), seeds=8)
    with pytest.raises(KeyboardInterrupt):
        run_study(given, tmp_path, tell=interrupt)
    assert len(list(tmp_path.glob("runs/*/*/*"))) < 8


def _text(path):
    return path.read_text() if path.exists() else ""


def test_a_run_that_was_asked_to_stop_from_outside_is_no_failure(tmp_path):
    given = small_study(
        agents=("q-learning",),
        seeds=1,
        fields=QUIET | {"total_steps": 1_000_000_000, "log_every_steps": 1000},
    )
    folder = tasks_of(given, tmp_path)[0].folder

    def ask():
        wait_for(lambda: "epsilon" in _text(folder / "metrics.jsonl"))
        for child in psutil.Process().children():
            with suppress(psutil.Error):  # one that other tests left behind, and that has ended
                if str(folder) in " ".join(child.cmdline()):
                    os.kill(child.pid, signal.SIGTERM)

    threading.Thread(target=ask).start()
    with pytest.raises(Stopped, match="1 of 1"):
        run_study(given, tmp_path)
    assert not (folder / "error.txt").exists()
    assert list(folder.glob("checkpoints/*.json"))
