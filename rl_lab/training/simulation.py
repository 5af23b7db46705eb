"""The learner of agents that learn in a compiled simulation of the environment's model, instead of its steps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from rl_lab.agent import Agent, Policy
from rl_lab.checks import with_allowed
from rl_lab.function_class import FunctionClass
from rl_lab.mdp.simulate import Simulation
from rl_lab.mdp.simulated_learners import SimulatedLearner, bytes_of_one
from rl_lab.problem import Problem
from rl_lab.replay.footprint import MEMORY_SHARE, free_memory
from rl_lab.runs.run import Run
from rl_lab.seeding import Streams
from rl_lab.training.initial_weights import load_initial_weights
from rl_lab.training.interaction import Interaction
from rl_lab.training.simulated_session import AheadOfTime, Live, SimulatedSession
from rl_lab.types import Array, Obs, UsageError

Describe = Callable[[Any, int], SimulatedLearner | None]  # agent, horizon
RowsOf = Callable[
    [Any, spaces.Space], tuple[int, Callable[[Obs], Array]]
]  # config, space -> number of rows, and observations [N, ...] -> rows [N]


class Simulated:
    """Turns a problem into a policy by simulating an agent's rule on the model; resumes exactly.

    Args:
        name: of the agent.
        interaction: the same agent, as it learns from steps.
        describe: returns an agent as simulations take it, or None if its rule isn't simulated.
        rows_of: returns how an agent with this config numbers the observations of a space.
    """

    resumes = True
    stops_early = True
    takes_datasets = False

    def __init__(self, name: str, interaction: Interaction, describe: Describe, rows_of: RowsOf):
        self.config, self.Config = interaction.config, interaction.Config
        self._name, self._interaction, self._describe = name, interaction, describe
        self._rows_of = rows_of
        self._ahead: AheadOfTime | None = None

    def refuse(self, problem: Problem) -> str | None:
        """Return why this problem can't be simulated (one line), or None if it can."""
        if (reason := self._interaction.refuse(problem)) is not None:
            return reason
        if problem.model is None:
            also = f"{self._name} without simulated"
            return with_allowed(f"simulated needs a finite MDP, and {problem.no_model}", also)
        if problem.num_envs != 1:
            return (
                f"num_envs {problem.num_envs} can't be simulated (allowed: 1; each seed has one environment)"
            )
        if not problem.spec.has_mask and not problem.model.available.all():
            return f"{problem.env_id} shows no masks of its illegal actions (allowed: {self._name} without simulated)"
        if self._describe(self._agent(problem), problem.horizon) is None:
            return f"{self._name} isn't simulated (allowed: {self._name} without simulated)"
        try:
            self.simulation(problem, [problem.seed])
        except ValueError as error:
            return f"{self._name} can't be simulated in {problem.env_id}: {error}"
        return None

    def load(self, problem: Problem, weights: dict[str, Any]) -> Policy:
        """Return the greedy policy over stored weights."""
        return self._interaction.load(problem, weights)

    def exploring(self, problem: Problem, weights: dict[str, Any]) -> Policy:
        """Return the policy that collects steps, over stored weights."""
        return self._interaction.exploring(problem, weights)

    def function_class(self, problem: Problem, weights: dict[str, Any]) -> FunctionClass | None:
        """Return what policies the agent can express."""
        return self._interaction.function_class(problem, weights)

    def learn(self, problem: Problem, run: Run) -> Policy:
        """Learn from the start, or from where the run was left; return the greedy policy.

        Raises:
            UsageError: the weights of a warm start don't fit.
            FloatingPointError: values have become infinite or nan.
        """
        agent = self._agent(problem)
        if problem.initial_weights is not None:
            load_initial_weights(agent, problem.initial_weights)
        if self._ahead is None:
            live = Live(self.simulation(problem, [problem.seed], threads=1))
            live.prepare(run)
        source: Live | AheadOfTime = live if self._ahead is None else self._ahead
        session = SimulatedSession(agent, problem, run, source)
        session.go()
        return session.greedy

    def from_ahead(self, ahead: AheadOfTime) -> Simulated:
        """Return this learner for a run that has been simulated already."""
        out = copy.copy(self)
        out._ahead = ahead
        return out

    def simulation(self, problem: Problem, seeds: list[int], *, threads: int | None = None) -> Simulation:
        """Return the simulation of a problem with several seeds, at its start.

        Raises:
            ValueError: the model can't be simulated with this rule.
            UsageError: the weights of a warm start don't fit, or the memory doesn't hold so many learners.
        """
        agent, model, limit = self._agent(problem), problem.model, problem.spec.max_episode_steps
        described = self._describe(agent, problem.horizon)
        assert described is not None
        assert model is not None
        num_cells, row_of = self._rows_of(self.config, problem.spec.observation_space)
        _require_memory(bytes_of_one(described, num_cells, model.num_actions, limit), len(seeds))
        made = Simulation(
            model,
            described,
            seeds,
            time_limit=limit,
            cells=np.asarray(row_of(model.observe(np.arange(model.num_states)))),
            num_cells=num_cells,
            threads=threads,
        )
        if problem.initial_weights is not None:
            load_initial_weights(agent, problem.initial_weights)
            made.begin_from(agent.state_dict()["weights"]["q"])
        return made

    def _agent(self, problem: Problem) -> Agent:
        return self._interaction.build_agent(self.config, problem, Streams(problem.seed))


def _require_memory(nbytes: int, seeds: int) -> None:
    """Raise UsageError if as many learners as seeds, of so many bytes each, exceed what the memory can hold."""
    allowed = MEMORY_SHARE * free_memory()
    if nbytes * seeds > allowed:
        raise UsageError(
            f"{seeds} seeds of what is learned need {nbytes * seeds / 1e9:.1f} GB, {allowed / 1e9:.1f} GB may be used"
            f" (allowed: up to {int(allowed // nbytes)} at once)"
        )
