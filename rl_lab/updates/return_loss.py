"""The loss of action values against returns that are known before the gradient steps, without a target network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from rl_lab.trees import map_leaves
from rl_lab.types import Array
from rl_lab.updates.minibatches import ReturnBatch
from rl_lab.updates.td import Outcome

if TYPE_CHECKING:
    from rl_lab.updates.td import Network


@dataclass(frozen=True)
class ReturnLoss:
    """Half the mean squared error of Q(s, a), on steps or on sequences whose carry is reset where episodes begin."""

    def batch(self, drawn: ReturnBatch, size: int, tensor: Callable[[Any], Tensor]) -> ReturnBatch:
        """Return a minibatch as the only one of K = 1 batches."""
        return map_leaves(lambda leaf: leaf.unsqueeze(0), drawn)

    def add_next_values(self, target: Network, batch: ReturnBatch) -> ReturnBatch:
        """Return the batches as they are: the returns hold the successors' values."""
        return batch

    def __call__(self, online: Network, batch: ReturnBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss [], Q(s, a) and its targets (both [B], or [T, B] for sequences) of one of the K batches."""
        q = (
            online(batch.obs)[0]
            if batch.is_first is None
            else online(batch.obs, batch.state, batch.is_first)[0]
        )
        chosen = q.gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
        assert chosen.shape == batch.target.shape
        return 0.5 * (chosen - batch.target).square().mean(), chosen, batch.target

    def errors(self, drawn: ReturnBatch, outcome: Outcome) -> Array:
        """Return the errors, float [B] or [T, B]."""
        return (outcome.target - outcome.prediction)[0].cpu().numpy()

    def select_learned(self, drawn: ReturnBatch, outcome: Outcome) -> Outcome:
        """Return the outcome as it is: every step counts."""
        return outcome
