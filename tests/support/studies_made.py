"""Small studies for tests, and what they leave behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rl_lab.studies.study import Study

QUIET = {
    "wandb": "disabled", "video_episodes": 0, "pictures": False, "total_steps": 600, "eval_episodes": 4,
    "eval_max_steps": 100,  # an episode on the cliff has no end of its own
}  # fmt: skip
"""Fields of runs that are over soon."""


def small_study(**changes: Any) -> Study:
    """Return a study of tabular agents on FrozenLake, with changes."""
    given = {"env_ids": ("FrozenLake-v1",), "agents": ("q-learning", "random"), "seeds": 2, "fields": QUIET}
    return Study(**(given | changes))


def summaries(out: Path) -> dict[Path, dict[str, Any]]:
    """Return the summaries of a study's finished runs, by folder."""
    return {path.parent: json.loads(path.read_bytes()) for path in out.glob("runs/**/summary.json")}
