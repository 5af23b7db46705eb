"""Show the way of a step: the files of the lab that one update of an agent enters, from `observe` to the optimiser.

The fewer files and lines, the sooner a reader has seen all that happens. By default it follows an eager update of
vanilla DQN on CartPole-v1.
"""

from __future__ import annotations

import json
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
from rl_lab.training.experience import experience
from rl_lab.training.interaction import Interaction
from rl_lab.training.loop import start, train
from rl_lab.training.setup import configure, problem_of
from rl_lab.types import Metrics, Step, UsageError

PACKAGE = Path(rl_lab.__file__).parent
WARM_UPDATES = 5  # what is only done once is done by then
EAGER_DQN: dict[str, Any] = {"learning_starts_env_steps": 100, "compile": "no"}


@dataclass(frozen=True)
class Options:
    """What the command takes."""

    agent: str = "dqn"
    """Agent that learns from steps."""
    env_id: str = "CartPole-v1"
    """Environment."""
    total_steps: int = 5_000
    """Environment steps after which the search for an update ends."""
    json: str | None = None
    """File to write the files, their lines and the functions entered to."""

    def __post_init__(self) -> None:
        at_least(self, 1, "total_steps")


class Traced:
    """An agent whose calls are followed: files and functions, in the order in which they are first entered."""

    def __init__(self, agent: Agent):
        self.agent = agent
        self.entered: dict[str, list[str]] = {}  # functions by file, of the steps since the last update

    def observe(self, step: Step) -> None:
        """Store a step; the way begins here."""
        self.entered = {}
        self._followed(self.agent.observe, step)

    def update(self) -> Metrics | None:
        """Learn if it is due; the way ends here."""
        return self._followed(self.agent.update)

    def _followed(self, call: Any, *arguments: Any) -> Any:
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
    """Return the functions that one update enters, by file.

    Raises:
        UsageError: an unknown name, an agent that doesn't learn from steps, or no update within the budget.
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
    """Yield after each of so many updates.

    Raises:
        UsageError: the budget ends before.
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
    """Print the way of a step."""
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
        Path(options.json).write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    main(show)
