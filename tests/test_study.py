"""Studies: runs in processes of their own, taken up again where they stopped, never averaged away."""

import json
import threading
import time

import psutil
import pytest

from rl_lab.report import write_report
from rl_lab.study import Study, run_study, run_task, tasks_of
from rl_lab.types import UsageError

QUIET = {"wandb": "disabled", "video_episodes": 0, "eval_episodes": 4, "total_steps": 600}


def study(**changes):
    return Study(
        **(
            {"env_ids": ("FrozenLake-v1",), "agents": ("q-learning", "random"), "seeds": 2, "fields": QUIET}
            | changes
        )
    )


def summaries(out):
    return {path.parent: json.loads(path.read_bytes()) for path in out.glob("runs/**/summary.json")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    lines = []
    assert run_study(study(), out, workers=2, tell=lines.append) == {}
    return out, lines


def test_every_agent_and_seed_is_run_once(finished):
    out, lines = finished
    found = sorted((s["agent"], s["seed"]) for s in summaries(out).values())
    assert found == [("q-learning", 0), ("q-learning", 1), ("random", 0), ("random", 1)]
    assert len(lines) == 4


def test_seeds_of_one_comparison_share_a_group(finished):
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
    assert run_study(study(), out, tell=lines.append) == {}
    after = {folder: (folder / "summary.json").stat().st_mtime_ns for folder in summaries(out)}
    assert [folder for folder in after if after[folder] != before[folder]] == [missing]
    assert json.loads((missing / "summary.json").read_bytes())["eval_returns"] == old["eval_returns"]
    assert lines[0] == "3 of 4 runs are done already"


def test_agents_take_turns_seed_by_seed(tmp_path):
    order = [(t.fields["seed"], t.agent) for t in tasks_of(study(), tmp_path)]
    assert order == [(0, "q-learning"), (0, "random"), (1, "q-learning"), (1, "random")]


def test_agents_own_fields_go_before_shared_ones_before_the_presets(tmp_path):
    given = study(
        env_ids=("CartPole-v1",),
        agents=("dqn", "sb3-dqn", "random"),
        fields={"batch_size": 16} | QUIET,
        fields_of={"dqn": {"batch_size": 8}},
        preset="zoo:CartPole-v1",
    )
    assert given.fields_for("dqn")["batch_size"] == 8
    assert given.fields_for("sb3-dqn")["batch_size"] == 16
    assert given.fields_for("dqn")["learning_rate"] == given.fields_for("sb3-dqn")["learning_rate"] == 2.3e-3
    assert "learning_rate" not in given.fields_for("random")


def test_killed_worker_is_named_and_a_rerun_gives_the_unkilled_result(tmp_path):
    slow = study(agents=("q-learning",), fields=QUIET | {"total_steps": 20_000, "eval_episodes": 0})
    failures = {}
    runner = threading.Thread(target=lambda: failures.update(run_study(slow, tmp_path / "killed", workers=2)))
    runner.start()
    _kill_when_training(tmp_path / "killed/runs/FrozenLake-v1/q-learning/seed_1")
    runner.join()
    assert list(failures) == ["FrozenLake-v1 q-learning seed 1"]
    assert "signal 9" in failures["FrozenLake-v1 q-learning seed 1"]
    assert len(summaries(tmp_path / "killed")) == 1
    page = write_report(tmp_path / "killed").read_text()
    assert "killed by signal 9" in page
    assert run_study(slow, tmp_path / "killed") == {}
    assert run_study(slow, tmp_path / "whole", workers=2) == {}
    hashes = [
        sorted(s["weights_sha256"] for s in summaries(tmp_path / n).values()) for n in ("killed", "whole")
    ]
    assert hashes[0] == hashes[1]


def _kill_when_training(folder):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (folder / "checkpoints").is_dir():
            for child in psutil.Process().children():
                if str(folder) in " ".join(child.cmdline()):
                    child.kill()
                    return
        time.sleep(0.005)
    raise AssertionError("the run never began")


def test_failure_leaves_its_cause_in_one_line(tmp_path):
    task = tasks_of(study(seeds=1, agents=("q-learning",)), tmp_path)[0]
    task.folder.mkdir(parents=True)
    (task.folder / "checkpoints").write_text("in the way of the folder")
    cause = run_task(task)
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
    ],
)
def test_wrong_studies_are_refused_before_anything_runs(tmp_path, changes, named):
    with pytest.raises(UsageError, match=named):
        run_study(study(**changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folder_of_another_study_is_refused(finished):
    out, _ = finished
    with pytest.raises(UsageError, match="already holds another study"):
        run_study(study(seeds=3), out)
