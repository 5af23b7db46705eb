"""Tabular Q-learning.

Watkins (1989), "Learning from Delayed Rewards"; Watkins & Dayan (1992), "Q-learning",
https://link.springer.com/article/10.1007/BF00992698.

Deviations: while exploring, ties are broken at random, since always taking the first action would make an untrained
agent repeat it. The step size can decay linearly, which convergence in stochastic environments requires.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from rl_lab.agent import Policy
from rl_lab.checks import at_least, show_space, within
from rl_lab.environments.table_rows import count_rows, make_row_of
from rl_lab.function_class import Table
from rl_lab.mdp.td_fixed_point import TDRule
from rl_lab.policies import EpsilonGreedy, ValuePolicy, counted_from_zero, legal, random_tie, shifted
from rl_lab.problem import Problem
from rl_lab.schedules import Schedule, linear
from rl_lab.seeding import Streams
from rl_lab.training.interaction import Interaction
from rl_lab.training.learner import built_from
from rl_lab.types import Array, EnvSpec, Metrics, Obs, State, Step
from rl_lab.updates.td import q_learning_target

MOST_ENTRIES = 50_000_000  # of the table, 400 MB
OTHER_OBSERVATIONS = (
    "(allowed: Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple of them; dqn and ppo take others)"
)
OTHER_ACTIONS = "(allowed: Discrete; ppo, a2c and reinforce take others)"


@dataclass(frozen=True)
class Config:
    """Fields of tabular Q-learning."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "learning": ("learning_rate", "learning_rate_final", "gamma", "initial_value"),
        "exploration": ("epsilon_initial", "epsilon_final", "epsilon_fraction"),
    }

    learning_rate: float = 0.5
    """Step size at the start, in (0, 1]."""
    learning_rate_final: float = 0.01
    """Step size at the end of the budget, to which it falls linearly in environment steps."""
    gamma: float = 0.99
    """Discount per environment step."""
    epsilon_initial: float = 1.0
    """Probability of a random action at the start."""
    epsilon_final: float = 0.1
    """Probability of a random action after epsilon has fallen."""
    epsilon_fraction: float = 0.5
    """Share of the budget over which epsilon falls linearly."""
    initial_value: float = 0.0
    """Initial value of every entry of the table; high values encourage exploration (optimism)."""

    def __post_init__(self) -> None:
        within(self, 0.0, 1.0, "learning_rate", "learning_rate_final", "gamma")
        within(self, 0.0, 1.0, "epsilon_initial", "epsilon_final", "epsilon_fraction")
        at_least(self, -1e12, "initial_value")

    def transitions(self, num_envs: int, total_steps: int) -> dict[str, float]:
        """Return the periods of a run in transitions, by field.

        Args:
            num_envs: environments stepped together.
            total_steps: the budget in transitions, over which the schedules go.
        """
        return {"epsilon_fraction": self.epsilon_fraction * total_steps}

    def budget_fields(self) -> tuple[str, ...]:
        """Return the fields by which what is learned depends on the budget."""
        falls = self.epsilon_fraction > 0 and self.epsilon_initial != self.epsilon_final
        decays = self.learning_rate_final != self.learning_rate
        return ("epsilon_fraction",) * falls + ("learning_rate_final",) * decays

    def td_rule(self) -> TDRule:
        """Return what learning minimises: its entries move towards the mean of their targets."""
        return TDRule("squared", self.gamma, epsilon=self.epsilon_final)


class QLearning:
    """Q(s, a) += alpha * (r + gamma * (1 - terminated) * max Q(s', .) - Q(s, a)) on every step."""

    collect_env_steps = 1

    def __init__(self, config: Config, problem: Problem, streams: Streams):
        self.config = config
        states, actions = problem.spec.observation_space, problem.spec.action_space
        rows = count_rows(states)
        assert rows is not None
        assert isinstance(actions, spaces.Discrete)
        self.q = np.full((rows, int(actions.n)), config.initial_value)  # [S, A]
        self._row_of, self._first_action = make_row_of(states), problem.spec.first_action
        self.gradient_steps, self.env_steps = 0, 0
        horizon = problem.horizon
        self._epsilon: Schedule = linear(
            config.epsilon_initial, config.epsilon_final, config.epsilon_fraction * horizon
        )
        self._learning_rate: Schedule = linear(config.learning_rate, config.learning_rate_final, horizon)
        self._rng = streams["explore"]
        self._step: Step | None = None

    def epsilon(self) -> float:
        """Return the probability of a random action at the current step."""
        return self._epsilon(self.env_steps)

    def policy(self, *, explore: bool) -> Policy:
        """Return the policy over the live table: epsilon-greedy with `explore`, otherwise greedy."""
        exploring = EpsilonGreedy(self._rng, self.epsilon, random_tie(self._rng)) if explore else None
        return shifted(ValuePolicy(self._values, self.q.shape[1], explore=exploring), self._first_action)

    def function_class(self) -> Table:
        """Return that every policy can be expressed."""
        return Table()

    def _values(self, obs: Obs, state: State, is_first: Array) -> tuple[Array, State]:
        return self.q[self._row_of(obs)], ()

    def observe(self, step: Step) -> None:
        """Keep the step for `update`."""
        self._step = counted_from_zero(step, self._first_action)
        self.env_steps += len(step.reward)

    def update(self) -> Metrics | None:
        """Learn from the last step observed; if several environments update the same entry, their changes add up.

        Raises:
            FloatingPointError: a reward isn't finite; the table is unchanged.
        """
        step, self._step = self._step, None
        if step is None:
            return None
        row = self._row_of(step.obs)
        next_q = legal(self.q[self._row_of(step.next_obs)], step.next_mask).max(axis=-1)  # [N]
        target = q_learning_target(step.reward, self.config.gamma, step.terminated, next_q)
        error = target - self.q[row, step.action]
        td_error = float(np.abs(error).mean())
        if not isfinite(td_error):
            raise FloatingPointError(f"temporal-difference error {td_error} at env step {self.env_steps}")
        np.add.at(self.q, (row, step.action), self._learning_rate(self.env_steps) * error)
        self.gradient_steps += 1
        return {"td_error": td_error}

    def diagnostics(self) -> dict[str, float]:
        """Return epsilon, the step size, and the mean and maximum of the table."""
        return {
            "epsilon": self.epsilon(),
            "learning_rate": self._learning_rate(self.env_steps),
            "q_mean": float(self.q.mean()),
            "q_max": float(self.q.max()),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the table and the counters."""
        return {
            "weights": {"q": self.q},
            "env_steps": self.env_steps,
            "gradient_steps": self.gradient_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the table in place, and the counters if there are any."""
        self.q[...] = state["weights"]["q"]
        self.env_steps = state.get("env_steps", 0)
        self.gradient_steps = state.get("gradient_steps", 0)


@built_from(Config)
def build(config: Config) -> Interaction:
    """Learn a table of action values (Q-learning); discrete observations and Discrete actions."""
    return Interaction(config, QLearning, refuse)


def refuse(config: Config, spec: EnvSpec) -> str | None:
    """Return why a table can't represent this problem (one line), or None if it can."""
    rows, actions = count_rows(spec.observation_space), spec.action_space
    if rows is None:
        found = show_space(spec.observation_space)
        return f"q-learning needs discrete observations; {spec.env_id} has {found} {OTHER_OBSERVATIONS}"
    if not isinstance(actions, spaces.Discrete):
        return f"q-learning needs Discrete actions; {spec.env_id} has {show_space(actions)} {OTHER_ACTIONS}"
    if (entries := rows * int(actions.n)) > MOST_ENTRIES:
        return f"q-learning would need a table of {entries} entries for {spec.env_id} (allowed: up to {MOST_ENTRIES})"
    return None
