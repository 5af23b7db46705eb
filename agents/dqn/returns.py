"""Beyond the mean: the fields that make DQN learn distributions, explore by noise or heads, or learn softly.

Each is a field of the composition; `Returns` holds the parts they configure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from gymnasium import spaces

from rl_lab.checks import above, at_least, finite, flags, one_of, within
from rl_lab.nn.attended import attention_figures
from rl_lab.nn.exploring import HeadPerEpisode, distribution_figures, noisy_values
from rl_lab.nn.noisy import Noise
from rl_lab.nn.q_network import QNetwork, make_q_network
from rl_lab.nn.return_kinds import Categorical, ImplicitQuantiles, Means, Quantiles, ReturnKind
from rl_lab.nn.return_network import HeadPlan, OutputsOf, make_return_network
from rl_lab.policies import Figures, Values
from rl_lab.seeding import Streams
from rl_lab.types import Array, EnvSpec, Obs, State, UsageError
from rl_lab.updates.compile_choice import refuse_compiling
from rl_lab.updates.draws import Drawing, HeadMasks, LossWithDraws
from rl_lab.updates.fields import TrainedFields
from rl_lab.updates.munchausen import Munchausen
from rl_lab.updates.returns import CategoricalLoss, DistributionLoss, MeansLoss, QuantileLoss, ReturnRule
from rl_lab.updates.td import IDENTITY_SCALE, RESCALED, Scale, TDLoss

from .outside import RangeWatch

NEEDED = {
    "distribution 'categorical'": ("v_min", "v_max", "atoms"),
    "distribution 'quantile'": ("quantiles",),
    "distribution 'implicit'": ("fractions", "target_fractions", "acting_fractions", "cosines"),
    "munchausen": ("munchausen_alpha", "munchausen_temperature", "munchausen_lowest"),
    "noisy": ("noisy_sigma",),
    "heads 2 or more": ("head_share",),
}
"""What each of these fields does nothing without."""
LARGEST_RETURN = 1e30  # so that float32 holds what is computed with it
SMALLEST_TEMPERATURE = 1e-8  # by which returns are divided, within the range of float32
DISTRIBUTIONS = ("none", "categorical", "quantile", "implicit")


@dataclass(frozen=True)
class ReturnFields(TrainedFields):
    """Fields of what is said of returns, and of exploring by it."""

    GROUPS: ClassVar[dict[str, tuple[str, ...]]] = {
        "returns": (
            "distribution", "v_min", "v_max", "atoms", "quantiles", "fractions", "target_fractions",
            "acting_fractions", "cosines", "munchausen", "munchausen_alpha", "munchausen_temperature",
            "munchausen_lowest",
        ),
        "exploration": ("noisy", "noisy_sigma", "heads", "head_share", "prior_scale"),
    }  # fmt: skip
    COMMON: ClassVar[tuple[str, ...]] = ()

    distribution: Literal["none", "categorical", "quantile", "implicit"] = "none"
    """What is learned of returns: none: their mean; categorical: C51; quantile: QR-DQN; implicit: IQN."""
    v_min: float = -10.0
    """Smallest return of a categorical distribution, discounted; what lies below is taken for it."""
    v_max: float = 10.0
    """Largest return of a categorical distribution, discounted; what lies above is taken for it."""
    atoms: int = 51
    """Returns that a categorical distribution gives probabilities to, evenly from v_min to v_max."""
    quantiles: int = 200
    """Quantiles of a quantile distribution."""
    fractions: int = 64
    """Fractions drawn for each prediction of an implicit distribution."""
    target_fractions: int = 64
    """Fractions drawn for each target of an implicit distribution."""
    acting_fractions: int = 32
    """Fractions, evenly spaced, whose mean an implicit distribution acts by."""
    cosines: int = 64
    """Cosines of a fraction that an implicit distribution's network sees."""
    munchausen: bool = False
    """Value successors by a softmax policy, and add the log-probability of the action to its reward."""
    munchausen_alpha: float = 0.9
    """Share of the log-probability that is added."""
    munchausen_temperature: float = 0.03
    """Temperature of the softmax, in units of reward."""
    munchausen_lowest: float = -1.0
    """Lower bound of temperature * log-probability."""
    noisy: bool = False
    """Explore by learned noise in the dense layers, drawn for each action; epsilon is apart, and may be 0."""
    noisy_sigma: float = 0.5
    """Initial size of that noise, divided by the root of a layer's inputs."""
    heads: int = 1
    """Heads of the network; with 2 or more each episode is played by one of them, drawn at its beginning (but for
    epsilon's random actions), and evaluation goes by their mean. The last of hidden belongs to each head."""
    head_share: float = 1.0
    """Probability with which a head learns from a transition; drawn once for each head and transition."""
    prior_scale: float = 0.0
    """Size of a fixed random function that is added to each head; 0: none."""

    @property
    def learns_returns(self) -> bool:
        """Whether anything here differs from vanilla DQN."""
        return self.distribution != "none" or self.munchausen or self.noisy or self.heads > 1

    @property
    def unknown_fixed_point(self) -> str | None:
        """Why what is learned isn't the fixed point of a loss of means under epsilon-greedy actions; None if it is."""
        if self.munchausen:
            return "munchausen adds the log-probability of actions to their rewards"
        if self.distribution != "none":
            return f"distribution {self.distribution!r} isn't learned by a loss of means"
        if self.noisy or self.heads > 1:
            return f"{'noisy' if self.noisy else 'heads'} explores otherwise than by epsilon"
        return None


def check_returns(config: Any) -> None:
    """Check the fields.

    Raises:
        UsageError: one has a value that isn't allowed, or that another one rules out; the message names them.
    """
    one_of(config, "distribution", DISTRIBUTIONS)
    finite(
        config, "v_min", "v_max", "munchausen_lowest", "munchausen_temperature", "prior_scale", "noisy_sigma"
    )
    at_least(config, 2, "atoms")
    at_least(config, 1, "quantiles", "fractions", "target_fractions", "acting_fractions", "cosines", "heads")
    at_least(config, 0, "noisy_sigma", "prior_scale")
    at_least(config, SMALLEST_TEMPERATURE, "munchausen_temperature")
    above(config, 0.0, "head_share")
    within(config, 0.0, 1.0, "munchausen_alpha", "head_share")
    flags(config, "munchausen", "noisy")
    if config.v_min >= config.v_max:
        raise UsageError(f"v_min {config.v_min:g} must be below v_max {config.v_max:g}")
    if max(-config.v_min, config.v_max) > LARGEST_RETURN:
        raise UsageError(
            f"v_min {config.v_min:g} and v_max {config.v_max:g} must lie within {LARGEST_RETURN:g} of 0"
        )
    if config.munchausen_lowest > 0:
        raise UsageError(f"munchausen_lowest must be at most 0, got {config.munchausen_lowest:g}")
    for one, other, why in _excluded(config):
        raise UsageError(f"{one} and {other} exclude each other: {why}")


def _excluded(config: Any) -> list[tuple[str, str, str]]:
    """Return pairs of fields that are set and don't go together, each with the reason."""
    kind = f"distribution {config.distribution!r}"
    distributed, has_prior = config.distribution != "none", config.prior_scale > 0
    pairs = (
        (distributed and config.value_rescaling, kind, "value_rescaling", "atoms are in units of reward"),
        (distributed and config.loss == "squared", kind, "loss 'squared'", "a distribution has a loss of its own"),
        (config.munchausen and config.double, "munchausen", "double", "a softmax policy takes no maximum"),
        (
            config.munchausen and config.value_rescaling, "munchausen", "value_rescaling",
            "the temperature is in units of reward",
        ),
        (
            config.distribution == "categorical" and config.normalise_rewards, kind, "normalise_rewards",
            "atoms are in units of reward",
        ),
        (
            config.munchausen and config.normalise_rewards, "munchausen", "normalise_rewards",
            "the temperature is in units of reward",
        ),
        (config.noisy and config.heads > 1, "noisy", f"heads {config.heads}", "each explores by itself"),
        (has_prior and config.heads == 1, "prior_scale", "heads 1", "it keeps several heads apart"),
        (has_prior and distributed, "prior_scale", kind, "it is added to means"),
        (
            has_prior and config.normalise_observations, "prior_scale", "normalise_observations",
            "a prior never changes, and would with the statistics",
        ),
        (has_prior and config.memory != "none", "prior_scale", f"memory {config.memory!r}", "it has none"),
    )  # fmt: skip
    return [(one, other, why) for holds, one, other, why in pairs if holds]


def idle_returns(config: Any) -> dict[str, str]:
    """Return the fields that do nothing beside the others, and what each would need."""
    on = {f"distribution {config.distribution!r}"}
    switches = {"munchausen": config.munchausen, "noisy": config.noisy, "heads 2 or more": config.heads > 1}
    on |= {name for name, is_on in switches.items() if is_on}
    return {name: what for what, names in NEEDED.items() if what not in on for name in names}


def refuse_returns(config: Any, spec: EnvSpec) -> str | None:
    """Return why these fields don't suit an environment (one line), or None if they do."""
    if config.munchausen and spec.has_mask:
        return (
            f"munchausen needs the action masks of past steps, which the replay doesn't keep; {spec.env_id} has masks"
            " (allowed: false)"
        )
    return None


def refuse_compiled(config: Any) -> str | None:
    """Return why an update can't be compiled (the end of a sentence about `compile`), or None if it can."""
    return refuse_compiling(config) or ("requires prior_scale 0" if config.prior_scale else None)


def scale_of(config: Any) -> Scale:
    """Return the scale of the network's values."""
    return RESCALED if config.value_rescaling else IDENTITY_SCALE


def kind_of(config: Any) -> ReturnKind:
    """Return what the network's outputs mean."""
    kinds: dict[str, ReturnKind] = {
        "none": Means(),
        "categorical": Categorical(config.v_min, config.v_max, config.atoms),
        "quantile": Quantiles(config.quantiles),
        "implicit": ImplicitQuantiles(config.acting_fractions, config.fractions, config.target_fractions),
    }
    return kinds[config.distribution]


def make_rule(config: Any) -> ReturnRule | None:
    """Return what is made of a batch; None for vanilla DQN's own."""
    if not config.learns_returns:
        return None
    kind, loss = kind_of(config), MeansLoss(config.loss, scale_of(config))
    chosen: DistributionLoss = loss
    if isinstance(kind, Categorical):
        chosen = CategoricalLoss(kind)
    elif isinstance(kind, Quantiles):
        chosen = QuantileLoss(kind)
    soft = Munchausen(config.munchausen_alpha, config.munchausen_temperature, config.munchausen_lowest)
    return ReturnRule(chosen, soft if config.munchausen else None, config.heads)


def with_draws(loss: TDLoss, config: Any, spec: EnvSpec, seed: int) -> Any:
    """Return the loss, with what is drawn for each batch if anything is."""
    if _plan(config).is_plain:
        return loss
    masks = None
    if config.head_share < 1 and config.heads > 1:
        places = max(1, config.replay_capacity // spec.num_envs) * spec.num_envs
        masks = HeadMasks(seed, config.heads, config.head_share, places, spec.num_envs)
    return LossWithDraws(loss, masks)


def make_network(config: Any, space: spaces.Space, num_actions: int) -> QNetwork:
    """Make the network, with the usual head or with one of `return_heads`."""
    plan = _plan(config)
    if plan.is_plain:
        return make_q_network(space, num_actions, config, dueling=config.dueling)
    return make_return_network(space, num_actions, config, plan)


def _plan(config: Any) -> HeadPlan:
    sigma = config.noisy_sigma if config.noisy else None
    return HeadPlan(kind_of(config), config.dueling, config.heads, sigma, config.cosines, config.prior_scale)


def learned(config: Any, network: QNetwork) -> Any:
    """Return the network as its loss sees it; it shares the weights, in the same order."""
    return network if _plan(config).is_plain else OutputsOf(network)


class Returns:
    """What the fields add to an agent: exploration, figures, and what is drawn for each batch."""

    def __init__(self, config: Any, streams: Streams, network: QNetwork, device: torch.device, num_envs: int):
        self._config, self._streams, self._device = config, streams, device
        drawing = Drawing(streams, Noise(network).width, kind_of(config))
        self.draw = drawing if drawing.any else None
        self.head_in_carry = config.heads > 1
        self.watch = RangeWatch(config, num_envs) if config.distribution == "categorical" else None

    def exploring(
        self, network: QNetwork, values: Values, initial_state: Callable[[int], State] | None
    ) -> tuple[Values, Callable[[int], State] | None]:
        """Return the values that the agent explores by, and the function from N to the initial carry, if any."""
        if self.head_in_carry:
            heads = HeadPerEpisode(network, self._device, self._streams["heads"], initial_state)
            return heads, heads.initial_state
        if self._config.noisy:
            return noisy_values(network, self._device, self._streams["noise"]), initial_state
        return values, initial_state

    def shown(self, values: Values, explores: bool) -> Values:
        """Return the values that `inspect` shows: without noise, and the mean of all heads."""
        if not (explores and self.head_in_carry):
            return values
        return lambda obs, state, is_first: values(obs, state[:-1], is_first)

    def figures(self, network: QNetwork, reward_scale: Callable[[], float]) -> Figures | None:
        """Return what `inspect` tells beside action values: attention, and distributions in units of reward."""
        attention, atoms = (make(network, self._device) for make in (attention_figures, distribution_figures))
        if atoms is None:
            return attention

        def figures(obs: Obs, state: State, is_first: Array) -> dict[str, Array]:
            found = atoms(obs, state, is_first)
            found["atoms"] = found["atoms"] / reward_scale()
            return found if attention is None else found | attention(obs, state, is_first)

        return figures
