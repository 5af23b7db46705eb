"""DQNs of one configuration that learn as one program: the gradient steps of all of them are taken at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from gymnasium import spaces

from rl_lab.agent import Policy
from rl_lab.nn.acting_together import Prepared, joint_arrays, joint_q_values
from rl_lab.problem import Problem
from rl_lab.replay.footprint import refuse_capacity
from rl_lab.types import Array, Metrics, Obs, State, Step
from rl_lab.updates.compile_process import CompilationStopped
from rl_lab.updates.fields import bare_optimiser
from rl_lab.updates.gradients import at_env_step, set_learning_rate
from rl_lab.updates.stacked import Stack, joint_forward, refuse_stacking, release_weights, stack_weights
from rl_lab.updates.stacked_q import Figures, StackedQUpdates, figures_of_each

from .agent import DQN
from .config import Config, make_loss

PLAIN = {"distribution": "none", "munchausen": False, "noisy": False, "heads": 1, "normalise_rewards": False}


def refuse_together(config: Config, problem: Problem, number: int) -> str | None:
    """Return why so many agents of this configuration can't learn as one program (one line), or None if they can."""
    if (reason := refuse_stacking(config, problem, **PLAIN)) is not None:
        return reason
    together = refuse_capacity(config.replay_capacity * number, problem.spec)
    return None if together is None else f"{number} replays are held at once, and {together} together"


class DQNsTogether:
    """K agents that differ in their seed alone, have seen equally many steps, and learn at the same moments.

    Their own `update` isn't called any more. Everything else of them goes on as it was.
    """

    def __init__(self, agents: Sequence[DQN]):
        first = agents[0]
        self.agents: list[DQN | None] = list(agents)
        self.compiles, self._config = first.compiles, first.config
        self._stack = Stack(
            [agent.trained.network for agent in agents],
            [agent.trained.optimiser for agent in agents],
            lambda parameters: bare_optimiser(first.config, parameters),
        )
        self._updates = StackedQUpdates(
            first.trained.network,
            self._stack,
            stack_weights([agent.target.network for agent in agents]),
            make_loss(first.config),
            first.trained.clip,
            first.trained.compile_key,
            batch_size=first.config.batch_size,
        )
        self._prepared = self._prepare(first)

    # Acting ------------------------------------------------------------------------------------------

    def _prepare(self, first: DQN) -> Prepared | None:
        """Return what computes the values of all networks at once; None if each does it by itself."""
        network = first.trained.network
        if not isinstance(first.trained.space, spaces.Box):
            return None
        joint = joint_arrays(network, self._stack.weights)
        values = None if joint is None else joint_q_values(network, joint)
        if values is None:
            return Prepared(joint_forward(network, self._stack), len(self.agents))
        return Prepared(lambda obs: (values(obs),), len(self.agents))

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

        def values(obs: Obs, state: State, is_first: Array) -> tuple[Array, State]:
            return prepared.outputs(k)[0], ()

        return agent.policy(explore=True, computed=values)

    # Learning ----------------------------------------------------------------------------------------

    def update(self) -> list[Metrics | FloatingPointError | None]:
        """Let all agents learn that are there, if it is due; return the metrics of each, or why it failed."""
        live = [(k, agent) for k, agent in enumerate(self.agents) if agent is not None]
        calls = max([agent.calls_due() for _, agent in live], default=0)
        told: list[Metrics | FloatingPointError | None] = [None] * len(self.agents)
        if not calls:
            return told
        first = live[0][1]
        set_learning_rate(self._stack.optimiser, first.trained.learning_rate(first.env_steps))
        found = []
        failed: dict[int, FloatingPointError] = {}
        for _ in range(calls):
            figures, failures = self._learn(live)
            found.append(figures)
            failed = failures | failed
        each = figures_of_each(found)
        for k, _ in live:
            told[k] = failed.get(k, each[k])
        return told

    def _learn(self, live: list[tuple[int, DQN]]) -> tuple[Figures, dict[int, FloatingPointError]]:
        """Let each agent take the gradient steps of one call."""
        drawn = {k: agent.draw() for k, agent in live}
        filler = next(iter(drawn.values()))  # for networks that nobody learns with any more
        taken = live[0][1].gradient_steps
        figures, failed = self._updates([drawn.get(k, filler) for k in range(len(self.agents))], taken)
        errors = None
        if self._config.prioritised:
            errors = (figures.target - figures.prediction).flatten(1).cpu().numpy()
        for k, agent in live:
            if k in failed:
                failed[k] = at_env_step(failed[k], agent.env_steps)
                continue
            agent.count(figures.loss.shape[1])
            if errors is not None:
                agent.buffer.update_priorities(drawn[k].index, errors[k])
        return figures, failed

    def release(self, k: int) -> None:
        """Leave agent k as it is now; the others go on."""
        agent = self.agents[k]
        assert agent is not None
        self._stack.release(k)
        release_weights(agent.target.network)
        self.agents[k] = None

    def compile_updates(self, example: Step, should_stop: Callable[[], bool]) -> None:
        """Compile the update of all agents for steps like `example`, or return early once `should_stop` says so."""
        agent = next(agent for agent in self.agents if agent is not None)
        with suppress(CompilationStopped):
            batch = self._updates.batch([agent.draw_like(example)] * len(self.agents))
            self._updates.compile(batch, should_stop)
