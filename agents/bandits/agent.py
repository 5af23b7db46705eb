"""The agent that plays a bandit: it pulls arms, whatever it observes, and learns from what they pay."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.agent import Policy
from rl_lab.function_class import Fit, FitTask
from rl_lab.policies import EpsilonGreedy, ValuePolicy, counted_from_zero, greedy, legal, shifted
from rl_lab.problem import Problem
from rl_lab.schedules import constant, linear
from rl_lab.seeding import Streams
from rl_lab.training.interaction import Interaction
from rl_lab.types import Array, Decision, EnvSpec, Metrics, Obs, State, Step

from .arms import Arms, softmax
from .config import BanditFields, EpsilonGreedyConfig, refuse

MakeArms = Callable[[Any, int, np.random.Generator], Arms]


class Bandit:
    """Learns what each arm is worth, the same in all states."""

    collect_env_steps = 1

    def __init__(self, make_arms: MakeArms, config: BanditFields, problem: Problem, streams: Streams):
        actions = problem.spec.action_space
        assert isinstance(actions, spaces.Discrete)
        self._num_actions, self._first_action = int(actions.n), problem.spec.first_action
        self._rng = streams["explore"]
        self.arms = make_arms(config, self._num_actions, self._rng)
        self.gradient_steps, self.env_steps = 0, 0
        self._epsilon = constant(0.0)
        if isinstance(config, EpsilonGreedyConfig):
            over = config.epsilon_fraction * problem.horizon
            self._epsilon = linear(config.epsilon_initial, config.epsilon_final, over)
        self._step: Step | None = None

    def epsilon(self) -> float:
        """Return the probability of a random arm at the current step; 0 for learners that explore otherwise."""
        return self._epsilon(self.env_steps)

    def policy(self, *, explore: bool) -> Policy:
        """Return the policy over the live arms: exploring, or the best arm always."""
        if not self.arms.are_values:
            return shifted(PreferencePolicy(self.arms, explore), self._first_action)
        exploring = EpsilonGreedy(self._rng, self.epsilon, self.arms.choose) if explore else None
        return shifted(ValuePolicy(self._values, self._num_actions, explore=exploring), self._first_action)

    def function_class(self) -> OneArm:
        """Return the policies that prefer one arm everywhere."""
        return OneArm(self._num_actions)

    def _values(self, obs: Obs, state: State, is_first: Array) -> tuple[Array, State]:
        return np.broadcast_to(self.arms.scores(), (len(is_first), self._num_actions)), ()

    def observe(self, step: Step) -> None:
        """Keep the step for `update`."""
        self._step = counted_from_zero(step, self._first_action)
        self.env_steps += len(step.reward)

    def update(self) -> Metrics | None:
        """Learn from the last step observed.

        Raises:
            FloatingPointError: a reward isn't finite; nothing is learned.
            UsageError: a reward is outside what the learner's distribution allows; nothing is learned.
        """
        step, self._step = self._step, None
        if step is None:
            return None
        if not np.isfinite(step.reward).all():
            raise FloatingPointError(f"a reward at env step {self.env_steps} isn't finite: {step.reward}")
        error = self.arms.learn(step.action, step.reward, step.mask)
        self.gradient_steps += 1
        return {"reward_error": error}

    def diagnostics(self) -> dict[str, float]:
        """Return epsilon, and the best arm with its score."""
        scores = self.arms.scores()
        best = int(scores.argmax())
        return {
            "epsilon": self.epsilon(),
            "best_arm": best + self._first_action,
            "best_score": float(scores[best]),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what is known of the arms, and the counters; leaves are live."""
        return {
            "weights": self.arms.weights,
            "env_steps": self.env_steps,
            "gradient_steps": self.gradient_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what is known of the arms in place, and the counters if there are any."""
        for name, leaf in self.arms.weights.items():
            leaf[...] = state["weights"][name]
        self.env_steps = state.get("env_steps", 0)
        self.gradient_steps = state.get("gradient_steps", 0)


class PreferencePolicy:
    """Draws arms from the softmax of preferences, or takes the first of the most preferred."""

    def __init__(self, arms: Arms, explore: bool):
        self._arms, self._explore = arms, explore

    def initial_state(self, num_envs: int) -> State:
        """Return (), as it remembers nothing."""
        return ()

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Choose an arm for each observation, int64 [N]."""
        scores = self._scores(len(is_first))
        return Decision(self._arms.choose(scores, mask) if self._explore else greedy(scores, mask))

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return the preferences as `logits` [N, A], and where arms are drawn their `probabilities` [N, A]."""
        scores = self._scores(len(is_first))
        shown = {"logits": legal(scores, mask)}
        return shown | {"probabilities": softmax(scores, mask)} if self._explore else shown

    def _scores(self, num_envs: int) -> Array:
        scores = self._arms.scores()
        return np.broadcast_to(scores, (num_envs, len(scores)))


class OneArm:
    """The policies that take the same arm everywhere, wherever it is legal."""

    description = "one arm for all states"

    def __init__(self, num_actions: int):
        self._num_actions = num_actions

    def fit(self, task: FitTask) -> Fit:
        """Return the best of them."""
        count = len(task.good)
        arms = np.eye(self._num_actions)
        returns = [task.evaluate(greedy(np.broadcast_to(arm, (count, len(arm))), task.mask)) for arm in arms]
        return Fit(max(returns), self._num_actions)


class BanditLearner(Interaction):
    """The learner of a bandit agent; it refuses problems in which more than the arm matters, unless told otherwise.

    Args:
        name: of the agent, for messages.
        takes_datasets: False for an agent that can only learn from arms it has drawn itself.
    """

    def __init__(self, name: str, config: BanditFields, make_arms: MakeArms, *, takes_datasets: bool = True):
        super().__init__(config, partial(Bandit, make_arms), _accept, takes_datasets=takes_datasets)
        self._name = name

    def refuse(self, problem: Problem) -> str | None:
        """Return why the agent can't take this problem (one line), or None if it can."""
        return refuse(self._name, self.config, problem)


def _accept(config: BanditFields, spec: EnvSpec) -> str | None:
    return None
