"""Where the time of the loop goes: its parts, timed."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

from rl_lab.agent import Agent, Policy
from rl_lab.environments.vectors import StepResult, VectorEnv
from rl_lab.types import Array, Decision, Metrics, Obs, State, Step

PARTS = ("compile", "act", "step", "store", "update", "record", "reset")


class Stopwatch:
    """Adds up the seconds of each part."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)  # since the last row

    def take(self) -> dict[str, float]:
        """Return the seconds since the last row as its columns, those that there are, and begin anew."""
        out = {f"{name}_seconds": round(seconds, 6) for name, seconds in self.seconds.items() if seconds}
        self.seconds.update(dict.fromkeys(PARTS, 0.0))
        return out


class TimedPolicy:
    """Times how long a policy takes to act."""

    __slots__ = ("_act", "_seconds")

    def __init__(self, policy: Policy, watch: Stopwatch):
        self._act, self._seconds = policy.act, watch.seconds

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Return the policy's decision."""
        began = perf_counter()
        decision = self._act(obs, state, is_first, mask)
        self._seconds["act"] += perf_counter() - began
        return decision


class TimedAgent:
    """Times how long an agent takes to store steps and to learn from them."""

    __slots__ = ("_observe", "_seconds", "_update")

    def __init__(self, agent: Agent, watch: Stopwatch):
        self._observe, self._update, self._seconds = agent.observe, agent.update, watch.seconds

    def observe(self, step: Step) -> None:
        """Let the agent store a step."""
        began = perf_counter()
        self._observe(step)
        self._seconds["store"] += perf_counter() - began

    def update(self) -> Metrics | None:
        """Let the agent learn if it is due."""
        began = perf_counter()
        metrics = self._update()
        self._seconds["update"] += perf_counter() - began
        return metrics


class TimedVector:
    """Times how long environments take to step and to be reset."""

    __slots__ = ("_reset", "_seconds", "_step", "checked", "num_envs")

    def __init__(self, envs: VectorEnv, watch: Stopwatch):
        self.num_envs, self.checked = envs.num_envs, getattr(envs, "checked", False)
        self._step, self._reset, self._seconds = envs.step, envs.reset, watch.seconds

    def step(self, action: Array) -> StepResult:
        """Take one step in every environment."""
        began = perf_counter()
        result = self._step(action)
        self._seconds["step"] += perf_counter() - began
        return result

    def reset(
        self, *, seed: Sequence[int | None], options: dict[str, Any] | None = None
    ) -> tuple[Obs, dict[str, Array]]:
        """Reset all environments, or those in options["reset_mask"]."""
        began = perf_counter()
        result = self._reset(seed=seed, options=options)
        self._seconds["reset"] += perf_counter() - began
        return result
