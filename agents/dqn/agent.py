"""The agent: it acts by a network's values, stores steps, and learns from replayed ones against a target network."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.agent import Policy
from rl_lab.nn.acting import make_acting_values
from rl_lab.nn.exploring import without_head
from rl_lab.nn.normalise import RewardNormaliser
from rl_lab.nn.q_network import QNetwork
from rl_lab.policies import EpsilonGreedy, ValuePolicy, Values, counted_from_zero, shifted
from rl_lab.problem import Problem
from rl_lab.replay.sequences import Sequences
from rl_lab.replay.transitions import LazyReplay, Transitions
from rl_lab.schedules import Schedule, crossings, linear
from rl_lab.seeding import Streams
from rl_lab.types import Array, Metrics, Obs, State, Step
from rl_lab.updates.averaging import copied, polyak_update
from rl_lab.updates.compile_process import CompilationStopped
from rl_lab.updates.fitting import NetworkClass
from rl_lab.updates.gradients import at_env_step, set_learning_rate
from rl_lab.updates.q_updates import QUpdates, figures_of
from rl_lab.updates.td import Batch, Outcome
from rl_lab.updates.trained import Trained, load_weights

from .config import Config, gradient_steps_per_call, make_loss, make_replay
from .returns import Returns, learned, make_network, scale_of, with_draws

EXAMPLE_ROWS = 8  # of a replay that only shows what batches look like


class DQN:
    """Learns Q(s, a) from replayed transitions, or windows of them, against a target network."""

    def __init__(self, config: Config, problem: Problem, streams: Streams):
        spec = problem.spec
        assert isinstance(spec.action_space, spaces.Discrete)
        self.config, self.num_envs, self.num_actions = config, spec.num_envs, int(spec.action_space.n)
        self._spec, self._first_action = spec, spec.first_action
        self.compiles = config.compile == "yes"
        self.trained: Trained[QNetwork] = Trained(
            config,
            problem,
            streams,
            lambda: make_network(config, spec.observation_space, self.num_actions),
            reward_normaliser=RewardNormaliser(config.gamma, spec.num_envs)
            if config.normalise_rewards
            else None,
            compiles=self.compiles,
        )
        self.returns = Returns(config, streams, self.trained.network, self.trained.device, self.num_envs)
        self.target = Target(self.trained.network, config)
        self.updates = QUpdates(
            learned(config, self.trained.network),
            learned(config, self.target.network),
            with_draws(make_loss(config), config, spec, problem.seed),
            self.trained.optimiser,
            self.trained.clip,
            self.trained.compile_key,
            batch_size=config.batch_size,
            augment=self._augment,
        )
        self.buffer = LazyReplay(partial(make_replay, config, spec))
        self.sample = Sampling(self.buffer, config, problem.horizon, streams["replay"])
        self._explore_rng = streams["explore"]
        self._epsilon = epsilon_schedule(config, problem.horizon)
        self._gradient_steps_per_call = gradient_steps_per_call(config)
        self.collect_env_steps = config.train_period_env_steps
        self.env_steps, self.gradient_steps = 0, 0

    # Acting ------------------------------------------------------------------------------------------

    def epsilon(self) -> float:
        """Return the probability of a random action at the current step."""
        return self._epsilon(self.env_steps)

    def policy(self, *, explore: bool, computed: Values | None = None) -> Policy:
        """Return the exploring policy of the network, or the greedy one of its average (or itself without one).

        Args:
            explore: whether it explores.
            computed: the network's values, where they are computed elsewhere.
        """
        trained = self.trained
        network = trained.network if explore else trained.average.network
        values = acting = computed or make_acting_values(network, trained.device)
        initial_state = trained.initial_state
        if explore:
            acting, initial_state = self.returns.exploring(network, values, initial_state)
        policy = ValuePolicy(
            self._in_rewards(acting),
            self.num_actions,
            initial_state,
            EpsilonGreedy(self._explore_rng, self.epsilon) if explore else None,
            network=network,
            figures=self.returns.figures(network, lambda: trained.statistics.reward_scale),
            shown=self._in_rewards(self.returns.shown(values, explore)),
        )
        return shifted(policy, self._first_action)

    def function_class(self) -> NetworkClass:
        """Return the policies that are greedy in such a network's values."""
        return NetworkClass(self.trained.average.network, lambda network, obs: network(obs)[0])

    def _in_rewards(self, values: Values) -> Values:
        """Return `values` converted from the network's scale to discounted rewards."""
        if not (self.config.value_rescaling or self.config.normalise_rewards):
            return values
        widen, statistics = scale_of(self.config).widen, self.trained.statistics

        def widened(obs: Obs, state: State, is_first: Array) -> tuple[Array, State]:
            q, state = values(obs, state, is_first)
            return widen(q) / statistics.reward_scale, state

        return widened

    # Learning ----------------------------------------------------------------------------------------

    def observe(self, step: Step) -> None:
        """Store the step.

        Raises:
            FloatingPointError: a reward or observation isn't finite; nothing is stored.
        """
        try:
            self.buffer.add(self._stored(step))
        except FloatingPointError as error:
            raise at_env_step(error, self.env_steps + self.num_envs) from None
        if self.trained.statistics.any:
            self.trained.statistics.observe(step.obs)
            self.trained.statistics.observe_rewards(self._clipped(step.reward), step.is_first)
        if self.returns.watch is not None:
            self.returns.watch(self._clipped(step.reward), step.terminated | step.truncated)
        self.env_steps += self.num_envs

    def _stored(self, step: Step) -> Step:
        """Return a step as the replay holds it: with actions from 0 on, and the network's own carry."""
        step = counted_from_zero(step, self._first_action) if self._first_action else step
        return without_head(step) if self.returns.head_in_carry else step

    def _clipped(self, reward: Array) -> Array:
        bound = self.config.reward_clip
        return reward if bound is None else np.clip(reward, -bound, bound)

    def update(self) -> Metrics | None:
        """Move the target network if it is due, then take the gradient steps that are due; return their metrics.

        Raises:
            FloatingPointError: a loss or gradient isn't finite; that step and those after it aren't taken.
        """
        calls = range(self.calls_due())
        return figures_of([self.learn(self.draw()) for _ in calls]) if calls else None

    def calls_due(self) -> int:
        """Move the target network if it is due; return how many calls of the update are due, and prepare for them."""
        config, after = self.config, self.env_steps
        before = after - self.num_envs
        self.target.follow_env_steps(before, after)
        due = crossings(before, after, config.train_period_env_steps) * config.gradient_steps_per_update
        if not due or after <= config.learning_starts_env_steps or not self.buffer.can_sample:
            return 0
        if self.gradient_steps == 0 and self.trained.statistics.any:
            self.target.copy()  # the weights are still equal, but the target's normaliser has seen nothing yet
        set_learning_rate(self.trained.optimiser, self.trained.learning_rate(after))
        return due // self._gradient_steps_per_call

    def draw(self) -> Any:
        """Draw what one call learns from: transitions, or windows of them."""
        return self.sample(self._gradient_steps_per_call * self.config.batch_size, self.env_steps)

    def learn(self, drawn: Transitions | Sequences) -> Outcome:
        """Take a gradient step on each batch of what was drawn, and update the priorities.

        Raises:
            FloatingPointError: a loss or gradient isn't finite; that step and those after it aren't taken.
        """
        try:
            learned = self.updates.learn(drawn, self.gradient_steps)
        except FloatingPointError as error:
            raise at_env_step(error, self.env_steps) from None
        self.count(len(learned.outcome.loss))
        if learned.errors is not None:
            self.buffer.update_priorities(drawn.index, learned.errors)
        return learned.outcome

    def count(self, taken: int) -> None:
        """Count gradient steps that were taken; the average and the target network follow."""
        before = self.gradient_steps
        self.gradient_steps += taken
        if self.trained.average.decay:
            self.trained.average.follow(before, taken)
        self.target.follow_gradient_steps(before, self.gradient_steps)

    def compile_updates(self, example: Step, should_stop: Callable[[], bool]) -> None:
        """Compile the update for steps like `example`, or return early once `should_stop` says so."""
        with suppress(CompilationStopped):
            self.updates.compile(self.updates.batch(self.draw_like(example)), should_stop)

    def draw_like(self, example: Step) -> Any:
        """Return what one call draws, filled with `example`, from a small replay of its own."""
        replay = make_replay(replace(self.config, replay_capacity=EXAMPLE_ROWS * self.num_envs), self._spec)
        for _ in range(EXAMPLE_ROWS):
            replay.add(self._stored(example))
        rows = self._gradient_steps_per_call * self.config.batch_size
        return replay.sample(rows, np.random.Generator(np.random.PCG64(0)))

    def _augment(self, batch: Batch) -> Batch:
        """Return the batch with scaled rewards, shifted images and random draws, as far as the config asks for them."""
        if self.returns.draw is not None:
            batch = self.returns.draw(batch)
        if self.config.normalise_rewards:
            batch = batch._replace(reward=batch.reward * self.trained.statistics.reward_scale)
        if not self.config.random_shift:
            return batch
        windows = batch.next_obs is None  # a window's `obs` holds the successors too
        next_obs = None if windows else self.trained.shift(batch.next_obs, False)
        return batch._replace(obs=self.trained.shift(batch.obs, windows), next_obs=next_obs)

    # State -------------------------------------------------------------------------------------------

    def diagnostics(self) -> dict[str, float]:
        """Return epsilon, the step size, and the replay's figures."""
        return {
            "epsilon": self.epsilon(),
            "learning_rate": self.trained.learning_rate(self.env_steps),
            "replay_size": len(self.buffer),
            **self.sample.diagnostics(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return networks, optimiser, replay and counters; leaves are live."""
        return {
            **self.trained.state_dict(),
            "target": dict(self.target.network.state_dict()),
            "replay": self.buffer.state_dict(),
            "replay_age_env_steps": self.sample.age,
            "env_steps": self.env_steps,
            "gradient_steps": self.gradient_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state in place; weights alone make a policy."""
        self.trained.load_state_dict(state)
        load_weights(self.target.network, state.get("target") or self.trained.network.state_dict())
        if "optimiser" in state:
            self.env_steps, self.gradient_steps = state["env_steps"], state["gradient_steps"]
            self.sample.age = state["replay_age_env_steps"]
            self.buffer.load_state_dict(state["replay"])


class Target:
    """The target network, which moves towards the online network periodically."""

    def __init__(self, online: QNetwork, config: Config):
        self.network = copied(online)
        self._online, self._tau = online, config.target_tau
        self._period_updates = config.target_period_updates
        self._period_env_steps = None if self._period_updates else config.target_period_env_steps

    def follow_env_steps(self, before: int, after: int) -> None:
        """Move the target if a period in environment steps ended in (before, after]."""
        if self._period_env_steps is not None and crossings(before, after, self._period_env_steps):
            polyak_update(self._online, self.network, self._tau)

    def follow_gradient_steps(self, before: int, after: int) -> None:
        """Move the target if a period in gradient steps ended in (before, after]."""
        if self._period_updates is not None and crossings(before, after, self._period_updates):
            polyak_update(self._online, self.network, self._tau)

    def copy(self) -> None:
        """Copy the online network's weights and statistics."""
        polyak_update(self._online, self.network, 1.0)


class Sampling:
    """Draws from the replay, and tells how old what was drawn is and how long drawing took."""

    def __init__(self, buffer: LazyReplay, config: Config, total_steps: int, rng: np.random.Generator):
        self._buffer, self._rng = buffer, rng
        self._beta: Schedule = linear(config.priority_beta, 1.0, total_steps)
        self._prioritised = config.prioritised
        self.age = 0.0
        self._seconds = 0.0

    def __call__(self, rows: int, env_steps: int) -> Transitions | Sequences:
        """Draw `rows` transitions or windows; `env_steps` sets the exponent of the importance weights."""
        begun = time.perf_counter()
        beta = self._beta(env_steps) if self._prioritised else 1.0
        drawn = self._buffer.sample(rows, self._rng, beta)
        self.age = drawn.age
        self._seconds += time.perf_counter() - begun
        return drawn

    def diagnostics(self) -> dict[str, float]:
        """Return the age last sampled, and the seconds of sampling since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return {"replay_age_env_steps": self.age, "sample_seconds": round(seconds, 6)}


def epsilon_schedule(config: Config, total_steps: int) -> Schedule:
    """Return the probability of a random action as a function of the environment step; 1 until learning starts."""
    first = config.learning_starts_env_steps
    falls = linear(config.epsilon_initial, config.epsilon_final, config.epsilon_fraction * total_steps)
    waits = first if config.epsilon_waits else 0
    return lambda step: 1.0 if step < first else falls(step - waits)
