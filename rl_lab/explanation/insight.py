"""What a policy thinks at one step, as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rl_lab.agent import Policy
from rl_lab.environments.actions import counts_of, leaf_spaces
from rl_lab.explanation.names import action_names, observation_names
from rl_lab.explanation.optimum import Optimum, optimum_of
from rl_lab.trees import leaves_of
from rl_lab.types import Array, Decision, Obs, State


@dataclass(frozen=True)
class Facts:
    """What is known of an environment beside its steps; made once by `facts_of`."""

    action_space: spaces.Space
    observation_space: spaces.Space
    action_names: list[str]
    """See `rl_lab.explanation.names.action_names`."""
    observation_names: list[str]
    """A name for each number of an observation."""
    optimum: Optimum


def facts_of(env: gymnasium.Env, gamma: float | None = None, gamma_source: str = "eval_gamma") -> Facts:
    """Return the names and the exact optimum of an environment; solving takes a while, so do it once.

    Args:
        env: one environment, as the policy sees it; it is reset, and played for a few steps if it has a model.
        gamma: the discount of the exact values; None: without exact values.
        gamma_source: which field of the run says so, for display.
    """
    return Facts(
        env.action_space,
        env.observation_space,
        action_names(env),
        observation_names(env),
        optimum_of(env, gamma, gamma_source),
    )


@dataclass(frozen=True)
class Insight:
    """The figures behind one decision; what a policy doesn't tell is empty or None."""

    kind: str = ""
    """What `values` are: "q_values", "probabilities", or "" without any."""
    values: list[float] | None = None
    """One per action, -inf if it is illegal; for actions of several discrete entries their values side by side."""
    action_names: list[str] | None = None
    """One per value, or for continuous actions one per entry."""
    chosen: int | list[float] | None = None
    """The place of the chosen action among `values` if actions are Discrete, otherwise the action itself, flattened;
    None if nothing was chosen."""
    value: float | None = None
    """Of the state: what the policy predicts, or without that the largest of its action values."""
    means: list[float] | None = None
    """Of the normal distributions of a continuous action's entries, before clipping."""
    deviations: list[float] | None = None
    """Their standard deviations."""
    carry_norm: float | None = None
    """Euclidean norm of the whole carry after the decision; None for a memoryless policy."""
    attention: list[float] | None = None
    """How much each step of the context is attended to, oldest first, the last being the current one; 0 for steps
    before the episode began."""
    distribution: dict[str, list[list[float]]] | None = None
    """`atoms` and `probabilities` of the return of each action."""
    optimal: list[float] | None = None
    """Exact Q*(s, .), -inf for unavailable actions."""
    regret: float | None = None
    """max Q*(s, .) - Q*(s, chosen), at least 0; None for an action that the model doesn't allow."""
    optimal_note: str = ""
    """Why there is no exact Q*, or with which discount it was computed."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it: plain numbers and lists, None for what isn't finite."""
        return _plain(asdict(self))


def insight(
    policy: Policy,
    obs: Obs,
    state: State,
    is_first: Array,
    mask: Array | None,
    decision: Decision | None,
    facts: Facts,
) -> Insight:
    """Return the figures behind a decision about a single observation.

    Args:
        obs: [1, ...].
        state: the carry that `decision` was made with.
        is_first: bool [1].
        mask: legal actions, bool [1, A]; None if all are.
        decision: what `policy.act` returned; None where nothing is chosen, as at the end of an episode.
        facts: of the environment, from `facts_of`.
    """
    shown = policy.inspect(obs, state, is_first, mask)
    kind, values = _values(shown, facts.action_space)
    chosen = None if decision is None else _chosen(decision, facts.action_space)
    optimal, regret, note = _exact(facts.optimum, obs, chosen)
    return Insight(
        kind=kind,
        values=values,
        action_names=facts.action_names,
        chosen=chosen,
        value=_value(shown),
        means=_row(shown, "mean"),
        deviations=_row(shown, "std"),
        carry_norm=None if decision is None else carry_norm(decision.state),
        attention=_row(shown, "attention"),
        distribution=_distribution(shown),
        optimal=optimal,
        regret=regret,
        optimal_note=note,
    )


def carry_norm(state: State) -> float | None:
    """Return the Euclidean norm of all numbers of a carry with parts [1, ...]; None for a memoryless policy."""
    leaves = leaves_of(state)
    if not leaves:
        return None
    return float(np.sqrt(sum(np.square(np.asarray(leaf, np.float64)).sum() for leaf in leaves)))


def softmax_by_entry(logits: Array, counts: Sequence[int]) -> Array:
    """Return the probabilities [M] of logits [M], those of each entry summing to 1; `counts` are their sizes."""
    parts = np.split(np.asarray(logits, np.float64), np.cumsum(counts)[:-1])
    weights = [np.exp(part - part.max()) for part in parts]
    return np.concatenate([weight / weight.sum() for weight in weights])


def _values(shown: Mapping[str, Array], space: spaces.Space) -> tuple[str, list[float] | None]:
    for name in ("q_values", "probabilities"):
        if name in shown:
            return name, _row(shown, name)
    if "logits" not in shown:
        return "", None
    counts = [count for leaf in leaf_spaces(space) for count in counts_of(leaf) or ()]
    if sum(counts) != shown["logits"].shape[1]:  # parts of it are continuous
        return "", None
    return "probabilities", softmax_by_entry(shown["logits"][0], counts).tolist()


def _value(shown: Mapping[str, Array]) -> float | None:
    if "value" in shown:
        return float(shown["value"][0])
    return float(np.max(shown["q_values"][0])) if "q_values" in shown else None


def _chosen(decision: Decision, space: spaces.Space) -> int | list[float]:
    action = np.asarray(decision.action)[0]
    return int(action) - int(space.start) if isinstance(space, spaces.Discrete) else action.ravel().tolist()


def _row(shown: Mapping[str, Array], name: str) -> list[float] | None:
    return np.asarray(shown[name][0], np.float64).ravel().tolist() if name in shown else None


def _distribution(shown: Mapping[str, Array]) -> dict[str, list[list[float]]] | None:
    if "atoms" not in shown:
        return None
    atoms = np.asarray(shown["atoms"][0], np.float64)  # [A, K]
    even = np.full(atoms.shape, 1.0 / atoms.shape[-1])
    probabilities = np.asarray(shown["atom_probabilities"][0]) if "atom_probabilities" in shown else even
    return {"atoms": atoms.tolist(), "probabilities": probabilities.tolist()}


def _exact(
    optimum: Optimum, obs: Obs, chosen: int | list[float] | None
) -> tuple[list[float] | None, float | None, str]:
    """Return Q*(s, .), the regret of the chosen action, and a note."""
    if optimum.reason:
        return None, None, optimum.reason
    q = optimum.q_values(obs)
    if q is None:
        return None, None, "the model has no state that looks like this"
    note = f"exact at {optimum.gamma_source} {optimum.gamma:g}"
    if not isinstance(chosen, int) or not np.isfinite(q[chosen]):
        return q.tolist(), None, note
    return q.tolist(), max(0.0, float(q.max() - q[chosen])), note


def _plain(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_plain(value) for value in tree]
    return None if isinstance(tree, float) and not np.isfinite(tree) else tree
