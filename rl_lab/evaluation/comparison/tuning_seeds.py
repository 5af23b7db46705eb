"""Whether a comparison reuses the seeds that an agent's hyperparameters were chosen on.

An agent looks better than it is on seeds that decided about its hyperparameters: Patterson, Neumann, White, White:
"Empirical Design in Reinforcement Learning", JMLR 25, 2024, https://arxiv.org/abs/2304.01315.
"""

from __future__ import annotations

from collections.abc import Iterable


def reused_seeds(chosen_on: Iterable[int], seeds: Iterable[int]) -> list[int]:
    """Return which of a comparison's seeds hyperparameters were chosen on, in ascending order."""
    return sorted(set(chosen_on) & set(seeds))


def reuse_warning(preset: str, chosen_on: Iterable[int], seeds: Iterable[int]) -> str | None:
    """Return one line that names the reused seeds and seeds to take instead; None if none is reused."""
    tuning, asked = set(chosen_on), set(seeds)
    reused = reused_seeds(tuning, asked)
    if not reused:
        return None
    first = max(tuning) + 1
    return (
        f"preset {preset} was chosen on seeds {', '.join(map(str, reused))}, which this comparison uses again: "
        f"it looks better there than it is (untouched: seeds from {first})"
    )
