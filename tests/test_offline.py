"""Recorded transitions: what was played is on disk to the bit, and agents learn from it as if they had acted."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

import rl_lab
from agents.random import RandomPolicy
from rl_lab.cli import main, train, watch
from rl_lab.dataset_writer import new_dataset
from rl_lab.datasets import DATA, METADATA, SUMS, Dataset, DatasetCorrupt, RecordedEpisode
from rl_lab.environments import make_env
from rl_lab.evaluation import evaluation_seed
from rl_lab.experience import RecordedOrder, experience
from rl_lab.fingerprint import fingerprint
from rl_lab.learning import read_config
from rl_lab.logs import read_actions, read_episodes
from rl_lab.offline import EpsilonRandom, record_dataset, recorded_seed
from rl_lab.recorder import leaves_of
from rl_lab.recording import record
from rl_lab.seeding import episode_seed
from rl_lab.storage import NotWritten
from rl_lab.training import start
from rl_lab.training import train as loop
from rl_lab.types import Decision, UsageError
from runs import asking_to_stop, differences, learn
from toys import Counting, agent_on, problem_on

ROOT = Path(__file__).resolve().parent.parent
MAZE = {"env_kwargs": {"map": "S..\n.#.\n..G", "slip": 0.1}}


class Mixed(gymnasium.Env):
    """Observes a tree of arrays and takes vectors; 1 to 8 steps."""

    observation_space = spaces.Dict(
        {
            "a": spaces.Box(-1, 1, (2,), np.float32),
            "b": spaces.Tuple((spaces.Discrete(5), spaces.MultiBinary(3))),
        }
    )
    action_space = spaces.Box(-2, 2, (3,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 9))
        return self._seen(), {}

    def step(self, action):
        self.left -= 1
        return self._seen(), float(action.sum()), self.left == 0, False, {}

    def _seen(self):
        draw = self.np_random
        a = draw.uniform(-1, 1, 2).astype(np.float32)
        return {"a": a, "b": (int(draw.integers(5)), draw.integers(2, size=3, dtype=np.int8))}


class Witness(gymnasium.Wrapper):
    """Keeps all that passes, episode by episode."""

    def __init__(self, env: gymnasium.Env, log: list[dict[str, list[Any]]]):
        super().__init__(env)
        self.log = log

    def reset(self, **kwargs):
        obs, info = self.env.reset(**kwargs)
        self.log.append({"seed": [kwargs["seed"]], "obs": [obs], "mask": [info.get("action_mask")]})
        return obs, info

    def step(self, action):
        obs, reward, terminated, truncated, info = self.env.step(action)
        said = {"obs": obs, "mask": info.get("action_mask"), "action": action, "reward": reward}
        for name, value in (said | {"terminated": terminated, "truncated": truncated}).items():
            self.log[-1].setdefault(name, []).append(value)
        return obs, reward, terminated, truncated, info


ENVIRONMENTS = {
    "table": lambda: make_env("FrozenLake-v1"),
    "masked": lambda: make_env("Taxi-v4"),
    "vectors": lambda: make_env("CartPole-v1"),
    "images": lambda: make_env("lab/GridWorldPixels-v0", {"map": "S.\n.G"}),
    "trees": Mixed,
    "cut": Counting,
}


def random_policy(env: gymnasium.Env) -> RandomPolicy:
    return RandomPolicy(env.action_space, lambda: np.random.default_rng(7))


def record_random(make, path: Path, **fields: Any) -> list[dict[str, list[Any]]]:
    """Record random play; return what passed."""
    log: list[dict[str, list[Any]]] = []
    record_dataset(random_policy(make()), lambda: Witness(make(), log), path, **({"episodes": 5} | fields))
    return log


def on_frozen_lake(path: Path, episodes: int = 40, **fields: Any) -> Path:
    record_random(ENVIRONMENTS["table"], path, episodes=episodes, **fields)
    return path


def call(capsys, command, *words: object) -> tuple[int, str, str]:
    """Run a command in this process; return exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as left:
        main(command, [str(word) for word in words])
    out, err = capsys.readouterr()
    return left.value.code or 0, out, err


def require_refusal(outcome: tuple[int, str, str], *named: str) -> None:
    code, out, err = outcome
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("error: ")
    for text in named:
        assert text in err


def require_equal(found: Any, expected: list[Any]) -> None:
    """The recorded column is what passed, to the bit and in the space's own dtype."""
    assert not isinstance(found, dict | tuple)
    stacked = np.stack([np.asarray(x) for x in expected])
    assert found.shape == stacked.shape
    assert np.array_equal(found, stacked)


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Path:
    """40 episodes of random play on FrozenLake."""
    return on_frozen_lake(tmp_path_factory.mktemp("lake") / "data")


class TestRecording:
    @pytest.mark.parametrize("name", ENVIRONMENTS)
    def test_what_was_played_is_what_is_read(self, name, tmp_path):
        make = ENVIRONMENTS[name]
        log, found = record_random(make, tmp_path / "data"), Dataset(tmp_path / "data")
        assert found.num_episodes == len(log) == 5
        assert (found.observation_space, found.action_space) == (
            make().observation_space,
            make().action_space,
        )
        for number, played in enumerate(log):
            episode = found.episode(number)
            for k, leaf in enumerate(leaves_of(episode.observations)):
                require_equal(leaf, [leaves_of(obs)[k] for obs in played["obs"]])
            require_equal(episode.actions, played["action"])
            require_equal(episode.rewards, played["reward"])
            require_equal(episode.terminations, played["terminated"])
            require_equal(episode.truncations, played["truncated"])
            assert (episode.masks is None) == (name != "masked")
            if episode.masks is not None:
                require_equal(episode.masks, played["mask"])
            assert [found.seed_of(number)] == played["seed"] == [recorded_seed(0, number)]

    @pytest.mark.parametrize("name", ENVIRONMENTS)
    def test_plain_minari_reads_it(self, name, tmp_path):
        log = record_random(ENVIRONMENTS[name], tmp_path / "data")
        found = minari.MinariDataset(tmp_path / "data")
        assert found.total_episodes == len(log)
        assert found.total_steps == sum(len(played["reward"]) for played in log)
        assert found.spec.dataset_id == "rl_lab/data-v0"
        for episode, played in zip(found.iterate_episodes(), log, strict=True):
            assert f"id={episode.id}" in repr(episode)
            for k, leaf in enumerate(leaves_of(episode.observations)):
                require_equal(leaf, [leaves_of(obs)[k] for obs in played["obs"]])
            require_equal(episode.actions, played["action"])
            require_equal(episode.rewards, played["reward"])
            require_equal(episode.terminations, played["terminated"])
            require_equal(episode.truncations, played["truncated"])
            if name == "masked":
                require_equal(episode.infos["action_mask"], played["mask"])
        facts = list(found.storage.get_episode_metadata(range(len(log))))
        assert [f["seed"] for f in facts] == [p["seed"][0] for p in log]
        assert [f["return"] for f in facts] == pytest.approx([sum(p["reward"]) for p in log])

    def test_minari_makes_the_environment_again(self, tmp_path):
        make = lambda: make_env("FrozenLake-v1", {"map_name": "8x8"})  # noqa: E731
        record_dataset(random_policy(make()), make, tmp_path / "data", episodes=1)
        spec = minari.MinariDataset(tmp_path / "data").recover_environment().spec
        assert (spec.id, spec.kwargs["map_name"]) == ("FrozenLake-v1", "8x8")

    def test_same_play_gives_the_same_bytes(self, lake, tmp_path):
        again, other = on_frozen_lake(tmp_path / "data"), on_frozen_lake(tmp_path / "other", seed=1)
        assert [(again / n).read_bytes() for n in (DATA, METADATA, SUMS)] == [
            (lake / n).read_bytes() for n in (DATA, METADATA, SUMS)
        ]
        assert Dataset(other).sha256 != Dataset(lake).sha256

    def test_sums_are_those_of_sha256sum(self, lake):
        for line in (lake / SUMS).read_text().splitlines():
            sha, name = line.split("  ")
            assert hashlib.sha256((lake / name).read_bytes()).hexdigest() == sha

    def test_steps_leave_the_last_episode_unfinished(self, tmp_path):
        record_random(ENVIRONMENTS["vectors"], tmp_path / "data", episodes=None, steps=50)
        found = Dataset(tmp_path / "data")
        episodes = [found.episode(e) for e in range(found.num_episodes)]
        assert sum(map(len, episodes)) == 50
        assert [bool(e.terminations[-1] | e.truncations[-1]) for e in episodes] == [True] * (
            len(episodes) - 1
        ) + [False]

    def test_an_endless_episode_is_left_unfinished(self, tmp_path):
        record_random(ENVIRONMENTS["vectors"], tmp_path / "data", episodes=3, max_episode_steps=4)
        found = Dataset(tmp_path / "data")
        assert [len(found.episode(e)) for e in range(3)] == [4] * 3
        assert not found.episode(0).truncations.any()

    def test_the_policy_is_told_where_episodes_begin_and_keeps_its_carry(self, tmp_path):
        log = []

        class Told(Always):
            def act(self, obs, state, is_first, mask=None):
                log.append((bool(is_first[0]), float(state[0][0])))
                return super().act(obs, state, is_first, mask)

        record_dataset(Told(), Counting, tmp_path / "data", episodes=4)
        found = Dataset(tmp_path / "data")
        firsts = [t == 0 for e in range(4) for t in range(len(found.episode(e)))]
        assert [first for first, _ in log] == firsts
        carried = [carry for _, carry in log]
        assert carried == [
            0.0,
            *((0 if f else c) + 1 for f, c in zip(firsts[:-1], carried[:-1], strict=True)),
        ]

    def test_episodes_are_none_of_those_that_a_run_plays(self):
        recorded = {recorded_seed(3, e) for e in range(200)}
        assert not recorded & {evaluation_seed(3, e) for e in range(200)}
        assert not recorded & {episode_seed(3, i, e) for e in range(200) for i in range(4)}

    @pytest.mark.parametrize(
        "fields",
        [{"episodes": 0}, {"steps": 0}, {"epsilon": 1.5}, {"epsilon": -0.1}, {"max_episode_steps": 0}],
    )
    def test_refuses_what_can_not_be_recorded(self, fields, tmp_path):
        with pytest.raises(UsageError, match=next(iter(fields))):
            record_random(ENVIRONMENTS["table"], tmp_path / "data", **fields)
        assert list(tmp_path.iterdir()) == []


class Always:
    """Takes action 0; its carry counts steps."""

    def initial_state(self, num_envs):
        return (np.zeros(num_envs),)

    def act(self, obs, state, is_first, mask=None):
        return Decision(np.zeros(len(is_first), np.int64), (np.where(is_first, 0, state[0]) + 1,))

    def inspect(self, obs, state, is_first, mask=None):
        return {"q_values": np.zeros((len(is_first), 2)), "probabilities": np.ones((len(is_first), 2)) / 2}


class TestEpsilon:
    def actions(self, epsilon: float, mask=None, space=None) -> np.ndarray:
        policy = EpsilonRandom(Always(), space or spaces.Discrete(4), epsilon, seed=3)
        return np.concatenate(
            [policy.act(None, (np.zeros(1),), np.zeros(1), mask).action for _ in range(2000)]
        )

    def test_replaces_its_share_of_actions_uniformly(self):
        shares = np.bincount(self.actions(0.4), minlength=4) / 2000
        assert shares == pytest.approx([0.7, 0.1, 0.1, 0.1], abs=0.03)

    def test_random_actions_are_legal(self):
        mask = np.array([[True, False, True, False]])
        assert set(self.actions(1.0, mask)) == {0, 2}

    def test_counts_from_the_first_action_of_the_space(self):
        assert set(self.actions(1.0, space=spaces.Discrete(2, start=5))) == {5, 6}

    def test_keeps_the_carry_and_hides_probabilities_that_no_longer_hold(self):
        policy = EpsilonRandom(Always(), spaces.Discrete(4), 1.0, seed=3)
        assert policy.initial_state(2)[0].shape == (2,)
        assert policy.act(None, (np.full(1, 4.0),), np.zeros(1, bool)).state[0] == 5.0
        assert set(policy.inspect(None, (), np.zeros(1))) == {"q_values"}

    def test_draws_from_any_space(self, tmp_path):
        zeros = lambda n: np.zeros((n, 3), np.float32)  # noqa: E731
        policy = Always()
        policy.act = lambda obs, state, is_first, mask=None: Decision(zeros(len(is_first)), ())
        record_dataset(policy, Mixed, tmp_path / "data", episodes=4, epsilon=0.5)
        found = Dataset(tmp_path / "data")
        actions = np.concatenate([found.episode(e).actions for e in range(4)])
        assert actions.dtype == np.float32
        assert 0 < (actions == 0).all(axis=1).sum() < len(actions)


# Nothing half done, nothing overwritten ------------------------------------------------------------------


class Died(BaseException):
    """Ends a process at a bad moment."""


class FailsLater(gymnasium.Wrapper):
    """Dies in its 30th step."""

    count = 0

    def step(self, action):
        self.count += 1
        if self.count == 30:
            raise Died
        return self.env.step(action)


class TestWholeOrNothing:
    def test_a_death_in_the_midst_leaves_nothing(self, tmp_path):
        with pytest.raises(Died):
            record_random(lambda: FailsLater(make_env("FrozenLake-v1")), tmp_path / "data", episodes=50)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("moment", ["fsync", "rename"])
    def test_a_full_disk_at_the_end_leaves_nothing(self, moment, tmp_path, monkeypatch):
        def full(*args):
            raise OSError(28, os.strerror(28))

        with monkeypatch.context() as patch:
            patch.setattr(*((os, "fsync", full) if moment == "fsync" else (Path, "rename", full)))
            with pytest.raises(NotWritten, match="No space left"):
                on_frozen_lake(tmp_path / "data")
        assert list(tmp_path.iterdir()) == []

    def test_what_a_kill_left_is_swept_by_the_next_recording(self, lake, tmp_path):
        stray = tmp_path / ".data.tmp"
        stray.mkdir()
        for name in (DATA, METADATA, ".lock"):
            (stray / name).write_bytes(b"half")
        with pytest.raises(UsageError, match="holds no dataset"):
            Dataset(tmp_path / "data")
        assert Dataset(on_frozen_lake(tmp_path / "data")).sha256 == Dataset(lake).sha256
        assert [p.name for p in tmp_path.iterdir()] == ["data"]
        assert sorted(p.name for p in (tmp_path / "data").iterdir()) == sorted((DATA, METADATA, SUMS))

    def test_two_recordings_of_one_place_do_not_mix(self, tmp_path):
        with new_dataset(tmp_path / "data", spaces.Discrete(2), spaces.Discrete(2)) as writer:
            with pytest.raises(UsageError, match="being recorded by another"):
                on_frozen_lake(tmp_path / "data")
            step = np.zeros(1)
            no = np.zeros(1, bool)
            writer.add(RecordedEpisode(np.zeros(2, int), np.zeros(1, int), step, no, no, None), seed=5)
        assert Dataset(tmp_path / "data").num_episodes == 1

    @pytest.mark.parametrize("what", ["dataset", "file", "other files"])
    def test_nothing_is_overwritten(self, what, lake, tmp_path):
        place = tmp_path / "data"
        if what == "dataset":
            shutil.copytree(lake, place)
        elif what == "file":
            place.write_bytes(b"mine")
        else:
            place.mkdir()
            (place / "thesis.txt").write_bytes(b"mine")
        before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
        with pytest.raises(UsageError, match=r"is there already \(allowed: a new folder\)"):
            on_frozen_lake(place, seed=1)
        assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before

    def test_what_appears_while_recording_is_not_overwritten_either(self, tmp_path):
        with (
            pytest.raises(UsageError, match="is there already"),
            new_dataset(tmp_path / "data", spaces.Discrete(2), spaces.Discrete(2)),
        ):
            (tmp_path / "data").write_bytes(b"mine")
        assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("data", b"mine")]


class TestDamage:
    @pytest.mark.parametrize("name", [DATA, METADATA, SUMS])
    def test_no_changed_byte_passes(self, name, lake, tmp_path):
        whole = (lake / name).read_bytes()
        shutil.copytree(lake, tmp_path / "data")
        path = tmp_path / "data" / name
        rng = np.random.default_rng(0)
        ends = 65 if name == SUMS else len(whole)  # the sums' own line ends change nothing
        for place in rng.integers(ends - 1, size=20):
            path.write_bytes(
                whole[:place] + bytes([whole[place] ^ 1 << rng.integers(7)]) + whole[place + 1 :]
            )
            with pytest.raises(UsageError) as error:
                Dataset(tmp_path / "data")
            assert "\n" not in str(error.value)
            assert isinstance(error.value, DatasetCorrupt) or "format" in str(error.value)
        path.write_bytes(whole)
        Dataset(tmp_path / "data")

    @pytest.mark.parametrize("name", [DATA, METADATA])
    def test_a_file_that_lost_its_end_is_named(self, name, lake, tmp_path):
        shutil.copytree(lake, tmp_path / "data")
        path = tmp_path / "data" / name
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(DatasetCorrupt, match=name.replace(".", r"\.")):
            Dataset(tmp_path / "data")

    def test_a_missing_data_file_is_damage(self, lake, tmp_path):
        shutil.copytree(lake, tmp_path / "data")
        (tmp_path / "data" / DATA).unlink()
        with pytest.raises(DatasetCorrupt, match="main_data"):
            Dataset(tmp_path / "data")

    def test_is_one_line_for_who_trains(self, lake, tmp_path, capsys):
        shutil.copytree(lake, tmp_path / "data")
        data = bytearray((tmp_path / "data" / DATA).read_bytes())
        data[5000] ^= 1
        (tmp_path / "data" / DATA).write_bytes(data)
        words = ["--agent", "q-learning", "--env-id", "FrozenLake-v1", "--dataset", tmp_path / "data"]
        require_refusal(call(capsys, train, *words, "--run-dir", tmp_path / "run"), DATA, SUMS)
        assert not (tmp_path / "run").exists()


# Datasets of others ----------------------------------------------------------------------------------------


def by_minari(
    path: Path, episodes: list[EpisodeBuffer], observations=None, actions=None, **metadata: Any
) -> Path:
    """Write a dataset with Minari's own code, without anything of ours."""
    lake_spaces = spaces.Discrete(16), spaces.Discrete(4)
    storage = MinariStorage.new(path, observations or lake_spaces[0], actions or lake_spaces[1])
    storage.update_metadata({"dataset_id": "stranger-v0", "minari_version": minari.__version__})
    storage.update_episodes(episodes)
    if metadata:
        known = json.loads((path / METADATA).read_bytes())
        (path / METADATA).write_text(
            json.dumps({k: v for k, v in (known | metadata).items() if v is not None})
        )
    return path


def walk(length: int = 3, **fields: Any) -> EpisodeBuffer:
    """An episode on FrozenLake's numbers that ends by truncation."""
    flags = [False] * (length - 1) + [True]
    given = {
        "observations": np.arange(length + 1), "actions": np.zeros(length, np.int64),
        "rewards": np.ones(length, np.float32), "terminations": [False] * length, "truncations": flags,
        "infos": {"note": ["a"] * (length + 1)},
    }  # fmt: skip
    return EpisodeBuffer(**(given | fields))


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


# Handing out -----------------------------------------------------------------------------------------------


class TestOrder:
    @given(
        seed=st.integers(0, 2**31 - 1),
        total=st.integers(1, 12),
        num_envs=st.integers(1, 5),
        epochs=st.integers(1, 3),
    )
    def test_every_epoch_opens_every_episode_exactly_once(self, seed, total, num_envs, epochs):
        order = RecordedOrder(seed, num_envs, total)
        rounds = -(-epochs * total // num_envs)
        opened = [order.number(i, k) for k in range(rounds) for i in range(num_envs)]
        for epoch in range(epochs):
            assert sorted(opened[epoch * total : (epoch + 1) * total]) == list(range(total))

    @given(st.integers(0, 1000), st.lists(st.lists(st.booleans(), min_size=3, max_size=3), max_size=20))
    def test_is_a_function_of_column_and_number_however_one_gets_there(self, seed, ends):
        order = RecordedOrder(seed, 3, 7)
        for done in ends:
            opened = order.advance(np.array(done))
            assert [n is not None for n in opened] == done
            assert all(n is None or n == now for n, now in zip(opened, order.current(), strict=True))
        assert RecordedOrder(seed, 3, 7, order.episodes).current() == order.current()

    def test_epochs_differ_and_follow_the_seed(self):
        orders = [[RecordedOrder(seed, 1, 20).number(0, k) for k in range(40)] for seed in (0, 0, 1)]
        assert orders[0] == orders[1] != orders[2]
        assert orders[0][:20] != orders[0][20:]


def recorded_problem(path: Path, make, **fields: Any):
    return dataclasses.replace(problem_on(make, **fields), dataset=Dataset(path))


def steps_of(problem, policy=None):
    """Return the steps and cursors of the loop over recorded episodes, with an agent that only listens."""

    class Listener:
        def observe(self, step):
            pass

        def update(self):
            return None

    source = experience(problem)
    seeds, acting = source.seeds(), source.acting(policy or random_policy(problem.make(1).env))
    return list(
        loop(Listener(), acting, source.envs, seeds, problem.total_steps, start(acting, source.envs, seeds))
    )


class TestHandingOut:
    @pytest.mark.parametrize("num_envs", [1, 3])
    @pytest.mark.parametrize("name", ["cut", "masked", "trees"])
    def test_two_epochs_hand_out_every_transition_twice(self, name, num_envs, tmp_path):
        make = ENVIRONMENTS[name]
        record_random(make, tmp_path / "data", episodes=6)
        problem = recorded_problem(tmp_path / "data", make, num_envs=num_envs, total_steps=10**9)
        dataset, order = problem.dataset, RecordedOrder(0, num_envs, 6)
        lengths = [len(dataset.episode(e)) for e in range(6)]
        longest = max(
            sum(lengths[order.number(i, k)] for k in range(12 // num_envs)) for i in range(num_envs)
        )
        out = steps_of(dataclasses.replace(problem, total_steps=longest * num_envs))
        for i in range(num_envs):
            t = 0
            for k in range(12 // num_envs):
                self.require_episode(out[t:], i, dataset.episode(order.number(i, k)))
                t += lengths[order.number(i, k)]

    @staticmethod
    def require_episode(out, i: int, episode: RecordedEpisode) -> None:
        """Column i of the steps begins with this episode, whole and in order."""
        for t in range(len(episode)):
            step, _, cursor = out[t]
            for obs, at in ((step.obs, t), (step.next_obs, t + 1)):
                for seen, stored in zip(leaves_of(obs), leaves_of(episode.observations), strict=True):
                    assert np.array_equal(seen[i], stored[at])
                    assert seen.dtype == stored.dtype
            assert np.array_equal(step.action[i], episode.actions[t])
            assert step.reward[i] == episode.rewards[t]
            assert step.terminated[i] == episode.terminations[t]
            assert step.truncated[i] == episode.truncations[t]
            assert step.is_first[i] == (t == 0)
            assert cursor.is_first[i] == (t == len(episode) - 1)
            if episode.masks is not None:
                assert np.array_equal(step.mask[i], episode.masks[t])
                assert np.array_equal(step.next_mask[i], episode.masks[t + 1])

    def test_an_unfinished_episode_is_truncated_at_its_end(self, tmp_path):
        record_random(ENVIRONMENTS["vectors"], tmp_path / "data", episodes=2, max_episode_steps=4)
        problem = recorded_problem(tmp_path / "data", ENVIRONMENTS["vectors"], total_steps=12)
        out = steps_of(problem)
        assert [bool(step.truncated[0]) for step, _, _ in out] == [False, False, False, True] * 3
        assert not any(step.terminated[0] for step, _, _ in out)

    def test_an_episode_ends_at_its_first_flag(self, tmp_path):
        path = by_minari(tmp_path / "data", [walk(4, terminations=[False, True, False, False])])
        problem = recorded_problem(path, ENVIRONMENTS["table"], total_steps=6)
        assert [bool(s.terminated[0]) for s, _, _ in steps_of(problem)] == [False, True] * 3

    def test_what_is_handed_out_is_a_copy(self, tmp_path):
        record_random(ENVIRONMENTS["vectors"], tmp_path / "data")
        problem = recorded_problem(tmp_path / "data", ENVIRONMENTS["vectors"], total_steps=20)
        before = [problem.dataset.episode(e).observations.copy() for e in range(5)]
        for step, _, _ in steps_of(problem):
            step.obs[...], step.next_obs[...], step.action[...] = 9.0, 9.0, 9
        for e in range(5):
            assert np.array_equal(problem.dataset.episode(e).observations, before[e])

    def test_the_carry_is_that_of_the_agents_own_policy(self, tmp_path):
        make = ENVIRONMENTS["vectors"]
        record_random(make, tmp_path / "data")
        problem = recorded_problem(tmp_path / "data", make, num_envs=2, total_steps=80)
        policy = agent_on(problem, memory="lstm", memory_size=4, hidden=(8,)).policy(explore=False)
        state = policy.initial_state(2)
        steps = steps_of(
            problem, agent_on(problem, memory="lstm", memory_size=4, hidden=(8,)).policy(explore=True)
        )
        for step, _, _ in steps:
            for part, own in zip(step.state, state, strict=True):
                assert np.array_equal(part, own)
            state = policy.act(step.obs, step.state, step.is_first).state
        assert any(part.any() for part in state)

    def test_nothing_is_played(self, lake, tmp_path, monkeypatch):
        made = []
        monkeypatch.setattr(
            "rl_lab.learning.make_envs", lambda *a, **k: made.append(1) or rl_lab.make_envs(*a, **k)
        )
        learn(tmp_path, "q-learning", "FrozenLake-v1", dataset=str(lake), total_steps=50, eval_episodes=0)
        assert len(made) == 1  # what the spec and the model are read off

    def test_episodes_are_read_again_where_they_do_not_fit(self, lake, tmp_path, monkeypatch):
        read, once = [], Dataset._read
        monkeypatch.setattr(
            Dataset, "_read", lambda self, group: read.append(group.name) or once(self, group)
        )
        whole = learn(tmp_path / "a", "q-learning", "FrozenLake-v1", dataset=str(lake), total_steps=800)
        assert len(read) == len(set(read)) == 40
        monkeypatch.setattr("rl_lab.datasets.KEPT_BYTES", 3000)
        least = learn(tmp_path / "b", "q-learning", "FrozenLake-v1", dataset=str(lake), total_steps=800)
        assert len(read) > 100
        assert whole.summary["weights_sha256"] == least.summary["weights_sha256"]


# Learning --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def maze(tmp_path_factory) -> Path:
    """4000 transitions of random play in a slippery maze."""
    path = tmp_path_factory.mktemp("maze") / "data"
    make = lambda: make_env("lab/GridWorld-v0", MAZE["env_kwargs"])  # noqa: E731
    record_dataset(random_policy(make()), make, path, steps=4000)
    return path


class TestLearning:
    def test_q_learning_reaches_the_optimum_without_acting(self, maze, tmp_path):
        fields = {"learning_rate": 0.5, "learning_rate_final": 0.01, "total_steps": 12_000}
        found = learn(tmp_path, "q-learning", "lab/GridWorld-v0", dataset=str(maze), **MAZE, **fields)
        assert found.summary["regret"] < 0.02
        assert found.summary["env_steps"] == 12_000

    def test_dqn_reaches_the_optimum_without_acting(self, maze, tmp_path):
        fields = {
            "total_steps": 6_000, "learning_starts_env_steps": 500, "hidden": (32,), "learning_rate": 3e-3,
            "target_period_env_steps": 100, "replay_capacity": 4_000, "gamma": 0.95,
        }  # fmt: skip
        found = learn(tmp_path, "dqn", "lab/GridWorld-v0", dataset=str(maze), **MAZE, **fields)
        assert found.summary["regret"] < 0.02

    def test_learns_what_the_data_says_and_nothing_else(self, tmp_path):
        """One recorded step, again and again: only its entry changes."""
        path = by_minari(tmp_path / "data", [walk(1, actions=np.array([2]))])
        result = learn(
            tmp_path / "run", "q-learning", "FrozenLake-v1", dataset=str(path), total_steps=500, gamma=0.5
        )
        q = result.policy.inspect(np.arange(16), (), np.ones(16, bool))["q_values"]
        assert q[0, 2] == pytest.approx(1.0, abs=0.01)
        assert np.count_nonzero(q) == 1

    def test_a_tuple_of_learners_takes_part(self, lake, tmp_path):
        learn(tmp_path, "random", "FrozenLake-v1", dataset=str(lake), total_steps=60)
        recorded = [minari.MinariDataset(lake)[k].actions.tolist() for k in range(40)]
        lengths = [row["length"] for row in read_episodes(tmp_path)]
        space = spaces.Discrete(4)
        played = [read_actions(tmp_path, row, space).tolist() for row in range(len(lengths))]
        assert len(played) > 2
        assert all(actions in recorded for actions in played)


SMALL = {
    "learning_starts_env_steps": 40, "replay_capacity": 120, "batch_size": 8, "hidden": [16],
    "train_period_env_steps": 4, "target_period_env_steps": 50, "log_every_steps": 50,
}  # fmt: skip
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "table": ("q-learning", "FrozenLake-v1", {}),
    "masked": ("q-learning", "Taxi-v4", {}),
    "mlp": ("dqn", "CartPole-v1", SMALL),
    "lstm": ("dqn", "CartPole-v1", SMALL | {"memory": "lstm", "memory_size": 8, "sequence_length": 4}),
}


class TestResume:
    @pytest.mark.parametrize("num_envs", [1, 4])
    @pytest.mark.parametrize("name", CASES)
    def test_resumed_equals_uninterrupted(self, name, num_envs, tmp_path):
        agent, env_id, fields = CASES[name]
        record_random(lambda: make_env(env_id), tmp_path / "data", episodes=7, max_episode_steps=30)
        total = 240 * num_envs
        given = fields | {
            "dataset": str(tmp_path / "data"),
            "num_envs": num_envs,
            "total_steps": total,
            "seed": 3,
        }
        whole = learn(tmp_path / "whole", agent, env_id, **given)
        assert learn(tmp_path / "cut", agent, env_id, stop_at=61 * num_envs, **given).summary is None
        with asking_to_stop(133 * num_envs):
            assert rl_lab.resume(tmp_path / "cut").summary is None
        resumed = rl_lab.resume(tmp_path / "cut")
        assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]
        assert differences(fingerprint(tmp_path / "whole"), fingerprint(tmp_path / "cut")) == set()
        rows = (tmp_path / "cut" / "metrics.jsonl").read_text()
        assert "truncated_at_resume" not in rows

    def test_with_another_dataset_is_refused(self, lake, tmp_path, capsys):
        shutil.copytree(lake, tmp_path / "data")
        fields = {"dataset": str(tmp_path / "data"), "total_steps": 300}
        learn(tmp_path / "run", "q-learning", "FrozenLake-v1", stop_at=100, **fields)
        shutil.rmtree(tmp_path / "data")
        on_frozen_lake(tmp_path / "data", seed=1)
        outcome = call(capsys, train, "--resume", "--run-dir", tmp_path / "run")
        require_refusal(outcome, "dataset", Dataset(tmp_path / "data").sha256[:12], Dataset(lake).sha256[:12])

    def test_a_lost_dataset_is_named(self, lake, tmp_path, capsys):
        shutil.copytree(lake, tmp_path / "data")
        fields = {"dataset": str(tmp_path / "data"), "total_steps": 300}
        learn(tmp_path / "run", "q-learning", "FrozenLake-v1", stop_at=100, **fields)
        shutil.rmtree(tmp_path / "data")
        outcome = call(capsys, train, "--resume", "--run-dir", tmp_path / "run")
        require_refusal(outcome, str(tmp_path / "data"), "allowed")

    def test_a_run_from_before_there_were_datasets_goes_on(self, tmp_path, capsys):
        folder = shutil.copytree(ROOT / "tests" / "fixtures" / "format_1" / "q-learning", tmp_path / "old")
        assert "dataset" not in read_config(folder)
        assert call(capsys, train, "--resume", "--run-dir", folder)[0] == 0


class TestConfig:
    def test_hash_follows_the_content_not_the_place(self, lake, tmp_path):
        shutil.copytree(lake, tmp_path / "copy")
        on_frozen_lake(tmp_path / "other", seed=1)
        told = []
        for k, path in enumerate((lake, tmp_path / "copy", tmp_path / "other", None)):
            fields = {} if path is None else {"dataset": str(path)}
            learn(tmp_path / str(k), "q-learning", "FrozenLake-v1", total_steps=20, **fields)
            told.append(read_config(tmp_path / str(k)))
        hashes = [t["config_sha256"] for t in told]
        assert hashes[0] == hashes[1]
        assert len(set(hashes)) == 3
        assert [t["dataset_sha256"] for t in told] == [
            Dataset(lake).sha256, Dataset(lake).sha256, Dataset(tmp_path / "other").sha256, None
        ]  # fmt: skip

    def test_rows_of_episodes_hold_the_recorded_seeds(self, lake, tmp_path):
        learn(tmp_path, "q-learning", "FrozenLake-v1", dataset=str(lake), total_steps=200, num_envs=2)
        rows, order = read_episodes(tmp_path), RecordedOrder(0, 2, 40)
        assert len(rows) > 5
        for row in rows:
            assert row["seed"] == recorded_seed(0, order.number(row["env_index"], row["episode"]))


# Commands --------------------------------------------------------------------------------------------------


class TestRefusals:
    @pytest.mark.parametrize("agent", ["sb3-dqn", "sb3-ppo", "value-iteration", "policy-iteration"])
    def test_learners_that_need_no_dataset_say_so(self, agent, lake, tmp_path, capsys):
        words = [
            "--agent",
            agent,
            "--env-id",
            "FrozenLake-v1",
            "--dataset",
            lake,
            "--run-dir",
            tmp_path / "run",
        ]
        require_refusal(call(capsys, train, *words), repr(agent), "dataset", "allowed")
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("env_id", "named"),
        [("FrozenLake8x8-v1", ("Discrete(16)", "Discrete(64)")), ("CartPole-v1", ("Discrete(16)", "Box("))],
    )
    def test_other_spaces_are_both_named(self, env_id, named, lake, tmp_path, capsys):
        words = ["--agent", "dqn", "--env-id", env_id, "--dataset", lake, "--run-dir", tmp_path / "run"]
        require_refusal(call(capsys, train, *words), "observation_space", env_id, *named)

    def test_a_missing_path_is_named(self, tmp_path, capsys):
        words = ["--agent", "dqn", "--env-id", "FrozenLake-v1", "--dataset", tmp_path / "nowhere"]
        require_refusal(call(capsys, train, *words), str(tmp_path / "nowhere"), "allowed")

    def test_masks_that_were_not_recorded_are_missed(self, tmp_path, capsys):
        taxi = make_env("Taxi-v4")
        path = by_minari(tmp_path / "data", [walk()], taxi.observation_space, taxi.action_space)
        words = ["--agent", "dqn", "--env-id", "Taxi-v4", "--dataset", path]
        require_refusal(call(capsys, train, *words), "action masks", "Taxi-v4")

    def test_lives_are_not_in_a_dataset(self, lake, tmp_path, capsys):
        words = ["--agent", "dqn", "--env-id", "FrozenLake-v1", "--dataset", lake, "--life-loss-terminates"]
        require_refusal(call(capsys, train, *words), "lives", "life_loss_terminates False")

    def test_an_agent_may_say_that_it_has_to_act_itself(self, lake, monkeypatch, tmp_path):
        from agents import q_learning
        from rl_lab.interaction import Interaction

        on_policy = Interaction(
            q_learning.Config(), q_learning.QLearning, q_learning.refuse, takes_datasets=False
        )
        monkeypatch.setattr("rl_lab.learning.make_learner", lambda name, **fields: on_policy)
        with pytest.raises(UsageError, match="can't learn from dataset"):
            rl_lab.learn("q-learning", "FrozenLake-v1", dataset=str(lake), run_dir=str(tmp_path / "run"))

    def test_a_run_that_played_nothing_shows_no_training_episode(self, lake, tmp_path, capsys):
        learn(tmp_path, "q-learning", "FrozenLake-v1", dataset=str(lake), total_steps=50)
        require_refusal(
            call(capsys, watch, tmp_path, "--training-episode", 0), "--training-episode 0", "dataset"
        )


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    learn(folder, "q-learning", "FrozenLake-v1", total_steps=4000, seed=2, env_kwargs={"is_slippery": False})
    return folder


class TestCommands:
    def test_records_the_greedy_policy_of_a_run(self, run_dir, tmp_path, capsys):
        code, out, _ = call(capsys, record, run_dir, "--out", tmp_path / "data", "--episodes", 3)
        assert (code, "3 episodes" in out) == (0, True)
        found, policy = Dataset(tmp_path / "data"), rl_lab.load_policy(run_dir)
        for e in range(3):
            episode = found.episode(e)
            expected = policy.act(episode.observations[:-1], (), np.zeros(len(episode), bool)).action
            assert np.array_equal(episode.actions, expected)
            assert found.seed_of(e) == recorded_seed(2, e)
        told, described = found.metadata["rl_lab"], read_config(run_dir)
        assert told["agent"] == found.metadata["algorithm_name"] == "q-learning"
        assert told["config_sha256"] == described["config_sha256"]
        summary = json.loads((run_dir / "summary.json").read_bytes())
        assert told["weights_sha256"] == summary["weights_sha256"]
        assert told["env_kwargs"] == {"is_slippery": False}

    def test_epsilon_shows_more(self, run_dir, tmp_path, capsys):
        call(capsys, record, run_dir, "--out", tmp_path / "greedy", "--steps", 200)
        call(
            capsys,
            record,
            run_dir,
            "--out",
            tmp_path / "mixed",
            "--steps",
            200,
            "--epsilon",
            0.8,
            "--seed",
            9,
        )
        shown = []
        for name in ("greedy", "mixed"):
            found = Dataset(tmp_path / name)
            episodes = [found.episode(e) for e in range(found.num_episodes)]
            assert sum(map(len, episodes)) == 200
            shown.append(
                {(s, a) for e in episodes for s, a in zip(e.observations[:-1], e.actions, strict=True)}
            )
        assert len(shown[1]) > 2 * len(shown[0])
        assert Dataset(tmp_path / "mixed").metadata["rl_lab"]["epsilon"] == 0.8
        assert Dataset(tmp_path / "mixed").metadata["rl_lab"]["seed"] == 9

    def test_from_random_play_to_a_trained_agent(self, tmp_path, capsys):
        words = [
            "--agent",
            "random",
            "--env-id",
            "lab/GridWorld-v0",
            "--env-kwargs",
            "map=corridor",
            "slip=0.0",
        ]
        assert call(capsys, record, *words, "--out", tmp_path / "data", "--steps", 300, "--seed", 4)[0] == 0
        run = ["--dataset", tmp_path / "data", "--run-dir", tmp_path / "run", "--total-steps", 120]
        quick = ["--wandb", "disabled", "--video-episodes", 0, "--eval-episodes", 1, "--eval-max-steps", 20]
        preset = ["--agent", "dqn", "--preset", "zoo:CartPole-v1", *words[2:], "--device", "cpu"]
        code, _, err = call(capsys, train, *preset, *run, *quick)
        assert code == 0, err
        described = read_config(tmp_path / "run")
        assert described["dataset_sha256"] == Dataset(tmp_path / "data").sha256
        assert Dataset(tmp_path / "data").metadata["rl_lab"]["agent"] == "random"

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["--agent", "dqn", "--env-id", "CartPole-v1"], ("'dqn'", "random")),
            (["--env-id", "CartPole-v1"], ("None", "run directory")),
            (["--agent", "random"], ("env_id",)),
            (["--agent", "random", "--env-id", "CartPoll-v1"], ("CartPoll-v1",)),
            (["--agent", "random", "--env-id", "CartPole-v1", "--episodes", "0"], ("episodes", "0")),
            (["nowhere"], ("nowhere",)),
            (["nowhere", "--agent", "random"], ("agent", "run directory")),
        ],
    )
    def test_refuses_in_one_line(self, words, named, tmp_path, capsys):
        require_refusal(call(capsys, record, *words, "--out", tmp_path / "data"), *named)
        assert list(tmp_path.iterdir()) == []

    def test_an_existing_dataset_is_refused_before_anything_is_played(self, lake, capsys):
        before = (lake / DATA).read_bytes()
        words = ["--agent", "random", "--env-id", "FrozenLake-v1", "--out", lake]
        require_refusal(call(capsys, record, *words), str(lake), "allowed")
        assert (lake / DATA).read_bytes() == before

    def test_help_names_every_option(self, capsys):
        code, out, _ = call(capsys, record, "--help")
        assert code == 0
        for name in (
            "RUN_DIR",
            "--out",
            "--agent",
            "--env-id",
            "--episodes",
            "--steps",
            "--seed",
            "--best",
            "--epsilon",
        ):
            assert name in out

    def test_script_is_the_command(self):
        assert "main(record)" in (ROOT / "scripts" / "record.py").read_text()


def test_what_is_missing_is_named(lake, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match=r"h5py.*rl_lab\[offline\]"):
        Dataset(lake)
