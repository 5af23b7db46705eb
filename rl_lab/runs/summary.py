"""summary.json: what a finished run has come to."""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from typing import Any

from rl_lab.runs.description import RunDescription
from rl_lab.storage.state_trees import weights_sha256
from rl_lab.storage.versions import hardware, versions


def summarise(
    description: RunDescription,
    *,
    env_steps: int,
    stopped_early: str | None,
    gradient_steps: int,
    seconds: Mapping[str, float],
    episodes: int,
    figures: Mapping[str, Any],
    weights: Any,
    callback_stops: Sequence[Mapping[str, Any]] = (),
    frames_per_step: int | None = None,
) -> dict[str, Any]:
    """Return the contents of summary.json.

    Args:
        stopped_early: why evaluations ended the run; None if they didn't.
        seconds: those of the run's clock, `train_seconds`, `wall_seconds`, `cpu_seconds` and `compile_seconds`, with
            `runs_together` if they are its share of a process.
        figures: the learner's own results and those of the last evaluation.
        weights: the tree of the final weights.
        callback_stops: the env_steps and the reason of each stop that a callback asked for, before the run was resumed.
        frames_per_step: of an Atari or MinAtar game, for which an action is held; None for others, whose summary names
            no frames.
    """
    frames = {} if frames_per_step is None else {"env_frames": env_steps * frames_per_step}
    stops = {"callback_stops": list(callback_stops)} if callback_stops else {}
    return {
        "agent": description.agent,
        "env_id": description.config.env_id,
        "seed": description.config.seed,
        "total_steps": description.config.total_steps,
        "eval_gamma": description.eval_gamma,
        "env_steps": env_steps,
        **frames,
        "stopped_early": stopped_early,
        **stops,
        "gradient_steps": gradient_steps,
        "train_seconds": (trained := seconds["train_seconds"]),
        "env_steps_per_second": env_steps / trained if trained > 0 else 0.0,
        "wall_seconds": seconds["wall_seconds"],
        "cpu_seconds": seconds["cpu_seconds"],
        "compile_seconds": seconds["compile_seconds"],
        **{name: seconds[name] for name in ("runs_together",) if name in seconds},
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "episodes": episodes,
        **figures,
        "versions": versions(),
        "hardware": hardware(),
        "config_sha256": description.config_sha256,
        "weights_sha256": weights_sha256(weights),
    }
