"""No accident around a run costs the run."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import rl_lab
from counting import Counting
from rl_lab.cli.parsing import main
from rl_lab.cli.train import train
from rl_lab.evaluation import evaluate as evaluation
from rl_lab.runs.description import read_description
from rl_lab.runs.fingerprint import fingerprint, rows_without_times
from rl_lab.runs.rows import read_rows
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.types import UsageError
from runs import QUICK, asking_to_stop, differences, learn

TRAIN = str(Path(__file__).resolve().parents[2] / "scripts" / "train.py")


class TestStoppingInsideAnEvaluation:
    FIELDS = {"total_steps": 600, "eval_every_steps": 200, "log_every_steps": 100, "eval_episodes": 3}  # noqa: RUF012

    @pytest.mark.parametrize("which", [0, 1, 2])
    def test_drops_it_and_plays_it_after_the_resume(self, tmp_path, monkeypatch, which):
        learn(tmp_path / "whole", "q-learning", "FrozenLake-v1", **self.FIELDS)
        with monkeypatch.context() as patch:
            self._stop_in_evaluation(patch, which)
            assert learn(tmp_path / "cut", "q-learning", "FrozenLake-v1", **self.FIELDS).summary is None
        assert rl_lab.resume(tmp_path / "cut").summary is not None
        assert differences(fingerprint(tmp_path / "whole"), fingerprint(tmp_path / "cut")) == set()
        assert rows_without_times(tmp_path / "whole") == rows_without_times(tmp_path / "cut")

    @staticmethod
    def _stop_in_evaluation(patch, which):
        """Let the stop come in the middle of the evaluation numbered `which`."""
        original, count = evaluation.evaluate, [0]

        def evaluate(policy, envs, *, should_stop, **arguments):
            steps = [0]

            def asked():
                steps[0] += 1
                if count[0] == which and steps[0] == 5:
                    should_stop.__self__.stop_requested = True
                return should_stop()

            try:
                return original(policy, envs, should_stop=asked, **arguments)
            finally:
                count[0] += 1

        patch.setattr("rl_lab.evaluation.evaluator.evaluate", evaluate)

    def test_signal_is_honoured_within_ten_seconds(self, tmp_path):
        """An evaluation of minutes: 2,000 episodes of 200 steps that no Q-learner ends early."""
        options = "--agent q-learning --env-id CliffWalking-v1 --total-steps 100000 --eval-every-steps 100"
        options += " --log-every-steps 100"
        more = "--eval-episodes 2000 --eval-max-steps 5000 --epsilon-initial 0 --video-episodes 0 --wandb disabled"
        command = [sys.executable, TRAIN, *options.split(), *more.split(), "--run-dir", str(tmp_path / "run")]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            try:
                deadline = time.monotonic() + 120
                while not read_rows(
                    tmp_path / "run"
                ):  # the first one comes right before the first evaluation
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                time.sleep(1.0)
                begun = time.monotonic()
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 75
                assert time.monotonic() - begun < 10
            finally:
                process.kill()  # unless it has ended
        assert Checkpoints(tmp_path / "run" / "checkpoints").manifests()


class Unpaintable(Counting):
    """An environment whose renderer fails in its own way."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(self, render_mode=None):
        super().__init__()
        self.render_mode = render_mode

    def render(self):
        raise RuntimeError("no graphics\nat all")


def test_renderer_that_fails_costs_no_result(tmp_path, monkeypatch):
    gymnasium.register("Unpaintable-v0", entry_point=Unpaintable, max_episode_steps=5)
    try:
        summary = learn(tmp_path, "random", "Unpaintable-v0", total_steps=20, video_episodes=1).summary
    finally:
        gymnasium.registry.pop("Unpaintable-v0")
    assert summary is not None
    assert json.loads((tmp_path / "summary.json").read_bytes()) == summary
    assert not (tmp_path / "videos" / "final.mp4").exists()


def test_sb3_that_was_stopped_does_not_promise_a_resume(tmp_path, capsys):
    options = "--agent sb3-dqn --env-id CartPole-v1 --total-steps 3000 --wandb disabled --video-episodes 0"
    with asking_to_stop(500), pytest.raises(SystemExit) as ended:
        main(train, [*options.split(), "--eval-episodes", "1", "--run-dir", str(tmp_path / "run")])
    assert ended.value.code == 1
    assert "can't resume" in capsys.readouterr().err


def test_cpu_acts_with_a_policy_that_was_trained_on_a_gpu(tmp_path):
    learn(tmp_path, "dqn", "CartPole-v1", total_steps=20, hidden=(4,))
    config = json.loads((tmp_path / "config.json").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config | {"device": "cuda"}))
    assert rl_lab.load_policy(tmp_path).act is not None


@pytest.mark.parametrize(
    "fields", [{"hidden": (-5,)}, {"hidden": 64}, {"hidden": ("a",)}, {"double": "false"}]
)
def test_wrong_kinds_of_fields_are_named_on_construction(fields, tmp_path):
    name = next(iter(fields))
    with pytest.raises(UsageError, match=name):
        learn(tmp_path / "run", "dqn", "CartPole-v1", **fields)
    assert not (tmp_path / "run").exists()


def test_sync_and_async_vectors_end_with_equal_hashes(tmp_path):
    for vector in ("sync", "async"):
        learn(tmp_path / vector, "q-learning", "Taxi-v4", total_steps=900, num_envs=3, vector=vector)
    assert differences(fingerprint(tmp_path / "sync"), fingerprint(tmp_path / "async")) == set()


@pytest.mark.long
def test_regret_of_q_learning_shrinks_with_steps_on_slippery_ice(tmp_path):
    fields = {"total_steps": 60_000, "eval_every_steps": 1_000}
    learn(tmp_path, "q-learning", "FrozenLake-v1", **(QUICK | fields))
    regrets = [row["regret"] for row in rows_without_times(tmp_path) if "regret" in row]
    thirds = [np.mean(part) for part in np.array_split(regrets, 3)]
    assert thirds[0] > 0.15
    assert thirds[0] > 2 * thirds[1] > 4 * thirds[2]
    assert thirds[2] < 0.05


def test_a_large_ring_is_saved_in_bounded_stretches(tmp_path, monkeypatch):
    from rl_lab.storage import segments
    from rl_lab.storage.state_trees import Ring

    monkeypatch.setattr(segments, "SEGMENT_BYTES", 64)
    array = np.arange(100.0).reshape(50, 2)  # 16 bytes a row
    writer = Checkpoints(tmp_path)
    writer.save(1, {"replay": {"x": Ring(array, 70)}})
    ring = Checkpoints(tmp_path).load()[1]["replay"]["x"]
    assert max(len(np.load(path)) for _, path in ring.segments) == 4
    found = np.zeros_like(array)
    ring.copy_into(found)
    assert np.array_equal(found, array)


def test_no_thread_is_left_behind_by_a_run(tmp_path):
    before = set(threading.enumerate())
    learn(tmp_path, "q-learning", "FrozenLake-v1", total_steps=200)
    assert set(threading.enumerate()) <= before
    assert read_description(tmp_path).agent == "q-learning"
    assert os.path.exists(tmp_path / "summary.json")


class TestWeightsThatAreNotFinite:
    def test_are_never_saved(self, tmp_path):
        """A step size of 1e38 takes them out of float32 at once, with a loss that was finite."""
        fields = {
            "learning_starts_env_steps": 10,
            "hidden": (4,),
            "checkpoint_every_steps": 4,
            "eval_every_steps": 80,
        }
        with pytest.raises(FloatingPointError, match=r"not finite|gradient"):
            learn(tmp_path, "dqn", "CartPole-v1", total_steps=80, learning_rate=1e38, **fields)
        assert not (tmp_path / "summary.json").exists()
        step, saved = Checkpoints(tmp_path / "checkpoints").load()
        assert step > 0
        assert all(np.isfinite(np.asarray(w)).all() for w in saved["weights"].values())
