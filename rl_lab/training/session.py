"""One session of interaction: the loop between a start (or a resume) and the next stop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from rl_lab.agent import Agent, Compiles, HasResults, Policy
from rl_lab.environments.episodes import EpisodeTracker
from rl_lab.problem import Problem
from rl_lab.runs.run import Members, Run
from rl_lab.seeding import EpisodeSeeds, Streams
from rl_lab.training.experience import Experience
from rl_lab.training.initial_weights import load_initial_weights
from rl_lab.training.loop import Learning, start, train
from rl_lab.training.meter import Meter
from rl_lab.training.stopwatch import Stopwatch, TimedAgent, TimedPolicy, TimedVector
from rl_lab.types import Cursor, Metrics, Step


class BuildAgent(Protocol):
    """Makes an agent from what is known before the first step."""

    def __call__(self, config: Any, problem: Problem, streams: Streams) -> Agent:
        """Make the agent; it draws its random numbers from `streams`."""


class Session:
    """Drives the loop and feeds the run; holds what is saved in a checkpoint beside the agent."""

    def __init__(self, config: Any, build: BuildAgent, problem: Problem, run: Run, source: Experience):
        self.run, self.source, self.envs = run, source, source.envs
        self.streams = Streams(problem.seed)
        self.agent = build(config, problem, self.streams)
        self.greedy = self.agent.policy(explore=False)
        self.acting = source.acting(self.agent.policy(explore=True))
        self._frame_stack = problem.spec.frame_stack
        steps = _round_up(problem.total_steps, self.agent.collect_env_steps)
        run.total_steps = _round_up(steps, self.envs.num_envs)  # which step together
        self.tracker = EpisodeTracker(
            problem.seed, self.envs.num_envs, self.envs.single_action_space, source.sink(run.episode)
        )
        self.meter, self.watch = Meter(), Stopwatch()
        self.seeds, self.at = self._begin(problem, run.restored)

    def _begin(self, problem: Problem, saved: Members | None) -> tuple[EpisodeSeeds, Cursor]:
        """Return where the loop starts: at the first episodes, or where a checkpoint was saved."""
        if saved is not None:
            return self._restore(saved)
        if problem.initial_weights is not None:
            load_initial_weights(self.agent, problem.initial_weights)
        seeds = self.source.seeds()
        return seeds, start(self.acting, self.envs, seeds)

    def _restore(self, saved: Members) -> tuple[EpisodeSeeds, Cursor]:
        """Restore everything from a checkpoint; its open episodes are replayed in the environments."""
        self.agent.load_state_dict(saved["agent"] | {"weights": saved["weights"]})
        self.meter.load_state_dict(saved["meter"])
        cursor = saved["cursor"]
        seeds = self.source.seeds(tuple(cursor["episodes"]))
        obs, mask, cut = self.tracker.restore(saved["recorder"], self.envs, seeds)
        if cut.any():
            self.run.row(cursor["env_steps"], {"truncated_at_resume": [int(i) for i in cut.nonzero()[0]]})
        self.streams.load_state_dict(saved["streams"])  # last: what came before may have drawn numbers
        return seeds, Cursor(
            obs, cursor["is_first"] | cut, cursor["state"], mask, cursor["env_steps"], seeds.episodes
        )

    def go(self) -> None:
        """Interact until the budget is spent or the run says to stop; finish the run unless it goes on later."""
        if not (self.catch_up() or self._stopped_at_compiling()):
            for step, metrics, at in self.steps():
                if self.take(step, metrics, at) and self.moment():
                    break
        self.end()

    def catch_up(self) -> bool:
        """Do what a stop left undone, and start the run's clock; return whether the run is over already."""
        return self.run.catch_up(self.at.env_steps, self.greedy, self.members)

    def steps(self, learner: Learning | None = None) -> Iterator[tuple[Step, Metrics | None, Cursor]]:
        """Return the loop, which yields after every vector step.

        Args:
            learner: takes the place of the agent.
        """
        return train(
            TimedAgent(learner or self.agent, self.watch),
            TimedPolicy(self.acting, self.watch),
            TimedVector(self.envs, self.watch),
            self.seeds, self.run.total_steps, self.at,
        )  # fmt: skip

    def take(self, step: Step, metrics: Metrics | None, at: Cursor) -> bool:
        """Take in a vector step; return whether `moment` has anything to do."""
        began, self.at = perf_counter(), at
        self.tracker.add(step, at)
        self.watch.seconds["record"] += perf_counter() - began
        if metrics is not None:
            self.meter.add(metrics)
        return self.run.due(at.env_steps)

    def end(self) -> None:
        """Finish the run unless it goes on later."""
        if not self.run.stopped:
            self._finish()

    def _stopped_at_compiling(self) -> bool:
        """Let the agent compile its updates, between two steps; return whether a signal stopped that, after saving."""
        run, at, agent = self.run, self.at, self.agent
        if not (isinstance(agent, Compiles) and agent.compiles) or at.env_steps >= run.total_steps:
            return False
        began, drawn = perf_counter(), self.streams.state_dict()
        with run.compiling():
            agent.compile_updates(self.example(), lambda: run.stop_requested)
        self.streams.load_state_dict(drawn)
        self.watch.seconds["compile"] += perf_counter() - began
        return run.stop_requested and run.moment(at.env_steps, self.greedy, self.members)

    def example(self) -> Step:
        """Return a step that looks like those to come: it leads nowhere and is never learned from."""
        at, no = self.at, np.zeros(self.envs.num_envs, np.bool_)
        decision = self.acting.act(at.obs, at.state, at.is_first, at.mask)
        obs = at.obs
        if self._frame_stack > 1:  # of equal frames, as only such a stack is its own successor
            obs = np.repeat(obs[:, -1:], self._frame_stack, axis=1)
        return Step(
            obs, decision.action, np.zeros(len(no)), no, no, obs, at.is_first, at.state, decision.state,
            at.mask, at.mask, decision.extras,
        )  # fmt: skip

    def moment(self) -> bool:
        """Push a row, evaluate and save where due; return whether to stop."""
        env_steps = self.at.env_steps
        self.tracker.settle()
        if self.run.row_due(env_steps):
            values: dict[str, Any] = {**self.meter.take(), **self.agent.diagnostics()}
            values["gradient_steps"] = self.agent.gradient_steps
            self.run.row(env_steps, values | self.watch.take())
        return self.run.moment(env_steps, self.greedy, self.members)

    def renew_policies(self, exploring: Policy | None = None) -> None:
        """Ask the agent for its policies again, once its weights lie elsewhere in memory.

        Args:
            exploring: takes the place of the agent's own exploring policy.
        """
        self.greedy = self.agent.policy(explore=False)
        self.acting = self.source.acting(exploring or self.agent.policy(explore=True))

    def _finish(self) -> None:
        self.tracker.flush()
        results = self.agent.results() if isinstance(self.agent, HasResults) else {}
        self.run.finish(self.at.env_steps, self.greedy, self.members(), self.agent.gradient_steps, results)

    def members(self) -> Members:
        """Return the state trees of a checkpoint.

        Raises:
            FloatingPointError: the weights aren't finite; the previous checkpoint stays the last.
        """
        state = self.agent.state_dict()
        _require_finite(state["weights"], self.at.env_steps)
        return {
            "weights": state.pop("weights"),
            "agent": state,
            "streams": self.streams.state_dict(),
            "recorder": self.tracker.state_dict(self.at.obs),
            "meter": self.meter.state_dict(),
            "cursor": {
                "is_first": self.at.is_first,
                "state": self.at.state,
                "env_steps": self.at.env_steps,
                "episodes": list(self.at.episodes),
            },
        }


def _require_finite(weights: Mapping[str, Any], env_steps: int) -> None:
    """Check that no weight is infinite or nan.

    Raises:
        FloatingPointError: one is.
    """
    for name, value in weights.items():
        finite = value.isfinite() if hasattr(value, "isfinite") else np.isfinite(value)
        if not finite.all():
            raise FloatingPointError(f"weights {name!r} are not finite at env step {env_steps}")


def _round_up(steps: int, multiple: int) -> int:
    return -(-steps // multiple) * multiple
