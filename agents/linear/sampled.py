"""LSTD and LSPI: control by least squares over stored steps.

LSTD evaluates the policy that acts, from the actions that really followed, and the policy improves as it goes along.
LSPI evaluates the greedy policy of its own values from the same steps until that stays as it is, whoever took them.

Deviations from Lagoudakis and Parr (2003): samples are collected by an epsilon-greedy policy that follows the weights,
and policy iteration begins anew from the last weights in each period.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from rl_lab.agent import Policy
from rl_lab.checks import above, at_least
from rl_lab.mdp.td_fixed_point import TDRule
from rl_lab.policies import counted_from_zero
from rl_lab.problem import Problem
from rl_lab.schedules import crossings
from rl_lab.seeding import Streams
from rl_lab.types import EnvSpec, Metrics, Step

from .fields import LinearFields, epsilon_of, make_features, refuse_features
from .function_class import LinearClass
from .least_squares import Iterated, lspi, lstd_q
from .room import refuse_oversize
from .samples import SampleStore
from .transitions import NextActions, no_transitions, transitions_of
from .values import Actor, LinearValues

MOST_WEIGHTS = 4_000  # the system has their square of entries, 128 MB


@dataclass(frozen=True)
class LeastSquaresFields(LinearFields):
    """Fields of least squares."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "learning": ("gamma", "ridge", "capacity", "update_period_env_steps"),
    }
    COMMON: ClassVar[tuple[str, ...]] = ("ridge", "capacity", "update_period_env_steps")

    ridge: float = 0.1
    """Added to the diagonal of the system, above 0: draws weights that little is known of towards 0."""
    capacity: int = 20_000
    """Steps kept to learn from; the oldest give way."""
    update_period_env_steps: int = 1_000
    """Environment steps between solutions."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: one has a value that isn't allowed; the message names it.
        """
        super().__post_init__()
        above(self, 0.0, "ridge")
        at_least(self, 1, "capacity", "update_period_env_steps")


@dataclass(frozen=True)
class LSTDConfig(LeastSquaresFields):
    """Fields of LSTD."""

    def td_rule(self) -> TDRule:
        """Return that the fixed point isn't known: it is that of the policies that acted."""
        return TDRule(
            "squared", self.gamma, epsilon=self.epsilon_final,
            unknown="LSTD bootstraps from the actions that followed, not from the best",
        )  # fmt: skip


@dataclass(frozen=True)
class LSPIConfig(LeastSquaresFields):
    """Fields of LSPI."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "learning": ("max_iterations", "tolerance"),
    }

    max_iterations: int = 20
    """Most policies that are evaluated in one period."""
    tolerance: float = 1e-4
    """Largest change of a weight, in units of value, with which policy iteration is done."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: one has a value that isn't allowed; the message names it.
        """
        super().__post_init__()
        at_least(self, 1, "max_iterations")
        at_least(self, 0.0, "tolerance")

    def td_rule(self) -> TDRule:
        """Return what learning minimises in a table, which one-hot features are."""
        return TDRule("squared", self.gamma, epsilon=self.epsilon_final)


class LeastSquares:
    """Stores steps, and solves for the weights once a period."""

    def __init__(self, config: LSTDConfig | LSPIConfig, problem: Problem, streams: Streams):
        spec = problem.spec
        assert isinstance(spec.action_space, spaces.Discrete)
        self.config, self._num_envs, self._first_action = config, spec.num_envs, spec.first_action
        self.features = make_features(config, spec.observation_space)
        actions = int(spec.action_space.n)
        self.values = LinearValues(self.features, actions, np.zeros(self.features.count))
        self.store = SampleStore(config.capacity, self.features.dimensions, actions)
        self.collect_env_steps = 1
        self.gradient_steps, self.env_steps = 0, 0
        self._epsilon = epsilon_of(config, problem.horizon)
        self._actor = Actor(self.values, self.epsilon, streams["explore"], self._first_action)
        empty = no_transitions(spec.num_envs, self.features.dimensions, actions)
        self._next_actions = NextActions(empty, self._actor.probabilities)

    # Acting ------------------------------------------------------------------------------------------

    def epsilon(self) -> float:
        """Return the probability of a random action at the current step."""
        return self._epsilon(self.env_steps)

    def policy(self, *, explore: bool) -> Policy:
        """Return the policy over the live weights: epsilon-greedy with `explore`, otherwise greedy."""
        return self._actor.policy(explore)

    def function_class(self) -> LinearClass:
        """Return the policies that are greedy in linear values."""
        return self._actor.function_class()

    # Learning ----------------------------------------------------------------------------------------

    def observe(self, step: Step) -> None:
        """Store the step, with LSTD once the action that follows is known.

        Raises:
            FloatingPointError: a reward or an observation isn't finite; nothing is stored.
        """
        step = counted_from_zero(step, self._first_action)
        new = transitions_of(step, self.features.read, self.values.num_actions)
        self.env_steps += self._num_envs
        if isinstance(self.config, LSPIConfig):
            self.store.add(new, new.next_legal)
            return
        complete = self._next_actions.add(new)
        if (ended := self._next_actions.ended()) is not None:
            complete.append(ended)
        for transitions, probabilities in complete:
            self.store.add(transitions, probabilities)

    def update(self) -> Metrics | None:
        """Solve for the weights if a period has ended; otherwise return None.

        Raises:
            FloatingPointError: the solution isn't finite; the weights are unchanged.
        """
        after = self.env_steps
        if not crossings(after - self._num_envs, after, self.config.update_period_env_steps):
            return None
        if not len(self.store):
            return None
        try:
            found = self._solve()
        except FloatingPointError as error:
            raise FloatingPointError(f"{error} at env step {after}") from None
        self.values.weights[...] = found.weights
        self.gradient_steps += found.iterations
        return {"iterations": float(found.iterations), "weight_change": found.change}

    def _solve(self) -> Iterated:
        config, before = self.config, self.values.weights
        samples = self.store.samples(self.features, config.gamma)
        if isinstance(config, LSPIConfig):
            return lspi(
                samples, self.store.next_weight > 0, before,
                ridge=config.ridge, most=config.max_iterations, tolerance=config.tolerance,
            )  # fmt: skip
        weights = lstd_q(samples, self.store.next_weight, config.ridge)
        return Iterated(weights, 1, float(np.abs(weights - before).max()))

    # State -------------------------------------------------------------------------------------------

    def diagnostics(self) -> dict[str, float]:
        """Return epsilon, the number of samples, and the largest size of a weight."""
        return {
            "epsilon": self.epsilon(),
            "samples": len(self.store),
            "weight_max": float(np.abs(self.values.weights).max()),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, the samples, the steps that wait, and the counters; leaves are live."""
        return {
            "weights": {"w": self.values.weights},
            "store": self.store.state_dict(),
            "next_actions": self._next_actions.state_dict(),
            "env_steps": self.env_steps,
            "gradient_steps": self.gradient_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the weights in place, and the rest if there is any."""
        self.values.weights[...] = state["weights"]["w"]
        self.env_steps, self.gradient_steps = state.get("env_steps", 0), state.get("gradient_steps", 0)
        if "store" in state:
            self.store.load_state_dict(state["store"])
            self._next_actions.load_state_dict(state["next_actions"])


def refuse(agent: str, config: LeastSquaresFields, spec: EnvSpec) -> str | None:
    """Return why the agent can't learn this problem (one line), or None if it can."""
    if (reason := refuse_features(agent, config, spec, MOST_WEIGHTS)) is not None:
        return reason
    if config.capacity < spec.num_envs:
        return f"capacity must be at least num_envs {spec.num_envs}, got {config.capacity}"
    assert isinstance(spec.action_space, spaces.Discrete)
    features = make_features(config, spec.observation_space)
    return refuse_oversize(config.capacity, features, int(spec.action_space.n))
