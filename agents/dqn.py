"""Deep Q-networks, memoryless or with an LSTM.

Mnih et al. (2015), "Human-level control through deep reinforcement learning",
https://www.nature.com/articles/nature14236; with `double`: van Hasselt et al. (2016),
https://arxiv.org/abs/1509.06461; with `dueling`: Wang et al. (2016), https://arxiv.org/abs/1511.06581;
with `n_steps`: Sutton (1988), as in https://arxiv.org/abs/1710.02298; with `prioritised`: Schaul et al.
(2016), https://arxiv.org/abs/1511.05952; with `memory`: Hausknecht & Stone (2015), "Deep Recurrent
Q-Learning for Partially Observable MDPs", https://arxiv.org/abs/1507.06527, on windows that start
from the stored carry.

Deviations, but for the preset `nature`: Adam instead of RMSProp; the target period is counted in
environment steps and runs while collecting, as peers do. Everywhere the Huber loss stands for clipped
errors (the same gradient). With `n_steps` the rewards in between are those of the behaviour, uncorrected.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rl_lab.config import above, at_least, flags, one_of, widths, within
from rl_lab.exploration import EpsilonGreedy, ValuePolicy
from rl_lab.interaction import Interaction
from rl_lab.nn import encoders
from rl_lab.nn.heads import QNetwork, make_q_network
from rl_lab.nn.optim import (
    OPTIMISERS,
    WeightAverage,
    load_optimiser_state,
    load_weights,
    optimiser_state,
    polyak_update,
)
from rl_lab.nn.recurrent import CORES
from rl_lab.nn.updates import Clip, Outcome, Updates, figures_of, has_compiler
from rl_lab.nn.views import on_device, values_of
from rl_lab.replay.prioritised import Prioritised
from rl_lab.replay.sequences import SequenceReplay, Sequences
from rl_lab.replay.transitions import TransitionReplay, Transitions, refuse_memory
from rl_lab.schedules import Schedule, crossings, linear
from rl_lab.seeding import Streams, seed_of
from rl_lab.td import Batch, TDLoss, WindowedTDLoss, batch_of_transitions, batch_of_windows
from rl_lab.types import Array, EnvSpec, Metrics, Problem, State, Step, UsageError

PAYS_BACK_GRADIENT_STEPS = 15_000  # compiling takes seconds and saves about half a millisecond a step


@dataclass(frozen=True)
class Config:
    """Fields of DQN."""

    learning_rate: float = 1e-3
    """Step size of the optimiser at the start."""
    learning_rate_final: float | None = None
    """Step size at the end of the budget, reached linearly; None: it stays as it is."""
    gamma: float = 0.99
    """Discount per environment step."""
    batch_size: int = 64
    """Transitions (with a memory: windows) per gradient step."""
    replay_capacity: int = 100_000
    """Transitions kept; refused if they would not fit into memory."""
    learning_starts_env_steps: int = 1_000
    """Environment steps before the first gradient step; until then actions are random."""
    train_period_env_steps: int = 4
    """Environment steps between updates."""
    gradient_steps_per_update: int = 1
    """Gradient steps in one update; 0 acts without learning."""
    target_period_env_steps: int = 500
    """Environment steps between updates of the target network."""
    target_period_updates: int | None = None
    """Gradient steps between updates of the target network, in place of the period in environment steps."""
    target_tau: float = 1.0
    """Share by which the target moves to the online network: 1 copies it (hard), less is soft."""
    double: bool = False
    """Let the online network choose the action that the target network values."""
    dueling: bool = False
    """Split the values into those of the state and the actions' advantages."""
    n_steps: int = 1
    """Rewards summed before the bootstrap; fewer where an episode ends."""
    prioritised: bool = False
    """Replay transitions in proportion to their last error."""
    priority_alpha: float = 0.6
    """Exponent of the priorities: 0 is uniform."""
    priority_beta: float = 0.4
    """Exponent of the importance weights at the start; it rises linearly to 1 over the budget."""
    loss: Literal["huber", "squared"] = "huber"
    """Loss of the temporal-difference error."""
    max_grad_norm: float | None = 10.0
    """Gradients are scaled down to this norm; None: not at all."""
    max_grad_value: float | None = None
    """Bound of each gradient entry, before the norm's."""
    reward_clip: float | None = None
    """Bound of the rewards that are learned from, each step's; reported returns stay raw."""
    optimiser: Literal["adam", "rmsprop"] = "adam"
    """Adam, or the centred RMSprop of Mnih et al. (2015)."""
    epsilon_initial: float = 1.0
    """Probability of a random action at the start."""
    epsilon_final: float = 0.05
    """Probability of a random action once the schedule has ended."""
    epsilon_fraction: float = 0.2
    """Share of the budget over which epsilon falls linearly."""
    encoder: Literal["auto", "mlp", "cnn"] = "auto"
    """Network before the memory: auto goes by the observations."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the encoder's dense layers."""
    layer_norm: bool = False
    """Normalise the outputs of the dense layers before each ReLU."""
    average_decay: float = 0.0
    """Decay per gradient step of an average of the weights, which is evaluated in their place; 0: none."""
    memory: Literal["none", "lstm"] = "none"
    """What is carried from step to step."""
    memory_size: int = 64
    """Width of the carry."""
    sequence_length: int = 16
    """Steps of a training window, with a memory."""
    compile: Literal["auto", "yes", "no"] = "auto"
    """Compile the whole update; auto: where a compiler is there and the run long enough to pay it back."""

    def resolve(self, problem: Problem) -> Config:
        """Decide whether to compile: a resumed run must do as it began."""
        return replace(self, compile="yes" if _pays_to_compile(self, problem) else "no")

    def __post_init__(self) -> None:
        at_least(self, 0, "learning_rate_final")
        above(self, 0.0, "learning_rate", "max_grad_norm", "max_grad_value", "reward_clip", "target_tau")
        within(self, 0.0, 1.0, "gamma", "epsilon_initial", "epsilon_final", "epsilon_fraction", "target_tau")
        within(self, 0.0, 1.0, "priority_alpha", "priority_beta", "average_decay")
        at_least(self, 1, "batch_size", "replay_capacity", "train_period_env_steps", "n_steps")
        at_least(
            self, 1, "target_period_env_steps", "target_period_updates", "memory_size", "sequence_length"
        )
        at_least(self, 0, "learning_starts_env_steps", "gradient_steps_per_update")
        widths(self, "hidden")
        flags(self, "double", "dueling", "prioritised", "layer_norm")
        one_of(self, "optimiser", tuple(OPTIMISERS))
        one_of(self, "compile", ("auto", "yes", "no"))
        one_of(self, "encoder", encoders.ENCODERS)
        one_of(self, "memory", CORES)
        one_of(self, "loss", ("huber", "squared"))
        if self.memory != "none" and (self.n_steps > 1 or self.prioritised):
            raise UsageError(
                f"memory {self.memory!r} doesn't go with n_steps above 1 or prioritised (allowed: 'none')"
            )


class DQN:
    """Learns Q(s, a) from replayed transitions against a target network."""

    def __init__(self, config: Config, problem: Problem, streams: Streams):
        spec = problem.spec
        assert isinstance(spec.action_space, spaces.Discrete)
        self.config, self.device = config, torch.device(problem.device)
        self.num_actions, self.num_envs = int(spec.action_space.n), spec.num_envs
        streams.use_torch()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(problem.seed, "initial weights"))
            self.online = _network(config, spec).to(self.device)
            self.target = _network(config, spec).to(self.device).requires_grad_(False)
        polyak_update(self.online, self.target, 1.0)
        structure = (config, repr(spec.observation_space), self.num_actions)
        self.updates = Updates(
            self.online,
            self.target,
            (TDLoss if self.online.is_memoryless else WindowedTDLoss)(config.double, config.loss),
            OPTIMISERS[config.optimiser](self.online.parameters(), config.learning_rate),
            Clip(config.max_grad_value, config.max_grad_norm),
            structure if config.compile == "yes" else None,
        )
        self._explore_rng, self._replay_rng = streams["explore"], streams["replay"]
        self._make_replay = lambda: _replay(config, spec, self._initial_state(1))
        self.replay: TransitionReplay | None = None  # allocated when the first step comes
        self._epsilon: Schedule = linear(
            config.epsilon_initial, config.epsilon_final, config.epsilon_fraction * problem.total_steps
        )
        self._learning_rate = _learning_rate(config, problem.total_steps)
        self._beta: Schedule = linear(config.priority_beta, 1.0, problem.total_steps)
        self._average = WeightAverage(self.online, config.average_decay)
        self._values = values_of(self.online, self.device)
        self._average_values = values_of(self._average.network, self.device)
        self._burst = steps_per_call(config)
        self.collect_env_steps = config.train_period_env_steps
        self.env_steps, self.gradient_steps = 0, 0
        self._age, self._sample_seconds = 0.0, 0.0

    # Acting ------------------------------------------------------------------------------------------

    def epsilon(self) -> float:
        """Return the probability of a random action at the current step."""
        warming_up = self.env_steps < self.config.learning_starts_env_steps
        return 1.0 if warming_up else self._epsilon(self.env_steps)

    def policy(self, *, explore: bool) -> ValuePolicy:
        """Return the policy over the live network, or over its average if that is kept and is to be judged."""
        return ValuePolicy(
            self._values if explore else self._average_values,
            self.num_actions,
            None if self.online.is_memoryless else self._initial_state,
            EpsilonGreedy(self._explore_rng, self.epsilon) if explore else None,
        )

    def _initial_state(self, num_envs: int) -> State:
        return tuple(part.cpu().numpy() for part in self.online.initial_state(num_envs))

    def _tensor(self, array: Array) -> Tensor:
        return on_device(array, self.device)

    # Learning ----------------------------------------------------------------------------------------

    def observe(self, step: Step) -> None:
        """Store the step."""
        if self.replay is None:
            self.replay = self._make_replay()
        self.replay.add(step)
        self.env_steps += self.num_envs

    def update(self) -> Metrics | None:
        """Update the target while collecting, then take the burst of gradient steps that is due."""
        config, after = self.config, self.env_steps
        before = after - self.num_envs
        if config.target_period_updates is None and crossings(before, after, config.target_period_env_steps):
            polyak_update(self.online, self.target, config.target_tau)
        due = crossings(before, after, config.train_period_env_steps) * config.gradient_steps_per_update
        if not due or after <= config.learning_starts_env_steps or not self._can_sample():
            return None
        self.updates.optimiser.param_groups[0]["lr"] = self._learning_rate(after)
        return figures_of([self.learn(self._sample()) for _ in range(due // self._burst)])

    def _can_sample(self) -> bool:
        return not isinstance(self.replay, SequenceReplay) or self.replay.can_sample

    def _sample(self) -> Transitions | Sequences:
        begun = time.perf_counter()
        drawn = self._draw()
        self._age = drawn.age
        self._sample_seconds += time.perf_counter() - begun
        return drawn

    def _draw(self) -> Transitions | Sequences:
        assert self.replay is not None
        if isinstance(self.replay, SequenceReplay):
            return self.replay.sample_sequences(self.config.batch_size, self._replay_rng)
        size = self._burst * self.config.batch_size
        return self.replay.sample(size, self._replay_rng, self._beta(self.env_steps))

    def learn(self, drawn: Transitions | Sequences) -> Outcome:
        """Take a gradient step on each batch of those drawn, and pass the errors on to the priorities.

        Raises:
            FloatingPointError: loss or gradient isn't finite; the weights are left as they were.
        """
        before = self.gradient_steps
        try:
            outcome = self.updates(self._batch(drawn), before)
        except FloatingPointError as error:
            raise FloatingPointError(f"{error}, env step {self.env_steps}") from None
        self.gradient_steps += len(outcome.loss)
        self._average.follow(before, len(outcome.loss))
        period = self.config.target_period_updates
        if period is not None and crossings(before, self.gradient_steps, period):
            polyak_update(self.online, self.target, self.config.target_tau)
        if self.replay is not None and isinstance(drawn, Transitions) and drawn.weight is not None:
            errors = (outcome.target - outcome.prediction).flatten().cpu().numpy()
            self.replay.update_priorities(drawn.index, errors)
        return outcome

    def _batch(self, drawn: Transitions | Sequences) -> Batch:
        """Move to the device what was drawn: as many batches as fit, or one of windows."""
        if isinstance(drawn, Sequences):
            return batch_of_windows(drawn, self.config.gamma, self._tensor)
        steps = max(1, len(drawn.action) // self.config.batch_size)
        return batch_of_transitions(drawn, steps, self._tensor)

    # State -------------------------------------------------------------------------------------------

    def diagnostics(self) -> dict[str, float]:
        """Return epsilon, the replay's size and age, and the seconds of sampling since the last call."""
        seconds, self._sample_seconds = self._sample_seconds, 0.0
        return {
            "epsilon": self.epsilon(),
            "replay_size": 0 if self.replay is None else len(self.replay),
            "replay_age_env_steps": self._age,
            "sample_seconds": round(seconds, 6),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return networks, optimiser, replay and counters; leaves are live."""
        return {
            "weights": dict(self._average.network.state_dict()),
            "online": dict(self.online.state_dict()) if self.config.average_decay else {},
            "target": dict(self.target.state_dict()),
            "optimiser": optimiser_state(self.updates.optimiser),
            "replay": {} if self.replay is None else self.replay.state_dict(),
            "env_steps": self.env_steps,
            "gradient_steps": self.gradient_steps,
            "replay_age_env_steps": self._age,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state in, in place; weights alone make a policy."""
        load_weights(self._average.network, state["weights"])
        load_weights(self.online, state.get("online") or state["weights"])
        load_weights(self.target, state.get("target", state["weights"]))
        if "optimiser" in state:
            load_optimiser_state(self.updates.optimiser, state["optimiser"])
            self.env_steps, self.gradient_steps = state["env_steps"], state["gradient_steps"]
            self._age = state.get("replay_age_env_steps", 0.0)
        if state.get("replay"):
            self.replay = self._make_replay()
            self.replay.load_state_dict(state["replay"])


def _learning_rate(config: Config, total_steps: int) -> Schedule:
    last = config.learning_rate_final
    return linear(config.learning_rate, config.learning_rate if last is None else last, total_steps)


def _network(config: Config, spec: EnvSpec) -> QNetwork:
    assert isinstance(spec.action_space, spaces.Discrete)
    return make_q_network(
        spec.observation_space,
        int(spec.action_space.n),
        encoder=config.encoder,
        hidden=config.hidden,
        memory=config.memory,
        memory_size=config.memory_size,
        dueling=config.dueling,
        layer_norm=config.layer_norm,
    )


def _replay(config: Config, spec: EnvSpec, carry: State) -> TransitionReplay:
    if carry:
        return SequenceReplay(config.replay_capacity, spec, carry, config.sequence_length, config.reward_clip)
    return TransitionReplay(
        config.replay_capacity, spec, n_steps=config.n_steps, gamma=config.gamma,
        reward_clip=config.reward_clip, sampler=_sampler(config),
    )  # fmt: skip


def _sampler(config: Config) -> Prioritised | None:
    return Prioritised(config.priority_alpha) if config.prioritised else None


def steps_per_call(config: Config) -> int:
    """Return how many gradient steps are taken in one call: between them neither target nor priorities change."""
    if config.memory != "none" or config.prioritised:
        return 1
    counts = config.gradient_steps_per_update, config.target_period_updates or 0
    return next(k for k in (4, 3, 2, 1) if not any(count % k for count in counts))


def build(**fields: Any) -> Interaction:
    """Build the learner."""
    return Interaction(Config(**fields), DQN, refuse)


def refuse(config: Config, spec: EnvSpec) -> str | None:
    """Say why the network can't take this problem."""
    if not isinstance(spec.action_space, spaces.Discrete) or spec.action_space.start != 0:
        return f"dqn needs Discrete actions that start at 0; {spec.env_id} has {spec.action_space}"
    if (reason := encoders.refuse(config.encoder, spec.observation_space)) is not None:
        return reason
    if config.memory != "none" and config.sequence_length > config.replay_capacity // spec.num_envs:
        return (
            f"sequence_length {config.sequence_length} is longer than the replay of {config.replay_capacity}"
        )
    if config.compile == "yes" and (reason := refuse_compiling(config)) is not None:
        return f"compile 'yes' {reason} (allowed: auto, no)"
    carry = (np.zeros((1, config.memory_size), np.float32),) * (2 if config.memory == "lstm" else 0)
    return refuse_memory(config.replay_capacity, spec, carry, _sampler(config))


def _pays_to_compile(config: Config, problem: Problem) -> bool:
    """Say whether compiling is asked for, or can be expected to be paid back."""
    if config.compile != "auto":
        return config.compile == "yes"
    steps = problem.total_steps // config.train_period_env_steps * config.gradient_steps_per_update
    image = config.encoder == "cnn" or encoders.is_image(problem.spec.observation_space)
    worthwhile = steps >= PAYS_BACK_GRADIENT_STEPS and problem.device == "cpu" and not image
    return worthwhile and refuse_compiling(config) is None


def refuse_compiling(config: Config) -> str | None:
    """Say why the update can't be compiled; None if it can."""
    for name, value in (("memory", "none"), ("optimiser", "adam")):
        if getattr(config, name) != value:
            return f"goes with {name} {value!r} alone"
    return None if has_compiler() else "needs a C++ compiler, and there is none"
