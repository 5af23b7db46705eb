"""Seeds of a run: one for each path, streams by name, and the seeds of episodes in their order."""

from __future__ import annotations

import sys
from contextlib import nullcontext, suppress

import numpy as np
import pytest
import torch

from rl_lab.seeding import EpisodeSeeds, Streams, episode_seed, seed_of, untouched_torch


def test_a_seed_is_a_function_of_seed_and_path():
    assert seed_of(3, "env", 1, 2) == seed_of(3, "env", 1, 2) == 1697477261  # on every machine
    paths = [(s, "env", i, k) for s in range(4) for i in range(4) for k in range(4)]
    found = {seed_of(*path) for path in paths}
    assert len(found) == len(paths)
    assert all(0 <= seed < 2**31 for seed in found)
    assert episode_seed(3, 1, 2) == seed_of(3, "env", 1, 2)


class TestStreams:
    def test_are_told_apart_by_name_and_seed(self):
        drawn = {Streams(seed)[name].random() for seed in (0, 1) for name in ("explore", "replay")}
        assert len(drawn) == 4
        assert Streams(0)["explore"].random() in drawn

    def test_go_on_in_place_from_what_was_saved(self):
        streams = Streams(5)
        explore = streams["explore"]
        explore.random(3)
        state = streams.state_dict()
        expected = explore.random(4)
        other = Streams(9)
        held = other["explore"]
        other.load_state_dict(state)
        np.testing.assert_array_equal(held.random(4), expected)
        assert state["torch"] is None

    def test_torchs_generator_is_saved_once_it_is_used(self):
        with torch.random.fork_rng(devices=[]):
            streams = Streams(5)
            streams.use_torch()
            state = streams.state_dict()
            expected = torch.rand(3)
            Streams(1).load_state_dict(state)
            assert torch.equal(torch.rand(3), expected)

    def test_so_is_that_of_the_gpu_that_it_is_used_on(self, monkeypatch):
        """With a stand-in for CUDA's generator."""
        bits = {"cuda:1": torch.tensor([1, 2], dtype=torch.uint8)}
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: bits[device])
        monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: bits.update({device: state}))
        with torch.random.fork_rng(devices=[]):
            streams = Streams(5)
            streams.use_torch("cuda:1")
            state = streams.state_dict()
            assert state["cuda"].tolist() == [1, 2]
            bits["cuda:1"] = torch.tensor([3, 4], dtype=torch.uint8)
            streams.load_state_dict(state)
            assert bits["cuda:1"].tolist() == [1, 2]
            on_cpu = Streams(5)
            on_cpu.use_torch()
            assert on_cpu.state_dict().keys() == {"numpy", "torch"}
            bits.clear()
            on_cpu.load_state_dict(state)  # a run that goes on without the GPU
        assert not bits


class TestEpisodeSeeds:
    def test_each_environment_opens_its_own_episodes(self):
        seeds = EpisodeSeeds(7, 2)
        assert seeds.current() == [episode_seed(7, 0, 0), episode_seed(7, 1, 0)]
        assert seeds.advance(np.array([False, True])) == [None, episode_seed(7, 1, 1)]
        assert seeds.advance(np.array([False, True])) == [None, episode_seed(7, 1, 2)]
        assert seeds.episodes == (0, 2)
        assert EpisodeSeeds(7, 2, (0, 2)).current() == seeds.current()

    def test_what_was_handed_out_is_not_changed(self):
        seeds = EpisodeSeeds(7, 1)
        before = seeds.episodes
        seeds.advance(np.array([True]))
        assert before == (0,)


class TestUntouchedTorch:
    def test_draws_within_it_change_nothing_even_if_it_fails(self):
        before = torch.get_rng_state()
        with suppress(ZeroDivisionError), untouched_torch():
            torch.rand(3)
            raise ZeroDivisionError
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize(("used", "devices"), [(True, [0, 1]), (False, [])])
    def test_keeps_the_generators_of_gpus_in_use(self, monkeypatch, used, devices):
        asked = []
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: used)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.random, "fork_rng", lambda devices: asked.append(devices) or nullcontext())
        with untouched_torch():
            pass
        assert asked == [devices]

    def test_does_not_import_torch(self, monkeypatch):
        monkeypatch.delitem(sys.modules, "torch")
        with untouched_torch():
            assert "torch" not in sys.modules
