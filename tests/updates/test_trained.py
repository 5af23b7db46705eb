"""A network with all that trains it: what is saved of it, and what goes on from there."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from gymnasium import spaces
from torch import nn

from rl_lab.agents.dqn import Config
from rl_lab.nn.q_network import make_q_network
from rl_lab.seeding import Streams
from rl_lab.types import UsageError
from rl_lab.updates.fields import TrainedFields
from rl_lab.updates.optimisers import adam
from rl_lab.updates.trained import (
    Trained,
    check_trained,
    load_optimiser_state,
    load_weights,
    optimiser_state,
    refuse_trained,
)
from toys import CueRecall, problem_on


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


def trained_of(*, compiles: bool = False, **fields) -> Trained:
    problem = problem_on(CueRecall, num_envs=2, total_steps=100, seed=3)
    config = Config(**{"hidden": (8,)} | fields)
    network = partial(make_q_network, problem.spec.observation_space, 2, config)
    return Trained(config, problem, Streams(3), network, compiles=compiles)


def step(trained: Trained) -> None:
    """A gradient step, after which weights, average and optimiser are no longer those of the beginning."""
    trained.optimiser.zero_grad()
    sum(p.square().sum() for p in trained.network.parameters()).backward()
    trained.optimiser.step()
    trained.average.follow(0, 1)


class TestTrained:
    def test_the_key_of_compiled_code_tells_networks_apart_only_where_they_are_compiled(self):
        assert trained_of().compile_key is None
        one, same, other = (trained_of(compiles=True, hidden=h).compile_key for h in ((8,), (8,), (4,)))
        assert one == same != other
        assert hash(one) == hash(same)

    def test_weights_follow_the_seed_alone(self):
        with torch.random.fork_rng(devices=[]):
            one = trained_of().state_dict()["weights"]
            torch.rand(3)
            other = trained_of().state_dict()["weights"]
        assert all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())

    def test_a_state_is_taken_in_place(self):
        before, after = (trained_of(average_decay=0.9, normalise_observations=True) for _ in range(2))
        step(before)
        state = before.state_dict()
        assert state.keys() == {"weights", "online", "optimiser"}
        views = dict(after.network.named_parameters())
        after.load_state_dict(state)
        for name, value in before.network.named_parameters():
            assert torch.equal(views[name], value)
            assert not torch.equal(state["weights"][name], value)  # the average lags behind
            assert torch.equal(dict(after.average.network.named_parameters())[name], state["weights"][name])
        step(before), step(after)
        for one, other in zip(before.network.parameters(), after.network.parameters(), strict=True):
            assert torch.equal(one, other)

    def test_weights_are_enough(self):
        before, after = (trained_of(average_decay=0.9) for _ in range(2))
        step(before)
        weights = before.state_dict()["weights"]
        after.load_state_dict({"weights": weights})
        for network in (after.network, after.average.network):
            assert all(torch.equal(p, weights[name]) for name, p in network.named_parameters())
        assert after.state_dict()["optimiser"] == {}

    def test_only_a_memory_has_a_carry(self):
        assert trained_of().initial_state is None
        parts = trained_of(memory="lstm", memory_size=4, sequence_length=2).initial_state(3)
        assert [part.shape[0] for part in parts] == [3, 3]
        assert not any(part.any() for part in parts)

    def test_refusals_are_a_line(self, tmp_path, monkeypatch):
        assert refuse_trained(Config(), spaces.Discrete(3)) is None
        assert refuse_trained(Config(encoder="cnn"), spaces.Discrete(3)).startswith("encoder 'cnn' takes ")
        (tmp_path / "file").touch()
        monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file" / "inside"))
        assert refuse_trained(Config(), spaces.Discrete(3)).startswith("TORCHINDUCTOR_CACHE_DIR ")
        with pytest.raises(UsageError, match="hidden must be whole numbers from 1"):
            check_trained(TrainedFields(hidden=(0,)))
