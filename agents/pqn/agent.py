"""The agent: it acts by a network's values, collects rollouts, and learns from their lambda-returns."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.agent import Policy
from rl_lab.nn.acting import make_acting_values
from rl_lab.nn.attended import attention_figures
from rl_lab.nn.normalise import RewardNormaliser
from rl_lab.nn.q_network import QNetwork, make_q_network
from rl_lab.policies import EpsilonGreedy, ValuePolicy, Values, legal, shifted
from rl_lab.problem import Problem
from rl_lab.replay.rollout import Rollout
from rl_lab.schedules import linear
from rl_lab.seeding import Streams
from rl_lab.trees import map_leaves
from rl_lab.types import Array, Metrics, Obs, State, Step
from rl_lab.updates.advantages import lambda_returns
from rl_lab.updates.compile_process import CompilationStopped
from rl_lab.updates.fitting import NetworkClass
from rl_lab.updates.gradients import at_env_step, set_learning_rate
from rl_lab.updates.minibatches import ReturnBatch, minibatches, number_of_minibatches
from rl_lab.updates.q_updates import QUpdates, figures_of
from rl_lab.updates.return_loss import ReturnLoss
from rl_lab.updates.rollouts import (
    filled,
    joined,
    load_state,
    next_values,
    state_of,
    stops_of,
    to_learn_from,
)
from rl_lab.updates.trained import Trained

from .config import Config

MOST_ROWS = 2048  # steps of a rollout evaluated at a time: images of more would take much memory


class PQN:
    """Learns Q(s, a) from the lambda-returns of rollouts, with the network's own values as bootstrap."""

    def __init__(self, config: Config, problem: Problem, streams: Streams):
        spec = problem.spec
        assert isinstance(spec.action_space, spaces.Discrete)
        self.config, self.num_envs, self.num_actions = config, spec.num_envs, int(spec.action_space.n)
        self._first_action, self.compiles = spec.first_action, config.compile == "yes"
        self.trained: Trained[QNetwork] = Trained(
            config,
            problem,
            streams,
            lambda: make_q_network(spec.observation_space, self.num_actions, config),
            reward_normaliser=RewardNormaliser(config.gamma, spec.num_envs)
            if config.normalise_rewards
            else None,
            compiles=self.compiles,
        )
        network = self.trained.network
        self.updates = QUpdates(
            network,
            network,  # without a target network; the loss asks for none
            ReturnLoss(),
            self.trained.optimiser,
            self.trained.clip,
            self.trained.compile_key,
            augment=self._augment,
        )
        self._values = make_acting_values(network, self.trained.device)
        self.rollout = Rollout(config.n_steps)
        self._explore_rng, self._order_rng = streams["explore"], streams["minibatches"]
        self._epsilon = linear(
            config.epsilon_initial, config.epsilon_final, config.epsilon_fraction * problem.horizon
        )
        self.collect_env_steps = self.num_envs * config.n_steps
        self.env_steps, self.gradient_steps = 0, 0

    # Acting ------------------------------------------------------------------------------------------

    def epsilon(self) -> float:
        """Return the probability of a random action at the current step."""
        return self._epsilon(self.env_steps)

    def policy(self, *, explore: bool) -> Policy:
        """Return the exploring policy of the network, or the greedy one of its average (or itself without one)."""
        trained = self.trained
        network = trained.network if explore else trained.average.network
        policy = ValuePolicy(
            self._in_rewards(make_acting_values(network, trained.device)),
            self.num_actions,
            trained.initial_state,
            EpsilonGreedy(self._explore_rng, self.epsilon) if explore else None,
            network=network,
            figures=attention_figures(network, trained.device),
        )
        return shifted(policy, self._first_action)

    def _in_rewards(self, values: Values) -> Values:
        """Return `values` converted from the network's scale to discounted rewards."""
        if not self.config.normalise_rewards:
            return values

        def in_rewards(obs: Obs, state: State, is_first: Array) -> tuple[Array, State]:
            q, state = values(obs, state, is_first)
            return q / self.trained.statistics.reward_scale, state

        return in_rewards

    def function_class(self) -> NetworkClass:
        """Return the policies that are greedy in such a network's values."""
        return NetworkClass(self.trained.average.network, lambda network, obs: network(obs)[0])

    # Learning ----------------------------------------------------------------------------------------

    def observe(self, step: Step) -> None:
        """Store the step.

        Raises:
            FloatingPointError: a reward or an observation isn't finite; nothing is stored.
        """
        try:
            self.rollout.add(self._stored(step))
        except FloatingPointError as error:
            raise at_env_step(error, self.env_steps + self.num_envs) from None
        self.trained.statistics.observe_rewards(self._clipped(step.reward), step.is_first)
        self.env_steps += self.num_envs

    def _stored(self, step: Step) -> Step:
        """Return a step as the rollout holds it: with actions from 0 on, and what is legal at its successor."""
        mask = step.next_mask
        extras = {"action": step.action - self._first_action} | ({} if mask is None else {"next_mask": mask})
        return replace(step, extras=extras)

    def _clipped(self, reward: Array) -> Array:
        bound = self.config.reward_clip
        return reward if bound is None else np.clip(reward, -bound, bound)

    def update(self) -> Metrics | None:
        """Learn from the rollout if it is full, and begin a new one; return metrics, or None before its end.

        Raises:
            FloatingPointError: a loss or gradient isn't finite; that step and those after it aren't taken.
        """
        if not self.rollout.is_full:
            return None
        figures = self.learn(self.rollout_batch())
        if self.config.normalise_observations:  # not before, so that acting and learning see the same
            self.trained.statistics.observe(joined(self.rollout.columns["obs"]))
        self.rollout.clear()
        return figures

    def rollout_batch(self) -> ReturnBatch:
        """Return the whole rollout with its returns, as steps [T * N], or with a memory as sequences [T, N]."""
        return self._batch_of(self.rollout)

    def _batch_of(self, rollout: Rollout) -> ReturnBatch:
        columns, config = rollout.columns, self.config
        stops, terminated = stops_of(columns), columns["terminated"]
        following = next_values(
            columns, self._rollout_values(rollout), stops & ~terminated, self._best_values
        )
        reward = self._clipped(columns["reward"]) * self.trained.statistics.reward_scale
        target = lambda_returns(reward, following, terminated, stops, config.gamma, config.q_lambda)
        fields = {
            "obs": columns["obs"], "action": columns["action"], "target": target.astype(np.float32),
        }  # fmt: skip
        fields = to_learn_from(fields, rollout, is_memoryless=self.trained.network.is_memoryless)
        return ReturnBatch(**{name: self.trained.tensors(field) for name, field in fields.items()})

    def _rollout_values(self, rollout: Rollout) -> Array:
        """Return the value of the best legal action at each step of a rollout, float32 [T, N]."""
        columns = rollout.columns
        obs, mask, is_first = columns["obs"], columns.get("mask"), columns["is_first"]
        if not self.trained.network.is_memoryless:
            return self._best_values(obs, rollout.state, is_first, mask)
        rows = max(1, MOST_ROWS // self.num_envs)
        parts = []
        for start in range(0, len(is_first), rows):
            part = map_leaves(lambda leaf: leaf[start : start + rows], (obs, is_first, mask))  # noqa: B023
            seen, first, legal_ones = joined(part)
            parts.append(self._best_values(seen, (), first, legal_ones).reshape(-1, self.num_envs))
        return np.concatenate(parts)

    def _best_values(self, obs: Obs, state: State, is_first: Array, mask: Array | None) -> Array:
        """Return the value of the best legal action in the network's scale, with the shape of is_first."""
        q, _ = self._values(obs, state, is_first)
        return legal(q, mask).max(axis=-1)

    def learn(self, whole: ReturnBatch) -> dict[str, float]:
        """Take the gradient steps of one rollout; return their mean figures.

        Raises:
            FloatingPointError: a loss or gradient isn't finite; that step and those after it aren't taken.
        """
        asked, outcomes = (self.config.batch_size, self.config.n_epochs), []
        number = number_of_minibatches(whole, *asked)
        began, steps = self.env_steps - self.collect_env_steps, self.collect_env_steps
        for k, batch in enumerate(minibatches(whole, *asked, self._order_rng)):
            # As in the authors' code: as if the steps were taken, evenly, while the rollout was collected.
            set_learning_rate(self.trained.optimiser, self.trained.learning_rate(began + k * steps // number))
            try:
                outcomes.append(self.updates.learn(batch, self.gradient_steps).outcome)
            except FloatingPointError as error:
                raise at_env_step(error, self.env_steps) from None
            self.trained.average.follow(self.gradient_steps, 1)
            self.gradient_steps += 1
        return figures_of(outcomes)

    def _augment(self, batch: ReturnBatch) -> ReturnBatch:
        """Return the batch with shifted images, if the config asks for them."""
        return batch._replace(obs=self.trained.shift(batch.obs, bool(batch.state)))

    def compile_updates(self, example: Step, should_stop: Callable[[], bool]) -> None:
        """Compile the steps on each kind of minibatch, or return early once `should_stop` says so.

        A rollout of its own, filled with `example`, shows what minibatches there will be.
        """
        whole = self._batch_of(filled(self.config.n_steps, self._stored(example)))
        order = np.random.Generator(np.random.PCG64(0))
        with suppress(CompilationStopped):
            for batch in minibatches(whole, self.config.batch_size, 1, order):
                self.updates.compile(self.updates.batch(batch), should_stop)

    # State -------------------------------------------------------------------------------------------

    def diagnostics(self) -> dict[str, float]:
        """Return epsilon and the step size."""
        return {"epsilon": self.epsilon(), "learning_rate": self.trained.learning_rate(self.env_steps)}

    def state_dict(self) -> dict[str, Any]:
        """Return network, optimiser, the unfinished rollout and counters; leaves are live."""
        return state_of(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state in place; weights alone make a policy."""
        load_state(self, state)
