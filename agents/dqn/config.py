"""The fields of DQN, the parts they configure, the problems it refuses, and what `compile` "auto" resolves to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from gymnasium import spaces

from rl_lab.checks import above, at_least, flags, one_of, show_space, within
from rl_lab.mdp.td_fixed_point import TDRule
from rl_lab.nn.cores import blank_carry
from rl_lab.problem import Problem
from rl_lab.replay.footprint import refuse_batch, refuse_capacity, refuse_sequence_length
from rl_lab.replay.prioritised import Prioritised
from rl_lab.replay.sampling import WindowSampler
from rl_lab.replay.sequences import SequenceReplay, uniform_windows
from rl_lab.replay.transitions import TransitionReplay
from rl_lab.types import EnvSpec, UsageError
from rl_lab.updates.compile_choice import resolve_compile
from rl_lab.updates.td import TDLoss
from rl_lab.updates.td_windows import WindowedTDLoss
from rl_lab.updates.trained import check_trained, refuse_trained

from .returns import (
    ReturnFields,
    check_returns,
    idle_returns,
    make_rule,
    refuse_compiled,
    refuse_returns,
    scale_of,
)

OF_WINDOWS = ("sequence_length", "sequence_period_steps", "burn_in_steps", "priority_eta")
OTHERS = "(allowed: Discrete; ppo, a2c and reinforce take others)"  # after a refusal of an action space


@dataclass(frozen=True)
class Config(ReturnFields):
    """Fields of DQN."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "learning": (
            "gamma", "n_steps", "double", "dueling", "loss", "value_rescaling", "reward_clip", "normalise_rewards",
            "target_period_env_steps", "target_period_updates", "target_tau", "batch_size",
            "learning_starts_env_steps", "train_period_env_steps", "gradient_steps_per_update", "compile",
        ),
        "replay": (
            "replay_capacity", "prioritised", "priority_alpha", "priority_beta", "priority_eta", "sequence_length",
            "sequence_period_steps", "burn_in_steps",
        ),
        "exploration": ("epsilon_initial", "epsilon_final", "epsilon_fraction", "epsilon_waits"),
    }  # fmt: skip
    COMMON: ClassVar[tuple[str, ...]] = (
        "gamma", "n_steps", "double", "dueling", "target_period_env_steps", "batch_size",
        "learning_starts_env_steps", "train_period_env_steps", "gradient_steps_per_update", "replay_capacity",
        "prioritised", "epsilon_final", "epsilon_fraction",
    )  # fmt: skip

    gamma: float = 0.99
    """Discount per environment step."""
    batch_size: int = 64
    """Transitions (with a memory: windows) per gradient step."""
    replay_capacity: int = 100_000
    """Transitions kept; refused if they wouldn't fit into memory."""
    learning_starts_env_steps: int = 1_000
    """Steps with random actions before the first gradient step; if below batch_size, batches repeat some."""
    train_period_env_steps: int = 4
    """Environment steps between updates."""
    gradient_steps_per_update: int = 1
    """Gradient steps per update; 0 acts without learning."""
    target_period_env_steps: int = 500
    """Environment steps between updates of the target network."""
    target_period_updates: int | None = None
    """Gradient steps between updates of the target network; if given, it replaces target_period_env_steps."""
    target_tau: float = 1.0
    """Share of the way that the target moves to the online network: 1 copies it (hard), less is a soft update."""
    double: bool = False
    """Double Q-learning: the online network chooses the action whose value the target network gives."""
    dueling: bool = False
    """Dueling network: action values are made of a state value and advantages."""
    n_steps: int = 1
    """Rewards summed before the bootstrap; fewer where an episode, a window (with a memory) or what is stored ends."""
    prioritised: bool = False
    """Draw transitions (with a memory: windows) in proportion to their last error, instead of uniformly."""
    priority_alpha: float = 0.6
    """Exponent of the priorities: 0 is uniform."""
    priority_beta: float = 0.4
    """Exponent of the importance weights at the start; it rises linearly to 1 over the budget."""
    priority_eta: float = 0.9
    """Weight of the largest error in a window's priority; the mean error has weight 1 - priority_eta."""
    value_rescaling: bool = False
    """Learn h(Q) instead of Q, with h(x) = sign(x) (sqrt(|x| + 1) - 1) + 0.001 x: copes with returns of any size."""
    loss: Literal["huber", "squared"] = "huber"
    """Loss of the temporal-difference error."""
    reward_clip: float | None = None
    """Largest size of each step's reward when learning; None: no bound. Reported returns aren't clipped."""
    normalise_rewards: bool = False
    """Divide rewards by the running standard deviation of the discounted return when learning."""
    epsilon_initial: float = 1.0
    """Probability of a random action at the start."""
    epsilon_final: float = 0.05
    """Probability of a random action after epsilon has fallen."""
    epsilon_fraction: float = 0.2
    """Share of the budget over which epsilon falls linearly."""
    epsilon_waits: bool = False
    """Let epsilon start falling when learning starts instead of at step 0."""
    sequence_length: int = 16
    """Steps of a training window, with a memory; includes the burn-in."""
    sequence_period_steps: int = 1
    """Steps between the beginnings of an episode's windows, with a memory."""
    burn_in_steps: int = 0
    """Steps at a window's beginning that only bring the carry up to date; none if the window opens an episode."""
    compile: Literal["auto", "yes", "no"] = "auto"
    """Compile the whole update; auto: if there is a compiler and the run is long enough for it to pay."""

    def resolve(self, problem: Problem) -> Config:
        """Return the config with `compile` "auto" decided, once per run: a resumed run must go on as it began.

        Raises:
            UsageError: `compile` is "yes" on a device other than the CPU.
        """
        steps = problem.total_steps // self.train_period_env_steps * self.gradient_steps_per_update
        return resolve_compile(self, problem, steps, refuse_compiled(self))

    def idle_fields(self) -> dict[str, str]:
        """Return the fields that do nothing beside the others, and what each would need."""
        needs = {
            "prioritised": (self.prioritised, ("priority_alpha", "priority_beta", "priority_eta")),
            "a memory": (self.memory != "none", OF_WINDOWS),
            "target_period_updates none": (self.target_period_updates is None, ("target_period_env_steps",)),
        }
        idle = {name: what for what, (met, names) in needs.items() if not met for name in names}
        return super().idle_fields() | idle_returns(self) | idle

    def refuse_new(self) -> str | None:
        """Return why a new run can't have these fields (one line), though older ones may; None if it can."""
        learned = self.sequence_length - self.burn_in_steps
        if self.memory != "none" and self.n_steps > learned:
            return (
                f"n_steps {self.n_steps} must be at most sequence_length {self.sequence_length} - burn_in_steps"
                f" {self.burn_in_steps} = {learned}, since returns end with their window"
            )
        if self.n_steps > self.replay_capacity:
            return f"n_steps {self.n_steps} must be at most replay_capacity {self.replay_capacity}"
        if self.heads > 1 and self.value_rescaling:
            return (
                f"heads {self.heads} and value_rescaling exclude each other: the mean over heads is one of values in"
                " units of reward"
            )
        return None

    def transitions(self, num_envs: int, total_steps: int) -> dict[str, float]:
        """Return the periods of a run in transitions, by field.

        Args:
            num_envs: environments stepped together.
            total_steps: the budget in transitions.
        """
        periods: dict[str, float] = {
            "learning_starts_env_steps": self.learning_starts_env_steps,
            "train_period_env_steps": self.train_period_env_steps,
            "epsilon_fraction": self.epsilon_fraction * total_steps,
            "n_steps": self.n_steps,  # of a return
        }
        if self.target_period_updates is None:
            return periods | {"target_period_env_steps": self.target_period_env_steps}
        if not self.gradient_steps_per_update:
            return periods
        updates = self.target_period_updates / self.gradient_steps_per_update
        return periods | {"target_period_env_steps": updates * self.train_period_env_steps}

    def budget_fields(self) -> tuple[str, ...]:
        """Return the fields by which what is learned depends on the budget."""
        falls = self.epsilon_fraction > 0 and self.epsilon_initial != self.epsilon_final
        rises = self.prioritised and self.priority_beta != 1
        return ("epsilon_fraction",) * falls + ("priority_beta",) * rises + super().budget_fields()

    def td_rule(self) -> TDRule:
        """Return what learning minimises, from which its fixed point follows on a finite MDP."""
        scaled = next(
            (name for name in ("value_rescaling", "normalise_rewards") if getattr(self, name)), None
        )
        return TDRule(
            self.loss, self.gamma, self.n_steps, self.epsilon_final, self.reward_clip,
            unknown=f"{scaled} measures errors in another scale than that of the rewards"
            if scaled
            else self.unknown_fixed_point,
        )  # fmt: skip

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: one has a value that isn't allowed, or that another one rules out; the message names them.
        """
        check_trained(self)
        check_returns(self)
        above(self, 0.0, "reward_clip", "target_tau")
        within(self, 0.0, 1.0, "gamma", "epsilon_initial", "epsilon_final", "epsilon_fraction", "target_tau")
        within(self, 0.0, 1.0, "priority_alpha", "priority_beta", "priority_eta")
        at_least(self, 1, "batch_size", "replay_capacity", "train_period_env_steps", "n_steps")
        at_least(self, 1, "target_period_env_steps", "target_period_updates", "sequence_length")
        at_least(self, 1, "sequence_period_steps")
        at_least(self, 0, "learning_starts_env_steps", "gradient_steps_per_update", "burn_in_steps")
        flags(
            self, "double", "dueling", "prioritised", "epsilon_waits", "value_rescaling", "normalise_rewards"
        )
        one_of(self, "compile", ("auto", "yes", "no"))
        one_of(self, "loss", ("huber", "squared"))
        learned = self.sequence_length - self.burn_in_steps
        if self.memory != "none" and self.sequence_period_steps > learned:
            raise UsageError(
                f"sequence_period_steps {self.sequence_period_steps} must be at most sequence_length"
                f" {self.sequence_length} - burn_in_steps {self.burn_in_steps} = {learned}, or steps are left out"
            )


def _sampler(config: Config) -> Prioritised | None:
    """Return the prioritised sampler, or None to draw uniformly."""
    return Prioritised(config.priority_alpha) if config.prioritised else None


def make_loss(config: Config) -> TDLoss:
    """Return the loss on transitions, or with a memory on windows of an episode."""
    shared, rule = (config.double, config.loss, scale_of(config)), make_rule(config)
    if config.memory == "none":
        return TDLoss(*shared, rule=rule)
    return WindowedTDLoss(
        *shared, config.burn_in_steps, config.gamma, config.n_steps, config.priority_eta, config.dropout > 0,
        rule=rule,
    )  # fmt: skip


def make_replay(config: Config, spec: EnvSpec) -> TransitionReplay:
    """Allocate the replay, of transitions or with a memory of windows.

    Raises:
        UsageError: the replay wouldn't fit into memory.
    """
    sampler = _sampler(config)
    if config.memory == "none":
        return TransitionReplay(
            config.replay_capacity, spec, n_steps=config.n_steps, gamma=config.gamma,
            reward_clip=config.reward_clip, sampler=sampler,
        )  # fmt: skip
    return SequenceReplay(
        config.replay_capacity, spec, blank_carry(config), config.sequence_length, config.reward_clip,
        period=config.sequence_period_steps, burn_in=config.burn_in_steps, sampler=sampler,
    )  # fmt: skip


MAX_STEPS_PER_CALL = 16  # more save little, and the weights' average sees only the last weights of each call
MAX_ROWS_PER_CALL = 2048  # transitions held, and evaluated by the target network, at a time


def gradient_steps_per_call(config: Config) -> int:
    """Return how many gradient steps one call takes: neither the target nor priorities may change between them."""
    if config.memory != "none" or config.prioritised:
        return 1
    counts = config.gradient_steps_per_update, config.target_period_updates or 0
    most = max(1, min(MAX_STEPS_PER_CALL, MAX_ROWS_PER_CALL // config.batch_size))
    return next(k for k in range(most, 0, -1) if not any(count % k for count in counts))


def refuse(config: Config, spec: EnvSpec) -> str | None:
    """Return why the agent can't be built for these spaces (one line), or None if it can."""
    if not isinstance(spec.action_space, spaces.Discrete):
        name = getattr(config, "NAME", "dqn")
        return f"{name} needs Discrete actions; {spec.env_id} has {show_space(spec.action_space)} {OTHERS}"
    if (reason := refuse_trained(config, spec.observation_space) or refuse_returns(config, spec)) is not None:
        return reason
    if config.memory != "none":
        reason = refuse_sequence_length(config.sequence_length, config.replay_capacity, spec)
        if reason is not None:
            return reason
    if config.compile == "yes" and (reason := refuse_compiled(config)) is not None:
        return f"compile 'yes' {reason} (allowed for a new run: auto, no)"
    if (reason := refuse_batch(config.batch_size, config.replay_capacity)) is not None:
        return reason
    sampler = _sampler(config) or _uniform(config, spec)
    return refuse_capacity(config.replay_capacity, spec, blank_carry(config), sampler)


def _uniform(config: Config, spec: EnvSpec) -> WindowSampler | None:
    if config.memory == "none":
        return None  # the uniform sampler of transitions needs no memory
    return uniform_windows(spec.num_envs, config.sequence_period_steps, config.burn_in_steps)
