"""The command that kills runs many times: the long form of `verify`."""

from __future__ import annotations

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

from rl_lab.checks import above, at_least
from rl_lab.cli.parsing import parse
from rl_lab.runs.description import CONFIG
from rl_lab.runs.directory import CHECKPOINTS, SUMMARY
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import CheckpointError, CheckpointMissing
from rl_lab.storage.files import write_json
from rl_lab.storage.places import require_file, require_folder
from rl_lab.training.launch import learn, resume

ABOUT = """Kill runs (SIGKILL) at many random moments and resume them: every checkpoint has to load, and the
result has to be that of an undisturbed run.

Runs are forked, so that most of their time goes into training and saving rather than into imports. Checkpoints
are frequent, so that many kills fall inside a save; those leave segments or temporary files that no manifest
names."""

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
        "device": "cpu",  # a fork can't use a GPU that its parent has used
        "checkpoint_every_steps": 50,
        "train_period_env_steps": 8,
        "hidden": (32, 32),
    },
}
QUIET: dict[str, Any] = {"wandb": "disabled", "video_episodes": 0, "eval_episodes": 0}


@dataclass(frozen=True)
class TortureOptions:
    """What the command takes."""

    out: str = "runs/torture"
    """Folder of the runs; its former content is removed."""
    kills: int = 200
    """Kills in total."""
    longest_seconds: float = 1.0
    """Longest life of a process before it is killed."""
    seed: int = 0
    """Seed of the moments of the kills."""
    json: str | None = None
    """File for the counts."""

    def __post_init__(self) -> None:
        at_least(self, len(RUNS), "kills")
        at_least(self, 0, "seed")
        above(self, 0.05, "longest_seconds")


def torture(argv: Sequence[str]) -> int:
    """Kill and resume runs; return 0 if nothing was lost, else 1.

    Raises:
        UsageError: a wrong option, or a place where nothing can be written.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options: TortureOptions = parse(TortureOptions, argv, program="rl-lab torture", about=ABOUT)
    require_folder(options.out, "out")
    if options.json is not None:
        require_file(options.json, "json")
    shutil.rmtree(options.out, ignore_errors=True)
    rng = random.Random(options.seed)
    results = {a: _torture(a, Path(options.out) / a, options.kills // len(RUNS), options, rng) for a in RUNS}
    print(json.dumps(results, indent=1))
    if options.json is not None:
        write_json(options.json, results)
    return 0 if all(not r["unloadable"] and r["equal"] for r in results.values()) else 1


def _torture(
    agent: str, out: Path, kills: int, options: TortureOptions, rng: random.Random
) -> dict[str, Any]:
    fields = RUNS[agent] | QUIET
    learn(agent, run_dir=str(out / "undisturbed"), **fields)
    folder = out / "killed"
    count = {"kills": 0, "inside_a_save": 0, "unloadable": 0}
    equal = True
    while count["kills"] < kills:
        if (folder / SUMMARY).exists():  # it finished before its kill: start over
            equal &= _is_equal(folder)
            shutil.rmtree(folder)
        if not _live_and_die(agent, folder, fields, rng.uniform(0.05, options.longest_seconds)):
            continue
        count["kills"] += 1
        count["inside_a_save"] += _left_a_save_unfinished(folder)
        count["unloadable"] += not _loads(folder)
        if sys.stderr.isatty():
            print(f"\r{agent}: {count}", end="", file=sys.stderr)
    _live(agent, folder, fields)
    return {**count, "equal": equal and _is_equal(folder)}


def _is_equal(folder: Path) -> bool:
    return fingerprint(folder) == fingerprint(folder.with_name("undisturbed"))


def _live_and_die(agent: str, folder: Path, fields: dict[str, Any], seconds: float) -> bool:
    """Run for a while in a fork, then kill it; return whether it was still running."""
    child = multiprocessing.get_context("fork").Process(target=_live, args=(agent, folder, fields))
    child.start()
    time.sleep(seconds)
    killed = child.is_alive()
    child.kill()
    child.join()
    return killed


def _live(agent: str, folder: Path, fields: dict[str, Any]) -> None:
    """Resume the run, or start it where a kill came before its first file."""
    if (folder / CONFIG).exists():
        resume(folder)
    else:
        learn(agent, run_dir=str(folder), **fields)


def _left_a_save_unfinished(folder: Path) -> bool:
    """Return whether the folder of checkpoints holds a file that no manifest names."""
    checkpoints = Checkpoints(folder / CHECKPOINTS)
    found = {path.name for path in (folder / CHECKPOINTS).rglob("*") if path.is_file()}
    return bool(found - checkpoints.files())


def _loads(folder: Path) -> bool:
    try:
        Checkpoints(folder / CHECKPOINTS).load()
    except CheckpointMissing:
        return True  # killed before its first
    except (CheckpointError, OSError, ValueError, KeyError) as error:
        print(f"unloadable: {error}", file=sys.stderr)
        return False
    return True
