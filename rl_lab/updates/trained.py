"""A network together with what trains it (optimiser, average, normalisers), and its saved state."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Generic, TypeVar

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_lab.nn.actor_critic import ActorCritic
from rl_lab.nn.normalise import RewardNormaliser, Statistics
from rl_lab.nn.q_network import QNetwork
from rl_lab.nn.validate import check_network, refuse_network
from rl_lab.problem import Problem
from rl_lab.seeding import Streams, seed_of
from rl_lab.trees import map_leaves
from rl_lab.types import State
from rl_lab.updates.averaging import WeightAverage
from rl_lab.updates.compiling import refuse_cache_folder
from rl_lab.updates.fields import (
    TrainedFields,
    check_optimiser,
    make_clip,
    make_learning_rate,
    make_optimiser,
    make_shift,
)
from rl_lab.updates.optimisers import OPTIMISERS

Network = TypeVar("Network", QNetwork, ActorCritic)


class Trained(Generic[Network]):
    """A network and everything its training needs, set up and saved in the same way for every agent.

    Args:
        config: fields of network and optimiser.
        make: builds the network; its weights are drawn from the run's seed.
        optimisers: the optimisers by name.
        reward_normaliser: scales the rewards that are learned from; None leaves them as they are.
        compiles: whether updates are compiled.
    """

    def __init__(
        self,
        config: TrainedFields,
        problem: Problem,
        streams: Streams,
        make: Callable[[], Network],
        *,
        optimisers: Mapping[str, Any] = OPTIMISERS,
        reward_normaliser: RewardNormaliser | None = None,
        compiles: bool = False,
    ):
        self.space, self._compiles = problem.spec.observation_space, compiles
        self.device = torch.device(problem.device)
        streams.use_torch(str(self.device))
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed_of(problem.seed, "initial weights"))
            self.network: Network = make().to(self.device)
        self.optimiser = make_optimiser(config, self.network, optimisers)
        self.clip = make_clip(config)
        self.average: WeightAverage[Network] = WeightAverage(self.network, config.average_decay)
        self.statistics = Statistics(self.network.normaliser, reward_normaliser)
        self.learning_rate = make_learning_rate(config, problem.horizon)
        self.shift = make_shift(config, self.space, streams)

    @property
    def compile_key(self) -> Hashable | None:
        """Identifies networks that share compiled code, by space and layers; None if updates are eager."""
        return (repr(self.space), repr(self.network)) if self._compiles else None

    @property
    def initial_state(self) -> Callable[[int], State] | None:
        """The function from N to the carry of N environments at the start of an episode; None without a memory."""
        return None if self.network.is_memoryless else self._initial_state

    def _initial_state(self, num_envs: int) -> State:
        return tuple(part.cpu().numpy() for part in self.network.initial_state(num_envs))

    def tensors(self, tree: Any) -> Any:
        """Return a tree of arrays as tensors on the network's device."""
        return map_leaves(lambda leaf: torch.as_tensor(leaf, device=self.device), tree)

    # State -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state; leaves are live arrays and tensors.

        "weights" are those to act with, "online" those being learned if they differ, "statistics" is the
        normalisers' state if there are any, and "optimiser" holds the optimiser's tensors.
        """
        weights = dict(self.average.network.state_dict()) | self.statistics.weights()
        state: dict[str, Any] = {"weights": weights}
        if self.average.decay:
            state["online"] = dict(self.network.state_dict())
        if statistics := self.statistics.state_dict():
            state["statistics"] = statistics
        return state | {"optimiser": optimiser_state(self.optimiser)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state in place; "weights" are enough."""
        weights = self.statistics.load_weights(state["weights"])
        load_weights(self.average.network, weights)
        load_weights(self.network, state.get("online") or weights)
        if "optimiser" in state:
            load_optimiser_state(self.optimiser, state["optimiser"])
            self.statistics.load_state_dict(state.get("statistics", {}))


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the optimiser's tensors by parameter number, without hyperparameters, which are in the config."""
    state = optimiser.state_dict()["state"]
    return {str(i): dict(tensors) for i, tensors in state.items()}


def load_optimiser_state(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load copies of the tensors that `optimiser_state` returned: torch would use, and later change, the given ones."""
    groups = optimiser.state_dict()["param_groups"]
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    tensors = {
        int(i): {k: _laid_out_as(parameters[int(i)], v) for k, v in part.items()} for i, part in state.items()
    }
    optimiser.load_state_dict({"state": tensors, "param_groups": groups})


def _laid_out_as(parameter: Tensor, value: Any) -> Tensor:
    """Return a copy with the parameter's strides, which torch's fused optimisers rely on."""
    value = torch.as_tensor(value)
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value.clone()


def load_weights(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Copy weights into the module in place, so that views of its weights stay valid.

    Raises:
        RuntimeError: names or shapes differ from the module's.
    """
    module.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})


def check_trained(config: TrainedFields) -> None:
    """Check the fields of network and optimiser.

    Raises:
        UsageError: a field is out of range; the message names the field, its value and what is allowed.
    """
    check_network(config)
    check_optimiser(config)


def refuse_trained(config: TrainedFields, space: spaces.Space) -> str | None:
    """Return why no network can be trained on observations of this space (one line), or None if one can."""
    return refuse_network(config, space) or refuse_cache_folder()
