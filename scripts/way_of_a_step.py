"""Show the way of a step: the lab's files whose functions one update of an agent calls, from `observe` on.

The fewer files and lines these are, the sooner a reader has seen everything that happens. By default an eager update
of vanilla DQN on CartPole-v1 is traced.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import rl_lab
from rl_lab.agent import Agent
from rl_lab.checks import at_least
from rl_lab.cli.parsing import main, parse
from rl_lab.problem import Problem
from rl_lab.seeding import Streams
from rl_lab.storage.files import write_json
from rl_lab.training.experience import experience
from rl_lab.training.interaction import Interaction
from rl_lab.training.loop import start, train
from rl_lab.training.setup import configure, problem_of
from rl_lab.types import Metrics, Step, UsageError

PACKAGE = Path(rl_lab.__file__).parent
WARM_UPDATES = 5  # until then, code may run that runs only once
EAGER_DQN: dict[str, Any] = {"learning_starts_env_steps": 100, "compile": "no"}


@dataclass(frozen=True)
class Options:
    """The script's options."""

    agent: str = "dqn"
    """Agent to trace; it has to learn from steps."""
    env_id: str = "CartPole-v1"
    """Environment."""
    total_steps: int = 5_000
    """Environment steps within which the updates have to happen."""
    json: str | None = None
    """File to write the result to: files, their lines, and the functions called."""

    def __post_init__(self) -> None:
        at_least(self, 1, "total_steps")


class Traced:
    """An agent whose calls are traced, by files and functions in the order in which they are first called."""

    def __init__(self, agent: Agent):
        self.agent = agent
        self.entered: dict[str, list[str]] = {}  # functions by file, since the last step came

    def observe(self, step: Step) -> None:
        """Store a step, with which the trace begins anew."""
        self.entered = {}
        self._traced(self.agent.observe, step)

    def update(self) -> Metrics | None:
        """Learn if an update is due, with which the trace ends."""
        return self._traced(self.agent.update)

    def _traced(self, call: Any, *arguments: Any) -> Any:
        sys.setprofile(self._note)
        try:
            return call(*arguments)
        finally:
            sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            functions = self.entered.setdefault(str(path.relative_to(PACKAGE.parent)), [])
            if (name := frame.f_code.co_qualname) not in functions and "<" not in name:
                functions.append(name)


def way_of_a_step(options: Options) -> dict[str, list[str]]:
    """Return the functions that one update calls, by file.

    Raises:
        UsageError: a name is unknown, the agent doesn't learn from steps, or the budget is too small for the updates.
    """
    fields = EAGER_DQN if options.agent == "dqn" else {}
    given = {"env_id": options.env_id, "total_steps": options.total_steps}
    learner, config = configure(options.agent, fields | given)
    if not isinstance(learner, Interaction):
        raise UsageError(
            f"agent {options.agent!r} doesn't learn from steps (allowed: dqn, ppo, q-learning, ...)"
        )
    problem = problem_of(config, learner)
    if (reason := learner.refuse(problem)) is not None:
        raise UsageError(reason)
    agent = Traced(learner.build_agent(learner.config, problem, Streams(problem.seed)))
    for _ in _updates(agent, problem, WARM_UPDATES):
        pass
    return agent.entered


def _updates(agent: Traced, problem: Problem, count: int) -> Iterator[Metrics]:
    """Train, and yield the metrics of each of `count` updates.

    Raises:
        UsageError: the budget ends before the last of them.
    """
    source = experience(problem)
    acting, seeds = agent.agent.policy(explore=True), source.seeds()
    loop: Any = train(
        agent, acting, source.envs, seeds, problem.total_steps, start(acting, source.envs, seeds)
    )
    try:
        for _, metrics, _ in loop:
            if metrics is not None:
                yield metrics
                count -= 1
            if not count:
                return
    finally:
        source.envs.close()
    raise UsageError(f"total_steps {problem.total_steps} leaves no {WARM_UPDATES} updates (allowed: more)")


def show(argv: Sequence[str]) -> int:
    """Print the way of a step; return the exit code."""
    options: Options = parse(Options, argv, program="way_of_a_step.py", about=__doc__ or "")
    entered = way_of_a_step(options)
    rows = [
        {"file": file, "lines": len((PACKAGE.parent / file).read_text().splitlines()), "functions": functions}
        for file, functions in entered.items()
    ]
    for row in rows:
        print(f"{row['lines']:5}  {row['file']}: {', '.join(row['functions'])}")
    print(f"{sum(row['lines'] for row in rows):5}  lines in {len(rows)} files")
    if options.json is not None:
        write_json(options.json, rows)
    return 0


if __name__ == "__main__":
    main(show)
