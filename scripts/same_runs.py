"""Tell whether two checkouts train identically, to the bit.

It runs small training runs of every kind of learner by a checkout's scripts and keeps hashes of what they wrote:
weights, episodes, actions, metrics and final figures, without anything measured by a clock.

    python scripts/same_runs.py --checkout ../one --python ../one/.venv/bin/python --out one.json
    python scripts/same_runs.py --checkout . --out two.json --against one.json

The second call names the runs that differ and the kinds of results in which they differ, and exits with 1 if there
are any. Hashes can be compared only on the same machine with the same packages. A call takes about two minutes, the
first one on a machine half a minute more: compiled code is kept where torch keeps its own.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rl_lab.storage.files import write_json


@dataclass(frozen=True)
class Run:
    """A training run: its name, the arguments of train.py, and commands to run before it."""

    name: str
    arguments: str
    before: tuple[str, ...] = ()


EARLY = "--learning-starts-env-steps 200"
SMALL_MEMORY = "--memory-size 16 --hidden 16 --sequence-length 8 --batch-size 16"
SMALL_IMAGES = "--env-id lab/GridWorldPixels-v0 --encoder small --hidden 32 --batch-size 16"
RUNS = (
    Run("random", "--agent random --env-id CartPole-v1 --num-envs 2 --total-steps 3000"),
    Run("q-learning", "--agent q-learning --env-id Taxi-v4 --num-envs 2 --total-steps 20000"),
    Run("value-iteration", "--agent value-iteration --env-id FrozenLake-v1"),
    Run("policy-iteration", "--agent policy-iteration --env-id lab/GridWorld-v0 --env-kwargs slip=0.1"),
    Run("dqn", f"--agent dqn --env-id CartPole-v1 --compile no --total-steps 2500 {EARLY}"),
    Run(
        "dqn-compiled",
        f"--agent dqn --env-id CartPole-v1 --compile yes --total-steps 2500 {EARLY} --double"
        " --train-period-env-steps 16 --gradient-steps-per-update 4 --average-decay 0.99",
    ),
    Run(
        "dqn-prioritised",
        f"--agent dqn --env-id CartPole-v1 --num-envs 2 --compile no --total-steps 2500 {EARLY}"
        " --prioritised --n-steps 3 --double --dueling --layer-norm --learning-rate-final 1e-4",
    ),
    Run(
        "dqn-lstm",
        "--agent dqn --env-id lab/TMaze-v0 --env-kwargs length=4 --num-envs 2 --compile no"
        f" --total-steps 1600 {EARLY} --memory lstm {SMALL_MEMORY} --sequence-period-steps 4"
        " --burn-in-steps 2 --value-rescaling --prioritised --n-steps 3",
    ),
    Run(
        "dqn-gru-masks",
        f"--agent dqn --env-id Taxi-v4 --compile no --total-steps 1600 {EARLY} --memory gru {SMALL_MEMORY}"
        " --optimiser rmsprop --target-tau 0.05 --target-period-env-steps 4",
    ),
    Run(
        "dqn-attention",
        f"--agent dqn --env-id lab/RepeatPrevious-v0 --compile no --total-steps 1000 {EARLY}"
        f" --memory attention --memory-layers 2 --context 6 {SMALL_MEMORY}",
    ),
    Run(
        "dqn-cnn",
        f"--agent dqn {SMALL_IMAGES} --compile no --total-steps 400 {EARLY} --pooling max --random-shift 1"
        " --eval-every-steps 200",
    ),
    Run(
        "dqn-dataset",
        "--agent dqn --env-id CartPole-v1 --compile no --total-steps 3000 --dataset data"
        " --normalise-observations --dropout 0.1 --l2 1e-4",
        before=(
            f"train.py --agent dqn --env-id CartPole-v1 --compile no --total-steps 1500 {EARLY} --run-dir a",
            "record.py a --out data --steps 2000 --epsilon 0.3 --seed 5",
        ),
    ),
    Run(
        "ppo-box",
        "--agent ppo --env-id Pendulum-v1 --num-envs 4 --compile no --total-steps 2048 --n-steps 128"
        " --n-epochs 4 --gamma 0.9 --normalise-observations --normalise-rewards --average-decay 0.99",
    ),
    Run(
        "ppo-compiled",
        "--agent ppo --env-id CartPole-v1 --num-envs 4 --compile yes --total-steps 2048 --n-steps 64"
        " --n-epochs 4 --ent-coef 0.01 --linear-decay",
    ),
    Run(
        "a2c-gru",
        "--agent a2c --env-id lab/MemoryChain-v0 --env-kwargs length=4 --num-envs 4 --compile no"
        " --total-steps 3000 --memory gru --memory-size 16 --hidden 16 --ent-coef 0.01",
    ),
    Run(
        "reinforce-rnn",
        "--agent reinforce --env-id lab/CartPolePositions-v0 --num-envs 2 --compile no --total-steps 2000"
        " --memory rnn --memory-size 16 --hidden 16 --share-encoder",
    ),
    Run(
        "clone-oracle",
        f"--agent clone {SMALL_IMAGES} --oracle --epsilon 0.3 --temperature 0.01 --value-weight 100"
        " --total-steps 600 --log-every-steps 100",
    ),
    Run("sb3-dqn", "--agent sb3-dqn --env-id CartPole-v1 --total-steps 2000"),
    Run(
        "sb3-ppo",
        "--agent sb3-ppo --env-id CartPole-v1 --num-envs 2 --total-steps 1024 --n-steps 128 --n-epochs 4",
    ),
)
COMMON = (
    "--seed 7 --threads 1 --device cpu --eval-episodes 3 --eval-max-steps 200 --video-episodes 0"
    " --no-pictures --wandb disabled"
)
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
FREE = {
    "env_steps_per_second",
    "peak_rss_mb",
    "versions",
    "config_sha256",
}  # may differ, and so may all seconds

# Prints the paths of the modules that the runs would import.
WHERE = """
from importlib.metadata import entry_points
from importlib.util import find_spec
agents, envs = entry_points(group="rl_lab.agents"), entry_points(group="rl_lab.envs", name="lab")
for module in sorted({"rl_lab", *(point.module for point in (*agents, *envs))}):
    print(find_spec(module).origin)
"""

Results = dict[str, dict[str, Any]]  # by run, then by kind of result


@dataclass(frozen=True)
class Checkout:
    """A checkout, and the Python in which its dependencies are installed."""

    folder: Path
    python: str

    def call(self, arguments: Iterable[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments in the folder `cwd`, with one thread and the checkout's code."""
        env = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(self.folder)}
        return subprocess.run(
            [self.python, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False
        )

    def script(self, command: str, cwd: Path) -> str | None:
        """Run one of its scripts; return its error message if it failed, otherwise None."""
        name, *arguments = command.split()
        done = self.call([str(self.folder / "scripts" / name), *arguments], cwd)
        return None if done.returncode == 0 else (done.stderr.strip() or f"exit code {done.returncode}")

    def refuse(self) -> str | None:
        """Return why the runs wouldn't use this checkout's code alone (one line), or None if they would."""
        with tempfile.TemporaryDirectory() as empty:
            done = self.call(["-c", WHERE], Path(empty))
        if done.returncode:
            return done.stderr.strip()
        others = [p for p in done.stdout.splitlines() if not Path(p).resolve().is_relative_to(self.folder)]
        return f"imported from outside {self.folder}: {', '.join(others)}" if others else None


def main() -> int:
    """Train, write the hashes, and compare them; return 0 if nothing failed or differs, otherwise 1."""
    options = _options()
    python = os.path.abspath(shutil.which(options.python) or options.python)  # runs have their own folders
    checkout = Checkout(options.checkout.resolve(), python)
    if (reason := checkout.refuse()) is not None:
        sys.exit(f"error: {reason}")
    known: Results | None = json.loads(options.against.read_bytes()) if options.against else None
    results: Results = {}
    wrong = []
    for run in RUNS:
        if options.only and run.name not in options.only:
            continue
        begun = time.perf_counter()
        results[run.name] = result = train(checkout, run)
        reason = complaint(result, result if known is None else known.get(run.name, {}))
        wrong += [run.name] * (reason is not None)
        text = reason or f"weights {result['weights'][:16]}, returns {result['eval_returns']}"
        print(f"{run.name:16} {time.perf_counter() - begun:5.1f} s  {text}", flush=True)
    write_json(options.out, results)
    if wrong or known is not None:
        print(f"failed or different: {', '.join(wrong)}" if wrong else f"all {len(results)} runs are equal")
    return int(bool(wrong))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkout", type=Path, required=True, help="folder of the code to train with")
    parser.add_argument(
        "--python", default=sys.executable, help="Python with its dependencies (default: this one)"
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write the hashes to")
    parser.add_argument("--against", type=Path, help="JSON file to compare the hashes with")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        choices=[run.name for run in RUNS],
        help="names of the runs to do",
    )
    return parser.parse_args()


def train(checkout: Checkout, run: Run) -> dict[str, Any]:
    """Train one run in a temporary folder; return its hashes, or {"failed": message}."""
    commands = [f"{c} {COMMON}" if c.startswith("train.py") else c for c in run.before]
    with tempfile.TemporaryDirectory() as folder:
        for command in (*commands, f"train.py {run.arguments} {COMMON} --run-dir run"):
            if (error := checkout.script(command, Path(folder))) is not None:
                return {"failed": error}
        return hashes(Path(folder) / "run")


def hashes(run_dir: Path) -> dict[str, Any]:
    """Return the hashes of a run directory by kind, and its evaluation returns."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_bytes().splitlines()]
    summary = json.loads((run_dir / "summary.json").read_bytes())
    return {
        "weights": summary["weights_sha256"],
        "episodes": _sha256((run_dir / "episodes.csv").read_bytes()),
        "actions": _sha256((run_dir / "actions" / "actions.bin").read_bytes()),
        "metrics": _sha256(json.dumps([_timeless(row) for row in rows], sort_keys=True).encode()),
        "summary": _sha256(json.dumps(_timeless(summary), sort_keys=True).encode()),
        "eval_returns": summary["eval_returns"],
    }


def _timeless(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values without those measured by a clock and those that describe the machine."""
    return {k: v for k, v in values.items() if not k.endswith("_seconds") and k not in FREE}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def complaint(result: dict[str, Any], known: dict[str, Any]) -> str | None:
    """Return what failed or in which kinds a result differs from the known one, or None if nothing did."""
    if "failed" in result:
        return f"FAILED: {result['failed']}"
    if not known or "failed" in known:
        return "DIFFERS: the other file has no result"
    kinds = [kind for kind in result | known if result.get(kind) != known.get(kind)]
    return f"DIFFERS: {', '.join(kinds)}" if kinds else None


if __name__ == "__main__":
    sys.exit(main())
