"""Semi-gradient SARSA and Q-learning with linear values, with eligibility traces.

Sutton and Barto, "Reinforcement Learning: An Introduction", 2nd ed., sections 10.1 (SARSA), 11.2 (why Q-learning may
diverge with function approximation, as on `lab/Baird-v0`) and 12.7 (traces); Watkins (1989), "Learning from Delayed
Rewards", for Q-learning's traces, which end where an action wasn't greedy.

Deviations: SARSA learns from a step when the next action has been chosen, as the book does; where a time limit has cut
the episode, so that no action follows, its value is the mean over the policy that acts.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium import spaces

from rl_lab.agent import Policy
from rl_lab.checks import above, finite, one_of, within
from rl_lab.mdp.td_fixed_point import TDRule
from rl_lab.policies import counted_from_zero, legal
from rl_lab.problem import Problem
from rl_lab.schedules import Schedule, linear
from rl_lab.seeding import Streams
from rl_lab.types import Array, EnvSpec, Metrics, Step, UsageError

from .features import Active, Features
from .fields import LinearFields, epsilon_of, make_features, refuse_features
from .function_class import LinearClass
from .transitions import NextActions, Transitions, no_transitions, transitions_of
from .values import Actor, LinearValues

MOST_WEIGHTS = 50_000_000  # 400 MB; with traces, those of every environment together


@dataclass(frozen=True)
class SemiGradientFields(LinearFields):
    """Fields of semi-gradient learning."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "learning": (
            "gamma", "learning_rate", "learning_rate_final", "trace_decay", "traces", "initial_value", "first_weights",
        ),
    }  # fmt: skip
    COMMON: ClassVar[tuple[str, ...]] = ("learning_rate", "learning_rate_final", "trace_decay")

    learning_rate: float = 0.5
    """Step size at the start, in (0, 1]. It is divided by the number of tilings, so that with tiles (and one-hot) it is
    the share of an error that one step removes, and by the length of each Fourier feature's coefficients."""
    learning_rate_final: float = 0.05
    """Step size at the end of the budget, to which it falls linearly in environment steps."""
    trace_decay: float = 0.0
    """Lambda: how slowly an error's share for earlier steps falls; 0: one-step learning."""
    traces: Literal["accumulating", "replacing"] = "accumulating"
    """Whether a feature's trace adds up over its visits or starts anew at 1; replacing takes tiles or one-hot."""
    initial_value: float = 0.0
    """Value of every observation and action at the start (with raw: every weight); high ones encourage exploration."""
    first_weights: tuple[float, ...] | None = None
    """Weights of every action at the start, one for each feature; None: as initial_value says."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: one has a value that isn't allowed; the message names it.
        """
        super().__post_init__()
        within(self, 0.0, 1.0, "learning_rate", "learning_rate_final", "trace_decay")
        above(self, 0.0, "learning_rate")
        one_of(self, "traces", ("accumulating", "replacing"))
        finite(self, "initial_value")
        if wrong := [weight for weight in self.first_weights or () if not isfinite(weight)]:
            raise UsageError(f"first_weights must be finite numbers, got {wrong[0]}")

    def budget_fields(self) -> tuple[str, ...]:
        """Return the fields by which what is learned depends on the budget."""
        decays = self.learning_rate_final != self.learning_rate
        return super().budget_fields() + ("learning_rate_final",) * decays


@dataclass(frozen=True)
class SarsaConfig(SemiGradientFields):
    """Fields of semi-gradient SARSA."""

    def td_rule(self) -> TDRule:
        """Return that the fixed point isn't known: it is that of the policy that acts."""
        return TDRule(
            "squared", self.gamma, epsilon=self.epsilon_final,
            unknown="SARSA bootstraps from the action that follows, not from the best",
        )  # fmt: skip


@dataclass(frozen=True)
class QConfig(SemiGradientFields):
    """Fields of semi-gradient Q-learning."""

    def td_rule(self) -> TDRule:
        """Return what learning minimises in a table, which one-hot features are."""
        return TDRule("squared", self.gamma, epsilon=self.epsilon_final)


class SemiGradient:
    """w_a += alpha * (r + gamma * (1 - terminated) * bootstrap - w_a . x) * trace on every step."""

    collect_env_steps = 1

    def __init__(self, config: SemiGradientFields, problem: Problem, streams: Streams):
        spec = problem.spec
        assert isinstance(spec.action_space, spaces.Discrete)
        self.config, self._first_action = config, spec.first_action
        self.features = make_features(config, spec.observation_space)
        actions = int(spec.action_space.n)
        self.values = LinearValues(self.features, actions, _first_weights(config, self.features))
        self.gradient_steps, self.env_steps = 0, 0
        self._epsilon = epsilon_of(config, problem.horizon)
        self._learning_rate: Schedule = linear(
            config.learning_rate, config.learning_rate_final, problem.horizon
        )
        self._actor = Actor(self.values, self.epsilon, streams["explore"], self._first_action)
        self._step: Step | None = None
        self._waits_for_actions = isinstance(config, SarsaConfig)
        empty = no_transitions(spec.num_envs, self.features.dimensions, actions)
        self._next_actions = NextActions(empty, self._actor.probabilities)
        count = spec.num_envs if config.trace_decay else 0
        self._traces = np.zeros((count, actions, self.features.count))  # [N, A, F]

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
        """Keep the step for `update`."""
        self._step = counted_from_zero(step, self._first_action)
        self.env_steps += len(step.reward)

    def update(self) -> Metrics | None:
        """Learn from every step whose target is known now; None if there is none.

        Raises:
            FloatingPointError: a reward, an observation or an error isn't finite; the weights are unchanged by it.
        """
        step, self._step = self._step, None
        if step is None:
            return None
        new = transitions_of(step, self.features.read, self.values.num_actions)
        errors = self._learn_on_policy(new) if self._waits_for_actions else [self._learn_best(new)]
        if not errors:
            return None
        self.gradient_steps += 1
        return {"td_error": float(np.abs(np.concatenate(errors)).mean())}

    def _learn_on_policy(self, new: Transitions) -> list[Array]:
        errors = [self._learn(t, self._mean(t, p)) for t, p in self._next_actions.add(new)]
        if (ended := self._next_actions.ended()) is not None:
            errors.append(self._learn(ended[0], self._mean(*ended)))
        return errors

    def _mean(self, t: Transitions, probabilities: Array) -> Array:
        """Return the value of the next points, averaged over their actions, [N]."""
        q = self.values.of(t.next_points)
        return np.where(probabilities > 0, probabilities * q, 0.0).sum(axis=1)

    def _learn_best(self, t: Transitions) -> Array:
        """Learn from the best next action."""
        next_q = self.values.of(t.next_points)
        return self._learn(t, legal(next_q, t.next_legal).max(axis=1))

    def _learn(self, t: Transitions, bootstrap: Array) -> Array:
        """Move the weights towards the targets of some steps; return the errors [N].

        Raises:
            FloatingPointError: an error isn't finite; nothing is changed.
        """
        active, rows = self.features.active(t.points), np.arange(len(t.action))
        q = self.values.of_active(active)
        target = t.reward + self.config.gamma * np.where(t.terminated, 0.0, bootstrap)
        error = target - q[rows, t.action]
        if not np.isfinite(error).all():
            found = error[~np.isfinite(error)][0]
            raise FloatingPointError(f"temporal-difference error {found} at env step {self.env_steps}")
        step = self._learning_rate(self.env_steps) * error
        if self.config.trace_decay:
            self._follow_traces(t, active, q)
            moved = np.tensordot(step, self._traces[t.env], axes=1) * self.features.step_scale
            self.values.weights += moved
            self._traces[t.env[t.done]] = 0.0
        else:
            moved = step[:, None] * active.value * self.features.step_scale[active.number]
            np.add.at(self.values.weights, (t.action[:, None], active.number), moved)
        return error

    def _follow_traces(self, t: Transitions, active: Active, q: Array) -> None:
        """Let the traces [N, A, F] of these steps' environments fall, and those of their features rise."""
        decay = np.where(t.is_first, 0.0, self.config.gamma * self.config.trace_decay)
        if not self._waits_for_actions:
            best = q[np.arange(len(q)), t.action] >= legal(q, t.legal).max(axis=1)
            decay = np.where(best, decay, 0.0)
        self._traces[t.env] *= decay[:, None, None]
        where = (t.env[:, None], t.action[:, None], active.number)
        if self.config.traces == "replacing":
            self._traces[where] = active.value
        else:
            self._traces[where] += active.value

    # State -------------------------------------------------------------------------------------------

    def diagnostics(self) -> dict[str, float]:
        """Return epsilon, the step size, and the largest size of a weight."""
        return {
            "epsilon": self.epsilon(),
            "learning_rate": self._learning_rate(self.env_steps),
            "weight_max": float(np.abs(self.values.weights).max()),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, the steps that wait, the traces and the counters; leaves are live."""
        return {
            "weights": {"w": self.values.weights},
            "next_actions": self._next_actions.state_dict(),
            "traces": self._traces,
            "env_steps": self.env_steps,
            "gradient_steps": self.gradient_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the weights in place, and the rest if there is any."""
        self.values.weights[...] = state["weights"]["w"]
        self.env_steps, self.gradient_steps = state.get("env_steps", 0), state.get("gradient_steps", 0)
        if "traces" in state:
            self._next_actions.load_state_dict(state["next_actions"])
            self._traces[...] = state["traces"]


def _first_weights(config: SemiGradientFields, features: Features) -> Array:
    given = config.first_weights
    return features.constant(config.initial_value) if given is None else np.array(given, np.float64)


def refuse(agent: str, config: SemiGradientFields, spec: EnvSpec) -> str | None:
    """Return why the agent can't learn this problem (one line), or None if it can."""
    copies = 1 + spec.num_envs * bool(config.trace_decay)
    if (reason := refuse_features(agent, config, spec, MOST_WEIGHTS // copies)) is not None:
        return reason
    features = make_features(config, spec.observation_space)
    if config.trace_decay and config.traces == "replacing" and not features.binary:
        return f"traces 'replacing' need tiles or one-hot features; {spec.env_id} is given {features.description}"
    given = config.first_weights
    if given is not None and len(given) != features.count:
        return f"first_weights has {len(given)} numbers; there are {features.count} features of {spec.env_id}"
    return None
