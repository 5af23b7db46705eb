"""The agent: acts on a network, stores steps, and learns in bursts against a target network."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rl_lab.nn.acting import make_acting_values, on_device
from rl_lab.nn.normalise import RewardNormaliser, Statistics
from rl_lab.nn.q_network import make_q_network
from rl_lab.policies import EpsilonGreedy, ValuePolicy, Values
from rl_lab.problem import Problem
from rl_lab.replay.sequences import Sequences
from rl_lab.replay.transitions import TransitionReplay, Transitions
from rl_lab.schedules import Schedule, crossings, linear
from rl_lab.seeding import Streams, seed_of
from rl_lab.types import Array, Metrics, Obs, State, Step
from rl_lab.updates.fields import clip_of, learning_rate_of, make_optimiser, network_arguments, shifting
from rl_lab.updates.optimisers import WeightAverage, load_weights, polyak_update
from rl_lab.updates.q_updates import Outcome, Updates, figures_of
from rl_lab.updates.td import Batch
from rl_lab.updates.trained import Saved

from .config import Config, loss_of, replay_of, scale_of, steps_per_call


class DQN:
    """Learns Q(s, a) from replayed transitions, or windows of them, against a target network."""

    def __init__(self, config: Config, problem: Problem, streams: Streams):
        spec = problem.spec
        assert isinstance(spec.action_space, spaces.Discrete)
        self.config, self.device = config, torch.device(problem.device)
        self.num_actions, self.num_envs = int(spec.action_space.n), spec.num_envs
        streams.use_torch()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(problem.seed, "initial weights"))
            self.online, target = (
                make_q_network(
                    spec.observation_space,
                    self.num_actions,
                    dueling=config.dueling,
                    **network_arguments(config),
                ).to(self.device)
                for _ in range(2)
            )
        self.target = target.requires_grad_(False)
        polyak_update(self.online, self.target, 1.0)
        self.loss = loss_of(config)
        self.updates = Updates(
            self.online,
            self.target,
            self.loss,
            make_optimiser(config, self.online),
            clip_of(config),
            (repr(spec.observation_space), repr(self.online)) if config.compile == "yes" else None,
        )
        self._explore_rng, self._replay_rng = streams["explore"], streams["replay"]
        self._shifted = shifting(config, spec.observation_space, streams)
        rewards = RewardNormaliser(config.gamma, spec.num_envs) if config.normalise_rewards else None
        self._statistics = Statistics(self.online.normaliser, rewards)
        self._make_replay = lambda: replay_of(config, spec, self._initial_state(1))
        self.replay: TransitionReplay | None = None  # allocated when the first step comes
        self._epsilon = _epsilon(config, problem.total_steps)
        self._learning_rate = learning_rate_of(config, problem.total_steps)
        self._beta: Schedule = linear(config.priority_beta, 1.0, problem.total_steps)
        self._average = WeightAverage(self.online, config.average_decay)
        self._saved = Saved(self.online, self._average, self.updates.optimiser, self._statistics)
        self._values = self._in_rewards(make_acting_values(self.online, self.device))
        self._average_values = self._in_rewards(make_acting_values(self._average.network, self.device))
        self._burst = steps_per_call(config)
        self.collect_env_steps = config.train_period_env_steps
        self.env_steps, self.gradient_steps = 0, 0
        self._age, self._sample_seconds = 0.0, 0.0

    # Acting ------------------------------------------------------------------------------------------

    def epsilon(self) -> float:
        """Return the probability of a random action at the current step."""
        return self._epsilon(self.env_steps)

    def policy(self, *, explore: bool) -> ValuePolicy:
        """Return the policy over the live network, or over its average if that is kept and is to be judged."""
        return ValuePolicy(
            self._values if explore else self._average_values,
            self.num_actions,
            None if self.online.is_memoryless else self._initial_state,
            EpsilonGreedy(self._explore_rng, self.epsilon) if explore else None,
        )

    def _initial_state(self, num_envs: int) -> State:
        return tuple(part.cpu().numpy() for part in self.online.initial_state(num_envs))

    def _tensor(self, array: Array) -> Tensor:
        return on_device(array, self.device)

    # Learning ----------------------------------------------------------------------------------------

    def observe(self, step: Step) -> None:
        """Store the step.

        Raises:
            FloatingPointError: a reward or observation isn't finite; nothing is stored.
        """
        if self.replay is None:
            self.replay = self._make_replay()
        try:
            self.replay.add(step)
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}, env step {self.env_steps + self.num_envs}") from None
        self._statistics.observe(step.obs)
        self._statistics.observe_rewards(self._clipped(step.reward), step.is_first)
        self.env_steps += self.num_envs

    def _clipped(self, reward: Array) -> Array:
        bound = self.config.reward_clip
        return reward if bound is None else np.clip(reward, -bound, bound)

    def update(self) -> Metrics | None:
        """Update the target while collecting, then take the burst of gradient steps that is due."""
        config, after = self.config, self.env_steps
        before = after - self.num_envs
        if config.target_period_updates is None and crossings(before, after, config.target_period_env_steps):
            polyak_update(self.online, self.target, config.target_tau)
        due = crossings(before, after, config.train_period_env_steps) * config.gradient_steps_per_update
        assert self.replay is not None
        if not due or after <= config.learning_starts_env_steps or not self.replay.can_sample:
            return None
        if self.gradient_steps == 0 and self.online.normaliser is not None:
            polyak_update(self.online, self.target, 1.0)  # of the same weights still, but it has seen nothing
        self.updates.optimiser.param_groups[0]["lr"] = self._learning_rate(after)
        return figures_of([self.learn(self._sample()) for _ in range(due // self._burst)])

    def _sample(self) -> Transitions | Sequences:
        begun = time.perf_counter()
        assert self.replay is not None
        rows = self._burst * self.config.batch_size
        drawn = self.replay.sample(rows, self._replay_rng, self._beta(self.env_steps))
        self._age = drawn.age
        self._sample_seconds += time.perf_counter() - begun
        return drawn

    def learn(self, drawn: Transitions | Sequences) -> Outcome:
        """Take a gradient step on each batch of those drawn, and pass the errors on to the priorities.

        Raises:
            FloatingPointError: loss or gradient isn't finite; from that step on the weights stay as they were.
        """
        before = self.gradient_steps
        batch = self._prepared(self.loss.batch(drawn, self.config.batch_size, self._tensor))
        try:
            outcome = self.updates(batch, before)
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}, env step {self.env_steps}") from None
        self.gradient_steps += len(outcome.loss)
        self._average.follow(before, len(outcome.loss))
        period = self.config.target_period_updates
        if period is not None and crossings(before, self.gradient_steps, period):
            polyak_update(self.online, self.target, self.config.target_tau)
        if self.replay is not None and drawn.weight is not None:
            self.replay.update_priorities(drawn.index, self.loss.errors(drawn, outcome))
        return self.loss.counted(drawn, outcome)

    def _prepared(self, batch: Batch) -> Batch:
        """Scale the rewards and shift the images of batches, where that is asked for."""
        if self.config.normalise_rewards:
            batch = batch._replace(reward=batch.reward * self._statistics.reward_scale)
        if not self.config.random_shift:
            return batch
        windows = batch.next_obs is None  # which hold their successors
        next_obs = None if windows else self._shifted(batch.next_obs, False)
        return batch._replace(obs=self._shifted(batch.obs, windows), next_obs=next_obs)

    def _in_rewards(self, values: Values) -> Values:
        """Return a network's values as discounted rewards, whatever its scale."""
        if not (self.config.value_rescaling or self.config.normalise_rewards):
            return values
        widen = scale_of(self.config).widen

        def widened(obs: Obs, state: State, is_first: Array) -> tuple[Array, State]:
            q, state = values(obs, state, is_first)
            return widen(q) / self._statistics.reward_scale, state

        return widened

    # State -------------------------------------------------------------------------------------------

    def diagnostics(self) -> dict[str, float]:
        """Return epsilon, the step size, the replay's size and age, and the seconds of sampling since the last call."""
        seconds, self._sample_seconds = self._sample_seconds, 0.0
        return {
            "epsilon": self.epsilon(),
            "learning_rate": self._learning_rate(self.env_steps),
            "replay_size": 0 if self.replay is None else len(self.replay),
            "replay_age_env_steps": self._age,
            "sample_seconds": round(seconds, 6),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return networks, optimiser, replay and counters; leaves are live."""
        return {
            **self._saved.state_dict(),
            "target": dict(self.target.state_dict()),
            "replay": {} if self.replay is None else self.replay.state_dict(),
            "env_steps": self.env_steps,
            "gradient_steps": self.gradient_steps,
            "replay_age_env_steps": self._age,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state in, in place; weights alone make a policy."""
        self._saved.load_state_dict(state)
        load_weights(self.target, state.get("target") or self.online.state_dict())
        if "optimiser" in state:
            self.env_steps, self.gradient_steps = state["env_steps"], state["gradient_steps"]
            self._age = state.get("replay_age_env_steps", 0.0)
        if state.get("replay"):
            self.replay = self._make_replay()
            self.replay.load_state_dict(state["replay"])


def _epsilon(config: Config, total_steps: int) -> Schedule:
    """Return the probability of a random action by env step: 1 until learning starts."""
    first = config.learning_starts_env_steps
    falls = linear(config.epsilon_initial, config.epsilon_final, config.epsilon_fraction * total_steps)
    waits = first if config.epsilon_waits else 0
    return lambda step: 1.0 if step < first else falls(step - waits)
