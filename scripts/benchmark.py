"""Speed beside a peer: both sides take turns in one run, and the ratio of their medians is what counts."""

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch read it

import tyro
from benchmarks.work import Work, row

from rl_lab.checks import unknown_name
from rl_lab.cli.parsing import main, parse
from rl_lab.training.devices import set_threads
from rl_lab.types import UsageError


@dataclass(frozen=True)
class Options:
    """What benchmark.py takes."""

    name: tyro.conf.Positional[str]
    """Benchmark: acting, dp, dqn, guards, nn, ppo, replay, sb3."""
    json: str | None = None
    """File for the results."""
    turns: int = 5
    """Times that each side is run."""


BENCHMARKS = {
    "acting": "training", "dp": "dp", "dqn": "training", "guards": "guards", "nn": "nn", "ppo": "training",
    "replay": "replay", "sb3": "training",
}  # fmt: skip
"""Modules of the functions that list each benchmark's work; only the one that is asked for is imported."""


def compare(work: Work, turns: int) -> dict[str, Any]:
    """Let the sides take turns after one uncounted turn each; return a row of results."""
    work.ours(), work.theirs()
    pairs = [(work.ours(), work.theirs()) for _ in range(turns)]
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = sorted(t / o for o, t in pairs)
    more: dict[str, Any] = {"ratio_range": [ratios[0], ratios[-1]]}
    if work.moved_bytes:
        from benchmarks.dp import copy_bandwidth

        more["bandwidth_share"] = work.moved_bytes / copy_bandwidth() / ours
    more |= work.more()
    told = row(work.work, work.peer, "s", ours, theirs, **more)
    print("  " + ", ".join(f"{name} {value}" for name, value in more.items()), flush=True)
    return told


def benchmark(argv: Sequence[str]) -> int:
    """Run one benchmark by name."""
    options: Options = parse(Options, argv, description=__doc__)
    if options.name not in BENCHMARKS:
        raise UsageError(unknown_name("benchmark", options.name, sorted(BENCHMARKS)))
    if options.turns < 1:
        raise UsageError(f"turns must be at least 1, got {options.turns}")
    set_threads(1)
    module = import_module(f"benchmarks.{BENCHMARKS[options.name]}")
    works = getattr(module, options.name)()  # rows that are measured already stand among them
    results = [compare(work, options.turns) if isinstance(work, Work) else work for work in works]
    if options.json:
        Path(options.json).write_text(json.dumps({"results": results}, indent=1))
    return 0


if __name__ == "__main__":
    main(benchmark)
