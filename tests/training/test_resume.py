"""A run that was stopped or killed goes on as if nothing had happened, to the bit and in a new process."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rl_lab
from rl_lab.evaluation.evaluate import evaluate
from rl_lab.runs.fingerprint import fingerprint, rows_without_times
from rl_lab.runs.rows import ACTIONS, EPISODES, METRICS, read_episodes
from rl_lab.seeding import Streams
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import CheckpointCorrupt
from rl_lab.training import running
from rl_lab.types import UsageError
from rl_lab.updates import compile_choice
from rl_lab.updates.compiling import has_compiler
from runs import QUICK, asking_to_stop, differences, learn

TESTS = str(Path(__file__).resolve().parents[1] / "support")

# What is trained, for how many vector steps, and where it is stopped ------------------------------------

MLP = {
    "learning_starts_env_steps": 40,
    "replay_capacity": 120,  # the ring goes round before the stop
    "batch_size": 8,
    "hidden": [16],
    "train_period_env_steps": 4,
    "target_period_env_steps": 50,
    "epsilon_fraction": 0.5,
    "log_every_steps": 50,
}
LSTM = MLP | {"memory": "lstm", "memory_size": 8, "sequence_length": 4, "epsilon_final": 0.3}
R2D2 = LSTM | {
    "prioritised": True, "n_steps": 3, "double": True, "dueling": True, "value_rescaling": True,
    "sequence_length": 6, "burn_in_steps": 2, "sequence_period_steps": 2,
}  # fmt: skip
EVERYTHING = MLP | {"double": True, "dueling": True, "n_steps": 3, "layer_norm": True, "average_decay": 0.99}
BURSTS = {"train_period_env_steps": 12, "gradient_steps_per_update": 3, "n_steps": 3, "average_decay": 0.99}
COMPILED = MLP | BURSTS | {"compile": "yes" if has_compiler() else "no"}  # a step is compiled as MLP's alone
DROPOUT = MLP | {"dropout": 0.2}  # draws from torch's global generator while it learns
CNN = MLP | {"target_period_env_steps": 30}
CASES: dict[str, tuple[str, str, int, int, dict[str, Any]]] = {
    "table-slippery": ("q-learning", "FrozenLake-v1", 500, 271, {"log_every_steps": 100}),
    "table-masked": ("q-learning", "Taxi-v4", 500, 271, {}),
    "mlp": ("dqn", "CartPole-v1", 300, 173, MLP),
    "prioritised": ("dqn", "CartPole-v1", 300, 173, EVERYTHING | {"prioritised": True}),
    "dropout": ("dqn", "CartPole-v1", 300, 173, DROPOUT),
    "compiled": ("dqn", "CartPole-v1", 300, 173, COMPILED),
    "lstm": ("dqn", "CartPole-v1", 200, 117, LSTM),
    "r2d2": ("dqn", "CartPole-v1", 200, 117, R2D2),
    "cnn": ("dqn", "lab/GridWorldPixels-v0", 70, 51, CNN | {"env_kwargs": {"map": "S.\n.G"}}),
    "baseline": ("random", "Taxi-v4", 300, 171, {}),
}
VARIANTS = [(name, n) for name in CASES for n in (1, 4)]
# Compiled for itself, with what changes the loss and the network: only the long test below runs it.
CASES["compiled-everything"] = ("dqn", "CartPole-v1", 300, 173, EVERYTHING | COMPILED)


def run_case(folder: Path, name: str, num_envs: int, *, stopped: bool = False, **fields: Any) -> Path:
    """Run a case to its end, or up to its stop."""
    agent, env_id, steps, stop, own = CASES[name]
    brief = {"eval_max_steps": 50, "seed": 3}  # greedily, a beginner wanders up to the limit
    given = {"total_steps": steps * num_envs, "num_envs": num_envs} | brief | own | fields
    learn(folder, agent, env_id, stop_at=stop * num_envs if stopped else None, **given)
    assert (folder / "summary.json").exists() != stopped
    return folder


def new_process(code: str, **environment: str) -> subprocess.Popen:
    """Start Python on `code`; a warning is an error there, but for notes on evaluations and episodes."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": TESTS} | environment
    notes = ("-W", "ignore:evaluation", "-W", "ignore:no training episode")
    return subprocess.Popen([sys.executable, "-W", "error::UserWarning", *notes, "-c", code], env=env)


def cut_short(code: Callable[[], Any]) -> list[str]:
    """Run and return the warnings."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        code()
    return [str(w.message) for w in said]


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """Uninterrupted runs, made when first asked for."""
    made: dict[tuple[str, int], Path] = {}

    def whole(name: str, num_envs: int) -> Path:
        if (name, num_envs) not in made:
            folder = tmp_path_factory.mktemp(f"{name}-{num_envs}") / "run"
            made[name, num_envs] = run_case(folder, name, num_envs)
        return made[name, num_envs]

    return whole


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """Every variant stopped in this process and resumed in another one."""
    base = tmp_path_factory.mktemp("resumed")
    folders = {v: run_case(base / f"{v[0]}-{v[1]}", *v, stopped=True) for v in VARIANTS}
    paths = [str(folder) for folder in folders.values()]
    assert new_process(f"import rl_lab\nfor path in {paths!r}:\n    rl_lab.resume(path)").wait(600) == 0
    return folders


class TestExactResume:
    @pytest.mark.parametrize(("name", "num_envs"), VARIANTS, ids=lambda v: str(v))
    def test_in_a_new_process_equals_the_uninterrupted_run(self, wholes, resumed, name, num_envs):
        whole, cut = fingerprint(wholes(name, num_envs)), fingerprint(resumed[name, num_envs])
        assert differences(whole, cut) == set()
        assert {
            "weights",
            "agent",
            "streams",
            "recorder",
            "meter",
            "cursor",
            EPISODES,
            ACTIONS,
            "metrics",
        } <= set(whole)
        assert len(read_episodes(resumed[name, num_envs])) > 0

    @pytest.mark.long
    def test_compiled_with_double_dueling_and_layer_norm_it_does_too(self, wholes, tmp_path):
        folder = run_case(tmp_path, "compiled-everything", 4, stopped=True)
        fields = json.loads((folder / "config.json").read_bytes())["fields"]
        assert all(fields[name] for name in ("double", "dueling", "layer_norm"))
        assert new_process(f"import rl_lab; rl_lab.resume({str(folder)!r})").wait(120) == 0
        whole = wholes("compiled-everything", 4)
        assert differences(fingerprint(whole), fingerprint(folder)) == set()
        assert {"weights", "agent", "metrics"} <= fingerprint(whole).keys()

    def test_stopping_again_and_again_changes_nothing(self, wholes, tmp_path):
        agent, env_id, steps, _, fields = CASES["mlp"]
        learn(tmp_path, agent, env_id, stop_at=7, total_steps=steps, seed=3, **fields)
        for stop in (8, 41, 49, 99, 250):  # at 49 no update comes before the next row
            with asking_to_stop(stop):
                assert rl_lab.resume(tmp_path).summary is None
        rl_lab.resume(tmp_path)
        assert differences(fingerprint(wholes("mlp", 1)), fingerprint(tmp_path)) == set()

    def test_a_compiled_run_is_not_resumed_without_a_compiler(self, tmp_path, monkeypatch):
        folder = run_case(tmp_path, "compiled", 1, stopped=True)
        described = json.loads((folder / "config.json").read_bytes())
        described["fields"]["compile"] = "yes"
        (folder / "config.json").write_text(json.dumps(described))
        monkeypatch.setattr(compile_choice, "has_compiler", lambda: False)
        with pytest.raises(UsageError, match=r"compile 'yes' needs a C.* \(allowed for a new run"):
            rl_lab.resume(folder)
        assert not (folder / "summary.json").exists()

    def test_a_finished_run_is_left_as_it_is(self, wholes):
        folder = wholes("mlp", 1)
        before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        result = rl_lab.resume(folder)
        assert result.summary == json.loads((folder / "summary.json").read_bytes())
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before

    def test_death_after_the_last_checkpoint_repeats_the_end_once(self, wholes, tmp_path, monkeypatch):
        """What follows the last save (evaluation, video, summary) is done again, not twice."""

        class Died(BaseException):
            pass

        def die(*args):
            raise Died

        with monkeypatch.context() as patch:
            patch.setattr("rl_lab.evaluation.evaluator.RunEvaluator._video", die)
            with pytest.raises(Died):
                run_case(tmp_path, "table-masked", 1)
        rl_lab.resume(tmp_path)
        assert differences(fingerprint(wholes("table-masked", 1)), fingerprint(tmp_path)) == set()

    def test_value_iteration_that_died_at_its_end_repeats_the_end_once(self, tmp_path, monkeypatch):
        def die(*args):
            raise KeyboardInterrupt

        learn(tmp_path / "whole", "value-iteration", "FrozenLake-v1")
        with monkeypatch.context() as patch:
            patch.setattr("rl_lab.evaluation.evaluator.RunEvaluator._video", die)
            with pytest.raises(KeyboardInterrupt):
                learn(tmp_path / "cut", "value-iteration", "FrozenLake-v1")
        rl_lab.resume(tmp_path / "cut")
        assert rows_without_times(tmp_path / "cut") == rows_without_times(tmp_path / "whole")


# Leaving something out of a checkpoint -----------------------------------------------------------------


def fresh_streams(members):
    members["streams"] = Streams(3).state_dict() | {"torch": members["streams"]["torch"]}
    members["streams"]["numpy"] = {n: Streams(3)[n].bit_generator.state for n in ("explore", "replay")}


def torchs_stream_at_the_start(members):
    """What the stream is when the agent is built, and stays if it isn't restored."""
    streams = Streams(3)
    with torch.random.fork_rng(devices=[]):
        streams.use_torch()
        fresh = streams.state_dict()["torch"]
    assert (members["streams"]["torch"] != fresh).any(), "nothing was left out"
    members["streams"]["torch"] = fresh


def fresh_record(members):
    numbers = members["recorder"]["numbers"]
    blank = {"env_steps": 0, "digests": [""] * len(numbers), "returns": [0.0] * len(numbers), "actions": {}}
    members["recorder"] = blank | {"numbers": numbers}


def set_to(member: str, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def leave_out(members: dict[str, Any]) -> None:
        was = members[member][key]
        members[member][key] = value(was) if callable(value) else value
        assert repr(members[member][key]) != repr(was), "nothing was left out"

    return leave_out


def zeros(tree):
    if isinstance(tree, dict):
        return {k: zeros(v) for k, v in tree.items()}
    return tuple(np.zeros_like(part) for part in tree) if isinstance(tree, tuple) else np.zeros_like(tree)


def level(sampler):
    sampler["leaves"] = np.sign(sampler["leaves"])
    assert sampler["leaves"].any()


OMISSIONS: dict[str, tuple[str, Callable[[dict[str, Any]], None]]] = {
    "random streams": ("mlp", fresh_streams),
    "torch's stream": ("dropout", torchs_stream_at_the_start),
    "target network": ("mlp", lambda m: m["agent"].pop("target")),
    "optimiser": ("mlp", set_to("agent", "optimiser", zeros)),
    "replay": ("mlp", set_to("agent", "replay", {})),
    "weights": ("mlp", lambda m: m.update(weights=zeros(m["weights"]))),
    "environment steps": ("mlp", set_to("agent", "env_steps", 0)),
    "gradient steps": ("mlp", set_to("agent", "gradient_steps", 0)),
    "open episode": ("mlp", fresh_record),
    "episode numbers": ("mlp", set_to("cursor", "episodes", lambda e: [0] * len(e))),
    "budget": ("mlp", set_to("cursor", "env_steps", 0)),
    "priorities of windows": ("r2d2", lambda m: level(m["agent"]["replay"]["sampler"])),
    "carry": ("lstm", set_to("cursor", "state", zeros)),
    "first flag": ("lstm", set_to("cursor", "is_first", lambda f: ~f)),
    "averages since the last row": ("mlp", lambda m: m.update(meter={})),
    "returns since the last row": ("mlp", set_to("run", "returns", [])),
    "count of episodes": ("table-slippery", set_to("run", "episodes", 0)),
    "lengths of files": ("table-slippery", set_to("run", "positions", lambda p: dict.fromkeys(p, 0))),
    "table": ("table-masked", lambda m: m.update(weights=zeros(m["weights"]))),
    "place in the periods": ("table-slippery", set_to("run", "at", 0)),
    "table's steps": ("table-slippery", set_to("agent", "env_steps", 0)),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Stopped runs, made when first asked for."""
    made: dict[str, Path] = {}

    def stop(name: str) -> Path:
        if name not in made:
            made[name] = run_case(tmp_path_factory.mktemp("stopped") / name, name, 1, stopped=True)
        return made[name]

    return stop


class TestNothingCanBeLeftOut:
    """The comparison is sharp: a checkpoint without any one part gives another run, or none."""

    @pytest.mark.parametrize("part", OMISSIONS)
    def test_each_part_counts(self, wholes, stopped, tmp_path, monkeypatch, part):
        name, leave_out = OMISSIONS[part]
        assert self._resumed_differs(wholes(name, 1), stopped(name), tmp_path, monkeypatch, leave_out)

    @pytest.mark.parametrize("name", ["mlp", "dropout", "lstm", "r2d2", "table-slippery"])
    def test_with_all_parts_nothing_differs(self, wholes, stopped, tmp_path, monkeypatch, name):
        assert not self._resumed_differs(
            wholes(name, 1), stopped(name), tmp_path, monkeypatch, lambda m: None
        )

    @staticmethod
    def _resumed_differs(whole, stopped, tmp_path, monkeypatch, leave_out) -> bool:
        folder = tmp_path / "run"
        shutil.copytree(stopped, folder)
        members = copy.deepcopy(Checkpoints(folder / "checkpoints").load()[1])
        leave_out(members)
        monkeypatch.setattr(running, "_restored", lambda *args: members)
        try:
            rl_lab.resume(folder)
        except Exception:
            return True
        return bool(differences(fingerprint(whole), fingerprint(folder)))


class TestFiles:
    def test_a_row_file_that_lost_its_end_is_said(self, tmp_path):
        """A file is never padded with zeros up to where the checkpoint says it was."""
        run_case(tmp_path, "table-masked", 1, stopped=True)
        (tmp_path / METRICS).write_bytes((tmp_path / METRICS).read_bytes()[:-1])
        with pytest.raises(CheckpointCorrupt, match=r"metrics\.jsonl has \d+ bytes"):
            rl_lab.resume(tmp_path)

    def test_rows_written_after_the_checkpoint_are_dropped(self, wholes, tmp_path):
        run_case(tmp_path, "table-masked", 1, stopped=True)
        for name in (METRICS, EPISODES, ACTIONS):
            with (tmp_path / name).open("ab") as file:
                file.write(b'{"env_steps": 99')
        rl_lab.resume(tmp_path)
        assert differences(fingerprint(wholes("table-masked", 1)), fingerprint(tmp_path)) == set()

    def test_a_corrupt_newest_checkpoint_costs_the_steps_since_the_one_before(self, wholes, tmp_path):
        run_case(tmp_path, "table-masked", 1, stopped=True)
        newest = Checkpoints(tmp_path / "checkpoints").manifests()[-1]
        newest.write_bytes(newest.read_bytes()[:-1])
        said = cut_short(lambda: rl_lab.resume(tmp_path))
        assert any("checkpoint passed over" in text for text in said)
        assert differences(fingerprint(wholes("table-masked", 1)), fingerprint(tmp_path)) == set()


class TestWhatMustNotMatter:
    @pytest.mark.parametrize(
        "fields",
        [
            {"eval_every_steps": 13},
            {"eval_envs": 1},
            {"eval_episodes": 0},
            {"log_every_steps": 7},
            {"checkpoint_every_steps": 11},
            {"video_episodes": 1},
            {"wandb": "offline"},
        ],
        ids=lambda fields: next(iter(fields)),
    )
    def test_watching_changes_nothing_that_is_learned(self, wholes, tmp_path, fields):
        run_case(tmp_path, "mlp", 1, **fields)
        watched = {"metrics", "summary", "meter", "run"}  # the last three hold what falls between two rows
        assert differences(fingerprint(wholes("mlp", 1)), fingerprint(tmp_path)) <= watched

    def test_a_policy_that_draws_from_torch_while_it_is_evaluated_changes_nothing(
        self, wholes, tmp_path, monkeypatch
    ):
        whole = fingerprint(wholes("mlp", 1))

        def drawing(*args, **kwargs):
            torch.rand(3)
            return evaluate(*args, **kwargs)

        monkeypatch.setattr("rl_lab.evaluation.evaluator.evaluate", drawing)
        run_case(tmp_path, "mlp", 1)
        assert differences(whole, fingerprint(tmp_path)) == set()

    @pytest.mark.long
    def test_neither_does_the_seed_of_pythons_hashes(self, tmp_path):
        agent, env_id, steps, _, fields = CASES["lstm"]
        running = []
        for seed in ("1", "2"):
            given = QUICK | fields | {"total_steps": steps, "run_dir": str(tmp_path / seed)}
            code = f"import rl_lab\nrl_lab.learn({agent!r}, {env_id!r}, **{given!r})"
            running.append(new_process(code, PYTHONHASHSEED=seed))
        assert [process.wait(120) for process in running] == [0, 0]
        assert differences(fingerprint(tmp_path / "1"), fingerprint(tmp_path / "2")) == set()
