"""SIGKILL at random moments, many times: every checkpoint loads, and the end is that of an undisturbed run.

Runs are forked, so that most of their time goes into training and saving rather than into imports; the
checkpoint period is short, so that many kills fall inside a save. A kill fell inside a save if it left segments
or temporaries that no manifest names.
"""

import json
import multiprocessing
import os
import random
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_lab.cli.parsing import main, parse
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import CheckpointError, CheckpointMissing
from rl_lab.training.launch import learn, resume

RUNS: dict[str, dict[str, Any]] = {
    "q-learning": {
        "env_id": "Taxi-v4",
        "num_envs": 4,
        "total_steps": 400_000,
        "checkpoint_every_steps": 1_000,
    },
    "dqn": {
        "env_id": "CartPole-v1",
        "total_steps": 20_000,
        "checkpoint_every_steps": 50,
        "train_period_env_steps": 8,
        "hidden": (32, 32),
    },
}
QUIET: dict[str, Any] = {"wandb": "disabled", "video_episodes": 0, "eval_episodes": 0}


@dataclass(frozen=True)
class Options:
    """What torture.py takes."""

    out: str = "runs/torture"
    """Folder of the runs; what it held before is removed."""
    kills: int = 200
    """Kills of all runs together."""
    longest_seconds: float = 1.0
    """A process lives at most this long before it is killed."""
    seed: int = 0
    """Seed of the moments of the kills."""
    json: str | None = None
    """File for the counts."""


def torture(argv: Sequence[str]) -> int:
    """Kill and resume runs; 0 if nothing was lost."""
    options: Options = parse(Options, argv, description=__doc__)
    shutil.rmtree(options.out, ignore_errors=True)
    rng = random.Random(options.seed)
    results = {a: _torture(a, Path(options.out) / a, options.kills // len(RUNS), options, rng) for a in RUNS}
    print(json.dumps(results, indent=1))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))
    return 0 if all(not r["unloadable"] and r["equal"] for r in results.values()) else 1


def _torture(agent: str, out: Path, kills: int, options: Options, rng: random.Random) -> dict[str, Any]:
    fields = RUNS[agent] | QUIET
    learn(agent, run_dir=str(out / "undisturbed"), **fields)
    folder = out / "killed"
    count = {"kills": 0, "inside_a_save": 0, "unloadable": 0}
    equal = True
    while count["kills"] < kills:
        if (folder / "summary.json").exists():  # it came through: another life to be killed in
            equal &= _is_equal(folder)
            shutil.rmtree(folder)
        if not _live_and_die(agent, folder, fields, rng.uniform(0.05, options.longest_seconds)):
            continue
        count["kills"] += 1
        count["inside_a_save"] += _left_a_save_unfinished(folder)
        count["unloadable"] += not _loads(folder)
        if sys.stderr.isatty():
            print(f"\r{agent}: {count}", end="", file=sys.stderr)
    resume(folder)
    return {**count, "equal": equal and _is_equal(folder)}


def _is_equal(folder: Path) -> bool:
    return fingerprint(folder) == fingerprint(folder.with_name("undisturbed"))


def _live_and_die(agent: str, folder: Path, fields: dict[str, Any], seconds: float) -> bool:
    """Run for a while in a fork, then kill it; return whether it was still alive."""
    child = multiprocessing.get_context("fork").Process(target=_live, args=(agent, folder, fields))
    child.start()
    time.sleep(seconds)
    killed = child.is_alive()
    child.kill()
    child.join()
    return killed


def _live(agent: str, folder: Path, fields: dict[str, Any]) -> None:
    if (folder / "config.json").exists():
        resume(folder)
    else:
        learn(agent, run_dir=str(folder), **fields)


def _left_a_save_unfinished(folder: Path) -> bool:
    """Say whether there is something in the checkpoints' folder that no manifest names."""
    checkpoints = Checkpoints(folder / "checkpoints")
    found = {path.name for path in (folder / "checkpoints").rglob("*") if path.is_file()}
    return bool(found - checkpoints.files())


def _loads(folder: Path) -> bool:
    try:
        Checkpoints(folder / "checkpoints").load()
    except CheckpointMissing:
        return True  # killed before its first
    except (CheckpointError, OSError, ValueError, KeyError) as error:
        print(f"unloadable: {error}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(torture)
