"""How much each number of an observation contributed to a decision.

Integrated gradients: Sundararajan et al. (2017), "Axiomatic Attribution for Deep Networks",
https://arxiv.org/abs/1703.01365: the contributions add up to the difference between the output for the observation
and that for a baseline. Without a network of the lab, each number is replaced by the baseline's alone (occlusion).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.agent import Policy
from rl_lab.environments.actions import leaf_spaces
from rl_lab.explanation.insight import Facts
from rl_lab.trees import leaves_of, map_leaves
from rl_lab.types import Array, Obs, State, UsageError

STEPS = 64  # points on the way from the baseline, at whose middles gradients are taken
FIGURES = (
    "q_values",
    "logits",
    "mean",
    "value",
)  # the first that `inspect` gives is explained without a network


@dataclass(frozen=True)
class Attribution:
    """The contributions to one output, which is the chosen action's value, logit or mean."""

    method: str
    """"gradient" or "perturbation"."""
    output: int
    """Which of the outputs is explained."""
    names: list[str]
    """Of the numbers that contribute; discrete parts aren't among them."""
    contributions: list[float]
    """One per name, in the output's units; positive ones speak for the action."""
    total: float
    """The output at the observation less that at the baseline, where all these numbers are replaced."""
    baseline: list[float]
    """What each number is compared with: the mean by which the network normalises, or 0."""
    left_out: list[str]
    """Numbers that aren't explained, since they belong to discrete parts."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def attribution(
    policy: Policy,
    obs: Obs,
    state: State,
    is_first: Array,
    mask: Array | None,
    facts: Facts,
    steps: int = STEPS,
) -> Attribution:
    """Return how much each number of one observation contributed to the decision about it.

    Args:
        obs: [1, ...].
        state: the carry before it.
        is_first: bool [1].
        mask: legal actions, bool [1, M].
        facts: of the environment, from `facts_of`.
        steps: of the integral.

    Raises:
        UsageError: no part of the observations is continuous, or the policy shows no figures.
    """
    leaves = leaf_spaces(facts.observation_space)
    counts = [int(np.prod(leaf.shape or ())) for leaf in leaves]
    numeric = np.repeat([isinstance(leaf, spaces.Box) for leaf in leaves], counts)
    if not numeric.any():
        raise UsageError("attribution needs observations with continuous parts, and all are discrete")
    network = getattr(policy, "network", None)
    if network is None:
        output, parts, total, base = _occluded(policy, obs, state, is_first, mask, numeric)
    else:
        output, parts, total, base = _integrated(network, obs, state, is_first, mask, numeric, steps)
    names = np.array(facts.observation_names)
    return Attribution(
        "perturbation" if network is None else "gradient",
        output,
        names[numeric].tolist(),
        parts[numeric].tolist(),
        total,
        base[numeric].tolist(),
        names[~numeric].tolist(),
    )


Parts = tuple[int, Array, float, Array]  # the output, contributions [D], their total, baseline [D]


def _integrated(
    network: Any, obs: Obs, state: State, is_first: Array, mask: Array | None, numeric: Array, steps: int
) -> Parts:
    from rl_lab.nn.input_gradients import (
        average_observation,
        explained_outputs,
        input_gradients,
        output_values,
    )

    output = explained_outputs(network, obs, state, is_first, mask)[0]
    here = _flat(obs)[0]
    base = np.where(numeric, _flat(average_observation(network, obs))[0], here)
    share = (np.arange(steps)[:, None] + 0.5) / steps
    way = _like(obs, base + share * (here - base))
    carried = _repeated(state, steps), np.repeat(is_first, steps)
    gradient = _flat(input_gradients(network, way, *carried, [output])[0]).mean(axis=0)
    ends = output_values(
        network, _like(obs, np.stack([here, base])), _repeated(state, 2), np.repeat(is_first, 2)
    )
    return output, gradient * (here - base), float(ends[0, output] - ends[1, output]), base


def _occluded(
    policy: Policy, obs: Obs, state: State, is_first: Array, mask: Array | None, numeric: Array
) -> Parts:
    here = _flat(obs)[0]
    base = np.where(numeric, 0.0, here)
    rows = np.repeat(here[None], len(here) + 2, axis=0)  # itself, the baseline, and each number replaced
    rows[1] = base
    rows[np.arange(len(here)) + 2, np.arange(len(here))] = base
    repeated = [_repeated(tree, len(rows)) for tree in (state, is_first, mask)]
    shown = policy.inspect(_like(obs, rows, cast=True), *repeated)
    name = next((name for name in FIGURES if name in shown), None)
    if name is None:
        raise UsageError(f"attribution needs a policy whose inspect() gives one of {', '.join(FIGURES)}")
    figures = np.asarray(shown[name], np.float64).reshape(len(rows), -1)
    output = int(figures[0].argmax())
    found = figures[:, output]
    return output, found[0] - found[2:], float(found[0] - found[1]), base


def _flat(obs: Obs) -> Array:
    """Return the numbers of observations [N, ...] side by side, float64 [N, D], parts by sorted key."""
    leaves = leaves_of(obs, sort_keys=True)
    return np.concatenate([np.reshape(leaf, (len(leaf), -1)).astype(np.float64) for leaf in leaves], axis=1)


def _like(obs: Obs, rows: Array, cast: bool = False) -> Obs:
    """Return numbers [N, D] as observations [N, ...]; whole numbers, or with `cast` all, in their own dtype."""
    leaves = leaves_of(obs, sort_keys=True)
    columns = np.split(rows, np.cumsum([leaf[0].size for leaf in leaves])[:-1], axis=1)
    made = {}
    for leaf, column in zip(leaves, columns, strict=True):
        shaped = column.reshape(len(rows), *leaf.shape[1:])
        made[id(leaf)] = shaped.astype(leaf.dtype) if cast or leaf.dtype.kind in "ib" else shaped
    return map_leaves(lambda leaf: made[id(leaf)], obs)


def _repeated(tree: Any, count: int) -> Any:
    return map_leaves(lambda leaf: np.repeat(leaf, count, axis=0), tree)
