"""Dynamic programming as a learner: it solves the environment's model exactly, without any environment step.

Bellman (1957), "Dynamic Programming"; the bounds are those of Puterman (1994), "Markov Decision Processes",
section 6.3, and 8.5 for the average reward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rl_lab.agent import Policy
from rl_lab.checks import above, at_least, within
from rl_lab.function_class import Table
from rl_lab.mdp.average_reward import AVERAGE_METHODS, Multichain, TooManyStates, solve_average
from rl_lab.mdp.methods import METHODS
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.rows import NeverEnds, NotConverged
from rl_lab.mdp.solve import solve
from rl_lab.policies import shifted
from rl_lab.problem import Problem
from rl_lab.runs.run import Run
from rl_lab.training.learner import built_from
from rl_lab.types import Array, Decision, Obs, State, UsageError

MAX_ROWS = 200  # of metrics for one solution


@dataclass(frozen=True)
class Config:
    """Fields of dynamic programming."""

    gamma: float = 0.99
    """Discount per environment step; 1 is allowed if every episode ends."""
    tolerance: float = 1e-10
    """Largest error of V in the sup norm, relative to max(1, |V|); the result is certified to be within it."""
    max_sweeps: int = 1_000_000
    """Most sweeps (or improvements, or iterations of the linear program); not converging within them is an error."""

    def __post_init__(self) -> None:
        within(self, 0.0, 1.0, "gamma")
        above(self, 0.0, "tolerance")
        at_least(self, 1, "max_sweeps")

    def budget_fields(self) -> tuple[str, ...]:
        """Return (): it takes no steps, so that its solution doesn't depend on the budget."""
        return ()


@dataclass(frozen=True)
class AverageConfig:
    """Fields of dynamic programming for the average reward."""

    tolerance: float = 1e-10
    """Largest error of the average reward per step, relative to max(1, |average reward|); the result is certified to
    be within it."""
    max_sweeps: int = 1_000_000
    """Most sweeps (or improvements); not converging within them is an error."""

    def __post_init__(self) -> None:
        above(self, 0.0, "tolerance")
        at_least(self, 1, "max_sweeps")

    def budget_fields(self) -> tuple[str, ...]:
        """Return (): it takes no steps, so that its solution doesn't depend on the budget."""
        return ()


class SolvedPolicy:
    """Takes the optimal action of the state that an observation shows.

    Args:
        weights: `policy` int64 [S]; for the discounted return `v` [S] and `q` [S, A] as well.
    """

    def __init__(self, model: TabularModel, weights: dict[str, Any]):
        self._actions, self._v, self._q = weights["policy"], weights.get("v"), weights.get("q")
        self._state_of = _lookup(model)

    def initial_state(self, num_envs: int) -> State:
        """Return (): it remembers nothing."""
        return ()

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Return the optimal actions int64 [N]."""
        return Decision(self._actions[self._state_of(obs)])

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return the optimal values: `q_values` [N, A] and `value` [N]; {} where none are of a discounted return."""
        if self._v is None or self._q is None:
            return {}
        states = self._state_of(obs)
        return {"q_values": self._q[states], "value": self._v[states]}


def _lookup(model: TabularModel) -> Any:
    """Return the function that maps observations [N, ...] to states int64 [N]."""
    shown = model.observe(np.arange(model.num_states))
    if shown.ndim == 1 and np.array_equal(shown, np.arange(model.num_states)):
        return lambda obs: obs
    table = {row.tobytes(): s for s, row in enumerate(shown)}
    return lambda obs: np.array([table[row.tobytes()] for row in np.asarray(obs, shown.dtype)])


class DynamicProgramming:
    """Solves the model of an environment by one of the METHODS, or of the AVERAGE_METHODS."""

    resumes = True  # by solving again, which is deterministic
    knows_model = True

    def __init__(self, config: Config | AverageConfig, method: str):
        assert method in (METHODS if isinstance(config, Config) else AVERAGE_METHODS)
        self.config, self.Config, self.method = config, type(config), method

    def refuse(self, problem: Problem) -> str | None:
        """Return why this problem can't be solved (one line), or None if it can."""
        if problem.initial_weights is not None:
            return f"{self.method} solves the model from scratch, without initial weights (allowed: no init_from)"
        if problem.model is None:
            return f"{self.method} needs a finite MDP, and {problem.no_model}"
        return None

    def learn(self, problem: Problem, run: Run) -> Policy:
        """Solve the model, unless the restored run has its solution, and finish the run.

        Raises:
            UsageError: without a discount some episode never ends, the average reward depends on the start, or
                `max_sweeps` weren't enough.
        """
        run.start_clock()
        weights = self._solve(problem, run) if run.restored is None else run.restored["weights"]
        policy = self.load(problem, weights)
        run.finish(0, policy, {"weights": weights}, gradient_steps=0)
        return policy

    def _solve(self, problem: Problem, run: Run) -> dict[str, Any]:
        """Return the solution as weights."""
        assert problem.model is not None
        try:
            if isinstance(self.config, AverageConfig):
                return _solve_average(problem.model, self.method, self.config, run)
            return _solve_discounted(problem.model, self.method, self.config, run)
        except (NeverEnds, Multichain, TooManyStates) as error:
            raise UsageError(str(error)) from error
        except NotConverged as error:
            smaller = ", a smaller gamma" if isinstance(self.config, Config) else ""
            raise UsageError(f"{error} (allowed: more max_sweeps, a larger tolerance{smaller})") from error

    def function_class(self, problem: Problem, weights: dict[str, Any]) -> Table:
        """Return that every policy can be expressed."""
        return Table()

    def load(self, problem: Problem, weights: dict[str, Any]) -> Policy:
        """Return the policy of a solution."""
        assert problem.model is not None
        return shifted(SolvedPolicy(problem.model, weights), problem.spec.first_action)


def _solve_discounted(model: TabularModel, method: str, config: Config, run: Run) -> dict[str, Any]:
    """Return an optimal policy and its values; push a row per sweep, ever fewer as sweeps go on."""

    def on_sweep(sweep: int, values: Array, bound: float) -> None:
        if _is_told(sweep):
            run.row(0, {"sweep": sweep, "bound": bound, "v_start": float(model.initial @ values)})

    solution = solve(
        model,
        config.gamma,
        method,
        tolerance=config.tolerance,
        max_sweeps=config.max_sweeps,
        on_sweep=on_sweep,
        threads=run.config.threads,
    )
    v_start = float(model.initial @ solution.v)
    run.row(0, {"sweep": solution.sweeps, "bound": solution.bound, "v_start": v_start})
    return {"policy": solution.policy, "v": solution.v, "q": solution.q}


def _solve_average(model: TabularModel, method: str, config: AverageConfig, run: Run) -> dict[str, Any]:
    """Return a policy with the largest average reward, its gain and its bias; push a row per sweep as above."""

    def on_sweep(sweep: int, gain: float, bound: float) -> None:
        if _is_told(sweep):
            run.row(0, {"sweep": sweep, "bound": bound, "gain": gain})

    solution = solve_average(
        model, method, tolerance=config.tolerance, max_sweeps=config.max_sweeps, on_sweep=on_sweep
    )
    run.row(0, {"sweep": solution.sweeps, "bound": solution.bound, "gain": solution.gain})
    return {
        "policy": solution.policy,
        "gain": np.array(solution.gain),
        solution.name_of_bias: solution.bias,
        "differential_q": solution.q,
    }


def _is_told(sweep: int) -> bool:
    """Return whether a sweep gets a row: the first ones do, and then ever fewer."""
    return sweep <= MAX_ROWS // 2 or sweep % (10 ** (len(str(sweep)) - 1)) == 0


@built_from(Config)
def build_value_iteration(config: Config) -> DynamicProgramming:
    """Solve a finite MDP exactly by value iteration: sweeps over all states."""
    return DynamicProgramming(config, "value-iteration")


@built_from(Config)
def build_policy_iteration(config: Config) -> DynamicProgramming:
    """Solve a finite MDP exactly by policy iteration: evaluate a policy, then improve it."""
    return DynamicProgramming(config, "policy-iteration")


@built_from(Config)
def build_modified_policy_iteration(config: Config) -> DynamicProgramming:
    """Solve a finite MDP exactly by modified policy iteration: rough evaluations, many improvements."""
    return DynamicProgramming(config, "modified-policy-iteration")


@built_from(Config)
def build_linear_programming(config: Config) -> DynamicProgramming:
    """Solve a finite MDP exactly as a linear program, by HiGHS."""
    return DynamicProgramming(config, "linear-programming")


@built_from(AverageConfig)
def build_relative_value_iteration(config: AverageConfig) -> DynamicProgramming:
    """Find the largest average reward per step of a finite MDP by relative value iteration: sweeps over all states."""
    return DynamicProgramming(config, "relative-value-iteration")


@built_from(AverageConfig)
def build_average_policy_iteration(config: AverageConfig) -> DynamicProgramming:
    """Find the largest average reward per step of a finite MDP by policy iteration, with each policy solved exactly."""
    return DynamicProgramming(config, "average-policy-iteration")
