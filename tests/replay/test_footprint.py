"""What a replay takes of the memory is predicted to the byte, and refused before it is taken."""

from __future__ import annotations

import tracemalloc
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer

from rl_lab.agents.sb3 import buffer_bytes
from rl_lab.replay import footprint as memory
from rl_lab.replay import frames
from rl_lab.replay.footprint import refuse_capacity
from rl_lab.replay.prioritised import Prioritised
from rl_lab.replay.transitions import TransitionReplay
from rl_lab.types import EnvSpec, UsageError
from toys import spec_of
from worlds import CARRY, KINDS, World, lean

PICTURES = spaces.Box(0, 255, (4, 84, 84), np.uint8)


def stacked(num_envs: int = 1) -> EnvSpec:
    return EnvSpec("pictures", PICTURES, spaces.Discrete(18), num_envs, None, False, frame_stack=4)


class TestMemory:
    """A row of World(1) takes 8 + 8 + 4 + 1 = 21 bytes, and its frames 2 * 8."""

    BYTES = 37

    @pytest.fixture
    def free_megabyte(self, monkeypatch):
        free = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=1_000_000))
        monkeypatch.setattr(memory, "psutil", free)

    @pytest.mark.usefixtures("free_megabyte")
    def test_a_capacity_that_does_not_fit_is_refused_in_a_line_that_names_one_that_does(self):
        with pytest.raises(UsageError) as caught:
            TransitionReplay(10**15, World(1, 0).spec())
        message = str(caught.value)
        assert "\n" not in message
        assert "replay_capacity 1000000000000000 needs 37000000.0 GB, 0.0 GB may be used" in message
        assert f"allowed: up to {800_000 // self.BYTES})" in message

    @pytest.mark.usefixtures("free_megabyte")
    def test_the_named_capacity_fits_and_one_more_does_not(self):
        spec = World(1, 0).spec()
        assert refuse_capacity(800_000 // self.BYTES, spec) is None
        assert refuse_capacity(800_000 // self.BYTES + 1, spec) is not None

    @pytest.mark.usefixtures("free_megabyte")
    def test_environments_masks_and_carries_are_counted(self):
        spec = World(4, 0, has_mask=True).spec()
        rows = 800_000 // (
            4 * (self.BYTES + 4 + 3 + 2 * 4 + 3 * 8)
        )  # with a carry, 4 bytes for the episode's step
        assert refuse_capacity(4 * rows, spec, CARRY) is None
        assert f"up to {4 * rows})" in str(refuse_capacity(4 * rows + 4, spec, CARRY))

    @pytest.mark.usefixtures("free_megabyte")
    def test_the_tree_of_priorities_is_counted(self):
        spec = World(1, 0).spec()
        assert refuse_capacity(16_000, spec) is None  # 592,000 bytes; the tree takes 2 * 16,384 * 8
        assert "up to 14536)" in str(refuse_capacity(16_000, spec, (), Prioritised()))
        assert 14_536 * 37 + 2 * 16_384 * 8 <= 800_000 < 14_537 * 37 + 2 * 16_384 * 8

    @pytest.mark.usefixtures("free_megabyte")
    def test_it_is_refused_before_anything_is_allocated(self, monkeypatch):
        spec = World(1, 0).spec()
        monkeypatch.setattr(np, "zeros", lambda *_: pytest.fail("allocated"))
        with pytest.raises(UsageError):
            TransitionReplay(10**6, spec, sampler=Prioritised())

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("num_envs", [1, 3])
    @pytest.mark.parametrize("prioritised", [False, True])
    @pytest.mark.parametrize("room", [nullcontext, lean])
    def test_the_predicted_size_is_the_allocated_one(self, kind, num_envs, prioritised, room):
        spec, capacity = World(num_envs, 0, kind=kind, has_mask=True).spec(), 30_000
        TransitionReplay(10, spec, CARRY, sampler=Prioritised())  # whatever loads once
        sampler = Prioritised() if prioritised else None
        with room():
            tracemalloc.start()
            replay = TransitionReplay(capacity, spec, CARRY, sampler=sampler)
            allocated = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
            predicted = memory.replay_bytes(capacity, spec, CARRY, sampler)
        assert predicted == replay.nbytes
        assert 0 <= allocated - predicted < 40_000

    @pytest.mark.parametrize("prioritised", [False, True])
    def test_a_million_stacked_pictures_fit_into_a_common_machine(self, prioritised):
        """Plain storage of both ends takes 56 GB."""
        sampler = Prioritised() if prioritised else None
        assert memory.replay_bytes(1_000_000, stacked(), (), sampler) <= 7.3e9
        assert memory.replay_bytes(1_000_000, stacked(16), (), sampler) <= 7.3e9
        assert buffer_bytes(1_000_000, stacked()) > 56e9

    def test_large_observations_have_slack_for_the_openings_of_episodes(self):
        assert frames.frame_rows(stacked(), 1_000_000) == 1_000_000 + 25_000 + 20
        assert frames.frame_rows(stacked(), 100) == 500  # where little is taken, room for any episodes
        assert frames.frame_rows(spec_of(spaces.Box(0, 1, (256,), np.float32)), 10**6) == 2 * 10**6
        assert frames.frame_rows(spec_of(spaces.Box(0, 1, (257,), np.float32)), 10**6) == 1_025_008

    @pytest.mark.parametrize("num_envs", [1, 3])
    def test_more_capacity_never_takes_less(self, num_envs):
        """Otherwise the line could name what doesn't fit."""
        spec = stacked(num_envs)
        sizes = [memory.replay_bytes(n, spec, (), Prioritised()) for n in range(1, 40_000, 97)]
        assert sizes == sorted(sizes)

    @pytest.mark.parametrize("num_envs", [1, 3])
    @pytest.mark.parametrize(
        "space", [spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(5), PICTURES], ids=str
    )
    def test_the_size_of_sb3s_buffer_is_predicted_too(self, space, num_envs):
        spec = EnvSpec("any", space, spaces.Discrete(2), num_envs, None, False)
        theirs = ReplayBuffer(100 * num_envs, space, spec.action_space, "cpu", num_envs)
        arrays = [part for part in vars(theirs).values() if isinstance(part, np.ndarray)]
        assert buffer_bytes(100 * num_envs, spec) == sum(part.nbytes for part in arrays)


def test_limit_of_the_container_counts_as_memory(tmp_path, monkeypatch):
    (tmp_path / "max").write_text("1000000\n")
    (tmp_path / "used").write_text("400000\n")
    monkeypatch.setattr(memory, "CGROUP", ((tmp_path / "max", tmp_path / "used"),))
    assert memory.free_memory() == 600_000
    (tmp_path / "max").write_text("max\n")
    assert memory.free_memory() > 10_000_000
