"""The command that checks on this machine that a killed run loses nothing."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rl_lab.checks import at_least
from rl_lab.cli.parsing import parse
from rl_lab.runs.description import CONFIG
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.runs.rows import METRICS, read_rows
from rl_lab.storage.places import require_folder
from rl_lab.types import UsageError

ABOUT = """Kill runs at random moments, resume them in new processes, and compare them with undisturbed runs: SHA-256 of
weights, target, optimiser, replay, random streams, episodes.csv, actions and metrics.

By default q-learning and dqn are tried; with --env-id the random agent, which shows whether the episodes of an
environment replay exactly."""
# -P: modules in the current folder are never imported
TRAIN = [sys.executable, "-P", "-m", "rl_lab", "train"]
RUNS = (
    "--agent q-learning --env-id Taxi-v4 --num-envs 2 --total-steps 60000 --checkpoint-every-steps 5000",
    "--agent dqn --env-id CartPole-v1 --total-steps 6000 --checkpoint-every-steps 500 --batch-size 32",
)
QUIET = ["--wandb", "disabled", "--video-episodes", "0", "--eval-episodes", "4"]


@dataclass(frozen=True)
class VerifyOptions:
    """What the command takes."""

    out: str = "runs/verify"
    """Folder of the runs; its former content is removed."""
    kills: int = 3
    """Kills of each disturbed run."""
    seed: int | None = None
    """Seed of the moments of the kills; by default a new one each time."""
    env_id: tuple[str, ...] = ()
    """Environments to try with the random agent instead."""
    total_steps: int = 5_000
    """Environment steps in each of them."""

    def __post_init__(self) -> None:
        at_least(self, 1, "kills", "total_steps")
        at_least(self, 0, "seed")


def verify(argv: Sequence[str]) -> int:
    """Compare killed with undisturbed runs; return 0 if all hashes are equal, else 1.

    Raises:
        UsageError: a wrong option, a place where nothing can be written, or more kills than the runs have rows for.
        CalledProcessError: an undisturbed run failed, or the last resume did.
    """
    options: VerifyOptions = parse(VerifyOptions, argv, program="rl-lab verify", about=ABOUT)
    require_folder(options.out, "out")
    shutil.rmtree(options.out, ignore_errors=True)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"moments of the kills: seed {seed}")
    rng = random.Random(seed)
    steps = f"--total-steps {options.total_steps} --eval-max-steps 200"
    runs = [f"--agent random --env-id {env_id} {steps}" for env_id in options.env_id] or RUNS
    return max([_verify(run, Path(options.out) / str(i), options.kills, rng) for i, run in enumerate(runs)])


def _verify(run: str, out: Path, kills: int, rng: random.Random) -> int:
    """Compare one run with its killed twin; return 0 if they are equal, or if the run says where they differ."""
    command = [*TRAIN, *run.split(), *QUIET]
    subprocess.run([*command, "--run-dir", str(out / "undisturbed")], check=True, capture_output=True)
    killed_at = _disturbed(command, out / "killed", kills, rng)
    print(f"{run}\n  killed at {', '.join(map(str, killed_at))} environment steps, resumed each time")
    whole, killed = fingerprint(out / "undisturbed"), fingerprint(out / "killed")
    for name, sha in whole.items():
        equal = "equal" if killed.get(name) == sha else f"DIFFERS: {killed.get(name, 'missing')[:16]}"
        print(f"  {name:20} {sha[:16]}  {equal}")
    cut = [row["truncated_at_resume"] for row in read_rows(out / "killed") if "truncated_at_resume" in row]
    if cut:
        print(f"  episodes that did not replay exactly were closed, and the metrics say so: {len(cut)}")
    return 0 if whole == killed or cut else 1


def _disturbed(command: list[str], folder: Path, kills: int, rng: random.Random) -> list[int]:
    """Train with kills after random numbers of rows; return the environment steps at which they came.

    Raises:
        UsageError: the run has too few rows for so many kills.
    """
    full = _rows(folder.parent / "undisturbed")
    if kills > (most := max(0, len(full) - 4)):
        raise UsageError(f"kills {kills} are too many for a run of {len(full)} rows (allowed: up to {most})")
    targets = sorted(rng.sample(range(2, len(full) - 2), kills))
    start = [*command, "--run-dir", str(folder)]
    resume = [*TRAIN, "--resume", "--run-dir", str(folder)]
    killed_at = []
    for row in targets:
        with subprocess.Popen(
            resume if (folder / CONFIG).exists() else start,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            while len(_rows(folder)) < row and process.poll() is None:
                time.sleep(0.002)
            time.sleep(rng.random() * 0.02)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed_at.append(read_rows(folder)[-1]["env_steps"])  # the last line may be half a row
    subprocess.run(resume, check=True, capture_output=True)
    return killed_at


def _rows(folder: Path) -> list[bytes]:
    path = folder / METRICS
    return path.read_bytes().splitlines() if path.exists() else []
