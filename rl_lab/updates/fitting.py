"""Fits a network to the best actions of given states, to find out how good a policy it can express.

It is supervised training on all states at once, from several initialisations, followed by steps along the exact
gradient of the return, since a network that is too small to be right everywhere does best where it matters most. What
is found is a lower bound: a better fit may exist.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rl_lab.function_class import Fit, FitTask
from rl_lab.nn.ensembles import Prior
from rl_lab.seeding import seed_of, untouched_torch
from rl_lab.trees import map_leaves
from rl_lab.types import Array

LEARNING_RATE = 1e-2
LOOK_STEPS = 10  # between looks at what the greedy policy is worth
PATIENCE_LOOKS = 25  # without any progress, after which a fit ends
PROGRESS = 1e-3  # of the loss, relative, that counts
Scores = Callable[[nn.Module, Any], Tensor]


class NetworkClass:
    """The policies that take the action with the largest output of a network.

    Args:
        network: the trained one; it is copied, and stays as it is.
        scores: maps a network and observations, tensors [K, ...], to the outputs [K, A] that decide.
    """

    def __init__(self, network: nn.Module, scores: Scores):
        self.network, self._scores = network, scores
        count = sum(p.numel() for p in network.parameters())
        self.description = f"a network of {count:,} parameters"

    def fit(self, task: FitTask) -> Fit:
        """Fit copies of the network, the first from its own weights and the others from fresh ones; return the best."""
        best = float("-inf")
        with untouched_torch():
            for number in range(task.fits):
                search = _Search(self._copy(number, task.seed), self._scores, task)
                best = max(best, search.run())
                if best >= task.best - task.tolerance:
                    return Fit(best, number + 1)
        return Fit(best, task.fits)

    def _copy(self, number: int, seed: int) -> nn.Module:
        network = copy.deepcopy(self.network).requires_grad_(True)
        priors = [module.requires_grad_(False) for module in network.modules() if isinstance(module, Prior)]
        fixed = {part for prior in priors for part in prior.modules()}
        if number:
            torch.manual_seed(seed_of(seed, "fit", number))
            for module in network.modules():
                if module not in fixed and callable(reset := getattr(module, "reset_parameters", None)):
                    reset()
        return network


class _Search:
    """One fit."""

    def __init__(self, network: nn.Module, scores: Scores, task: FitTask):
        self.network, self._scores, self._task = network, scores, task
        device = next(network.parameters()).device
        self._obs = map_leaves(lambda leaf: torch.as_tensor(leaf, device=device), task.obs)
        self._good = torch.as_tensor(task.good, device=device)
        self._illegal = None if task.mask is None else torch.as_tensor(~task.mask, device=device)
        self.best = float("-inf")
        self._seen: bytes | None = None

    @property
    def _has_all(self) -> bool:
        """Whether there is nothing left to gain."""
        return self.best >= self._task.best - self._task.tolerance

    def run(self) -> float:
        """Return the best return that was met."""
        self._descend(self._supervised)
        if not self._has_all and self._task.advantages is not None:
            self._descend(self._along_the_return)
        return self.best

    def _descend(self, loss_of: Callable[[Tensor], Tensor]) -> None:
        """Take gradient steps until there is nothing left to gain, nor any progress."""
        optimiser = torch.optim.Adam(self.network.parameters(), LEARNING_RATE)
        least, waited = np.inf, 0
        for step in range(self._task.steps + 1):
            log_p = self._log_probabilities()
            loss = loss_of(log_p)
            if step % LOOK_STEPS == 0:
                gained = self._look(log_p)
                if self._has_all:
                    return
                now = float(loss.detach())
                if not np.isfinite(now):
                    return
                progress = gained or now < least - PROGRESS * abs(least) if np.isfinite(least) else True
                waited = 0 if progress else waited + 1
                least = min(least, now)
                if waited >= PATIENCE_LOOKS:
                    return
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

    def _log_probabilities(self) -> Tensor:
        scores = self._scores(self.network, self._obs)
        if self._illegal is not None:
            scores = scores.masked_fill(self._illegal, torch.finfo(scores.dtype).min)
        return scores.log_softmax(-1)

    def _supervised(self, log_p: Tensor) -> Tensor:
        """Return the cross-entropy of being among the best actions, whichever of them it is."""
        return -log_p.masked_fill(~self._good, torch.finfo(log_p.dtype).min).logsumexp(-1).mean()

    def _along_the_return(self, log_p: Tensor) -> Tensor:
        """Return a loss whose gradient is that of the negative return."""
        assert self._task.advantages is not None
        p = log_p.exp()
        weights = self._task.advantages(p.detach().double().cpu().numpy())
        return -(p * torch.as_tensor(weights, dtype=p.dtype, device=p.device)).sum()

    def _look(self, log_p: Tensor) -> bool:
        """Evaluate the greedy policy if it isn't the one last evaluated; return whether it is the best so far."""
        actions: Array = log_p.detach().argmax(-1).cpu().numpy()
        if (key := actions.tobytes()) == self._seen:
            return False
        self._seen = key
        value = self._task.evaluate(actions)
        better, self.best = value > self.best, max(value, self.best)
        return better
