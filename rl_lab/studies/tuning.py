"""Which seeds of a study decided about the presets that it uses."""

from __future__ import annotations

from collections.abc import Iterable

from rl_lab.evaluation.comparison.tuning_seeds import reuse_warning
from rl_lab.training.registry import seeds_chosen_on


def tuning_warnings(agents: Iterable[str], preset: str | None, seeds: Iterable[int]) -> list[str]:
    """Return a line for each agent whose preset was chosen on some of the seeds.

    Args:
        preset: the study's; None without one.
        seeds: of the study.

    Raises:
        UsageError: unknown agent.
    """
    if preset is None:
        return []
    used = list(seeds)
    lines = (reuse_warning(f"{preset} of {agent}", seeds_chosen_on(agent, preset), used) for agent in agents)
    return [line for line in lines if line is not None]
