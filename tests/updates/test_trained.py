"""A network with all that trains it: what is saved of it, and what goes on from there."""

from __future__ import annotations

import torch
from torch import nn

from rl_lab.updates.optimisers import adam
from rl_lab.updates.trained import load_optimiser_state, load_weights, optimiser_state


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(module, optimiser, steps, seed):
    for k in range(steps):
        optimiser.zero_grad()
        module(draw(seed + k, 4, 3)).square().mean().backward()
        optimiser.step()


class TestOptimiser:
    def test_a_restored_optimiser_continues_to_the_bit(self, tmp_path):
        from rl_lab.storage.checkpoint import Checkpoints

        module = nn.Linear(3, 2)
        optimiser = adam(module.parameters(), 0.01)
        trained(module, optimiser, 7, 0)
        Checkpoints(tmp_path).save(
            7, {"agent": {"weights": dict(module.state_dict()), "optimiser": optimiser_state(optimiser)}}
        )
        saved = Checkpoints(tmp_path).load()[1]["agent"]
        trained(module, optimiser, 5, 100)

        other = nn.Linear(3, 2)
        restored = adam(other.parameters(), 0.01)
        load_weights(other, saved["weights"])
        load_optimiser_state(restored, saved["optimiser"])
        trained(other, restored, 5, 100)
        assert torch.equal(other.weight, module.weight)
        assert torch.equal(other.bias, module.bias)

    def test_hyperparameters_stay_those_of_the_config(self):
        module = nn.Linear(3, 2)
        optimiser = adam(module.parameters(), 0.01)
        trained(module, optimiser, 1, 0)
        slower = adam(module.parameters(), 0.001)
        load_optimiser_state(slower, optimiser_state(optimiser))
        assert slower.param_groups[0]["lr"] == 0.001

    def test_loading_copies_so_that_two_optimisers_share_nothing(self):
        module = nn.Linear(3, 2)
        optimiser = adam(module.parameters(), 0.01)
        trained(module, optimiser, 3, 0)
        other = nn.Linear(3, 2)
        restored = adam(other.parameters(), 0.01)
        load_optimiser_state(restored, optimiser_state(optimiser))
        before = {k: v.clone() for k, v in optimiser_state(optimiser)["0"].items()}
        trained(other, restored, 3, 50)
        for name, value in optimiser_state(optimiser)["0"].items():
            assert torch.equal(value, before[name]), name

    def test_an_optimiser_that_never_stepped_has_nothing_to_save(self):
        optimiser = adam(nn.Linear(3, 2).parameters(), 0.01)
        assert optimiser_state(optimiser) == {}
        load_optimiser_state(optimiser, {})
