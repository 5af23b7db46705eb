"""What the registry makes: a Learner, which turns a problem into a policy, from a factory of its fields."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from rl_lab.agent import Policy
from rl_lab.problem import Problem
from rl_lab.runs.run import Run

C = TypeVar("C")
L = TypeVar("L")


class Learner(Protocol):
    """Turns a problem into a policy. An entry point names a factory: `factory(**fields) -> Learner`.

    Four more attributes are optional, and False unless given: `takes_datasets` (it can learn from recorded
    steps), `stops_early` (it calls `Run.moment` while it learns, and finishes when that says to stop),
    `steps_vectors` (it steps the vector of environments that the run asks for) and `ignores_masks` (it may choose
    actions that an environment's masks forbid).
    So is the method `resolved(problem) -> Learner`: it returns the learner with what its config leaves to
    "auto" decided. A method `budget_fields()` of the config names the fields by which what is learned depends on
    the budget; only runs of configs that have it, and name none, can be given a larger budget later. A method
    `idle_fields()` of the config maps the names of fields that do nothing beside the others to what they would need,
    and a method `refuse_new()` returns why a new run can't have its fields, though older ones may (one line, or None).

    What `rl_lab.diagnosis` asks is optional too: the methods `function_class(problem, weights) -> FunctionClass | None`
    and `exploring(problem, weights) -> Policy` (the policy that collects steps), the attribute `knows_model` (it learns
    from the model, not from steps), and a method `td_rule() -> TDRule` of the config.
    """

    Config: type  # a frozen dataclass; its fields become options of the command line
    config: Any  # an instance of it
    resumes: bool  # whether a stopped run can go on exactly where it was

    def refuse(self, problem: Problem) -> str | None:
        """Return why this problem can't be learned (one line), or None if it can."""

    def learn(self, problem: Problem, run: Run) -> Policy:
        """Learn, push rows and episodes into `run`, and return the final greedy policy."""

    def load(self, problem: Problem, weights: dict[str, Any]) -> Policy:
        """Return the greedy policy over stored weights, without replay or optimiser."""


def ignores_masks(learner: Learner, problem: Problem) -> bool:
    """Return whether a learner may act illegally on a problem, which has action masks."""
    return problem.spec.has_mask and getattr(learner, "ignores_masks", False)


def built_from(config: type[C]) -> Callable[[Callable[[C], L]], Callable[..., L]]:
    """Turn a function that takes a config into a factory that takes the config's fields.

    The factory's attribute `Config` is the config's class, so that fields can be listed and checked without
    building a learner. The first line of the function's docstring describes the agent in `rl-lab agents`.
    """

    def decorate(build: Callable[[C], L]) -> Callable[..., L]:
        @functools.wraps(build)
        def factory(**fields: Any) -> L:
            return build(config(**fields))

        factory.Config = config  # type: ignore[attr-defined]
        return factory

    return decorate
