"""Datasets of others: whatever their files hold, no code runs, and what can't be read is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces

from recorded import (
    by_minari,
    walk,
)
from rl_lab.datasets.dataset import DATA, Dataset, DatasetCorrupt
from rl_lab.environments.make import make_env
from rl_lab.runs.rows import read_episodes
from rl_lab.types import UsageError
from runs import learn


def rewritten(path: Path, change) -> Path:
    """Let `change(file)` edit the data of a dataset without sums."""
    with h5py.File(path / DATA, "a") as file:
        change(file)
    return path


def replaced(name: str, **how: Any):
    def change(file: h5py.File) -> None:
        del file[f"episode_0/{name}"]
        if (link := how.get("link")) is not None:
            file[f"episode_0/{name}"] = link
        else:
            file.create_dataset(f"episode_0/{name}", **how)

    return change


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), np.float64)
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (3,))
    del file["episode_0/rewards"]
    file["episode_0"].create_virtual_dataset("rewards", layout)


def without_steps(file: h5py.File) -> None:
    for name in ("actions", "rewards", "terminations", "truncations"):
        replaced(name, data=np.zeros(0, file[f"episode_0/{name}"].dtype))(file)
    replaced("observations", data=np.zeros(1, np.int64))(file)


MALFORMED = {
    "link out of the file": replaced("rewards", link=h5py.ExternalLink("/etc/hostname", "x")),
    "soft link": replaced("rewards", link=h5py.SoftLink("/episode_1/rewards")),
    "data elsewhere": replaced("rewards", shape=(3,), dtype="f8", external=[("/etc/hostname", 0, 24)]),
    "virtual data": virtual,
    "objects": replaced("rewards", data=["a", "b", "c"]),
    "opaque bytes": replaced("actions", data=np.zeros(3, "V8")),
    "missing column": lambda file: file["episode_0"].pop("rewards"),
    "missing episode": lambda file: file.pop("episode_0"),
    "too few observations": replaced("observations", data=np.zeros(3, np.int64)),
    "flags of another length": replaced("terminations", data=np.zeros(2, bool)),
    "no step": without_steps,
    "scalar": replaced("rewards", data=1.0),
    "absurd size": replaced("rewards", shape=(10**12,), dtype="f8", chunks=(1024,)),
    "action out of range": replaced("actions", data=np.array([0, 4, 0])),
    "half an action": replaced("actions", data=np.array([0, 0.5, 0])),
    "group for an array": replaced("rewards", link=h5py.SoftLink("/episode_1")),
}


class TestStrangers:
    def test_minaris_own_are_learned_from(self, tmp_path):
        path = by_minari(tmp_path / "data", [walk(3), walk(2, seed=11)])
        found = Dataset(path)
        assert found.episode(0).rewards.dtype == np.float64
        assert found.episode(1).observations.tolist() == [0, 1, 2]
        assert [found.seed_of(0), found.seed_of(1)] == [None, 11]
        run = learn(tmp_path / "run", "q-learning", "FrozenLake-v1", dataset=str(path), total_steps=50)
        assert run.summary["episodes"] == 20
        assert {row["seed"] for row in read_episodes(tmp_path / "run")} == {-1, 11}

    def test_folder_of_minaris_store_serves_too(self, tmp_path):
        (tmp_path / "stranger-v0").mkdir()
        path = by_minari(tmp_path / "stranger-v0" / "data", [walk()])
        assert Dataset(tmp_path / "stranger-v0").sha256 == Dataset(path).sha256

    def test_frames_that_minari_packed_as_jpeg_are_unpacked(self, tmp_path):
        space = spaces.Box(0, 255, (40, 40, 3), np.uint8)
        frames = np.random.default_rng(0).integers(256, size=(3, 40, 40, 3), dtype=np.uint8)
        frames[1] = 7  # packs into fewer bytes
        path = by_minari(tmp_path / "data", [walk(2, observations=frames)], observations=space)
        ours, theirs = Dataset(path).episode(0).observations, minari.MinariDataset(path)[0].observations
        assert ours.dtype == np.uint8
        assert np.array_equal(ours, theirs)

    @pytest.mark.parametrize("name", MALFORMED)
    def test_what_the_layout_does_not_allow_is_one_typed_line(self, name, tmp_path):
        path = rewritten(by_minari(tmp_path / "data", [walk(), walk()]), MALFORMED[name])
        found = Dataset(path)
        found.episode(1)
        with pytest.raises(DatasetCorrupt, match="episode 0") as error:
            found.episode(0)
        assert "\n" not in str(error.value)

    def test_the_environment_it_names_is_never_made(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        spec = {"id": "Evil-v0", "entry_point": "os:mkdir", "kwargs": {"path": "executed"}}
        path = by_minari(
            tmp_path / "data", [walk()], env_spec=json.dumps(spec), observation_space=None, eval_env_spec="{}"
        )
        with pytest.raises(DatasetCorrupt, match="observation_space"):
            Dataset(path)
        assert not Path("executed").exists()

    @pytest.mark.parametrize(
        ("metadata", "said"),
        [
            ({"data_format": "arrow"}, "data_format 'arrow'"),
            ({"rl_lab": {"format": 2}}, "format 2"),
            ({"rl_lab": 7}, "can't be decoded"),
            ({"total_episodes": 0}, "no episode"),
            ({"total_episodes": "x"}, "can't be decoded"),
            ({"action_space": '{"type": "Unheard"}'}, "can't be decoded"),
            ({"action_space": "[" * 100_000}, "can't be decoded"),
        ],
    )
    def test_metadata_that_can_not_be_read_is_one_line(self, metadata, said, tmp_path):
        with pytest.raises(UsageError, match=said) as error:
            Dataset(by_minari(tmp_path / "data", [walk()], **metadata))
        assert "\n" not in str(error.value)

    def test_masks_that_only_some_episodes_have_are_noticed(self, tmp_path):
        taxi = make_env("Taxi-v4")
        masks = {"action_mask": np.ones((4, 6), np.int8)}
        own = (taxi.observation_space, taxi.action_space)
        path = by_minari(tmp_path / "data", [walk(infos=masks), walk()], *own)
        fields = {"dataset": str(path), "total_steps": 20}
        with pytest.raises(DatasetCorrupt, match="episode 1 has no action masks"):
            learn(tmp_path / "run", "q-learning", "Taxi-v4", **fields)
