"""Files from strangers: whatever they hold, nothing of it is run, and the error is the named one."""

import hashlib
import json
import os
import pickle
import shutil
import warnings

import numpy as np
import pytest
from safetensors.numpy import save as save_safetensors

import rl_lab
from rl_lab.cli.compare import compare
from rl_lab.cli.train import train
from rl_lab.cli.watch import watch
from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.storage.errors import CheckpointError
from rl_lab.training.loading import read_weights
from rl_lab.types import UsageError
from runs import learn


class Payload:
    """Makes the folder MARKER when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (os.environ["MARKER"],)


@pytest.fixture
def marker(tmp_path, monkeypatch):
    path = tmp_path / "executed"
    monkeypatch.setenv("MARKER", str(path))
    return path


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("honest") / "run"
    fields = {"learning_starts_env_steps": 50, "hidden": (4,), "replay_capacity": 100, "batch_size": 4}
    learn(folder, "dqn", "CartPole-v1", stop_at=150, total_steps=300, **fields)
    return folder


@pytest.fixture
def run(honest, tmp_path):
    return shutil.copytree(honest, tmp_path / "run")


def forge(run, change):
    """Let `change(body, add)` edit the manifest, and give it a name that fits its bytes."""
    folder = run / "checkpoints"
    for old in folder.glob("*.json"):
        body = json.loads(old.read_bytes())
        old.unlink()

    def add(data, suffix):
        sha = hashlib.sha256(data).hexdigest()
        (folder / "segments" / (sha + suffix)).write_bytes(data)
        return {"file": sha + suffix, "sha256": sha, "bytes": len(data)}

    change(body, add)
    data = json.dumps(body).encode()
    (folder / f"{body['env_steps']:012d}-{hashlib.sha256(data).hexdigest()[:16]}.json").write_bytes(data)


def pickled(suffix, place):
    def change(body, add):
        segment = add(pickle.dumps(Payload()), suffix)
        for member in body["members"].values():
            if place == "rings":
                for ring in member["rings"].values():
                    ring["segments"] = [{"start": 0, "stop": 1} | segment]
            elif member[place]:
                member[place] = segment

    return change


def npy_of_objects(body, add):
    folder_free = np.array([Payload()], dtype=object)
    path = os.environ["MARKER"] + ".npy"
    np.save(path, folder_free, allow_pickle=True)
    with open(path, "rb") as file:
        segment = add(file.read(), ".npy")
    for ring in body["members"]["agent"]["rings"].values():
        ring["segments"] = [{"start": 0, "stop": 1} | segment]


def absurd_npy(body, add):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000, 4), }"
    header += b" " * (64 - (10 + len(header) + 1) % 64) + b"\n"
    segment = add(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header, ".npy")
    for ring in body["members"]["agent"]["rings"].values():
        ring["segments"] = [{"start": 0, "stop": 1} | segment]


def absurd_safetensors(body, add):
    for member in body["members"].values():
        member["tensors"] = add((2**62).to_bytes(8, "little") + b"{}", ".safetensors")


def path_traversal(body, add):
    for member in body["members"].values():
        member["structure"] = {"file": "../../config.json", "sha256": "0" * 64, "bytes": 1}


def deep_nesting(body, add):
    for member in body["members"].values():
        member["structure"] = add(b"[" * 200_000 + b"]" * 200_000, ".json")


def missing_tensor(body, add):
    for member in body["members"].values():
        member["tensors"] = add(save_safetensors({"other": np.zeros(1)}), ".safetensors")


def no_members(body, add):
    body["members"] = 7


FORGERIES = {
    "pickle behind .json": pickled(".json", "structure"),
    "pickle behind .safetensors": pickled(".safetensors", "tensors"),
    "pickle behind .npy": pickled(".npy", "rings"),
    "objects in .npy": npy_of_objects,
    "absurd size in .npy": absurd_npy,
    "absurd size in .safetensors": absurd_safetensors,
    "path out of the folder": path_traversal,
    "nesting without end": deep_nesting,
    "structure without its tensors": missing_tensor,
    "members that are none": no_members,
}


@pytest.mark.filterwarnings("ignore:checkpoint passed over")
@pytest.mark.parametrize("name", FORGERIES)
def test_forged_checkpoint_with_right_hashes_runs_nothing(name, run, marker, tmp_path):
    """The forger controls every byte, hashes included."""
    forge(run, FORGERIES[name])
    refusals = []
    for load in (
        lambda: rl_lab.load_policy(run),
        lambda: read_weights(run, best=True),
        lambda: rl_lab.resume(run),
        lambda: watch([str(run), "--video", str(tmp_path / "x.mp4")]),
        lambda: train(["--resume", "--run-dir", str(run)]),
        lambda: learn(tmp_path / "new", "dqn", "CartPole-v1", init_from=str(run), total_steps=10),
    ):
        try:
            load()
        except (CheckpointError, UsageError) as error:
            refusals.append(str(error))
    assert not marker.exists()
    assert not any("\n" in text for text in refusals)
    assert len(refusals) >= 2  # both ways of resuming read every member


@pytest.mark.parametrize("suffix", [".pt", ".pkl", ".zip", ".npz", ".pth"])
def test_foreign_files_in_a_run_directory_are_not_even_opened(suffix, run, marker):
    for folder in (run, run / "checkpoints", run / "checkpoints" / "segments"):
        (folder / f"model{suffix}").write_bytes(pickle.dumps(Payload()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rl_lab.load_policy(run)
    assert not marker.exists()


@pytest.mark.parametrize("command", [train, compare])
def test_yaml_tags_in_a_config_file_run_nothing(command, marker, tmp_path):
    file = tmp_path / "evil.yaml"
    file.write_text(f"!!python/object/apply:os.mkdir ['{marker}']\n")
    options = {train: ["--agent", "random", "--env-id"], compare: ["--agents", "random", "--env-id"]}[command]
    with pytest.raises(UsageError, match=r"evil\.yaml"):
        command([*options, "CartPole-v1", "--config", str(file)])
    assert not marker.exists()


@pytest.mark.parametrize("word", ["lr=!!python/object/apply:os.mkdir [{}]", "!!python/name:os.mkdir"])
def test_yaml_tags_in_pairs_run_nothing(word, marker):
    with pytest.raises(UsageError):
        compare(["--env-id", "CartPole-v1", "--agents", "random", "--set", word.format(marker)])
    assert not marker.exists()


@pytest.mark.parametrize("data", [b"\x80\x04K\x01.", b"[", b"7", b'{"agent": "os:system"}', b"[" * 100_000])
def test_damaged_config_is_one_line_of_usage(data, run):
    (run / "config.json").write_bytes(data)
    with pytest.raises(UsageError) as refused:
        rl_lab.load_policy(run)
    assert "\n" not in str(refused.value)


def test_agents_are_names_of_entry_points_never_import_paths(run):
    config = json.loads((run / "config.json").read_bytes())
    (run / "config.json").write_text(json.dumps(config | {"agent": "os:system"}))
    with pytest.raises(UsageError, match="unknown agent 'os:system'"):
        rl_lab.load_policy(run)


def test_honest_run_loads_so_that_the_refusals_mean_something(run):
    assert rl_lab.load_policy(run) is not None
    assert Checkpoints(run / "checkpoints").load()[0] == 150
