"""The fields of PQN, the problems that it refuses, and what `compile` "auto" resolves to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from gymnasium import spaces

from rl_lab.checks import above, at_least, flags, one_of, show_space, within
from rl_lab.mdp.td_fixed_point import TDRule
from rl_lab.problem import Problem
from rl_lab.types import EnvSpec
from rl_lab.updates.compile_choice import refuse_compiling, resolve_compile
from rl_lab.updates.fields import OptimiserName, TrainedFields
from rl_lab.updates.trained import check_trained, refuse_trained

COMPILABLE_OPTIMISERS = ("radam", "adam")


@dataclass(frozen=True)
class Config(TrainedFields):
    """Fields of PQN; the defaults are the authors' for Atari, for any number of environments, but for the network.

    Beside the network (`encoder`, `hidden`, `image_layer_norm`, `initialisation`), which is what all agents of the lab
    begin with, rewards aren't clipped (`reward_clip`), and `epsilon_final` is their 0.05 for MinAtar (0.001 for Atari).
    """

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "learning": ("gamma", "q_lambda", "reward_clip", "normalise_rewards", "compile"),
        "rollout": ("n_steps", "batch_size", "n_epochs"),
        "exploration": ("epsilon_initial", "epsilon_final", "epsilon_fraction"),
    }
    COMMON: ClassVar[tuple[str, ...]] = (
        "gamma", "q_lambda", "n_steps", "batch_size", "n_epochs", "epsilon_final", "epsilon_fraction",
    )  # fmt: skip

    learning_rate: float = 2.5e-4
    """Step size at the start."""
    optimiser: OptimiserName = "radam"
    """Optimiser; rmsprop is the centred RMSprop of Mnih et al. (2015)."""
    layer_norm: bool = True
    """Normalise the outputs of the dense layers before each activation; without it learning may diverge."""
    gamma: float = 0.99
    """Discount per environment step."""
    q_lambda: float = 0.65
    """Lambda of the returns: 0 bootstraps after every step, 1 only where an episode or the rollout ends."""
    n_steps: int = 32
    """Vector steps of a rollout."""
    batch_size: int = 128
    """Steps of a minibatch; with a memory whole sequences of environments, as many as fit but at least one."""
    n_epochs: int = 2
    """Passes over a rollout."""
    reward_clip: float | None = None
    """Largest size of each step's reward when learning; None: no bound. Reported returns aren't clipped."""
    normalise_rewards: bool = False
    """Divide rewards by the running standard deviation of the discounted return when learning."""
    epsilon_initial: float = 1.0
    """Probability of a random action at the start."""
    epsilon_final: float = 0.05
    """Probability of a random action after epsilon has fallen."""
    epsilon_fraction: float = 0.1
    """Share of the budget over which epsilon falls linearly."""
    compile: Literal["auto", "yes", "no"] = "auto"
    """Compile a whole gradient step; auto: if there is a compiler and the run is long enough for it to pay."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: one has a value that isn't allowed, or that another one rules out; the message names them.
        """
        check_trained(self)
        above(self, 0.0, "reward_clip")
        within(self, 0.0, 1.0, "gamma", "q_lambda", "epsilon_initial", "epsilon_final", "epsilon_fraction")
        at_least(self, 1, "n_steps", "batch_size", "n_epochs")
        flags(self, "normalise_rewards")
        one_of(self, "compile", ("auto", "yes", "no"))

    def resolve(self, problem: Problem) -> Config:
        """Return the config with `compile` "auto" decided, once per run: a resumed run must go on as it began.

        Raises:
            UsageError: `compile` is "yes" on a device other than the CPU.
        """
        reason = refuse_compiling(self, COMPILABLE_OPTIMISERS)
        return resolve_compile(self, problem, self._gradient_steps(problem), reason)

    def _gradient_steps(self, problem: Problem) -> int:
        """Return how many gradient steps a run takes within its budget, without a memory."""
        rollout = self.n_steps * problem.num_envs
        return problem.total_steps // rollout * self.n_epochs * -(-rollout // self.batch_size)

    def transitions(self, num_envs: int, total_steps: int) -> dict[str, float]:
        """Return the periods of a run in transitions, by field; rollouts are counted in vector steps.

        Args:
            num_envs: environments stepped together.
            total_steps: the budget in transitions.
        """
        return {"n_steps": self.n_steps * num_envs, "epsilon_fraction": self.epsilon_fraction * total_steps}

    def budget_fields(self) -> tuple[str, ...]:
        """Return the fields by which what is learned depends on the budget."""
        falls = self.epsilon_fraction > 0 and self.epsilon_initial != self.epsilon_final
        return ("epsilon_fraction",) * falls + super().budget_fields()

    def td_rule(self) -> TDRule:
        """Return what learning minimises; its fixed point is unknown unless returns bootstrap after every step."""
        if self.normalise_rewards:
            unknown: str | None = (
                "normalise_rewards measures errors in another scale than that of the rewards"
            )
        elif self.q_lambda:
            unknown = f"lambda-returns mix returns of many lengths (q_lambda {self.q_lambda:g}, known for 0)"
        else:
            unknown = None
        return TDRule("squared", self.gamma, 1, self.epsilon_final, self.reward_clip, unknown=unknown)


def refuse(config: Config, spec: EnvSpec) -> str | None:
    """Return why the agent can't be built for these spaces (one line), or None if it can."""
    if not isinstance(spec.action_space, spaces.Discrete):
        others = "(allowed: Discrete; ppo, a2c and reinforce take others)"
        return f"pqn needs Discrete actions; {spec.env_id} has {show_space(spec.action_space)} {others}"
    if (reason := refuse_trained(config, spec.observation_space)) is not None:
        return reason
    if config.compile == "yes" and (reason := refuse_compiling(config, COMPILABLE_OPTIMISERS)) is not None:
        return f"compile 'yes' {reason} (allowed: auto, no)"
    return None
