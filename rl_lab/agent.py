"""The two central protocols: a Policy acts, an Agent learns from steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from rl_lab.types import Array, Decision, Metrics, Obs, State, Step


class Policy(Protocol):
    """Acts. This is all that evaluation, watching and export need."""

    def initial_state(self, num_envs: int) -> State:
        """Return the carry at the start of an episode, each part [N, ...]; () for a memoryless policy."""

    def act(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> Decision:
        """Choose an action for each observation.

        Args:
            obs: observations [N, ...].
            state: the carry that the last call returned; it counts as zero where `is_first`.
            is_first: bool [N], where an episode begins.
            mask: legal actions, bool [N, A]; None if all are legal.

        Returns:
            Actions [N, ...], the next carry, and what is to be stored with the step.
        """

    def inspect(self, obs: Obs, state: State, is_first: Array, mask: Array | None = None) -> dict[str, Array]:
        """Return the figures behind the choice, those of them that there are; {} if none.

        - `q_values` [N, A]: action values in units of reward, -inf for illegal actions.
        - `probabilities` [N, A]: the distribution that `act` draws from. Without it, `act` is deterministic.
        - `logits` [N, M]: a network's outputs, the values of every discrete entry of the action side by side (for
          Discrete actions M = A), -inf for illegal ones; their softmax by entry is the network's distribution.
        - `mean` and `std` [N, D]: of the normal distributions of an action's D continuous entries, before clipping.
        - `value` [N]: of the state, in units of reward.
        - `attention` [N, T]: how much each of the last T steps is attended to, oldest first, the last being the
          current one; 0 for steps before the episode began.
        - `atoms` and `atom_probabilities` [N, A, K]: of an action's return; without the latter all are equally likely.

        A policy over a network of the lab also has the attribute `network`, the live module itself.
        """


class Agent(Protocol):
    """Learns from steps.

    What else an agent may be able to do is in the protocols `Compiles` and `HasResults`.
    """

    gradient_steps: int  # updates of the parameters so far
    collect_env_steps: int  # the budget is rounded up to a multiple of it, and to a step of all environments

    def policy(self, *, explore: bool) -> Policy:
        """Return a policy that follows the live parameters. It may be asked for right after construction."""

    def observe(self, step: Step) -> None:
        """Store one vector step, without learning from it."""

    def update(self) -> Metrics | None:
        """Do every gradient step that is due and return metrics; None if none is due. No save falls in between."""

    def diagnostics(self) -> dict[str, float]:
        """Return slow-moving figures such as epsilon or the replay's size; called once per row of metrics."""

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimiser, memory and counters. `weights` alone suffices for acting.

        Leaves may be live arrays: write them before the next step.
        """

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state in place, so that existing views of the weights stay valid."""


@runtime_checkable
class Compiles(Protocol):
    """What an agent has whose first update would otherwise have to wait for a compiler."""

    compiles: bool  # whether this agent, with its settings, has anything to compile

    def compile_updates(self, example: Step, should_stop: Callable[[], bool]) -> None:
        """Compile what updates need; called before the first step of a session if `compiles`.

        It changes nothing that is learned, and returns early once `should_stop()` is true, so that a signal is answered
        at once.

        Args:
            example: a step whose shapes and types are those of the steps to come, and whose values mean nothing.
        """


@runtime_checkable
class HasResults(Protocol):
    """What an agent has that adds figures of its own to the run's summary.json."""

    def results(self) -> Mapping[str, Any]:
        """Return the figures; called once, at the end of a run."""
