"""How columns of metrics.jsonl are called in W&B: `train/`, `eval/`, `time/` and `replay/`, which sort its panels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rl_lab.runs.rows import is_number

AXIS = "env_steps"  # the horizontal axis of every panel
# Facts of summary.json that are no metrics keep their names.
FACTS = (
    *("agent", "env_id", "seed", "total_steps", "eval_gamma", "stopped_early", "peak_rss_mb", "state"),
    *("config_sha256", "weights_sha256", "model_fault", "eval_limit", "flush_denormals", "ignored_masks"),
)
EVALUATED = ("optimal_return", "regret", "losing_states", "value_error_mean", "value_error_max")


def placed(name: str) -> str:
    """Return the key of a column in W&B.

    The first rule that fits counts:

    - the axis, facts, and names that hold a slash: unchanged;
    - *_seconds, *_per_second: time/;
    - replay_*: replay/ and the rest of the name;
    - eval_*, exact_eval_*: eval/ and the rest; held_out_* and the distances from the optimum: eval/;
    - all others, which learners measure while they learn: train/.
    """
    if name == AXIS or name in FACTS or "/" in name:
        return name
    if name.endswith(("_seconds", "_per_second")):
        return f"time/{name}"
    if name.startswith("replay_"):
        return f"replay/{name.removeprefix('replay_')}"
    if name.startswith("eval_"):
        return f"eval/{name.removeprefix('eval_')}"
    if name.startswith("exact_eval_"):
        return f"eval/exact_{name.removeprefix('exact_eval_')}"
    if name.startswith("held_out_") or name in EVALUATED:
        return f"eval/{name}"
    return f"train/{name}"


def loggable(row: Mapping[str, Any], histogram: Callable[[list[float]], Any]) -> dict[str, Any]:
    """Return a row as W&B should get it: keys placed, without nulls, lists of numbers as histograms.

    W&B draws histograms over the steps; the exact values are in the local row.
    """
    values = {key: _histogram_of(v, histogram) if isinstance(v, list) else v for key, v in row.items()}
    return {placed(key): value for key, value in values.items() if value is not None}


def _histogram_of(values: list[Any], histogram: Callable[[list[float]], Any]) -> Any:
    numbers = [v for v in values if is_number(v)]
    return histogram(numbers) if numbers else None


def summarised(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return what W&B's summary gets of summary.json: the scalars, with their keys placed."""
    scalars = (bool, int, float, str)
    return {placed(key): value for key, value in summary.items() if isinstance(value, scalars)}
