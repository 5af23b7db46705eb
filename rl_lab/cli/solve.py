"""The command that solves the finite MDP behind an environment."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rl_lab.checks import above, at_least, within
from rl_lab.cli.listing import print_table
from rl_lab.cli.parsing import parse
from rl_lab.environments.contract import Contract
from rl_lab.environments.make import make_env
from rl_lab.evaluation.exact import limited_return
from rl_lab.mdp.average_methods import TooManyStates
from rl_lab.mdp.average_reward import AVERAGE_METHODS, AverageSolution, Multichain, solve_average
from rl_lab.mdp.model import TabularModel, extract_model, why_no_model
from rl_lab.mdp.solve import DEFAULT_METHOD, NeverEnds, NotConverged, Solution
from rl_lab.mdp.solve import solve as solve_model
from rl_lab.problem import model_fault
from rl_lab.storage.files import replacing, require_zip
from rl_lab.storage.places import require_file
from rl_lab.types import Array, UsageError

ABOUT = """Solve the finite MDP of an environment exactly and print the optimum. The model must be known: that of
FrozenLake, Taxi and CliffWalking, of most of lab/*, and of environments with a method model()."""

Method = Literal[
    "value-iteration", "gauss-seidel", "prioritised-sweeping", "policy-iteration", "modified-policy-iteration",
    "linear-programming", "relative-value-iteration", "average-policy-iteration",
]  # fmt: skip
"""The names in `rl_lab.mdp.methods.METHODS`, and those of `AVERAGE_METHODS` for the average reward per step."""

DEFAULT_GAMMA = 0.99


@dataclass(frozen=True)
class SolveOptions:
    """What the command takes.

    Raises:
        UsageError: a value that isn't allowed, or a file in no folder.
    """

    env_id: str
    """Gymnasium id, namespace/id of an installed package, or module:id."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment, as name=value."""
    method: Method = DEFAULT_METHOD
    """How the MDP is solved. The last two maximise the average reward per step, episodes following one another; all
    others find the same optimum of the discounted return, the default the fastest. prioritised-sweeping takes many
    times as long where all states matter, as with a gamma close to 1 or many random outcomes."""
    gamma: float | None = None
    """Discount per environment step, by default 0.99; 1 for problems that end. The average reward has none."""
    tolerance: float = 1e-10
    """Certified bound on the error of the values in the sup norm, relative to max(1, |V|), or on that of the average
    reward, relative to max(1, |average reward|)."""
    max_sweeps: int = 1_000_000
    """Sweeps (improvements, iterations of the linear program) after which not having converged is an error."""
    threads: int = 1
    """Threads that share the sweeps of a large discounted model; they change no result."""
    table: bool = False
    """Print the value and the optimal actions of every state as well."""
    out: str | None = None
    """File for the solution, F.npz: arrays v [S], q [S, A], policy [S] and optimal_actions [S, A], and the scalars
    gamma and bound; for the average reward gain, bound and bias_bound, and instead of v bias [S], or in a large model
    relative_values [S]."""

    def __post_init__(self) -> None:
        if self.gamma is not None and self.method in AVERAGE_METHODS:
            raise UsageError(
                f"gamma {self.gamma} has no meaning for {self.method}, which finds the average reward per step"
                " (allowed: none, or a method for the discounted return)"
            )
        if self.gamma is not None:
            within(self, 0.0, 1.0, "gamma")
        above(self, 0.0, "tolerance")
        at_least(self, 1, "max_sweeps", "threads")
        if self.out is not None and not self.out.endswith(".npz"):
            raise UsageError(f"out {self.out!r} must end in .npz")
        if self.out is not None and not Path(self.out).parent.is_dir():
            raise UsageError(f"out {self.out!r} lies in no folder (allowed: a file in a folder that exists)")
        if self.out is not None:
            require_file(self.out, "out")


def solve(argv: Sequence[str]) -> int:
    """Solve an environment's finite MDP and print the optimum; return the exit code.

    Raises:
        UsageError: a wrong option, an environment without a model, a problem without a finite optimum, one that
            isn't solved within the sweeps allowed, or a place where no file can be written.
        NotWritten: the file system refused the solution; a file that was there is as it was.
    """
    options: SolveOptions = parse(SolveOptions, argv, program="rl-lab solve", about=ABOUT)
    model, max_steps = model_of(options.env_id, options.env_kwargs)
    average = options.method in AVERAGE_METHODS
    try:
        lines, table, arrays = (_average if average else _discounted)(model, max_steps, options)
    except (NeverEnds, Multichain, TooManyStates) as error:
        raise UsageError(str(error)) from error
    except NotConverged as error:
        smaller = "" if average else ", a smaller gamma"
        raise UsageError(f"{error} (allowed: more max_sweeps, a larger tolerance{smaller})") from error
    print("\n".join(lines))
    if options.table:
        print_table(table)
    if options.out is not None:
        _write(arrays, options.out)
    return 0


Told = tuple[list[str], list[tuple[str, ...]], dict[str, Any]]
"""Lines on a solution, a row for each state beneath a header, and what is saved of it."""


def _discounted(model: TabularModel, max_steps: int | None, options: SolveOptions) -> Told:
    """Solve a model for the discounted return. Raises what `rl_lab.mdp.solve.solve` raises."""
    gamma = DEFAULT_GAMMA if options.gamma is None else options.gamma
    solution = solve_model(
        model, gamma, options.method,
        tolerance=options.tolerance, max_sweeps=options.max_sweeps, threads=options.threads,
    )  # fmt: skip
    lines = [
        _header(model, options, solution.sweeps),
        f"optimal return from the start: {float(model.initial @ solution.v):.6g}"
        f" (gamma {gamma}, error at most {solution.bound:.1g})",
        _undiscounted(model, solution, max_steps),
    ]
    arrays = {"v": solution.v, "gamma": gamma}
    return lines, _table("value", solution.v, solution.optimal_actions), arrays | _arrays(solution)


def _average(model: TabularModel, max_steps: int | None, options: SolveOptions) -> Told:
    """Solve a model for the average reward. Raises what `rl_lab.mdp.average_reward.solve_average` raises."""
    solution = solve_average(
        model, options.method, tolerance=options.tolerance, max_sweeps=options.max_sweeps
    )
    left = int(np.count_nonzero(~solution.solved))
    part = "" if not left else f", apart from {left} states that the start doesn't lead to"
    name = solution.name_of_bias
    words = name.replace("_", " ")
    known = f"error at most {solution.bias_bound:.1g}"
    known = known if name == "bias" else "not certified to be the bias in so large a model"
    recurrent = int(np.count_nonzero(solution.recurrent))
    lines = [
        _header(model, options, solution.sweeps) + f"; {solution.structure}{part}",
        f"optimal average reward per step: {solution.gain:.6g} (error at most {solution.bound:.1g}), episodes"
        " following one another",
        f"{words}: {np.nanmin(solution.bias):.6g} to {np.nanmax(solution.bias):.6g} ({known});"
        f" {recurrent} {'state is' if recurrent == 1 else 'states are'} visited for ever",
    ]
    arrays = {name: solution.bias, "gain": solution.gain, "bias_bound": solution.bias_bound}
    return lines, _table(words, solution.bias, solution.optimal_actions), arrays | _arrays(solution)


def _header(model: TabularModel, options: SolveOptions, sweeps: int) -> str:
    return (
        f"{options.env_id}: {model.num_states} states, {model.num_actions} actions; {options.method},"
        f" {sweeps} sweeps"
    )


def model_of(env_id: str, env_kwargs: dict[str, Any]) -> tuple[TabularModel, int | None]:
    """Return the finite MDP of an environment, and the steps after which its episodes are cut (None: never).

    Raises:
        UsageError: an unknown environment, or one that gives no model, or none that is what it plays.
    """
    with closing(Contract(make_env(env_id, env_kwargs))) as env:
        model, limit = extract_model(env), None if env.spec is None else env.spec.max_episode_steps
        if model is None:
            raise UsageError(f"solve needs a finite MDP, and {why_no_model(env, repr(env_id))}")
        if (fault := model_fault(env, model, env_id)) is not None:
            raise UsageError(fault)
        return model, limit


def _undiscounted(model: TabularModel, solution: Solution, max_steps: int | None) -> str:
    """Return what an episode of the optimal policy pays, as a line."""
    probabilities = np.eye(model.num_actions)[solution.policy]  # [S, A]
    unlimited = limited_return(model, probabilities, None)
    without = "no finite return without a limit" if unlimited is None else f"{unlimited:.6g} without a limit"
    if max_steps is None:
        return f"undiscounted return of that policy: {without}"
    limited = limited_return(model, probabilities, max_steps)
    return f"undiscounted return of that policy: {limited:.6g} in {max_steps} steps at most, {without}"


def _table(name: str, values: Array, optimal_actions: Array) -> list[tuple[str, ...]]:
    """Return a row for each state: its number, its value or bias, all its optimal actions."""
    rows = [
        (str(s), f"{value:.6g}", " ".join(map(str, np.flatnonzero(optimal))))
        for s, (value, optimal) in enumerate(zip(values, optimal_actions, strict=True))
    ]
    return [("state", name, "optimal actions"), *rows]


def _arrays(solution: Solution | AverageSolution) -> dict[str, Any]:
    """Return what is saved of every solution."""
    return {name: getattr(solution, name) for name in ("q", "policy", "optimal_actions", "bound")}


def _write(arrays: dict[str, Any], out: str) -> None:
    """Write a solution to the file that was asked for.

    Raises:
        NotWritten: the file system refused; a file that was there is as it was.
    """
    with replacing(out, require_zip) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    print(f"solution: {out}")
