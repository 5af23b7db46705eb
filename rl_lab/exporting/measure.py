"""What a file costs and what it earns: its size, its latency and its change in return."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from rl_lab.agent import Policy
from rl_lab.environments.masks import mask_of
from rl_lab.evaluation.comparison.aggregates import mean
from rl_lab.evaluation.comparison.intervals import aggregate_interval
from rl_lab.evaluation.evaluate import evaluate
from rl_lab.evaluation.statistics import Estimate
from rl_lab.exporting.acting import Trained
from rl_lab.types import Array

ROUNDS, CALLS = 20, 25  # of each policy's calls, which take turns, so that a busy moment meets all of them


@dataclass(frozen=True)
class Variant:
    """A policy to be measured: the lab's own, or a file."""

    name: str
    policy: Policy
    path: Path | None = None
    note: str = ""


@dataclass(frozen=True)
class Measured:
    """A row of the table."""

    name: str
    file: str | None
    bytes: int | None  # on disk
    compressed_bytes: int | None  # by zlib, which tells what zeros would save
    microseconds: float  # per action, the median of rounds
    returns: Array  # float64 [E]
    mean_return: Estimate
    change: (
        Estimate | None
    )  # of the mean return from the lab's, episode by episode; None for the lab's own row
    note: str

    @property
    def change_percent(self) -> float | None:
        """The change in percent of the lab's return; None for the lab's own row, or where that return is 0."""
        if self.change is None:
            return None
        base = self.mean_return.value - self.change.value
        return 100 * self.change.value / abs(base) if base else None


def measure(
    trained: Trained, variants: list[Variant], *, episodes: int, seed: int | None = None
) -> list[Measured]:
    """Measure variants, of which the first is the lab's own policy, on the same seeded episodes.

    Args:
        seed: of the episodes; by default the run's, so that they are its evaluation episodes.
    """
    seconds = latencies(trained, {variant.name: variant.policy for variant in variants})
    returns = [returns_of(trained, variant.policy, episodes=episodes, seed=seed) for variant in variants]
    return [
        _row(variant, seconds[variant.name], mine, returns[0] if k else None)
        for k, (variant, mine) in enumerate(zip(variants, returns, strict=True))
    ]


def _row(variant: Variant, seconds: float, returns: Array, base: Array | None) -> Measured:
    content = None if variant.path is None else variant.path.read_bytes()
    return Measured(
        variant.name,
        None if variant.path is None else variant.path.name,
        None if content is None else len(content),
        None if content is None else len(zlib.compress(content, 9)),
        round(seconds * 1e6, 1),
        returns,
        aggregate_interval(returns, mean),
        None if base is None else aggregate_interval(returns - base, mean),
        variant.note,
    )


def returns_of(trained: Trained, policy: Policy, *, episodes: int, seed: int | None = None) -> Array:
    """Return the undiscounted returns float64 [episodes] of a policy."""
    config = trained.description.config
    envs = trained.problem.make(min(config.eval_envs, episodes))
    try:
        return evaluate(
            policy,
            envs,
            episodes=episodes,
            seed=config.seed if seed is None else seed,
            max_steps=config.eval_max_steps,
        ).returns
    finally:
        envs.close()


def latencies(trained: Trained, policies: Mapping[str, Policy]) -> dict[str, float]:
    """Return the seconds that each policy takes for the action of one observation, measured in turn."""
    envs = trained.problem.make(1)
    try:
        obs, info = envs.reset(seed=[trained.description.config.seed])
    finally:
        envs.close()
    mask, is_first = mask_of(info), np.zeros(1, np.bool_)
    states = {name: policy.initial_state(1) for name, policy in policies.items()}
    rounds: dict[str, list[float]] = {name: [] for name in policies}
    for _ in range(ROUNDS):
        for name, policy in policies.items():
            begun = time.perf_counter()
            for _ in range(CALLS):
                policy.act(obs, states[name], is_first, mask)
            rounds[name].append((time.perf_counter() - begun) / CALLS)
    return {name: median(found) for name, found in rounds.items()}
