"""A network with all that trains it: optimiser, average, normalisers, and what is saved of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.nn.normalise import ObservationNormaliser, RewardNormaliser, Statistics
from rl_lab.nn.recurrent import Carry
from rl_lab.nn.validate import check_network, refuse_network
from rl_lab.problem import Problem
from rl_lab.seeding import Streams, seed_of
from rl_lab.trees import map_leaves
from rl_lab.types import State
from rl_lab.updates.averaging import WeightAverage
from rl_lab.updates.compiling import refuse_folder
from rl_lab.updates.fields import (
    TrainedFields,
    check_optimiser,
    clip_of,
    learning_rate_of,
    make_optimiser,
    shift_of,
)
from rl_lab.updates.optimisers import OPTIMISERS


class TrainableNetwork(Protocol):
    """What a network offers beside its modules' own methods."""

    normaliser: ObservationNormaliser | None
    is_memoryless: bool

    def initial_state(self, batch: int) -> Carry:
        """Return the carry before an episode."""


Network = TypeVar("Network", bound=Any)  # a torch module that is a TrainableNetwork


class Trained(Generic[Network]):
    """A network and all that its training needs: what every agent with a network sets up and saves alike.

    Args:
        config: fields of network and optimiser; `gamma`, `normalise_rewards` and `compile` where the agent has them.
        make: builds the network; its weights are drawn from the run's seed.
        optimisers: the optimisers by name.
    """

    def __init__(
        self,
        config: TrainedFields,
        problem: Problem,
        streams: Streams,
        make: Callable[[], Network],
        *,
        optimisers: Mapping[str, Any] = OPTIMISERS,
    ):
        self.config, self.space = config, problem.spec.observation_space
        self.device = torch.device(problem.device)
        streams.use_torch()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(problem.seed, "initial weights"))
            self.network = make().to(self.device)
        self.optimiser = make_optimiser(config, self.network, optimisers)
        self.clip = clip_of(config)
        self.average = WeightAverage(self.network, config.average_decay)
        self.statistics = Statistics(self.network.normaliser, _reward_normaliser(config, problem))
        self.learning_rate = learning_rate_of(config, problem.total_steps)
        self.shifted = shift_of(config, self.space, streams)

    @property
    def structure(self) -> Hashable | None:
        """What tells apart networks that are compiled alike; None if updates are eager."""
        compiles = getattr(self.config, "compile", "no") == "yes"
        return (repr(self.space), repr(self.network)) if compiles else None

    @property
    def initial_state(self) -> Callable[[int], State] | None:
        """The function from a number of environments to the carry before an episode; None without memory."""
        return None if self.network.is_memoryless else self._initial_state

    def _initial_state(self, num_envs: int) -> State:
        return tuple(part.cpu().numpy() for part in self.network.initial_state(num_envs))

    def tensors(self, tree: Any) -> Any:
        """Return a tree of arrays as tensors on the network's device."""
        return map_leaves(lambda leaf: torch.as_tensor(leaf, device=self.device), tree)

    # State -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the weights to act with, those being learned where they differ, and what moves them; live leaves."""
        weights = dict(self.average.network.state_dict()) | self.statistics.weights()
        state: dict[str, Any] = {"weights": weights}
        if self.average.decay:
            state["online"] = dict(self.network.state_dict())
        if statistics := self.statistics.state_dict():
            state["statistics"] = statistics
        return state | {"optimiser": optimiser_state(self.optimiser)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state in, in place; "weights" are enough."""
        weights = self.statistics.load_weights(state["weights"])
        load_weights(self.average.network, weights)
        load_weights(self.network, state.get("online") or weights)
        if "optimiser" in state:
            load_optimiser_state(self.optimiser, state["optimiser"])
            self.statistics.load_state_dict(state.get("statistics", {}))


def _reward_normaliser(config: Any, problem: Problem) -> RewardNormaliser | None:
    if not getattr(config, "normalise_rewards", False):
        return None
    return RewardNormaliser(config.gamma, problem.num_envs)


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the optimiser's tensors by parameter number; hyperparameters belong to the config."""
    state = optimiser.state_dict()["state"]
    return {str(i): dict(tensors) for i, tensors in state.items()}


def load_optimiser_state(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take copies of the tensors of `optimiser_state` in; torch itself would go on writing into them."""
    groups = optimiser.state_dict()["param_groups"]
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    tensors = {
        int(i): {k: _laid_out_as(parameters[int(i)], v) for k, v in part.items()} for i, part in state.items()
    }
    optimiser.load_state_dict({"state": tensors, "param_groups": groups})


def _laid_out_as(parameter: Tensor, value: Any) -> Tensor:
    """Return a copy with a parameter's strides, which the fused update takes for granted."""
    value = torch.as_tensor(value)
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value.clone()


def load_weights(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Copy weights in, in place, so that views of them stay valid."""
    module.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})


def check_trained(config: TrainedFields) -> None:
    """Check the fields of network and optimiser.

    Raises:
        UsageError: naming field, value and what is allowed.
    """
    check_network(config)
    check_optimiser(config)


def refuse_trained(config: TrainedFields, space: spaces.Space) -> str | None:
    """Return in one line why no network can be trained on observations of this space; None if one can."""
    return refuse_network(config, space) or refuse_folder()
