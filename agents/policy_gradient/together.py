"""Policy gradients of one configuration that learn as one program: the gradient steps of all are taken at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rl_lab.agent import Policy
from rl_lab.nn.acting_together import Prepared, joint_arrays, joint_outputs
from rl_lab.nn.distributions import CategoricalHead
from rl_lab.problem import Problem
from rl_lab.trees import join_leaves
from rl_lab.types import Array, Metrics, Obs, State, Step
from rl_lab.updates.compile_process import CompilationStopped
from rl_lab.updates.fields import bare_optimiser
from rl_lab.updates.gradients import at_env_step, set_learning_rate
from rl_lab.updates.minibatches import Minibatch, minibatches
from rl_lab.updates.optimisers import POLICY_OPTIMISERS
from rl_lab.updates.stacked import Stack, joint_forward, refuse_stacking
from rl_lab.updates.stacked_policy import StackedPolicyUpdates

from .agent import STEP_FIGURES, PolicyGradient
from .config import Config


def refuse_together(config: Config, problem: Problem, number: int) -> str | None:
    """Return why so many agents of this configuration can't learn as one program (one line), or None if they can."""
    method = config.method()
    if method.whole_episodes:
        return f"{config.NAME} learns from whole episodes, which end at different moments"
    if method.target_kl is not None:
        return f"target_kl {method.target_kl} can't be batched: agents would stop at different steps (allowed: None)"
    return refuse_stacking(config, problem)


class PolicyGradientsTogether:
    """K agents that differ in their seed alone, have seen equally many steps, and learn at the same moments.

    Their own `update` isn't called any more. Everything else of them goes on as it was.
    """

    def __init__(self, agents: Sequence[PolicyGradient]):
        first = agents[0]
        config = first.config
        self.agents: list[PolicyGradient | None] = list(agents)
        self.compiles, self._method = first.compiles, first.method
        self._stack = Stack(
            [agent.trained.network for agent in agents],
            [agent.trained.optimiser for agent in agents],
            lambda parameters: bare_optimiser(config, parameters, POLICY_OPTIMISERS),
        )
        self._updates = StackedPolicyUpdates(
            first.trained.network,
            self._stack,
            first.objective,
            first.trained.clip,
            first.trained.compile_key,
        )
        self._prepared = self._prepare(first)

    # Acting ------------------------------------------------------------------------------------------

    def _prepare(self, first: PolicyGradient) -> Prepared | None:
        """Return what computes the outputs of all networks at once; None if each does it by itself."""
        if not isinstance(first.trained.space, spaces.Box):
            return None
        network = first.trained.network
        joint = joint_arrays(network, self._stack.weights)
        outputs = None if joint is None else joint_outputs(network, joint)
        if outputs is not None:
            return Prepared(lambda obs: tuple(compute(obs) for compute in outputs), len(self.agents))
        if not isinstance(network.policy_head, CategoricalHead):
            return None
        return Prepared(joint_forward(network, self._stack), len(self.agents))

    def look(self, observations: dict[int, Obs]) -> None:
        """Take the observations [N, ...] that agents are about to act on, by their numbers."""
        if self._prepared is not None:
            self._prepared.look(observations)

    def exploring(self, k: int) -> Policy:
        """Return the policy by which agent k acts on what `look` took."""
        agent, prepared = self.agents[k], self._prepared
        assert agent is not None
        if prepared is None:
            return agent.policy(explore=True)

        def outputs(obs: Obs, state: State, is_first: Array) -> tuple[Any, Array, State]:
            parameters, value = prepared.outputs(k)
            return parameters, value, ()

        return agent.policy(explore=True, computed=outputs)

    # Learning ----------------------------------------------------------------------------------------

    def update(self) -> list[Metrics | FloatingPointError | None]:
        """Let all agents learn from their rollouts if these have ended; return each one's metrics, or why it failed."""
        live = [(k, agent) for k, agent in enumerate(self.agents) if agent is not None]
        told: list[Metrics | FloatingPointError | None] = [None] * len(self.agents)
        if not live or not live[0][1].has_ended():
            return told
        wholes = {k: agent.rollout_batch() for k, agent in live}
        figures, failed = self._learn(live, wholes)
        for k, agent in live:
            told[k] = failed.get(k) or agent.begin_anew(
                wholes[k], dict(zip(STEP_FIGURES, figures[k], strict=True))
            )
        return told

    def _learn(
        self, live: list[tuple[int, PolicyGradient]], wholes: dict[int, Minibatch]
    ) -> tuple[list[list[float]], dict[int, FloatingPointError]]:
        """Take the gradient steps of one rollout of each agent; return their mean figures, and why agents failed."""
        first = live[0][1]
        set_learning_rate(self._stack.optimiser, first.trained.learning_rate(first.env_steps))
        clip_range = first.clip_range(first.env_steps)
        orders = [minibatches(wholes[k], self._method.batch_size, self._method.n_epochs, agent.order_rng)
                  for k, agent in live]  # fmt: skip
        places = [k for k, _ in live]
        found = []
        failed: dict[int, FloatingPointError] = {}
        for parts in zip(*orders, strict=True):
            number = first.gradient_steps
            found.append(self._updates(self._joined(places, parts), clip_range, number))
            for k, agent in live:
                loss, norm = found[-1][k][0], found[-1][k][-1]
                if k not in failed and not math.isfinite(loss + norm):
                    error = FloatingPointError(f"loss {loss}, gradient norm {norm} at gradient step {number}")
                    failed[k] = at_env_step(error, agent.env_steps)
                agent.trained.average.follow(agent.gradient_steps, 1)
                agent.gradient_steps += 1
        return np.mean(found, axis=0).tolist(), failed

    def _joined(self, places: list[int], parts: Sequence[Minibatch]) -> Minibatch:
        """Return one minibatch [B, ...] of each agent as [K, B, ...]; any takes the place of those that are gone."""
        of = dict(zip(places, parts, strict=True))
        full = [of.get(k, parts[0]) for k in range(len(self.agents))]
        return _stacked(full)

    def release(self, k: int) -> None:
        """Leave agent k as it is now; the others go on."""
        self._stack.release(k)
        self.agents[k] = None

    def compile_updates(self, example: Step, should_stop: Callable[[], bool]) -> None:
        """Compile the steps on each kind of minibatch, or return early once `should_stop` says so."""
        agent = next(agent for agent in self.agents if agent is not None)
        order = np.random.Generator(np.random.PCG64(0))
        with suppress(CompilationStopped):
            for part in minibatches(agent.batch_like(example), self._method.batch_size, 1, order):
                self._updates.compile(_stacked([part] * len(self.agents)), should_stop)


def _stacked(parts: Sequence[Minibatch]) -> Minibatch:
    """Return minibatches [B, ...] of memoryless networks as one [K, B, ...]."""
    names = [name for name in Minibatch._fields if name not in ("is_first", "state")]
    fields: dict[str, Any] = {}
    for name in names:
        trees = [getattr(part, name) for part in parts]
        fields[name] = (
            None if trees[0] is None else join_leaves(lambda leaves: torch.stack(list(leaves)), trees)
        )
    return Minibatch(**fields)
