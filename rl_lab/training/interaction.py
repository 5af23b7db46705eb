"""The learner of every agent that learns from steps: it lets the agent act in environments and learn."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rl_lab.agent import Agent, Policy
from rl_lab.function_class import FunctionClass
from rl_lab.problem import Problem
from rl_lab.runs.run import Run
from rl_lab.seeding import Streams
from rl_lab.training.experience import experience
from rl_lab.training.lockstep import LearnsTogether, Together
from rl_lab.training.session import BuildAgent, Session
from rl_lab.types import EnvSpec


class Interaction:
    """Turns a problem into a policy by letting an agent act and learn; resumes exactly.

    Args:
        config: an instance of the agent's Config.
        build_agent: makes the agent.
        refuse: returns why an agent with this config can't take such an environment (one line), or None.
        takes_datasets: False for an agent that can only learn from actions it has chosen itself.
        refuse_number: returns why it can't take so many environments of this kind, or None; asked after `refuse`.
        together: how several of these agents learn as one program; None if they can't.
    """

    resumes = True
    stops_early = True
    steps_vectors = True

    def __init__(
        self,
        config: Any,
        build_agent: BuildAgent,
        refuse: Callable[[Any, EnvSpec], str | None],
        *,
        takes_datasets: bool = True,
        refuse_number: Callable[[Any, EnvSpec, int], str | None] = lambda config, spec, num_envs: None,
        together: Together | None = None,
    ):
        self.config, self.Config = config, type(config)
        self.takes_datasets = takes_datasets
        self.build_agent, self._refuse, self._refuse_number = build_agent, refuse, refuse_number
        self.together = together

    def refuse_together(self, problem: Problem, number: int) -> str | None:
        """Return why so many of these agents can't learn as one program (one line), or None if they can."""
        if self.together is None:
            return "several seeds of it don't learn as one program"
        return self.together.refuse(self.config, problem, number)

    def learns_together(self, agents: Sequence[Agent]) -> LearnsTogether:
        """Return what lets several of these agents, which have taken no steps yet, learn as one program."""
        assert self.together is not None
        return self.together.make(agents)

    def refuse(self, problem: Problem) -> str | None:
        """Return why the agent can't take this problem (one line), or None if it can."""
        if (reason := self._refuse(self.config, problem.spec)) is not None:
            return reason
        return self._refuse_number(self.config, problem.spec, problem.num_envs)

    def resolved(self, problem: Problem) -> Interaction:
        """Return this learner with what its config leaves to "auto" decided by the config's `resolve`, if it has one.

        Raises:
            UsageError: a value that isn't possible for this problem.
        """
        if (resolve := getattr(self.config, "resolve", None)) is None:
            return self
        decided = copy.copy(self)
        decided.config = resolve(problem)
        return decided

    def load(self, problem: Problem, weights: dict[str, Any]) -> Policy:
        """Return the greedy policy over stored weights."""
        return self._loaded(problem, weights).policy(explore=False)

    def exploring(self, problem: Problem, weights: dict[str, Any]) -> Policy:
        """Return the policy that collects steps, over stored weights."""
        return self._loaded(problem, weights).policy(explore=True)

    def function_class(self, problem: Problem, weights: dict[str, Any]) -> FunctionClass | None:
        """Return what policies the agent can express; None if it doesn't tell."""
        tell = getattr(self._loaded(problem, weights), "function_class", None)
        return None if tell is None else tell()

    def _loaded(self, problem: Problem, weights: dict[str, Any]) -> Agent:
        agent = self.build_agent(self.config, problem, Streams(problem.seed))
        agent.load_state_dict({"weights": weights})
        return agent

    def learn(self, problem: Problem, run: Run) -> Policy:
        """Learn from the start, or from where the run was left; return the greedy policy.

        Raises:
            UsageError: the weights of a warm start don't fit.
            FloatingPointError: weights have become infinite or nan.
        """
        with self.session(problem, run) as session:
            session.go()
            return session.greedy

    @contextmanager
    def session(self, problem: Problem, run: Run) -> Iterator[Session]:
        """Return a session at its start, or where the run was left; its environments are closed after the `with` block.

        Raises:
            UsageError: the weights of a warm start don't fit.
        """
        source = experience(problem)
        try:
            yield Session(self.config, self.build_agent, problem, run, source)
        finally:
            source.envs.close()
