"""The two protocols at the heart: a Policy acts, an Agent learns from steps."""

from __future__ import annotations

from typing import Any, Protocol

from rl_lab.types import Array, Decision, Metrics, Obs, State, Step


class Policy(Protocol):
    """All that evaluation, watching and export need."""

    def initial_state(self, num_envs: int) -> State:
        """Return the carry before an episode; () when memoryless."""

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Choose an action [N, ...] for each observation; zero the carry where `is_first`."""

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return what lies behind the choice: `q_values` or `probabilities` [N, A], `value` [N]; {} if nothing.

        Where `probabilities` is given it is the distribution that `act` draws from; otherwise `act`
        is deterministic.
        """


class Agent(Protocol):
    """Learns from steps."""

    gradient_steps: int  # updates of the parameters so far
    collect_env_steps: int  # the budget is rounded up to a multiple of it

    def policy(self, *, explore: bool) -> Policy:
        """Return a policy over the live parameters; works from construction."""

    def observe(self, step: Step) -> None:
        """Store one vector step; nothing else."""

    def update(self) -> Metrics | None:
        """Learn if it is due, bursts included; None if it is not. Atomic: no save falls inside."""

    def diagnostics(self) -> dict[str, float]:
        """Return slow-moving figures (epsilon, replay size), asked for once a row."""

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimiser, memory and counters; leaves may be live. `weights` is all that acting needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state in, in place: views of the weights stay valid."""
