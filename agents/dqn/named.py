"""Names that users expect: DQN with one kind of distribution, and all other fields as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rl_lab.training.interaction import Interaction
from rl_lab.training.learner import built_from
from rl_lab.types import UsageError

from .agent import DQN
from .config import Config, refuse


@dataclass(frozen=True)
class NamedConfig(Config):
    """Fields of DQN under a name that says which distribution is learned."""

    NAME: ClassVar[str]
    LEARNERS: ClassVar[dict[str, str]] = {"categorical": "c51", "quantile": "qr-dqn", "implicit": "iqn"}

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: one has a value that isn't allowed; the message names it.
        """
        super().__post_init__()
        own = type(self).distribution
        if self.distribution != own:
            raise UsageError(
                f"{self.NAME} learns distribution {own!r}, got {self.distribution!r} (allowed: {own}; dqn takes others)"
            )

    def idle_fields(self) -> dict[str, str]:
        """Return the fields that do nothing beside the others, and what each would need; here, which agent."""
        others = {f"distribution {kind!r}": f"agent {name}" for kind, name in self.LEARNERS.items()}
        return {name: others.get(need, need) for name, need in super().idle_fields().items()}


@dataclass(frozen=True)
class C51Config(NamedConfig):
    """Fields of DQN that learns categorical distributions."""

    NAME: ClassVar[str] = "c51"

    distribution: Literal["none", "categorical", "quantile", "implicit"] = "categorical"
    """What is learned of returns; always categorical."""


@dataclass(frozen=True)
class QRDQNConfig(NamedConfig):
    """Fields of DQN that learns quantiles."""

    NAME: ClassVar[str] = "qr-dqn"

    distribution: Literal["none", "categorical", "quantile", "implicit"] = "quantile"
    """What is learned of returns; always quantile."""


@dataclass(frozen=True)
class IQNConfig(NamedConfig):
    """Fields of DQN that learns implicit quantiles."""

    NAME: ClassVar[str] = "iqn"

    distribution: Literal["none", "categorical", "quantile", "implicit"] = "implicit"
    """What is learned of returns; always implicit."""


@built_from(C51Config)
def build_c51(config: C51Config) -> Interaction:
    """Learn categorical distributions of returns (C51): dqn with distribution categorical; Discrete actions."""
    return Interaction(config, DQN, refuse)


@built_from(QRDQNConfig)
def build_qr_dqn(config: QRDQNConfig) -> Interaction:
    """Learn quantiles of returns (QR-DQN): dqn with distribution quantile; Discrete actions."""
    return Interaction(config, DQN, refuse)


@built_from(IQNConfig)
def build_iqn(config: IQNConfig) -> Interaction:
    """Learn quantiles of returns at any fractions (IQN): dqn with distribution implicit; Discrete actions."""
    return Interaction(config, DQN, refuse)
