"""The fields of policy gradients, the problems that they refuse, and what `compile` "auto" resolves to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rl_lab.checks import above, at_least, flags, one_of, show_space, within
from rl_lab.nn.joint_distributions import refuse_actions
from rl_lab.problem import Problem
from rl_lab.types import EnvSpec, UsageError
from rl_lab.updates.compile_choice import refuse_compiling, resolve_compile
from rl_lab.updates.fields import OptimiserName, TrainedFields
from rl_lab.updates.policy_losses import Surrogate, clipped_surrogate, score_function
from rl_lab.updates.trained import check_trained, refuse_trained


@dataclass(frozen=True)
class Method:
    """What distinguishes the three algorithms."""

    surrogate: Surrogate
    gae_lambda: float = 1.0
    whole_episodes: bool = False  # a rollout ends once every environment has ended an episode
    n_epochs: int = 1
    batch_size: int | None = None  # None: the whole rollout at once
    clip_range: float = 0.0
    value_clip: float | None = None
    target_kl: float | None = None


@dataclass(frozen=True)
class Config(TrainedFields):
    """Fields that the three algorithms share."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "learning": (
            "gamma", "ent_coef", "vf_coef", "normalise_advantages", "reward_clip", "normalise_rewards", "compile",
        ),
        "rollout": ("n_steps",),
        "network": ("share_encoder", "log_std_initial"),
        "optimiser": ("linear_decay",),
    }  # fmt: skip
    COMMON: ClassVar[tuple[str, ...]] = ("gamma", "n_steps", "ent_coef", "linear_decay")

    learning_rate: float = 3e-4
    """Step size at the start."""
    linear_decay: bool = False
    """Let the step size (and PPO's clip range) fall linearly to 0 over the budget."""
    optimiser: OptimiserName = "adam"
    """Optimiser; rmsprop is that of Mnih et al. (2016), whose mean of squares starts at 1."""
    max_grad_norm: float | None = 0.5
    """Largest norm of the gradient, which is scaled down to it; None: no bound."""
    activation: Literal["relu", "tanh", "elu", "gelu"] = "tanh"
    """Activation after each dense layer."""
    initialisation: Literal["default", "orthogonal", "kaiming"] = "orthogonal"
    """Initial weights: default is torch's; the others make the policy nearly uniform at the start."""
    gamma: float = 0.99
    """Discount per environment step."""
    n_steps: int = 2048
    """Vector steps of a rollout."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    normalise_advantages: bool = False
    """Normalise the advantages of each minibatch to mean 0 and standard deviation 1."""
    share_encoder: bool = False
    """Let policy and value share the encoder and the memory instead of having their own."""
    reward_clip: float | None = None
    """Largest size of each step's reward when learning; None: no bound. Reported returns aren't clipped."""
    normalise_rewards: bool = False
    """Divide rewards by the running standard deviation of the discounted return when learning, and clip them to
    [-10, 10], as SB3's VecNormalize does."""
    log_std_initial: float = 0.0
    """Logarithm of the actions' standard deviation at the start, with Box actions."""
    compile: Literal["auto", "yes", "no"] = "auto"
    """Compile a whole gradient step; auto: if there is a compiler and the run is long enough for it to pay."""

    NAME: ClassVar[str]

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UsageError: one has a value that isn't allowed, or that another one rules out; the message names them.
        """
        check_trained(self)
        within(self, 0.0, 1.0, "gamma")
        above(self, 0.0, "reward_clip")
        at_least(self, 0, "ent_coef", "vf_coef")
        at_least(self, 1, "n_steps")
        at_least(self, -20, "log_std_initial")
        flags(self, "linear_decay", "normalise_advantages", "normalise_rewards", "share_encoder")
        if self.linear_decay and (self.learning_rate_final, self.learning_rate_decay) != (None, "linear"):
            raise UsageError(
                f"linear_decay lets the step size fall to 0, but learning_rate_final is {self.learning_rate_final} and"
                f" learning_rate_decay {self.learning_rate_decay!r} (allowed with it: None, 'linear')"
            )
        one_of(self, "compile", ("auto", "yes", "no"))

    def method(self) -> Method:
        """Return what distinguishes the algorithm; subclasses implement it."""
        raise NotImplementedError

    def resolve(self, problem: Problem) -> Config:
        """Return the config with `compile` "auto" decided, once per run: a resumed run must go on as it began.

        Raises:
            UsageError: `compile` is "yes" on a device other than the CPU.
        """
        return resolve_compile(self, problem, _gradient_steps(self, problem), refuse_compiling_step(self))

    def transitions(self, num_envs: int, total_steps: int) -> dict[str, float]:
        """Return the periods of a run in transitions, by field; rollouts are counted in vector steps.

        Args:
            num_envs: environments stepped together.
            total_steps: the budget in transitions.
        """
        return {"n_steps": self.n_steps * num_envs}

    def budget_fields(self) -> tuple[str, ...]:
        """Return the fields by which what is learned depends on the budget."""
        return ("linear_decay",) * self.linear_decay + super().budget_fields()


@dataclass(frozen=True)
class ReinforceConfig(Config):
    """Fields of REINFORCE."""

    learning_rate: float = 1e-3
    """Step size at the start."""
    n_steps: int = 1000
    """Most vector steps of a rollout, which ends earlier once every environment has ended an episode."""

    NAME: ClassVar[str] = "reinforce"

    def method(self) -> Method:
        """Return REINFORCE's: returns of whole episodes, one pass."""
        return Method(score_function, whole_episodes=True)


@dataclass(frozen=True)
class A2CConfig(Config):
    """Fields of A2C; the defaults are SB3's, except for the optimiser, which is the authors'."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {"learning": ("gae_lambda",)}
    COMMON: ClassVar[tuple[str, ...]] = ("gae_lambda",)

    learning_rate: float = 7e-4
    """Step size at the start."""
    n_steps: int = 5
    """Vector steps of a rollout."""
    gae_lambda: float = 1.0
    """Lambda of generalised advantage estimation; 1 is the plain return."""
    optimiser: OptimiserName = "rmsprop"
    """Optimiser; SB3 uses rmsprop-torch."""

    NAME: ClassVar[str] = "a2c"

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 0.0, 1.0, "gae_lambda")

    def method(self) -> Method:
        """Return A2C's: short rollouts, one pass."""
        return Method(score_function, gae_lambda=self.gae_lambda)


@dataclass(frozen=True)
class PPOConfig(Config):
    """Fields of PPO; the defaults are SB3's."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "learning": ("gae_lambda", "clip_range", "clip_range_value", "target_kl"),
        "rollout": ("batch_size", "n_epochs"),
    }
    COMMON: ClassVar[tuple[str, ...]] = ("gae_lambda", "clip_range", "batch_size", "n_epochs")

    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    batch_size: int = 64
    """Steps of a minibatch; with a memory whole sequences of environments, as many as fit but at least one."""
    n_epochs: int = 10
    """Passes over a rollout."""
    clip_range: float = 0.2
    """Bound on the probability ratio's distance from 1."""
    clip_range_value: float | None = None
    """Bound on the change of the value in its loss; None: no bound."""
    target_kl: float | None = None
    """Stop learning from a rollout once the approximate KL divergence exceeds 1.5 times this; None: never."""
    normalise_advantages: bool = True
    """Normalise the advantages of each minibatch to mean 0 and standard deviation 1."""

    NAME: ClassVar[str] = "ppo"

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 0.0, 1.0, "gae_lambda")
        at_least(self, 1, "n_epochs", "batch_size")
        above(self, 0.0, "clip_range", "clip_range_value", "target_kl")

    def method(self) -> Method:
        """Return PPO's: several passes in minibatches, clipped to stay near the policy that acted."""
        return Method(
            clipped_surrogate,
            gae_lambda=self.gae_lambda,
            n_epochs=self.n_epochs,
            batch_size=self.batch_size,
            clip_range=self.clip_range,
            value_clip=self.clip_range_value,
            target_kl=self.target_kl,
        )


def refuse(config: Config, spec: EnvSpec) -> str | None:
    """Return why the agent can't be built for these spaces (one line), or None if it can."""
    if (needed := refuse_actions(spec.action_space)) is not None:
        return f"{config.NAME} needs {needed}; {spec.env_id} has {show_space(spec.action_space)}"
    if (reason := refuse_trained(config, spec.observation_space)) is not None:
        return reason
    if config.compile == "yes" and (reason := refuse_compiling_step(config)) is not None:
        return f"compile 'yes' {reason} (allowed: auto, no)"
    return None


def refuse_compiling_step(config: Config) -> str | None:
    """Return why the algorithm's gradient steps can't be compiled, or None if they can."""
    if config.method().whole_episodes:
        return f"isn't possible with {config.NAME}, whose rollouts differ in length"
    return refuse_compiling(config)


def _gradient_steps(config: Config, problem: Problem) -> int:
    """Return how many gradient steps a run takes within its budget."""
    method, steps = config.method(), config.n_steps * problem.num_envs
    minibatches = -(-steps // min(method.batch_size or steps, steps))
    return problem.total_steps // steps * method.n_epochs * minibatches
