"""The fields of behaviour cloning, and the problems that it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import ClassVar

from gymnasium import spaces

from rl_lab.checks import above, at_least, flags, show_space, within
from rl_lab.nn.cores import blank_carry
from rl_lab.problem import Problem
from rl_lab.replay.footprint import refuse_batch, refuse_capacity, refuse_sequence_length
from rl_lab.types import EnvSpec
from rl_lab.updates.fields import TrainedFields
from rl_lab.updates.trained import check_trained, refuse_trained

from .action_classes import refuse_actions
from .oracle import refuse_oracle

ALLOWED_ACTIONS = "(allowed: Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple of them)"


@dataclass(frozen=True)
class Config(TrainedFields):
    """Fields of behaviour cloning."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "labels": ("oracle", "epsilon", "gamma", "held_out", "held_out_steps"),
        "learning": (
            "temperature", "value_weight", "dueling", "batch_size", "learning_starts_env_steps",
            "train_period_env_steps", "gradient_steps_per_update",
        ),
        "replay": ("replay_capacity", "sequence_length"),
    }  # fmt: skip
    COMMON: ClassVar[tuple[str, ...]] = (
        "oracle", "epsilon", "held_out", "temperature", "value_weight", "batch_size", "train_period_env_steps",
        "gradient_steps_per_update",
    )  # fmt: skip

    oracle: bool = False
    """Learn from the exact optimal policy of the environment's finite MDP, which also acts, instead of a dataset."""
    epsilon: float = 0.0
    """Probability with which the oracle takes a random action; it labels every step all the same."""
    gamma: float = 0.99
    """Discount per environment step, for the oracle's optimum and for values."""
    max_grad_norm: float | None = None
    """Largest norm of the gradient, which is scaled down to it; None: no bound."""
    temperature: float = 1.0
    """Divisor that turns the network's outputs into logits: the difference of values that decides an action."""
    value_weight: float = 0.0
    """Weight of the squared temporal-difference error of the actions taken. Above 0 the outputs are action values as
    well, so that a dqn that starts from the clone (init_from) keeps what the clone has learned."""
    batch_size: int = 64
    """Labelled steps (with a memory: windows) per gradient step, at most replay_capacity."""
    replay_capacity: int = 100_000
    """Steps kept to learn from; refused if they wouldn't fit into memory."""
    learning_starts_env_steps: int = 100
    """Environment steps before the first gradient step. While there are fewer than batch_size, a batch has some of them
    several times."""
    train_period_env_steps: int = 4
    """Environment steps between updates."""
    gradient_steps_per_update: int = 1
    """Gradient steps per update; an epoch of a dataset has one update for each train_period_env_steps of its steps."""
    held_out: float = 0.1
    """Share of the episodes held out (by a hash of seed and episode): never learned from, measured instead."""
    held_out_steps: int = 2_000
    """Most steps of held-out episodes that are kept; later ones are dropped."""
    dueling: bool = False
    """Use the head of a dueling dqn, so that a dueling dqn can start from the clone."""
    sequence_length: int = 16
    """Steps of a training window, with a memory."""

    def idle_fields(self) -> dict[str, str]:
        """Return the fields that do nothing beside the others, and what each would need."""
        of_windows = dict.fromkeys(("sequence_length",) * (self.memory == "none"), "a memory")
        of_episodes = dict.fromkeys(("held_out_steps",) * (not self.held_out), "held_out")
        return super().idle_fields() | of_windows | of_episodes

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: naming field, value and what is allowed.
        """
        check_trained(self)
        above(self, 0.0, "temperature")
        at_least(self, 0, "value_weight", "learning_starts_env_steps")
        within(self, 0.0, 1.0, "epsilon", "gamma")
        within(self, 0.0, 0.9, "held_out")
        at_least(self, 1, "batch_size", "replay_capacity", "train_period_env_steps", "held_out_steps")
        at_least(self, 1, "gradient_steps_per_update", "sequence_length")
        flags(self, "oracle", "dueling")


def refuse(config: Config, problem: Problem) -> str | None:
    """Return why this problem can't be cloned (one line), or None if it can."""
    if (problem.dataset is not None) == config.oracle:
        found = "both" if config.oracle else "neither"
        return f"clone learns from a dataset or from an oracle, got {found} (allowed: --dataset PATH, or --oracle)"
    if (reason := refuse_spaces(config, problem.spec)) is not None:
        return reason
    if config.oracle:
        return refuse_oracle(problem, config.gamma)
    if config.epsilon:
        return f"epsilon {config.epsilon} applies to the oracle alone, not to a dataset (allowed: 0)"
    if config.held_out and problem.dataset is not None and problem.dataset.num_episodes < 2:
        return f"held_out {config.held_out} of 1 episode leaves nothing to learn from (allowed: 0, or a larger dataset)"
    return None


def refuse_spaces(config: Config, spec: EnvSpec) -> str | None:
    """Return why the agent can't be built for these spaces (one line), or None if it can."""
    if (needed := refuse_actions(spec.action_space)) is not None:
        found = show_space(spec.action_space)
        return f"clone needs {needed}; {spec.env_id} has {found} {ALLOWED_ACTIONS}"
    if config.value_weight and not isinstance(spec.action_space, spaces.Discrete):
        found = show_space(spec.action_space)
        return f"value_weight {config.value_weight} needs Discrete actions; {spec.env_id} has {found} (allowed: 0)"
    if (reason := refuse_trained(config, spec.observation_space)) is not None:
        return reason
    if config.held_out and find_spec("sklearn") is None:
        return f"held_out {config.held_out} needs scikit-learn (allowed: 0, or after pip install 'rl_lab[clone]')"
    if config.memory != "none":
        reason = refuse_sequence_length(config.sequence_length, config.replay_capacity, spec)
        if reason is not None:
            return reason
    if (reason := refuse_batch(config.batch_size, config.replay_capacity)) is not None:
        return reason
    return refuse_capacity(config.replay_capacity, spec, blank_carry(config))
