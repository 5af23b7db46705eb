"""The exact optimum of the environment being watched, looked up by what is observed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import gymnasium
import numpy as np

from rl_lab.evaluation.exact import optimum as solved
from rl_lab.mdp.model import TabularModel, extract_model, why_no_model
from rl_lab.mdp.rows import NeverEnds, NotConverged
from rl_lab.mdp.solve import Solution
from rl_lab.problem import model_fault
from rl_lab.types import Array, Obs

BATCH_STATES = 1024  # whose observations are held in memory at a time


@dataclass(frozen=True)
class Optimum:
    """Exact action values, or why there are none; made once per environment by `optimum_of`."""

    reason: str = ""
    """Why there are none (part of a line); "" if there are."""
    gamma: float | None = None
    """The discount of the values."""
    gamma_source: str = ""
    """What says so, such as "eval_gamma"."""
    model: TabularModel | None = None
    solution: Solution | None = None
    _states: dict[bytes, int] = field(default_factory=dict, repr=False)
    _dtype: np.dtype | None = None

    def state_of(self, obs: Obs) -> int | None:
        """Return the state that one observation [1, ...] shows; None for one that the model doesn't have."""
        if self.solution is None:
            return None
        return self._states.get(_key(np.asarray(obs, self._dtype)[0]))

    def q_values(self, obs: Obs) -> Array | None:
        """Return Q*(s, .), float64 [A], of one observation [1, ...], -inf for unavailable actions; None if unknown."""
        state = self.state_of(obs)
        return None if state is None or self.solution is None else self.solution.q[state]


def optimum_of(env: gymnasium.Env, gamma: float | None, gamma_source: str = "eval_gamma") -> Optimum:
    """Solve the finite model of an environment.

    Args:
        env: is played for a few steps, to see whether it does what its model says, and left freshly reset.
        gamma: the discount; None if nothing tells it.
        gamma_source: what tells it, for display.
    """
    env_id = "the environment" if env.spec is None else env.spec.id
    model = extract_model(env)
    if model is None:
        return Optimum(why_no_model(env, env_id))
    if gamma is None:
        return Optimum("no discount is given")
    if (fault := model_fault(env, model, env_id)) is not None:
        return Optimum(fault)
    return optimum_of_model(model, gamma, gamma_source)


def optimum_of_model(model: TabularModel, gamma: float, gamma_source: str = "eval_gamma") -> Optimum:
    """Solve a model whose environment is known to agree with it."""
    states: dict[bytes, int] = {}
    for start in range(0, model.num_states, BATCH_STATES):
        shown = model.observe(np.arange(start, min(start + BATCH_STATES, model.num_states)))
        for state, row in enumerate(shown, start):
            if (first := states.setdefault(_key(row), state)) != state:
                return Optimum(
                    f"observations don't tell the state: those of states {first} and {state} are alike"
                )
    try:
        return Optimum("", gamma, gamma_source, model, solved(model, gamma), states, shown.dtype)
    except (NeverEnds, NotConverged) as error:
        return Optimum(f"the model can't be solved at {gamma_source} {gamma}: {error}")


def _key(row: Array) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(row).tobytes(), digest_size=16).digest()
