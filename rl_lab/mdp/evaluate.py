"""The exact return of a policy on a finite MDP: no episodes, no sampling error."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import sparse

from rl_lab.agent import Policy
from rl_lab.mdp.model import TabularModel, find_reaching
from rl_lab.mdp.rows import NeverEnds, NotConverged, solve_values
from rl_lab.mdp.solve import follow_policy, value_iteration
from rl_lab.types import Array

REGRET_ROUNDING = 1e-12  # relative to max(1, |optimal return|)


def action_probabilities(policy: Policy, model: TabularModel, width: int) -> Array | None:
    """Ask a policy for its action probabilities [S, A] in every state.

    States are shown `width` at a time, the last batch padded: batched values differ in their last
    bit with the batch's width, and so may the choice between near ties. None for a policy with a
    carry, whose choice depends on more than the state.
    """
    if width < 1:
        raise ValueError(f"width {width} must be at least 1")
    if not _is_memoryless(policy):
        return None
    batches = []
    for start in range(0, model.num_states, width):
        states = np.minimum(np.arange(start, start + width), model.num_states - 1)
        batches.append(_ask(policy, model, states))
    return np.concatenate(batches)[: model.num_states]


def expected_return(model: TabularModel, probabilities: Array, gamma: float) -> float:
    """Return the expected discounted return from `initial`, without a time limit.

    At gamma = 1 only states that the policy [S, A] comes through need to end. Raises NeverEnds, a
    ValueError, where one of them goes on earning for ever.
    """
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma {gamma} must be in 0..1")
    chain, reward, termination = follow_policy(model, probabilities)
    met = find_reaching(sparse.csr_matrix(chain.T), model.initial > 0)
    # Elsewhere the policy may run in circles without harm: those states are made to end at once.
    keep = sparse.diags(met.astype(np.float64))
    values = solve_values(keep @ chain, np.where(met, reward, 0.0), np.where(met, termination, 1.0), gamma)
    return float(model.initial @ values)


def limited_return(model: TabularModel, probabilities: Array, max_steps: int | None) -> float | None:
    """Return the expected undiscounted return of episodes cut after `max_steps`.

    Without a limit it is the return of complete episodes, and None where they never end.
    """
    if max_steps is None:
        try:
            return expected_return(model, probabilities, gamma=1.0)
        except NeverEnds:
            return None
    chain, reward, _ = follow_policy(model, probabilities)
    values = np.zeros(model.num_states)  # what the last n steps before the limit are worth
    for _ in range(max_steps):
        values = reward + chain @ values
    return float(model.initial @ values)


@lru_cache(maxsize=16)
def optimal_return(model: TabularModel, gamma: float) -> float:
    """Return the best expected discounted return from `initial`, without a time limit.

    Remembered by model, since it is asked for at each evaluation. Raises what `value_iteration` raises.
    """
    return float(model.initial @ value_iteration(model, gamma).v)


def measure_regret(optimal: float, achieved: float) -> float:
    """Return by how much a return falls short of the optimum; exactly 0.0 where it does not."""
    regret = optimal - achieved
    # The optimum and an optimal policy's return come from different sums and differ by rounding.
    return 0.0 if abs(regret) < REGRET_ROUNDING * max(1.0, abs(optimal)) else regret


def exact_figures(
    policy: Policy, model: TabularModel | None, gamma: float, max_steps: int | None, width: int
) -> dict[str, float | None]:
    """Return `optimal_return`, `regret` and `exact_eval_return` of a policy.

    The first two are discounted and without the time limit, the last is undiscounted and with it.
    All are None without a model and for a policy with a carry; each is None where it isn't defined.
    """
    figures: dict[str, float | None] = dict.fromkeys(("optimal_return", "regret", "exact_eval_return"))
    probabilities = None if model is None else action_probabilities(policy, model, width)
    if model is None or probabilities is None:
        return figures
    figures["exact_eval_return"] = limited_return(model, probabilities, max_steps)
    try:
        figures["optimal_return"] = best = optimal_return(model, gamma)
        figures["regret"] = measure_regret(best, expected_return(model, probabilities, gamma))
    except (NeverEnds, NotConverged):
        pass
    return figures


def _is_memoryless(policy: Policy) -> bool:
    carry = policy.initial_state(1)
    return isinstance(carry, tuple) and not carry


def _ask(policy: Policy, model: TabularModel, states: Array) -> Array:
    """Return the action probabilities [K, A] in the given states [K]."""
    obs = model.observe(states)
    mask = None if model.available.all() else model.available[states]
    is_first = np.ones(len(states), dtype=bool)
    inspected = policy.inspect(obs, (), is_first, mask)
    if "probabilities" in inspected:
        return np.array(inspected["probabilities"], dtype=np.float64)
    action = np.asarray(policy.act(obs, (), is_first, mask).action, dtype=np.int64)
    return (action[:, None] == np.arange(model.num_actions)).astype(np.float64)
