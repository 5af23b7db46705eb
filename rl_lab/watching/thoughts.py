"""The figures behind each step, for the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rl_lab.agent import Policy
from rl_lab.types import Array, Decision, Obs, State
from rl_lab.watching.lane import Explain
from rl_lab.watching.sources import Watched


def action_names(one: Watched) -> list[str]:
    """Return the names of the actions; [] where there are none."""
    return []


def explainer(one: Watched) -> Explain:
    """Return what explains the steps of an agent."""
    return explain


def explain(
    policy: Policy, obs: Obs, state: State, is_first: Array, mask: Array | None, decision: Decision | None
) -> Mapping[str, Any]:
    """Return the figures behind a decision as plain JSON."""
    seen = policy.inspect(obs, state, is_first, mask)
    kind = "q_values" if "q_values" in seen else "probabilities" if "probabilities" in seen else ""
    values = np.asarray(seen[kind])[0].astype(float).tolist() if kind else []
    value = float(seen["value"][0]) if "value" in seen else max(values) if kind == "q_values" else None
    chosen = None if decision is None else np.asarray(decision.action)[0].tolist()
    return {"kind": kind, "values": values, "chosen": chosen, "value": value, "action_names": []}
