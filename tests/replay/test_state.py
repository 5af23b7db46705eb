"""A replay that was saved and loaded goes on as if nothing had happened."""

from __future__ import annotations

import dataclasses
import json
from contextlib import nullcontext

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_lab.replay.prioritised import Prioritised
from rl_lab.replay.sequences import SequenceReplay, Sequences
from rl_lab.replay.transitions import LazyReplay, TransitionReplay
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import CheckpointError
from toys import spec_of
from worlds import CARRY, World, assert_same, lean, play, state_of, worlds


def stored_rows(manifest) -> list[tuple[int, int]]:
    """[start, stop) of the segments in a checkpoint, which are the same for every column."""
    rings = json.loads(manifest.read_text())["members"]["replay"]["rings"].items()
    columns = [ring for path, ring in rings if path.startswith("/columns/")]
    (segments,) = {tuple((s["start"], s["stop"]) for s in ring["segments"]) for ring in columns}
    return list(segments)


def stored_frames(manifest) -> int:
    """Count the frames in a checkpoint of one leaf, all environments together."""
    rings = json.loads(manifest.read_text())["members"]["replay"]["rings"].items()
    return sum(
        s["stop"] - s["start"]
        for path, ring in rings
        if path.startswith("/frames/")
        for s in ring["segments"]
    )


class TestState:
    @settings(deadline=None, max_examples=25)
    @given(
        world=worlds,
        room=st.sampled_from([nullcontext, lean]),
        capacity=st.integers(4, 60),
        stretches=st.lists(st.integers(0, 60), min_size=1, max_size=4),
        later=st.integers(0, 25),
        prioritised=st.booleans(),
    )
    def test_a_loaded_replay_goes_on_as_the_saved_one(
        self, tmp_path_factory, world, room, capacity, stretches, later, prioritised
    ):
        with room():
            self.run(tmp_path_factory, world, capacity, stretches, later, prioritised)

    @staticmethod
    def run(tmp_path_factory, world, capacity, stretches, later, prioritised):
        def make():
            sampler = Prioritised() if prioritised else None
            replay = TransitionReplay(capacity * world.num_envs, world.spec(), n_steps=2, sampler=sampler)
            return replay, *(
                SequenceReplay(
                    capacity * world.num_envs, world.spec(), CARRY, 3, period=period, burn_in=burn_in,
                    sampler=Prioritised() if prioritised else None,
                )
                for period, burn_in in ((1, 0), (2, 1))
            )  # fmt: skip

        store, saved = Checkpoints(tmp_path_factory.mktemp("replay")), make()
        rng = np.random.default_rng(0)
        for k, steps in enumerate(stretches):  # each save adds to the segments of those before
            feed(saved, world, steps, rng)
            store.save(k, {"replay": [replay.state_dict() for replay in saved]})
        loaded = make()
        for replay, state in zip(loaded, Checkpoints(store.folder).load()[1]["replay"], strict=True):
            replay.load_state_dict(state)
        if len(saved[0]):
            assert_same_batches(loaded[0], saved[0])
        for _ in range(later + 3):
            feed((*saved, *loaded), world, 1, rng)
        assert [state_of(r) for r in loaded] == [state_of(r) for r in saved]
        assert_same_batches(loaded[0], saved[0])
        for ours, theirs in zip(loaded[1:], saved[1:], strict=True):
            assert ours.can_sample == theirs.can_sample
            if theirs.can_sample:
                drawn = [r.sample(32, np.random.default_rng(7)) for r in (ours, theirs)]
                for field in dataclasses.fields(Sequences):
                    assert_same(*(getattr(one, field.name) for one in drawn))

    def test_the_second_save_writes_only_the_new_rows_and_frames(self, tmp_path):
        world = World(2, 0, mean_length=50)
        store, replay = Checkpoints(tmp_path), TransitionReplay(2_000, world.spec())
        play(replay, world, 600)
        first = store.save(1, {"replay": replay.state_dict()})
        before, frames_before = set(tmp_path.rglob("*.npy")), stored_frames(first)
        play(replay, world, 50)
        second = store.save(2, {"replay": replay.state_dict()})
        assert stored_rows(first) == [(0, 600)]
        assert stored_rows(second) == [(0, 600), (600, 650)]
        assert 600 * 2 < frames_before < 600 * 2 * 1.1  # T + 1 observations for T steps
        assert 50 * 2 <= stored_frames(second) - frames_before < 50 * 2 * 1.2
        fresh = sum(path.stat().st_size for path in set(tmp_path.rglob("*.npy")) - before)
        row = sum(column[0].nbytes for column in replay.columns.values())
        new_frames = stored_frames(second) - frames_before
        headers = 128 * (len(replay.columns) + 2)  # .npy has one of 128 bytes
        assert fresh == 50 * row + 8 * new_frames + headers
        # and nothing is written where nothing is new
        before = set(tmp_path.rglob("*.npy"))
        store.save(3, {"replay": replay.state_dict()})
        assert set(tmp_path.rglob("*.npy")) == before

    def test_rows_that_were_overwritten_leave_the_disk(self, tmp_path):
        world = World(1, 0)
        store, replay = Checkpoints(tmp_path, keep_last=1), TransitionReplay(100, world.spec())
        for k in range(12):
            play(replay, world, 50)
            manifest = store.save(k, {"replay": replay.state_dict()})
        assert stored_rows(manifest) == [(500, 550), (550, 600)]
        assert stored_frames(manifest) < replay.observations.rows + 100

    def test_a_resumed_run_adds_to_the_segments_it_found(self, tmp_path):
        world = World(1, 0)
        replay = TransitionReplay(100, world.spec())
        play(replay, world, 60)
        Checkpoints(tmp_path).save(1, {"replay": replay.state_dict()})
        store, loaded = Checkpoints(tmp_path), TransitionReplay(100, world.spec())
        loaded.load_state_dict(store.load()[1]["replay"])
        play(loaded, world, 5)
        manifest = store.save(2, {"replay": loaded.state_dict()})
        assert stored_rows(manifest) == [(0, 60), (60, 65)]

    def test_rows_of_another_shape_are_refused(self, tmp_path):
        world = World(1, 0)
        replay, store = TransitionReplay(10, world.spec()), Checkpoints(tmp_path)
        play(replay, world, 5)
        store.save(1, {"replay": replay.state_dict()})
        other = TransitionReplay(10, spec_of(spaces.Box(0, 1, (3,), np.float32)))
        with pytest.raises(CheckpointError, match="don't fit"):
            other.load_state_dict(store.load()[1]["replay"])


def feed(replays, world: World, steps: int, rng):
    """Let replays remember the same steps, and learn the same errors about what they draw."""
    for _ in range(steps):
        step, seed = world.step(), int(rng.integers(1_000))
        for replay in replays:
            replay.add(step)
            rng_of_step = np.random.default_rng(seed)
            if not isinstance(replay, SequenceReplay) or replay.can_sample:
                index = replay.sample(4, rng_of_step).index
            else:
                continue
            replay.update_priorities(index, rng_of_step.normal(size=4))


def assert_same_batches(one, other):
    ours, theirs = (r.sample(32, np.random.default_rng(7)) for r in (one, other))
    assert_same(ours.obs, theirs.obs)
    assert_same(ours.next_obs, theirs.next_obs)
    for name in ("index", "action", "reward", "discount", "terminated", "next_mask", "weight"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert (ours.age, len(one)) == (theirs.age, len(other))


class TestLazyReplay:
    def test_it_allocates_nothing_before_the_first_step(self):
        made = []
        replay = LazyReplay(lambda: made.append(1))
        assert (len(replay), replay.can_sample, replay.state_dict(), made) == (0, False, {}, [])
        replay.load_state_dict({})
        replay.update_priorities(np.zeros(1, np.int64), np.ones(1))
        assert replay.replay is None
        assert not made
