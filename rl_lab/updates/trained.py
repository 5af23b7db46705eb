"""What an agent with a network has to save, whatever it learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rl_lab.nn.normalise import Statistics
from rl_lab.updates.optimisers import WeightAverage, load_optimiser_state, load_weights, optimiser_state


@dataclass(frozen=True)
class Saved:
    """A network with what moves it."""

    network: nn.Module
    average: WeightAverage
    optimiser: torch.optim.Optimizer
    statistics: Statistics

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
