"""The fields of tabular learning: each rule's config has those that apply to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gymnasium import spaces

from rl_lab.checks import above, at_least, finite, flags, one_of, show_space, within
from rl_lab.environments.table_rows import count_rows
from rl_lab.mdp.learning import exploring, step_sizes, traces
from rl_lab.mdp.td_fixed_point import TDRule
from rl_lab.types import EnvSpec, UsageError

from .bins import count_bins

MOST_ENTRIES = 50_000_000  # of a table, 400 MB
OTHER_OBSERVATIONS = (
    "(allowed: Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple of them, and Box with bins;"
    " dqn and ppo take others)"
)
OTHER_ACTIONS = "(allowed: Discrete; ppo, a2c and reinforce take others)"

STEP_SIZES = {"linear": step_sizes.BY_TIME, "1/n": step_sizes.ONE_OVER_N, "n^-w": step_sizes.POWER}
BEHAVIOURS = {
    "epsilon-greedy": exploring.EPSILON_GREEDY,
    "boltzmann": exploring.BOLTZMANN,
    "ucb": exploring.UCB,
}
FIELDS_OF = {  # of each behaviour alone
    "epsilon-greedy": ("epsilon_initial", "epsilon_final", "epsilon_fraction"),
    "boltzmann": ("temperature", "temperature_final"),
    "ucb": ("ucb_width",),
}
PARAMETERS = {
    "epsilon-greedy": "epsilon",
    "boltzmann": "temperature",
    "ucb": "ucb_width",
}  # as rows name them
TRACES = {
    "accumulating": traces.ACCUMULATING,
    "replacing": traces.REPLACING,
    "dutch": traces.DUTCH,
}


@dataclass(frozen=True)
class Learning:
    """Fields of all rules: step sizes, and how observations become rows of the table."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "learning": (
            "learning_rate", "learning_rate_final", "step_size", "step_size_power", "gamma", "initial_value",
        ),
        "observations": ("bins", "bins_low", "bins_high"),
    }  # fmt: skip
    COMMON: ClassVar[tuple[str, ...]] = ("learning_rate", "learning_rate_final", "step_size", "gamma")

    learning_rate: float = 0.5
    """Step size at the start, in (0, 1]; 1/n and n^-w don't use it."""
    learning_rate_final: float = 0.01
    """Step size at the end of the budget, to which it falls linearly in environment steps."""
    step_size: str = "linear"
    """Schedule of step sizes: linear, or that of each entry's own n-th update, 1/n or n^-w."""
    step_size_power: float = 0.7
    """w of n^-w; values converge for any in (0.5, 1]."""
    gamma: float = 0.99
    """Discount per environment step."""
    initial_value: float = 0.0
    """Initial value of every entry of the table; high values encourage exploration (optimism). With 1/n and
    n^-w an entry's first update replaces it."""
    bins: tuple[int, ...] = ()
    """Intervals into which each entry of a Box observation is cut: one number for all, or one each; none for others."""
    bins_low: tuple[float, ...] = ()
    """Where the first interval begins, one for each entry; by default at the space's bound, which has to be finite."""
    bins_high: tuple[float, ...] = ()
    """Where the last interval ends, likewise; what lies beyond falls into the outermost interval."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: one has a value that isn't allowed.
        """
        within(self, 0.0, 1.0, "learning_rate", "learning_rate_final", "gamma")
        above(self, 0.0, "learning_rate")
        one_of(self, "step_size", tuple(STEP_SIZES))
        above(self, 0.0, "step_size_power")
        within(self, 0.0, 1.0, "step_size_power")
        finite(self, "initial_value")
        within(self, -1e12, 1e12, "initial_value")
        if any(type(n) is not int or not 1 <= n <= MOST_ENTRIES for n in self.bins):
            raise UsageError(f"bins must be whole numbers from 1 to {MOST_ENTRIES}, got {self.bins}")

    def budget_fields(self) -> tuple[str, ...]:
        """Return the fields by which what is learned depends on the budget."""
        decays = self.step_size == "linear" and self.learning_rate_final != self.learning_rate
        return ("learning_rate_final",) * decays

    def idle_fields(self) -> dict[str, str]:
        """Return the fields that do nothing beside the others, and what each would need."""
        of_schedule = {"learning_rate": "linear", "learning_rate_final": "linear", "step_size_power": "n^-w"}
        return {
            name: f"step_size {needed}" for name, needed in of_schedule.items() if needed != self.step_size
        }


@dataclass(frozen=True)
class Config(Learning):
    """Fields of a rule that acts on what it learns."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "simulation": ("simulated",),
        "exploration": (
            "exploration", "epsilon_initial", "epsilon_final", "epsilon_fraction",
            "temperature", "temperature_final", "ucb_width",
        ),
    }  # fmt: skip

    COMMON: ClassVar[tuple[str, ...]] = ("exploration", "epsilon_initial", "epsilon_final", "simulated")

    exploration: str = "epsilon-greedy"
    """How actions are chosen while learning: epsilon-greedy, boltzmann or ucb (upper confidence bounds)."""
    epsilon_initial: float = 1.0
    """Probability of a random action at the start, of epsilon-greedy."""
    epsilon_final: float = 0.1
    """Probability of a random action after epsilon has fallen."""
    epsilon_fraction: float = 0.5
    """Share of the budget over which epsilon falls linearly."""
    temperature: float = 1.0
    """Boltzmann's temperature at the start, in units of reward: actions are drawn with exp(value / temperature)."""
    temperature_final: float = 0.05
    """Boltzmann's temperature at the end of the budget, to which it falls linearly."""
    ucb_width: float = 1.0
    """Width of the bounds of ucb, in units of reward: n tries of t make an action worth width sqrt(log t / n) more."""
    simulated: bool = False
    """Learn in a compiled simulation of the environment's model instead of its steps, hundreds of times as fast."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "exploration", tuple(BEHAVIOURS))
        within(self, 0.0, 1.0, "epsilon_initial", "epsilon_final", "epsilon_fraction")
        above(self, 0.0, "temperature", "temperature_final")
        finite(self, "temperature", "temperature_final", "ucb_width")
        at_least(self, 0.0, "ucb_width")
        flags(self, "simulated")

    def transitions(self, num_envs: int, total_steps: int) -> dict[str, float]:
        """Return the periods of a run in transitions, by field.

        Args:
            num_envs: environments stepped together.
            total_steps: the budget in transitions, over which the schedules go.
        """
        falls = self.exploration == "epsilon-greedy"
        return {"epsilon_fraction": self.epsilon_fraction * total_steps} if falls else {}

    def budget_fields(self) -> tuple[str, ...]:
        """Return the fields by which what is learned depends on the budget."""
        greedy, warm = self.exploration == "epsilon-greedy", self.exploration == "boltzmann"
        falls = greedy and self.epsilon_fraction > 0 and self.epsilon_initial != self.epsilon_final
        cools = warm and self.temperature != self.temperature_final
        return ("epsilon_fraction",) * falls + ("temperature_final",) * cools + super().budget_fields()

    def idle_fields(self) -> dict[str, str]:
        """Return the fields that do nothing beside the others, and what each would need."""
        others = {name: fields for name, fields in FIELDS_OF.items() if name != self.exploration}
        idle = {field: f"exploration {name}" for name, fields in others.items() for field in fields}
        return super().idle_fields() | idle


@dataclass(frozen=True)
class GreedyTargetConfig(Config):
    """Fields of Q-learning and double Q-learning, which learn about the greedy policy."""

    def td_rule(self) -> TDRule:
        """Return what learning minimises: its entries move towards the mean of their targets."""
        return TDRule("squared", self.gamma, epsilon=self.epsilon_final)


@dataclass(frozen=True)
class NStepConfig(Config):
    """Fields of n-step SARSA."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {"returns": ("n_steps",)}

    n_steps: int = 4
    """Rewards summed before the bootstrap."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "n_steps")


@dataclass(frozen=True)
class TreeBackupConfig(NStepConfig):
    """Fields of tree backup."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {"returns": ("target",)}

    target: str = "greedy"
    """The policy that is learned about: greedy, or behaviour, the one that acts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, "target", ("greedy", "behaviour"))


@dataclass(frozen=True)
class MonteCarloConfig(Config):
    """Fields of Monte Carlo control."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {"returns": ("first_visit",)}

    step_size: str = "1/n"
    """Schedule of step sizes: 1/n for the mean of all returns, n^-w, or linear."""
    first_visit: bool = False
    """Learn only from the return that follows an entry's first visit in an episode; otherwise from every visit."""

    def __post_init__(self) -> None:
        super().__post_init__()
        flags(self, "first_visit")


@dataclass(frozen=True)
class TraceConfig(Config):
    """Fields of Q(lambda) and SARSA(lambda)."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {"returns": ("trace_decay", "traces")}

    trace_decay: float = 0.9
    """Lambda: how much of a trace is left after a step, beside gamma."""
    traces: str = "replacing"
    """What a visit does to its entry's trace: accumulating, replacing or dutch (true online)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 0.0, 1.0, "trace_decay")
        one_of(self, "traces", tuple(TRACES))


@dataclass(frozen=True)
class PredictionConfig(Learning):
    """Fields of TD prediction."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "simulation": ("simulated",), "returns": ("trace_decay", "traces"),
    }  # fmt: skip
    COMMON: ClassVar[tuple[str, ...]] = ("simulated",)

    trace_decay: float = 0.0
    """Lambda: how much of a trace is left after a step, beside gamma; 0 is TD(0)."""
    traces: str = "accumulating"
    """What a visit does to its state's trace: accumulating, replacing or dutch (true online)."""
    simulated: bool = False
    """Learn in a compiled simulation of the environment's model instead of its steps, hundreds of times as fast."""

    def __post_init__(self) -> None:
        super().__post_init__()
        flags(self, "simulated")
        within(self, 0.0, 1.0, "trace_decay")
        one_of(self, "traces", tuple(TRACES))


@dataclass(frozen=True)
class DynaConfig(Config):
    """Fields of Dyna-Q."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("planning_steps", "model_outcomes")}

    planning_steps: int = 10
    """Imagined steps that are learned from after each step."""
    model_outcomes: int = 10
    """Last outcomes of each action in each state that the model remembers; 1 will do for deterministic environments."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0, "planning_steps")
        at_least(self, 1, "model_outcomes")


@dataclass(frozen=True)
class DynaPlusConfig(DynaConfig):
    """Fields of Dyna-Q+."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("bonus",)}

    model_outcomes: int = 1
    """Last outcomes of each action in each state that the model remembers; with 1 it follows a change at once."""
    bonus: float = 0.001
    """Kappa, in units of reward: what wasn't tried for n steps is imagined to pay kappa sqrt(n) more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0.0, "bonus")
        finite(self, "bonus")


@dataclass(frozen=True)
class SweepingConfig(DynaConfig):
    """Fields of prioritised sweeping with a learned model."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {"model": ("priority_threshold",)}

    learning_rate: float = 1.0
    """Step size at the start: how far a backup moves an entry towards the model's mean target."""
    learning_rate_final: float = 1.0
    """Step size at the end of the budget, to which it falls linearly in environment steps."""
    planning_steps: int = 10
    """Most backups after each step."""
    model_outcomes: int = 50
    """Last outcomes of each action in each state that the model remembers; a backup takes their mean."""
    priority_threshold: float = 1e-4
    """Smallest error that is worth a backup, in units of reward."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 0.0, "priority_threshold")
        at_least(self, 1, "planning_steps")


def refuse(name: str, config: Learning, spec: EnvSpec) -> str | None:
    """Return why a table can't represent this problem (one line), or None if it can.

    Args:
        name: of the agent.
    """
    space, actions = spec.observation_space, spec.action_space
    if config.bins:
        try:
            rows: int | None = count_bins(config.bins, config.bins_low, config.bins_high, space)
        except UsageError as error:
            return f"{name}: {error} (of {spec.env_id})"
    elif given := [field for field in ("bins_low", "bins_high") if getattr(config, field)]:
        return f"{name}: {given[0]} {getattr(config, given[0])} does nothing without bins"
    else:
        rows = count_rows(space)
    if rows is None:
        found = show_space(space)
        return f"{name} needs discrete observations; {spec.env_id} has {found} {OTHER_OBSERVATIONS}"
    if not isinstance(actions, spaces.Discrete):
        return f"{name} needs Discrete actions; {spec.env_id} has {show_space(actions)} {OTHER_ACTIONS}"
    if (entries := rows * int(actions.n)) > MOST_ENTRIES:
        return f"{name} would need a table of {entries} entries for {spec.env_id} (allowed: up to {MOST_ENTRIES})"
    if (outcomes := entries * getattr(config, "model_outcomes", 1)) > MOST_ENTRIES:
        return (
            f"{name} would remember up to {outcomes} outcomes for {spec.env_id} (allowed: up to {MOST_ENTRIES};"
            " a smaller model_outcomes needs less)"
        )
    return None
