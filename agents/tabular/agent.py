"""The one tabular agent: a rule, a behaviour and perhaps a model around one table."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.agent import Policy
from rl_lab.environments.table_rows import count_rows, make_row_of
from rl_lab.function_class import Table
from rl_lab.mdp.learning.exploring import EPSILON_GREEDY, UCB
from rl_lab.mdp.learning.step_sizes import BY_TIME
from rl_lab.policies import EpsilonGreedy, ValuePolicy, random_tie, shifted
from rl_lab.problem import Problem
from rl_lab.schedules import Schedule, constant, linear
from rl_lab.seeding import Streams, seed_of
from rl_lab.types import Array, Metrics, Obs, State, Step

from .acting import MOST_ANSWERS, Alone, Exploring, RowsOf, UniformPolicy
from .bins import count_bins, make_bin_of
from .config import BEHAVIOURS, PARAMETERS, STEP_SIZES, Config, Learning
from .tables import ALL_LEGAL, LearnOne, Now, Rule, Tables, Taken, own

MakeRule = Callable[[Any, Tables, int], Rule]  # config, tables, number of environments


def rows_of(config: Learning, space: spaces.Space) -> tuple[int, RowsOf]:
    """Return how many rows a table of a space's observations has, and what maps observations to them."""
    if config.bins:
        fields = config.bins, config.bins_low, config.bins_high, space
        return count_bins(*fields), make_bin_of(*fields)
    rows = count_rows(space)
    assert rows is not None
    row_of = make_row_of(space)
    if isinstance(space, spaces.Discrete) and space.dtype == np.int64:
        return rows, row_of
    return rows, lambda obs: np.ascontiguousarray(row_of(obs), np.int64)


class Tabular:
    """Learns a table of values from steps.

    Args:
        make_rule: makes what learns.
        predicts: the table holds values of states, for the policy that acts uniformly at random.
    """

    collect_env_steps = 1

    def __init__(
        self,
        config: Learning,
        problem: Problem,
        streams: Streams,
        *,
        make_rule: MakeRule,
        predicts: bool = False,
    ):
        spec = problem.spec
        assert isinstance(spec.action_space, spaces.Discrete)
        self.config, self._predicts, self._seed = config, predicts, problem.seed
        self._first_action, self._num_actions = spec.first_action, int(spec.action_space.n)
        rows, self._row_of = rows_of(config, spec.observation_space)

        def draws(shape: tuple[int, ...]) -> Array:
            return streams["learn"].random(shape)  # a stream that exists only for rules that draw

        self._rng = streams["explore"]
        self.tables = Tables.of(
            np.full((rows, 1 if predicts else self._num_actions), config.initial_value),
            spec.has_mask and not predicts,
            draws, problem.total_steps,
        )  # fmt: skip
        self.q = self.tables.q
        self.rule = make_rule(config, self.tables, problem.num_envs)
        self.gradient_steps, self.env_steps = 0, 0
        self._kind, self._parameter = behaviour_of(config, problem.horizon)
        self._size_kind, self._power = STEP_SIZES[config.step_size], config.step_size_power
        self._learning_rate = linear(config.learning_rate, config.learning_rate_final, problem.horizon)
        self._learn_one = None if self._kind == UCB else self.rule.learn_one  # UCB counts choices in arrays
        self._counts = self._size_kind != BY_TIME or self._kind == UCB
        self._step: Step | None = None

    # Acting ------------------------------------------------------------------------------------------

    def policy(self, *, explore: bool) -> Policy:
        """Return the policy over the live table: as the config explores, or greedy; uniform where it predicts."""
        if self._predicts:
            return shifted(self._uniform(explore), self._first_action)
        if explore and self._kind != EPSILON_GREEDY:
            drawing = Exploring(self.tables, self._row_of, self._kind, self._now_parameter, self._rng)
            return shifted(drawing, self._first_action)
        exploring = EpsilonGreedy(self._rng, self._now_parameter, random_tie(self._rng)) if explore else None
        policy: Policy = ValuePolicy(self._values, self._num_actions, explore=exploring)
        if explore and self._num_actions <= MOST_ANSWERS:
            policy = Alone(policy, self.q, self._row_of, self._now_parameter, self._rng)
        return shifted(policy, self._first_action)

    def _uniform(self, explore: bool) -> UniformPolicy:
        def generator() -> np.random.Generator:
            return (
                self._rng if explore else np.random.default_rng(seed_of(self._seed, "prediction evaluation"))
            )

        return UniformPolicy(self.q[:, 0], self._row_of, self._num_actions, generator)

    def function_class(self) -> Table:
        """Return that every policy can be expressed."""
        return Table()

    def _values(self, obs: Obs, state: State, is_first: Array) -> tuple[Array, State]:
        return self.q.take(self._row_of(obs), axis=0), ()  # at a third of the cost of indexing

    def _now_parameter(self) -> float:
        return self._parameter(self.env_steps)

    # Learning ----------------------------------------------------------------------------------------

    def observe(self, step: Step) -> None:
        """Keep the step for `update`."""
        self._step = step
        self.env_steps += len(step.reward)

    def update(self) -> Metrics | None:
        """Learn from the last step observed.

        Raises:
            FloatingPointError: a reward isn't finite, and the table is unchanged; or values have become so large.
        """
        step, self._step = self._step, None
        if step is None:
            return None
        if self._learn_one is not None and step.next_mask is None and len(step.reward) == 1:
            return self._update_alone(step, self._learn_one)
        if not isfinite(sum(rewards := step.reward.tolist())):
            raise FloatingPointError(f"reward {rewards} at env step {self.env_steps}")
        taken, steps = self._taken(step), self.env_steps
        parameter = self._parameter(steps) if self.rule.asks_behaviour else 0.0
        rate = self._learning_rate(steps) if self._size_kind == BY_TIME else 0.0
        now = Now(steps, self._kind, parameter, self._size_kind, rate, self._power)
        learned, error = self.rule.learn(taken, now)
        if not isfinite(error):
            raise FloatingPointError(f"temporal-difference error {error} at env step {steps}")
        if not learned:
            return None
        self.gradient_steps += 1
        return {"td_error": error}

    def _update_alone(self, step: Step, learn_one: LearnOne) -> Metrics:
        """Do the same for a single environment, with numbers alone."""
        reward, steps = step.reward.item(), self.env_steps
        if not isfinite(reward):
            raise FloatingPointError(f"reward {[reward]} at env step {steps}")
        error = learn_one(
            self._row_of(step.obs).item(), step.action.item() - self._first_action, reward,
            step.terminated.item(), self._row_of(step.next_obs).item(),
            self._size_kind, self._learning_rate(steps) if self._size_kind == BY_TIME else 0.0, self._power,
        )  # fmt: skip
        if not isfinite(error):
            raise FloatingPointError(f"temporal-difference error {abs(error)} at env step {steps}")
        self.gradient_steps += 1
        return {"td_error": abs(error)}

    def _taken(self, step: Step) -> Taken:
        """Return a step in rows of the table; the masks that it shows are noted."""
        if self.rule.takes_numbers and self._kind != UCB:
            return self._taken_numbers(step)
        tables, next_legal = self.tables, ALL_LEGAL
        row, next_row = self._row_of(step.obs), self._row_of(step.next_obs)
        action = np.zeros_like(row) if self._predicts else own(step.action - self._first_action, np.int64)
        if step.next_mask is not None:
            next_legal = own(step.next_mask, np.bool_)
            if self.rule.knows_legal and len(tables.legal) and step.mask is not None:
                tables.legal[row], tables.legal[next_row] = step.mask, step.next_mask
        if self._kind == UCB:
            np.add.at(tables.tried, (row, action), 1)
        return Taken(
            row, action, own(step.reward, np.float64),
            np.array(step.terminated), np.array(step.truncated), next_row, np.array(step.is_first), next_legal,
        )  # fmt: skip

    def _taken_numbers(self, step: Step) -> Taken:
        """Return a step likewise, as lists of numbers."""
        action = step.action - self._first_action if self._first_action else step.action
        return Taken(
            self._row_of(step.obs).tolist(), action.tolist(), step.reward.tolist(), step.terminated.tolist(), (),
            self._row_of(step.next_obs).tolist(), (),
            ALL_LEGAL if step.next_mask is None else own(step.next_mask, np.bool_).data,
        )  # fmt: skip

    def diagnostics(self) -> dict[str, float]:
        """Return what steers exploration, the step size where it depends on time, and figures of the table."""
        figures: dict[str, float] = {}
        if isinstance(self.config, Config):
            figures[PARAMETERS[self.config.exploration]] = self._now_parameter()
        if self._size_kind == BY_TIME:
            figures["learning_rate"] = self._learning_rate(self.env_steps)
        return figures | {"q_mean": float(self.q.mean()), "q_max": float(self.q.max())}

    # State -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the table, the counters, and what the rule remembers."""
        state = {
            "weights": {"q": self.q},
            "env_steps": self.env_steps,
            "gradient_steps": self.gradient_steps,
        }
        if self._counts:
            state |= {"visits": self.tables.visits, "tried": self.tables.tried}
        if self.rule.knows_legal and len(self.tables.legal):
            state["legal"] = self.tables.legal
        own = self.rule.state_dict()
        return state | ({"rule": own} if own else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the table in place, and the rest if there is any."""
        self.q[...] = state["weights"]["q"]
        self.env_steps = state.get("env_steps", 0)
        self.gradient_steps = state.get("gradient_steps", 0)
        for name in ("visits", "tried", "legal"):
            if name in state:
                getattr(self.tables, name)[...] = state[name]
        self.rule.load_state_dict(state.get("rule", {}))


def behaviour_of(config: Learning, horizon: int) -> tuple[int, Schedule]:
    """Return how actions are chosen, as `rl_lab.mdp.learning` numbers it, and its parameter by environment step."""
    if not isinstance(config, Config):
        return EPSILON_GREEDY, constant(1.0)
    schedules = {
        "epsilon-greedy": linear(
            config.epsilon_initial, config.epsilon_final, config.epsilon_fraction * horizon
        ),
        "boltzmann": linear(config.temperature, config.temperature_final, horizon),
        "ucb": constant(config.ucb_width),
    }
    return BEHAVIOURS[config.exploration], schedules[config.exploration]
