"""The learner of every agent that learns from steps: it drives `train()` and feeds the run."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from rl_lab.agent import Agent, Policy
from rl_lab.environments.episodes import EpisodeTracker
from rl_lab.problem import Problem
from rl_lab.runs.run import Members, Run
from rl_lab.seeding import EpisodeSeeds, Streams
from rl_lab.training.experience import Experience, experience
from rl_lab.training.loop import start, train
from rl_lab.types import Cursor, EnvSpec, Metrics, UsageError


class BuildAgent(Protocol):
    """Makes an agent from what is known before the first step."""

    def __call__(self, config: Any, problem: Problem, streams: Streams) -> Agent:
        """Make the agent; its random numbers come from `streams`."""


class Interaction:
    """Turns a problem into a policy by letting an agent act and learn, resumably."""

    resumes = True
    stops_early = True

    def __init__(
        self,
        config: Any,
        build_agent: BuildAgent,
        refuse: Callable[[Any, EnvSpec], str | None],
        *,
        takes_datasets: bool = True,
    ):
        self.config, self.Config = config, type(config)
        self.takes_datasets = takes_datasets  # False for an agent that must have chosen the actions itself
        self._build_agent, self._refuse = build_agent, refuse

    def refuse(self, problem: Problem) -> str | None:
        """Return why the agent can't take this problem."""
        return self._refuse(self.config, problem.spec)

    def load(self, problem: Problem, weights: dict[str, Any]) -> Policy:
        """Return the greedy policy over stored weights."""
        agent = self._build_agent(self.config, problem, Streams(problem.seed))
        agent.load_state_dict({"weights": weights})
        return agent.policy(explore=False)

    def learn(self, problem: Problem, run: Run) -> Policy:
        """Drive the loop from its start, or from where the run was left."""
        source = experience(problem)
        try:
            session = _Session(self.config, self._build_agent, problem, run, source)
            session.go()
            return session.greedy
        finally:
            source.envs.close()


class _Session:
    """One stretch of interaction: what the loop needs, and what is saved beside it."""

    def __init__(self, config: Any, build: BuildAgent, problem: Problem, run: Run, source: Experience):
        self.run, self.source, self.envs = run, source, source.envs
        self.streams = Streams(problem.seed)
        self.agent = build(config, problem, self.streams)
        self.greedy = self.agent.policy(explore=False)
        self.acting = source.acting(self.agent.policy(explore=True))
        self.total_steps = run.total_steps = _round_up(problem.total_steps, self.agent.collect_env_steps)
        self.tracker = EpisodeTracker(
            problem.seed, self.envs.num_envs, self.envs.single_action_space, source.sink(run.episode)
        )
        self.meter = Meter()
        self.seeds, self.at = self._begin(problem, run.restored)

    def _begin(self, problem: Problem, saved: Members | None) -> tuple[EpisodeSeeds, Cursor]:
        if saved is None:
            if problem.initial_weights is not None:
                load_initial_weights(self.agent, problem.initial_weights)
            seeds = self.source.seeds()
            return seeds, start(self.acting, self.envs, seeds)
        self.agent.load_state_dict(saved["agent"] | {"weights": saved["weights"]})
        self.meter.load_state_dict(saved["meter"])
        cursor = saved["cursor"]
        seeds = self.source.seeds(tuple(cursor["episodes"]))
        obs, mask, cut = self.tracker.restore(saved["recorder"], self.envs, seeds)
        if cut.any():
            self.run.row(cursor["env_steps"], {"truncated_at_resume": [int(i) for i in cut.nonzero()[0]]})
        self.streams.load_state_dict(saved["streams"])  # last: what came before may have drawn
        return seeds, Cursor(
            obs, cursor["is_first"] | cut, cursor["state"], mask, cursor["env_steps"], seeds.episodes
        )

    def go(self) -> None:
        """Interact until the budget is spent or the run says to end; finish the run unless it is to go on later."""
        run, meter, agent, clock = self.run, self.meter, self.agent, Stopwatch()
        tracker = clock.timed(self.tracker, add="record")
        loop = train(
            clock.timed(agent, observe="store", update="update"),
            clock.timed(self.acting, act="act"),
            clock.timed(self.envs, step="step", reset="reset"),
            self.seeds, self.total_steps, self.at,
        )  # fmt: skip
        over = run.catch_up(self.at.env_steps, self.greedy)
        for step, metrics, self.at in () if over else loop:
            tracker.add(step, self.at)
            if metrics is not None:
                meter.add(metrics)
            if run.due(self.at.env_steps) and self._moment(clock):
                break
        if run.stopped:
            return
        tracker.flush()
        results: Mapping[str, Any] = getattr(agent, "results", dict)()  # what it wants the summary to say
        run.finish(self.at.env_steps, self.greedy, self.members(), agent.gradient_steps, results)

    def _moment(self, clock: Stopwatch) -> bool:
        """Push a row, evaluate and save where due; return whether to stop."""
        run, env_steps = self.run, self.at.env_steps
        self.tracker.flush()
        if run.row_due(env_steps):
            run.row(
                env_steps,
                {
                    **self.meter.take(),
                    **self.agent.diagnostics(),
                    "gradient_steps": self.agent.gradient_steps,
                    **clock.take(),
                },
            )
        return run.moment(env_steps, self.greedy, self.members)

    def members(self) -> Members:
        """Return the state trees of a checkpoint.

        Raises:
            FloatingPointError: the weights aren't finite; what was saved before is left as it is.
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
    for name, value in weights.items():
        finite = value.isfinite() if hasattr(value, "isfinite") else np.isfinite(value)
        if not finite.all():
            raise FloatingPointError(f"weights {name!r} are not finite at env step {env_steps}")


def load_initial_weights(agent: Agent, weights: Mapping[str, Any]) -> None:
    """Start an agent from another run's weights; everything else stays fresh.

    Raises:
        UsageError: names or shapes differ.
    """
    own = {name: tuple(value.shape) for name, value in agent.state_dict()["weights"].items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    for name in own | given:
        if own.get(name) != given.get(name):
            raise UsageError(f"init_from: {_misfit(name, own, given)}")
    agent.load_state_dict({"weights": weights})


def _misfit(name: str, own: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    if name in own and name in given:
        return f"weights {name!r} have shape {given[name]} there (allowed here: {own[name]})"
    has, lacks = ("that run", "this one") if name in given else ("this run", "that one")
    return (
        f"{has} has weights {name!r}, {lacks} has none (allowed: the same kind of agent and network in both)"
    )


def _round_up(steps: int, multiple: int) -> int:
    return -(-steps // multiple) * multiple


class Meter:
    """Averages metrics over the updates since the last row; of names that end in _max it keeps the maximum."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}  # name: [count, sum or maximum]

    def add(self, metrics: Metrics) -> None:
        """Take the metrics of one update in."""
        for name, value in metrics.items():
            entry = self._values.setdefault(name, [0, float("-inf") if name.endswith("_max") else 0.0])
            entry[0] += 1
            entry[1] = max(entry[1], value) if name.endswith("_max") else entry[1] + value

    def take(self) -> dict[str, float]:
        """Return the averages and begin anew."""
        out = {n: v if n.endswith("_max") else v / count for n, (count, v) in self._values.items()}
        self._values = {}
        return out

    def state_dict(self) -> dict[str, Any]:
        """Return what has been added since the last row."""
        return {name: list(entry) for name, entry in self._values.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._values = {name: list(entry) for name, entry in state.items()}


class Stopwatch:
    """Says where the time goes: it times methods of the parts that the loop is given."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)

    def timed(self, part: Any, **methods: str) -> Any:
        """Return the part with these methods timed under these names."""
        return _Timed(part, {m: self._time(getattr(part, m), name) for m, name in methods.items()})

    def _time(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        seconds, now = self._seconds, time.perf_counter

        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = now()
            out = call(*args, **kwargs)
            seconds[name] += now() - begun
            return out

        return timed

    def take(self) -> dict[str, float]:
        """Return the seconds since the last row, by name, and begin anew."""
        out = {f"{name}_seconds": round(s, 6) for name, s in self._seconds.items()}
        self._seconds.clear()
        return out


class _Timed:
    """A part of the loop with some of its methods replaced; everything else passes through."""

    def __init__(self, part: Any, methods: dict[str, Callable[..., Any]]):
        self.__dict__.update(methods)
        self._part = part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)
