"""Deep Q-networks, memoryless or with an LSTM.

Mnih et al. (2015), "Human-level control through deep reinforcement learning",
https://www.nature.com/articles/nature14236; with `double`: van Hasselt et al. (2016),
https://arxiv.org/abs/1509.06461; with `memory`: Hausknecht & Stone (2015), "Deep Recurrent
Q-Learning for Partially Observable MDPs", https://arxiv.org/abs/1507.06527, on windows that start
from the stored carry.

Deviations: Adam instead of RMSProp; the Huber loss instead of clipped errors (the same gradient); the
target period is counted in environment steps and runs while collecting, as peers do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn.functional import huber_loss, mse_loss

from rl_lab.config import above, at_least, flags, one_of, widths, within
from rl_lab.exploration import EpsilonGreedy, ValuePolicy
from rl_lab.interaction import Interaction
from rl_lab.nn import encoders
from rl_lab.nn.heads import QNetwork, make_q_network
from rl_lab.nn.optim import adam, load_optimiser_state, load_weights, optimiser_state, polyak_update
from rl_lab.nn.recurrent import CORES
from rl_lab.nn.views import numpy_values
from rl_lab.replay.sequences import SequenceReplay, Sequences
from rl_lab.replay.transitions import TransitionReplay, Transitions, refuse_memory
from rl_lab.schedules import Schedule, crossings, linear
from rl_lab.seeding import Streams, seed_of
from rl_lab.td import double_q_target, q_learning_target
from rl_lab.types import Array, EnvSpec, Metrics, Obs, Problem, State, Step


@dataclass(frozen=True)
class Config:
    """Fields of DQN."""

    learning_rate: float = 1e-3
    """Step size of Adam."""
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
    target_tau: float = 1.0
    """Share by which the target moves to the online network: 1 copies it (hard), less is soft."""
    double: bool = False
    """Let the online network choose the action that the target network values."""
    loss: Literal["huber", "squared"] = "huber"
    """Loss of the temporal-difference error."""
    max_grad_norm: float = 10.0
    """Gradients are scaled down to this norm."""
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
    memory: Literal["none", "lstm"] = "none"
    """What is carried from step to step."""
    memory_size: int = 64
    """Width of the carry."""
    sequence_length: int = 16
    """Steps of a training window, with a memory."""

    def __post_init__(self) -> None:
        above(self, 0.0, "learning_rate", "max_grad_norm", "target_tau")
        within(self, 0.0, 1.0, "gamma", "epsilon_initial", "epsilon_final", "epsilon_fraction", "target_tau")
        at_least(self, 1, "batch_size", "replay_capacity", "train_period_env_steps")
        at_least(self, 1, "target_period_env_steps", "memory_size", "sequence_length")
        at_least(self, 0, "learning_starts_env_steps", "gradient_steps_per_update")
        widths(self, "hidden")
        flags(self, "double")
        one_of(self, "encoder", encoders.ENCODERS)
        one_of(self, "memory", CORES)
        one_of(self, "loss", ("huber", "squared"))


@dataclass(frozen=True, slots=True)
class Batch:
    """What one gradient step learns from, on the device; [B], or [T, B] for windows."""

    q: Tensor  # [..., A] of the online network, with its gradient
    next_q_online: Tensor | None  # [..., A]; None unless double
    next_q_target: Tensor  # [..., A]
    action: Tensor  # int64 [...]
    reward: Tensor  # float32 [...]
    terminated: Tensor  # float32 [...]
    weight: Tensor | None  # float32 [...], sums to 1 over what counts; None: the plain mean


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
        self.optimiser = adam(self.online.parameters(), config.learning_rate)
        self._explore_rng, self._replay_rng = streams["explore"], streams["replay"]
        self._make_replay = lambda: _replay(config, spec, self._initial_state(1))
        self.replay: TransitionReplay | None = None  # allocated when the first step comes
        self._epsilon: Schedule = linear(
            config.epsilon_initial, config.epsilon_final, config.epsilon_fraction * problem.total_steps
        )
        self._values = self._make_values()
        self.collect_env_steps = config.train_period_env_steps
        self.env_steps, self.gradient_steps = 0, 0
        self._age, self._sample_seconds = 0.0, 0.0

    # Acting ------------------------------------------------------------------------------------------

    def epsilon(self) -> float:
        """Return the probability of a random action at the current step."""
        warming_up = self.env_steps < self.config.learning_starts_env_steps
        return 1.0 if warming_up else self._epsilon(self.env_steps)

    def policy(self, *, explore: bool) -> ValuePolicy:
        """Return the policy over the live network."""
        return ValuePolicy(
            self._values,
            self.num_actions,
            None if self.online.is_memoryless else self._initial_state,
            EpsilonGreedy(self._explore_rng, self.epsilon) if explore else None,
        )

    def _initial_state(self, num_envs: int) -> State:
        return tuple(part.cpu().numpy() for part in self.online.initial_state(num_envs))

    def _make_values(self) -> Callable[[Obs, State, Array], tuple[Array, State]]:
        views = numpy_values(self.online)
        if views is not None:
            return lambda obs, state, is_first: (views(obs), ())
        return self._network_values

    @torch.no_grad()
    def _network_values(self, obs: Obs, state: State, is_first: Array) -> tuple[Array, State]:
        carry = tuple(map(self._tensor, state))
        q, carry = self.online(self._tensor(obs), carry, self._tensor(is_first))
        return q.cpu().numpy(), tuple(part.cpu().numpy() for part in carry)

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

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
        if crossings(before, after, config.target_period_env_steps):
            polyak_update(self.online, self.target, config.target_tau)
        due = crossings(before, after, config.train_period_env_steps) * config.gradient_steps_per_update
        if not due or after <= config.learning_starts_env_steps or not self._can_sample():
            return None
        figures = torch.stack([self.learn(self._sample()) for _ in range(due)]).cpu().numpy()  # [due, 6]
        return _metrics(figures)

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
        return self.replay.sample(self.config.batch_size, self._replay_rng)

    def learn(self, drawn: Transitions | Sequences) -> Tensor:
        """Take one gradient step; return loss, mean and maximal Q, |error|, target and gradient norm [6].

        Raises:
            FloatingPointError: loss or gradient isn't finite; the weights are left as they were.
        """
        batch = self._unroll(drawn) if isinstance(drawn, Sequences) else self._evaluate(drawn)
        q = batch.q.gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)  # [...]
        target = self._targets(batch)
        assert q.shape == target.shape
        loss = self._loss(q, target, batch.weight)
        self.optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.online.parameters(), self.config.max_grad_norm)
        if not torch.isfinite(loss.detach() + norm):  # the gradient of the Huber loss is finite even at inf
            raise FloatingPointError(
                f"loss {loss.item()}, gradient norm {norm.item()}"
                f" at env step {self.env_steps}, gradient step {self.gradient_steps}"
            )
        self.optimiser.step()
        self.gradient_steps += 1
        with torch.no_grad():
            return torch.stack((loss, q.mean(), q.max(), (target - q).abs().mean(), target.mean(), norm))

    @torch.no_grad()
    def _targets(self, batch: Batch) -> Tensor:
        args = batch.reward, self.config.gamma, batch.terminated
        if batch.next_q_online is not None:
            return double_q_target(*args, batch.next_q_online, batch.next_q_target)
        return q_learning_target(*args, batch.next_q_target.amax(-1))

    def _loss(self, q: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        loss = huber_loss if self.config.loss == "huber" else mse_loss
        if weight is None:
            return loss(q, target)
        return (loss(q, target, reduction="none") * weight).sum()

    def _evaluate(self, drawn: Transitions) -> Batch:
        """Run the networks over single transitions."""
        obs, next_obs = self._tensor(drawn.obs), self._tensor(drawn.next_obs)
        mask = None if drawn.next_mask is None else self._tensor(drawn.next_mask)
        none = torch.zeros(len(drawn.action), dtype=torch.bool, device=self.device)
        with torch.no_grad():
            next_online = _legal(self.online(next_obs, (), none)[0], mask) if self.config.double else None
            next_target = _legal(self.target(next_obs, (), none)[0], mask)
        return Batch(self.online(obs, (), none)[0], next_online, next_target, *self._outcome(drawn), None)

    def _unroll(self, drawn: Sequences) -> Batch:
        """Run the networks over windows, from the stored carry; step t's successor is at t + 1."""
        obs, carry = self._tensor(drawn.obs), tuple(map(self._tensor, drawn.state))
        mask = None if drawn.next_mask is None else self._tensor(drawn.next_mask)
        none = torch.zeros(obs.shape[:2], dtype=torch.bool, device=self.device)
        q = self.online(obs, carry, none)[0]
        with torch.no_grad():
            next_online = _legal(q[1:].detach(), mask) if self.config.double else None
            next_target = _legal(self.target(obs, carry, none)[0][1:], mask)
        valid = self._tensor(drawn.valid).float()
        return Batch(q[:-1], next_online, next_target, *self._outcome(drawn), valid / valid.sum())

    def _outcome(self, drawn: Transitions | Sequences) -> tuple[Tensor, Tensor, Tensor]:
        return self._tensor(drawn.action), self._tensor(drawn.reward), self._tensor(drawn.terminated).float()

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
            "weights": dict(self.online.state_dict()),
            "target": dict(self.target.state_dict()),
            "optimiser": optimiser_state(self.optimiser),
            "replay": {} if self.replay is None else self.replay.state_dict(),
            "env_steps": self.env_steps,
            "gradient_steps": self.gradient_steps,
            "replay_age_env_steps": self._age,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state in, in place; weights alone make a policy."""
        load_weights(self.online, state["weights"])
        load_weights(self.target, state.get("target", state["weights"]))
        if "optimiser" in state:
            load_optimiser_state(self.optimiser, state["optimiser"])
            self.env_steps, self.gradient_steps = state["env_steps"], state["gradient_steps"]
            self._age = state.get("replay_age_env_steps", 0.0)
        if state.get("replay"):
            self.replay = self._make_replay()
            self.replay.load_state_dict(state["replay"])


def _network(config: Config, spec: EnvSpec) -> QNetwork:
    assert isinstance(spec.action_space, spaces.Discrete)
    return make_q_network(
        spec.observation_space,
        int(spec.action_space.n),
        encoder=config.encoder,
        hidden=config.hidden,
        memory=config.memory,
        memory_size=config.memory_size,
    )


def _replay(config: Config, spec: EnvSpec, carry: State) -> TransitionReplay:
    if not carry:
        return TransitionReplay(config.replay_capacity, spec)
    return SequenceReplay(config.replay_capacity, spec, carry, config.sequence_length)


def _legal(q: Tensor, mask: Tensor | None) -> Tensor:
    return q if mask is None else q.masked_fill(~mask, float("-inf"))


def _metrics(figures: Array) -> Metrics:
    """Return the figures of a burst [due, 6] by name."""
    loss, q_mean, q_max, error, target, norm = figures.T
    return {
        "loss": float(loss.mean()),
        "q_mean": float(q_mean.mean()),
        "q_max": float(q_max.max()),
        "td_error": float(error.mean()),
        "target_mean": float(target.mean()),
        "grad_norm": float(norm.mean()),
    }


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
    carry = (np.zeros((1, config.memory_size), np.float32),) * (2 if config.memory == "lstm" else 0)
    return refuse_memory(config.replay_capacity, spec, carry)
