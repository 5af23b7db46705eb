"""The agent: it acts by a stochastic policy, collects rollouts, and learns from their advantages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from rl_lab.nn.actor_critic import (
    ActorCritic,
    Outputs,
    StochasticPolicy,
    make_acting_outputs,
    make_actor_critic,
)
from rl_lab.nn.attended import attention_figures
from rl_lab.nn.distributions import GaussianHead
from rl_lab.nn.joint_distributions import make_distribution
from rl_lab.nn.normalise import RewardNormaliser
from rl_lab.problem import Problem
from rl_lab.replay.rollout import Rollout
from rl_lab.schedules import Schedule, constant, linear
from rl_lab.seeding import Streams
from rl_lab.types import Array, EnvSpec, Metrics, Obs, State, Step
from rl_lab.updates.advantages import explained_variance, gae
from rl_lab.updates.compile_process import CompilationStopped
from rl_lab.updates.fitting import NetworkClass
from rl_lab.updates.gradients import at_env_step, set_learning_rate
from rl_lab.updates.minibatches import Minibatch, minibatches
from rl_lab.updates.optimisers import POLICY_OPTIMISERS
from rl_lab.updates.policy_losses import FIGURES, Objective
from rl_lab.updates.policy_updates import PolicyUpdates
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

STEP_FIGURES = (*FIGURES, "grad_norm")  # of a gradient step


class PolicyGradient:
    """Learns a policy and its value from rollouts of the policy itself."""

    def __init__(self, config: Config, problem: Problem, streams: Streams):
        spec, self.compiles = problem.spec, config.compile == "yes"
        self.config, self.method, self.num_envs = config, config.method(), spec.num_envs
        self.distribution = make_distribution(spec.action_space, log_std=config.log_std_initial)
        self.trained: Trained[ActorCritic] = Trained(
            _with_decay(config),
            problem,
            streams,
            lambda: self._make_network(spec),
            optimisers=POLICY_OPTIMISERS,
            reward_normaliser=RewardNormaliser(config.gamma, spec.num_envs)
            if config.normalise_rewards
            else None,
            compiles=self.compiles,
        )
        self.objective = Objective(
            self.distribution.evaluate, self.method.surrogate, config.vf_coef, config.ent_coef,
            config.normalise_advantages, self.method.value_clip,
        )  # fmt: skip
        self.updates = PolicyUpdates(
            self.trained.network,
            self.objective,
            self.trained.optimiser,
            self.trained.clip,
            self.trained.compile_key,
        )
        self._explore_rng, self.order_rng = streams["explore"], streams["minibatches"]
        self.rollout = Rollout(config.n_steps)
        self.clip_range = _clip_range(config, problem.horizon)
        self.collect_env_steps = self.num_envs * (1 if self.method.whole_episodes else config.n_steps)
        self.env_steps, self.gradient_steps = 0, 0

    def _make_network(self, spec: EnvSpec) -> ActorCritic:
        return make_actor_critic(
            spec.observation_space, self.distribution, self.config, share_encoder=self.config.share_encoder
        )

    # Acting ------------------------------------------------------------------------------------------

    @property
    def _outputs(self) -> Outputs:
        """The live network as a function of numpy arrays, over the memory that its weights have now."""
        return make_acting_outputs(self.trained.network, self.trained.device)

    def policy(self, *, explore: bool, computed: Outputs | None = None) -> StochasticPolicy:
        """Return the exploring policy of the network, or the greedy one of its average (or itself without one).

        Args:
            explore: whether it explores.
            computed: the network's outputs, where they are computed elsewhere.
        """
        trained = self.trained
        average = trained.average.network
        return StochasticPolicy(
            (computed or self._outputs) if explore else make_acting_outputs(average, trained.device),
            self.distribution,
            trained.initial_state,
            self._explore_rng if explore else None,
            lambda: trained.statistics.reward_scale,
            network=trained.network if explore else average,
            figures=attention_figures(trained.network if explore else average, trained.device),
        )

    def function_class(self) -> NetworkClass:
        """Return the policies that take the most likely action of such a network; for Discrete actions."""
        return NetworkClass(self.trained.average.network, lambda network, obs: network(obs)[0])

    # Learning ----------------------------------------------------------------------------------------

    def observe(self, step: Step) -> None:
        """Store the step.

        Raises:
            FloatingPointError: a reward or an observation isn't finite; nothing is stored.
        """
        try:
            self.rollout.add(step)
        except FloatingPointError as error:
            raise at_env_step(error, self.env_steps + self.num_envs) from None
        self.trained.statistics.observe_rewards(self._clipped(step.reward), step.is_first)
        self.env_steps += self.num_envs

    def _clipped(self, reward: Array) -> Array:
        bound = self.config.reward_clip
        return reward if bound is None else np.clip(reward, -bound, bound)

    def update(self) -> Metrics | None:
        """Learn from the rollout if it has ended, and begin a new one; return metrics, or None before its end.

        Raises:
            FloatingPointError: a loss or gradient isn't finite; the weights are those before that step.
        """
        if not self.has_ended():
            return None
        whole = self.rollout_batch()
        return self.begin_anew(whole, self.learn(whole))

    def begin_anew(self, whole: Minibatch, figures: dict[str, float]) -> Metrics:
        """Begin a new rollout after what was found in learning from the whole of the last one; return its metrics."""
        self._observe_rollout()
        self.rollout.clear()
        value, target = (x.cpu().numpy() for x in (whole.value, whole.target))
        return figures | {"explained_variance": explained_variance(value, target)}

    def _observe_rollout(self) -> None:
        """Update the statistics only after learning, so that acting and learning see the same ones."""
        if self.config.normalise_observations:
            columns = self.rollout.columns
            self.trained.statistics.observe(joined(columns["obs"]))

    def has_ended(self) -> bool:
        """Return whether the rollout has ended."""
        if self.rollout.is_full or not self.method.whole_episodes:
            return self.rollout.is_full
        ends = self.rollout.columns["terminated"] | self.rollout.columns["truncated"]
        return bool(ends[-1].any() and ends.any(axis=0).all())

    def rollout_batch(self) -> Minibatch:
        """Return the whole rollout with its advantages, as steps [T * N], or with a memory as sequences [T, N]."""
        return self._batch_of(self.rollout)

    def _batch_of(self, rollout: Rollout) -> Minibatch:
        columns, config = rollout.columns, self.config
        stops = stops_of(columns)
        next_value = next_values(columns, columns["value"], stops & ~columns["terminated"], self._evaluate)
        reward = self.trained.statistics.scaled(self._clipped(columns["reward"]))
        advantage = gae(
            reward, columns["value"], next_value, columns["terminated"], stops, config.gamma, self.method.gae_lambda
        ).astype(np.float32)  # fmt: skip
        fields = {
            "obs": columns["obs"],
            "action": columns["raw_action"],
            "log_prob": columns["log_prob"],
            "value": columns["value"],
            "advantage": advantage,
            "target": advantage + columns["value"],
            "mask": columns.get("mask"),
        }
        fields = to_learn_from(fields, rollout, is_memoryless=self.trained.network.is_memoryless)
        return Minibatch(**{name: self.trained.tensors(field) for name, field in fields.items()})

    def _evaluate(self, obs: Obs, state: State, is_first: Array, mask: Array | None) -> Array:
        """Return the values [K] of observations; masks change nothing about them."""
        return self._outputs(obs, state, is_first)[1]

    def learn(self, whole: Minibatch) -> dict[str, float]:
        """Take the gradient steps of one rollout; return their mean figures.

        Raises:
            FloatingPointError: a loss or gradient isn't finite; the weights are those before that step.
        """
        set_learning_rate(self.trained.optimiser, self.trained.learning_rate(self.env_steps))
        clip_range = self.clip_range(self.env_steps)
        target_kl = self.method.target_kl
        max_kl = float("inf") if target_kl is None else 1.5 * target_kl
        size, epochs = self.method.batch_size, self.method.n_epochs
        found = []
        for batch in minibatches(whole, size, epochs, self.order_rng):
            try:
                batch = batch._replace(obs=self.trained.shift(batch.obs, bool(batch.state)))
                taken = self.updates(batch, clip_range, max_kl, self.gradient_steps)
            except FloatingPointError as error:
                raise at_env_step(error, self.env_steps) from None
            found.append(taken.figures)
            if not taken.moved:
                break
            self.trained.average.follow(self.gradient_steps, 1)
            self.gradient_steps += 1
        return dict(zip(STEP_FIGURES, np.mean(found, axis=0).tolist(), strict=True))

    def compile_updates(self, example: Step, should_stop: Callable[[], bool]) -> None:
        """Compile the steps on each kind of minibatch, or return early once `should_stop` says so.

        A rollout of its own, filled with `example`, shows what minibatches there will be.
        """
        whole = self.batch_like(example)
        order = np.random.Generator(np.random.PCG64(0))
        with suppress(CompilationStopped):
            for batch in minibatches(whole, self.method.batch_size, 1, order):
                batch = batch._replace(obs=self.trained.shift(batch.obs, bool(batch.state)))
                self.updates.compile(batch, should_stop)

    def batch_like(self, example: Step) -> Minibatch:
        """Return a whole rollout of nothing but `example`."""
        return self._batch_of(filled(self.config.n_steps, example))

    # State -------------------------------------------------------------------------------------------

    def diagnostics(self) -> dict[str, float]:
        """Return the schedules' current values, and with Box actions their standard deviation."""
        found = {"learning_rate": self.trained.learning_rate(self.env_steps)}
        if self.method.clip_range:
            found["clip_range"] = self.clip_range(self.env_steps)
        heads = self.trained.network.policy_head.modules()
        if deviations := [head.log_std.detach().exp() for head in heads if isinstance(head, GaussianHead)]:
            found["action_std"] = float(torch.cat(deviations).mean())
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return network, optimiser, the unfinished rollout and counters; leaves are live."""
        return state_of(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state in place; weights alone make a policy."""
        load_state(self, state)


def _with_decay(config: Config) -> Config:
    """Return the config with `linear_decay` replaced by the equivalent decay of the step size."""
    return replace(config, linear_decay=False, learning_rate_final=0.0) if config.linear_decay else config


def _clip_range(config: Config, total_steps: int) -> Schedule:
    """Return the clip range as a function of the environment step."""
    clip_range = config.method().clip_range
    return linear(clip_range, 0.0, total_steps) if config.linear_decay else constant(clip_range)
