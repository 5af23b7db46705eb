"""Nothing is lost: kills, chains of stops, full disks."""

import json
import multiprocessing
import random
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch._dynamo  # noqa: F401  an optimiser loads it

import rl_lab
import rl_lab.agents.dqn
import rl_lab.agents.tabular
from disks import FULL, PAGE
from eager import write_ahead_early
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.storage.checkpoint import Checkpoints, read_manifest
from rl_lab.storage.errors import CheckpointError, CheckpointMissing, NotWritten
from runs import QUICK, differences, learn
from stretches import CASES, Player, start_until, steps_of

FORK = multiprocessing.get_context("fork")  # without the seconds that imports take


@pytest.fixture(scope="module")
def players():
    """Three new processes, which share nothing with this one: their imports take two seconds each."""
    started = [Player() for _ in range(3)]
    yield started
    for player in started:
        player.close()


@pytest.mark.long
@pytest.mark.parametrize("num_envs", [1, 4])
@pytest.mark.parametrize("name", CASES)
def test_twenty_stops_at_random_steps_change_no_hash(players, name, num_envs, tmp_path):
    """Two processes take turns: what a stretch doesn't save, the next one can't know, and the end would show it."""
    rng = random.Random(f"{name}{num_envs}")
    stops = [n * num_envs for n in sorted(rng.sample(range(1, steps_of(name, num_envs) // num_envs), 20))]
    whole, cut = str(tmp_path / "whole"), str(tmp_path / "cut")
    undisturbed, *turns = players
    undisturbed.play("start_until", whole, name, num_envs, None)
    turns[0].play("start_until", cut, name, num_envs, stops[0])
    for k, stop in enumerate([*stops[1:], None], 1):
        turns[k % 2].play("resume_until", cut, stop)
    assert differences(fingerprint(tmp_path / "whole"), fingerprint(tmp_path / "cut")) == set()


def live(folder, name):
    if (folder / "config.json").exists():
        rl_lab.resume(folder)
    else:
        start_until(folder, name, 1, None)


@pytest.mark.long
@pytest.mark.parametrize("name", ["q-learning", "mlp"])
def test_ten_sigkills_at_random_moments_lose_nothing(players, name, tmp_path, monkeypatch):
    """Those that are killed are forks, in which a run begins at once; new processes play the rest.

    They write their replays ahead, so that kills fall into that, too; the undisturbed run doesn't.
    """
    rng, folder = random.Random(name), tmp_path / "killed"
    write_ahead_early(monkeypatch)
    players[0].play("start_until", str(tmp_path / "whole"), name, 1, None)
    began = time.perf_counter()
    child = FORK.Process(target=live, args=(tmp_path / "lived", name))
    child.start()
    child.join()
    assert child.exitcode == 0
    life = time.perf_counter() - began
    kills = tries = 0
    while kills < 10:
        tries += 1
        child = FORK.Process(target=live, args=(folder, name))
        child.start()
        # most of a process's first moments are set-up; the range lets it come forward a little each time
        time.sleep(rng.uniform(0.15, 1.0) * life)
        kills += child.is_alive()
        child.kill()
        child.join()
        try:
            Checkpoints(folder / "checkpoints").load()
        except CheckpointMissing:
            pass
        except CheckpointError as error:
            pytest.fail(f"unloadable after kill {kills}: {error}")
        if (folder / "summary.json").exists():
            shutil.rmtree(folder)  # it came through: another life to be killed in
        assert tries < 100
    resumes = (folder / "config.json").exists()
    players[1].play(
        *(("resume_until", str(folder), None) if resumes else ("start_until", str(folder), name, 1, None))
    )
    assert differences(fingerprint(tmp_path / "whole"), fingerprint(folder)) == set()


class TestFullDisk:
    @pytest.mark.parametrize("pages", range(8))
    def test_previous_checkpoint_loads_and_the_error_is_typed(self, pages, small_disk):
        folder = small_disk.folder / "checkpoints"
        writer = Checkpoints(folder)
        members = {"weights": {"w": np.arange(1000.0)}, "agent": {"a": [1], "t": np.ones(3)}, "run": {"b": 1}}
        writer.save(1, members)
        small_disk.fill(leave=pages * PAGE)
        changed = {
            "weights": {"w": np.arange(1000.0) + 1},
            "agent": {"a": [2], "t": np.zeros(3)},
            "run": {"b": 2},
        }
        message = None
        try:
            writer.save(2, changed)
        except NotWritten as error:
            message = str(error)
        if message is not None:
            assert re.search(FULL, message)
            assert "\n" not in message
            assert Checkpoints(folder).load()[0] == 1
            assert not list(folder.rglob("*.tmp"))
            assert pages < 7
        else:
            assert Checkpoints(folder).load()[0] == 2
            assert pages >= 3  # the weights alone take two, and other segments one each

    def test_run_on_a_full_disk_fails_typed_and_resumes_exactly_with_room(self, tmp_path, small_disk):
        start_until(tmp_path / "whole", "mlp", 1, None)
        run = small_disk.folder / "run"
        start_until(run, "mlp", 1, 120)
        small_disk.fill(leave=PAGE if small_disk.mounted else 2 * (run / "metrics.jsonl").stat().st_size)
        with pytest.raises(NotWritten, match=FULL):
            rl_lab.resume(run)
        assert not (run / "summary.json").exists()
        small_disk.free()
        rl_lab.resume(run)
        assert differences(fingerprint(tmp_path / "whole"), fingerprint(run)) == set()

    def test_real_limit_on_file_sizes_is_said_in_one_line(self, tmp_path):
        """The kernel refuses, not a stub: no file of this process may grow beyond 20 kB."""
        code = (
            "import resource, sys\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
            "from rl_lab.cli.parsing import main\n"
            "from rl_lab.cli.train import train\n"
            "main(train, sys.argv[1:])\n"
        )
        options = (
            "--agent q-learning --env-id Taxi-v4 --total-steps 300000 --eval-episodes 0 --video-episodes 0"
        )
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                code,
                *options.split(),
                "--wandb",
                "disabled",
                "--run-dir",
                str(tmp_path / "r"),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 1
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert "could not be written: File too large" in errors[0]
        assert "Traceback" not in done.stderr


class TestBest:
    def scores(self, folder):
        return [read_manifest(p)["info"]["score"] for p in Checkpoints(folder).manifests()]

    def test_best_checkpoint_outlives_newer_ones(self, tmp_path):
        writer = Checkpoints(tmp_path, keep_last=2, keep_best=1)
        for step, score in enumerate([1.0, 5.0, None, 2.0, 3.0]):
            writer.save(step, {"weights": {"w": np.full(3, step)}}, {"score": score})
        assert self.scores(tmp_path) == [5.0, 2.0, 3.0]
        assert Checkpoints(tmp_path).load(best=True)[0] == 1
        assert Checkpoints(tmp_path).load()[0] == 4

    def test_run_keeps_the_checkpoint_of_its_best_evaluation(self, tmp_path):
        fields = {"total_steps": 3000, "eval_every_steps": 300, "checkpoint_every_steps": 1000}
        learn(tmp_path, "q-learning", "FrozenLake-v1", **(QUICK | {"eval_episodes": 40} | fields))
        rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
        found = [row["eval_return_mean"] for row in rows if "eval_return_mean" in row]
        assert max(filter(None, self.scores(tmp_path / "checkpoints"))) == max(found)
        assert rl_lab.load_policy(tmp_path, best=True).act is not None
