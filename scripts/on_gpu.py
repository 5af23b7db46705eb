"""Measure two uses of a GPU: many CartPole agents as one program, and Pong by PQN in as little time as possible.

    python scripts/on_gpu.py --out on_gpu.json

Pong ends at a mean of 18 over three greedy games, or when the script has run for --minutes. The results have its
learning curve, its frames per second and the GPU's utilisation, and the seconds that the batch of agents takes beside
those of one alone.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

import numpy as np
import torch

import rl_lab
from rl_lab.checks import above, at_least
from rl_lab.cli.parsing import main, parse
from rl_lab.runs import callbacks
from rl_lab.runs.rows import read_rows
from rl_lab.storage.files import write_json
from rl_lab.storage.places import require_file
from rl_lab.storage.versions import hardware, versions

STARTED = time.perf_counter()
SOLVED = 18.0
CART: dict[str, Any] = {
    "hidden": (64, 64), "replay_capacity": 10_000, "batch_size": 64, "learning_starts_env_steps": 200,
    "train_period_env_steps": 1, "eval_episodes": 1, "wandb": "disabled", "video_episodes": 0, "pictures": False,
    "progress": False,
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """The script's options."""

    out: str = "on_gpu.json"
    """File of the results."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Where networks are computed; cpu to try the script out."""
    threads: int = 8
    """Threads of torch on the CPU."""
    pong_steps: int = 10_000_000
    """Most decisions in Pong."""
    minutes: float = 9.0
    """Minutes of the whole script, after which Pong stops."""
    agents: int = 1_000
    """CartPole agents that learn as one program."""
    cart_steps: int = 1_000
    """Steps of each."""

    def __post_init__(self) -> None:
        at_least(self, 1, "threads", "pong_steps", "agents", "cart_steps")
        above(self, 0.0, "minutes")


@contextmanager
def utilisation() -> Iterator[list[float]]:
    """Yield a list that the GPU's utilisation in percent is added to, once a second; nothing is, without a GPU."""
    found: list[float] = []
    over = Event()
    watching = Thread(target=_watch, args=(found, over))
    watching.start()
    try:
        yield found
    finally:
        over.set()
        watching.join()


def _watch(found: list[float], over: Event) -> None:
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    with suppress(OSError):  # there is no such tool
        while True:
            for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines():
                with suppress(ValueError):
                    found.append(float(line))
            if over.wait(1.0):
                return


def pong(options: Options, folder: Path, keep: Callable[[dict[str, Any]], None]) -> None:
    """Learn Pong by PQN until it is solved, and keep its curve after each evaluation, then its speed and utilisation.

    Frames per second are those of training, without evaluations and the start.
    """
    begun, curve = time.perf_counter(), list[dict[str, float]]()

    def hear(event: callbacks.Event) -> None:
        seconds = time.perf_counter() - begun
        if event.kind == "evaluation":
            mean = event.row["eval_return_mean"]
            curve.append({"env_steps": event.env_steps, "seconds": seconds, "eval_return_mean": mean})
            keep({"curve": curve})
        if time.perf_counter() - STARTED > 60 * options.minutes:
            event.stop("out of time")

    with utilisation() as busy:
        result = rl_lab.learn(
            "pqn", "ALE/Pong-v5", preset="atari", total_steps=options.pong_steps, stop_at_return=SOLVED,
            eval_every_steps=max(1, min(250_000, options.pong_steps // 2)), eval_episodes=3, device=options.device,
            log_every_steps=max(1, min(25_000, options.pong_steps // 2)),  # when its time is looked at
            threads=options.threads, run_dir=folder / "pong", callbacks=[hear], wandb="disabled", video_episodes=0,
            pictures=False, progress=False,
        )  # fmt: skip
    seconds = time.perf_counter() - begun
    timed = [row for row in read_rows(result.run_dir) if "train_seconds" in row]
    trained = timed[-1] if timed else None  # it stopped before the first of them
    best = max((point["eval_return_mean"] for point in curve), default=None)
    keep({
        "solved": best is not None and best >= SOLVED, "best_return": best, "seconds": seconds,
        "env_steps": result.env_steps, "train_seconds": trained and trained["train_seconds"],
        "frames_per_second": trained and 4 * trained["env_steps"] / trained["train_seconds"],
        "utilisation_percent_mean": float(np.mean(busy)) if busy else None, "curve": curve,
    })  # fmt: skip


def cart_poles(options: Options, folder: Path, keep: Callable[[dict[str, Any]], None]) -> None:
    """Let many agents learn CartPole by DQN as one program, and one alone; keep what both take."""
    # What isn't learning happens at the end.
    once = "log_every_steps", "eval_every_steps", "checkpoint_every_steps"
    shared = CART | dict.fromkeys(once, options.cart_steps) | {
        "total_steps": options.cart_steps, "threads": options.threads, "device": options.device,
    }  # fmt: skip
    # The device's start isn't measured.
    rl_lab.learn("dqn", "CartPole-v1", run_dir=folder / "first", **shared)
    begun = time.perf_counter()
    rl_lab.learn("dqn", "CartPole-v1", run_dir=folder / "one", **shared)
    alone = time.perf_counter() - begun
    with utilisation() as busy:
        begun = time.perf_counter()
        found = rl_lab.learn(
            "dqn", "CartPole-v1", num_seeds=options.agents, run_dir=folder / "many", **shared
        )
        together = time.perf_counter() - begun
    summaries = [result.summary for result in found if result.summary is not None]
    keep({
        "agents": len(summaries), "env_steps_each": options.cart_steps, "seconds": together,
        "train_seconds": sum(summary["train_seconds"] for summary in summaries), "seconds_of_one_alone": alone,
        "times_one": together / alone, "utilisation_percent_mean": float(np.mean(busy)) if busy else None,
        "gradient_steps_per_second": sum(summary["gradient_steps"] for summary in summaries) / together,
    })  # fmt: skip


def machine() -> dict[str, str]:
    """Return the processor and the GPU, if there is one, with the versions of CUDA and ale-py."""
    gpu = (
        {"gpu": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}
        if torch.cuda.is_available()
        else {}
    )
    return hardware() | gpu | {"ale_py": version("ale-py")}


def on_gpu(argv: Sequence[str]) -> int:
    """Measure both, print and keep the results; return 1 if Pong wasn't solved.

    Raises:
        UsageError: a wrong option, or no such device.
    """
    options: Options = parse(Options, argv, program="scripts/on_gpu.py", about=__doc__)
    require_file(options.out, "out")
    found: dict[str, Any] = {
        "command": "python scripts/on_gpu.py", "options": vars(options), "machine": machine(), "versions": versions(),
    }  # fmt: skip

    def keep(name: str, figures: dict[str, Any]) -> None:
        found[name] = figures
        write_json(options.out, found)

    with tempfile.TemporaryDirectory() as folder:
        for name, measure in {"cart_pole": cart_poles, "pong": pong}.items():
            measure(options, Path(folder), partial(keep, name))
            print(name, found[name], flush=True)
    return 0 if found["pong"]["solved"] else 1


if __name__ == "__main__":
    main(on_gpu)
