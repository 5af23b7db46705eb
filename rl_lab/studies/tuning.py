"""Which seeds of a study decided about the presets that it uses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rl_lab.evaluation.comparison.tuning_seeds import reuse_warning
from rl_lab.training.registry import seeds_chosen_on


def chosen_on(presets: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return which presets were chosen on which seeds, each once: {"agent", "preset", "seeds"}.

    Args:
        presets: pairs of an agent and the name of its preset; those that name no seeds are left out.

    Raises:
        UsageError: unknown agent.
    """
    found = [
        {"agent": a, "preset": p, "seeds": list(seeds_chosen_on(a, p))} for a, p in dict.fromkeys(presets)
    ]
    return [one for one in found if one["seeds"]]


def tuning_warnings(presets: Iterable[tuple[str, str]], seeds: Iterable[int]) -> list[str]:
    """Return a line for each agent whose preset was chosen on some of the seeds.

    Args:
        presets: pairs of an agent and the name of its preset.
        seeds: of the study.

    Raises:
        UsageError: unknown agent.
    """
    used = list(seeds)
    lines = (
        reuse_warning(f"{one['preset']} of {one['agent']}", one["seeds"], used) for one in chosen_on(presets)
    )
    return [line for line in lines if line is not None]
