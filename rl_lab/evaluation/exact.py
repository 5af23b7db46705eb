"""Computes the exact return of a policy on a finite MDP, without episodes and so without sampling error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import sparse

from rl_lab.agent import Policy
from rl_lab.mdp.model import TabularModel, find_reaching
from rl_lab.mdp.rows import NeverEnds, NotConverged, solve_values
from rl_lab.mdp.solve import Solution, follow_policy, solve
from rl_lab.types import Array

REGRET_ROUNDING = 1e-12  # relative to max(1, |optimal return|)
FIGURES = (
    "optimal_return", "regret", "exact_eval_return", "losing_states", "value_error_mean", "value_error_max",
)  # fmt: skip


def action_probabilities(policy: Policy, model: TabularModel, width: int) -> Array | None:
    """Ask a policy for its action probabilities in every state.

    States are shown in batches of `width`, the last one padded: the last bit of batched values depends on the
    batch's width, and so may the choice between near ties.

    Returns:
        Probabilities [S, A]; None for a policy with a carry, whose choice depends on more than the state.

    Raises:
        ValueError: `width` is below 1.
    """
    if width < 1:
        raise ValueError(f"width {width} must be at least 1")
    if not _is_memoryless(policy):
        return None
    return _by_batches(lambda states: _ask(policy, model, states), model, width)


def expected_return(model: TabularModel, probabilities: Array, gamma: float) -> float:
    """Return the expected discounted return from the initial distribution, without a time limit.

    Args:
        probabilities: the policy, [S, A].

    Raises:
        ValueError: gamma is out of range, or the policy isn't a distribution.
        NeverEnds: gamma = 1 and the policy can reach a state from which it earns for ever.
    """
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma {gamma} must be in 0..1")
    chain, reward, termination = follow_policy(model, probabilities)
    met = find_reaching(sparse.csr_matrix(chain.T), model.initial > 0)
    # States that the policy never reaches don't matter, even if it would circle there for ever: they end at once.
    keep = sparse.diags(met.astype(np.float64))
    values = solve_values(keep @ chain, np.where(met, reward, 0.0), np.where(met, termination, 1.0), gamma)
    return float(model.initial @ values)


def limited_return(model: TabularModel, probabilities: Array, max_steps: int | None) -> float | None:
    """Return the expected undiscounted return of a policy in episodes that are cut after `max_steps`.

    Without a limit (None), it is the return of complete episodes, and None if they never end.

    Args:
        probabilities: the policy, [S, A].

    Raises:
        ValueError: the policy isn't a distribution.
    """
    if max_steps is None:
        try:
            return expected_return(model, probabilities, gamma=1.0)
        except NeverEnds:
            return None
    chain, reward, _ = follow_policy(model, probabilities)
    values = np.zeros(model.num_states)  # expected return of the last n steps before the limit
    for _ in range(max_steps):
        values = reward + chain @ values
    return float(model.initial @ values)


def optimum(model: TabularModel, gamma: float) -> Solution:
    """Solve a model once, whatever comes of it: every evaluation asks for it. Raises what `solve` raises."""
    outcome = _solve_once(model, gamma)
    if isinstance(outcome, Exception):
        raise outcome.with_traceback(None)
    return outcome


@lru_cache(maxsize=16)
def _solve_once(model: TabularModel, gamma: float) -> Solution | NeverEnds | NotConverged:
    """Return a model's solution, or why it has none."""
    try:
        return solve(model, gamma)
    except (NeverEnds, NotConverged) as error:
        return error


def optimal_return(model: TabularModel, gamma: float) -> float:
    """Return the largest expected discounted return from the initial distribution, without a time limit."""
    return float(model.initial @ optimum(model, gamma).v)


@dataclass(frozen=True)
class Shortfall:
    """Where a policy's values and actions fall short of the optimum, state by state."""

    live: Array
    """Which states aren't the end of an episode, bool [S]."""
    losing: Array
    """In which states the policy may take an action that isn't optimal, bool [S]."""
    value_error: Array | None
    """Largest |Q - Q*| over the available actions, [S], 0 in final states; None without action values."""

    def figures(self) -> dict[str, float | None]:
        """Return the scalars for a row of metrics."""
        error = None if self.value_error is None else self.value_error[self.live]
        return {
            "losing_states": int(np.count_nonzero(self.losing)),
            "value_error_mean": None if error is None else float(error.mean()),
            "value_error_max": None if error is None else float(error.max()),
        }


def find_shortfall(
    policy: Policy, model: TabularModel, gamma: float, width: int, probabilities: Array
) -> Shortfall:
    """Compare a memoryless policy, whose action probabilities are [S, A], with the optimum.

    Raises:
        NotConverged, NeverEnds: the model can't be solved.
    """
    best = optimum(model, gamma)
    live = ~((model.termination == 1.0) & (model.expected_reward == 0.0)).all(axis=1)
    losing = live & ((probabilities > 0.0) & ~best.optimal_actions).any(axis=1)
    q_values = _by_batches(lambda states: _action_values(policy, model, states), model, width)
    if q_values is None:
        return Shortfall(live, losing, None)
    counts = model.available & live[:, None]
    error = np.abs(np.subtract(q_values, best.q, out=np.zeros(best.q.shape), where=counts)).max(axis=1)
    return Shortfall(live, losing, error)


def measure_regret(optimal: float, achieved: float, bound: float = 0.0) -> float:
    """Return by how much a return falls short of the optimum; exactly 0.0 if by no more than rounding or `bound`.

    Args:
        bound: how far `optimal` may be off.
    """
    regret = optimal - achieved
    # The optimum and an optimal policy's return are computed by different sums and differ by rounding.
    return 0.0 if abs(regret) < max(REGRET_ROUNDING * max(1.0, abs(optimal)), bound) else regret


def exact_figures(
    policy: Policy, model: TabularModel | None, gamma: float, max_steps: int | None, width: int
) -> dict[str, float | None]:
    """Return `optimal_return`, `regret`, `exact_eval_return` and the scalars of `Shortfall` for a policy.

    The first two are discounted and without the time limit; the third is undiscounted and with it. All are
    None without a model and for a policy with a carry, and each is None where it is undefined.
    """
    figures: dict[str, float | None] = dict.fromkeys(FIGURES)
    probabilities = None if model is None else action_probabilities(policy, model, width)
    if model is None or probabilities is None:
        return figures
    figures["exact_eval_return"] = limited_return(model, probabilities, max_steps)
    try:
        figures["optimal_return"] = best = optimal_return(model, gamma)
        figures["regret"] = measure_regret(
            best, expected_return(model, probabilities, gamma), optimum(model, gamma).bound
        )
        figures |= find_shortfall(policy, model, gamma, width, probabilities).figures()
    except (NeverEnds, NotConverged):
        pass
    return figures


def _by_batches(ask: Callable[[Array], Array | None], model: TabularModel, width: int) -> Array | None:
    """Ask about all states in batches of `width`, the last one padded; return [S, ...], or None if an answer is."""
    batches = []
    for start in range(0, model.num_states, width):
        states = np.minimum(np.arange(start, start + width), model.num_states - 1)
        if (answer := ask(states)) is None:
            return None
        batches.append(answer)
    return np.concatenate(batches)[: model.num_states]


def _is_memoryless(policy: Policy) -> bool:
    carry = policy.initial_state(1)
    return isinstance(carry, tuple) and not carry


def predicted_values(policy: Policy, model: TabularModel, width: int) -> Array | None:
    """Return a memoryless policy's own values [S] of all states, asked for in batches of `width`; None if it has none.

    Where it has action values alone, it is the largest of them among the available actions.
    """

    def ask(states: Array) -> Array | None:
        mask = None if model.available.all() else model.available[states]
        told = policy.inspect(model.observe(states), (), np.ones(len(states), dtype=bool), mask)
        if "value" in told:
            return np.asarray(told["value"], np.float64)
        return np.asarray(told["q_values"], np.float64).max(axis=1) if "q_values" in told else None

    return _by_batches(ask, model, width)


def _action_values(policy: Policy, model: TabularModel, states: Array) -> Array | None:
    """Return the policy's own action values [K, A] in states [K]; None if it has none."""
    mask = None if model.available.all() else model.available[states]
    inspected = policy.inspect(model.observe(states), (), np.ones(len(states), dtype=bool), mask)
    return np.asarray(inspected["q_values"], np.float64) if "q_values" in inspected else None


def _ask(policy: Policy, model: TabularModel, states: Array) -> Array:
    """Return the policy's action probabilities [K, A] in states [K]."""
    obs = model.observe(states)
    mask = None if model.available.all() else model.available[states]
    is_first = np.ones(len(states), dtype=bool)
    inspected = policy.inspect(obs, (), is_first, mask)
    if "probabilities" in inspected:
        return np.array(inspected["probabilities"], dtype=np.float64)
    action = np.asarray(policy.act(obs, (), is_first, mask).action, dtype=np.int64)
    return (action[:, None] == np.arange(model.num_actions)).astype(np.float64)
