"""Datasets on disk: what was played is there to the bit, whole or not at all, and strangers' run no code."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import pytest
from gymnasium import spaces

from commands import call, require_refusal
from recorded import (
    ENVIRONMENTS,
    Always,
    Mixed,
    on_frozen_lake,
    random_policy,
    record_random,
    require_equal,
)
from rl_lab.cli.train import train
from rl_lab.datasets.dataset import DATA, METADATA, SUMS, Dataset, DatasetCorrupt, RecordedEpisode
from rl_lab.datasets.record import EpsilonRandom, record_dataset, recorded_seed
from rl_lab.datasets.writer import new_dataset
from rl_lab.environments.make import make_env
from rl_lab.evaluation.evaluate import evaluation_seed
from rl_lab.seeding import episode_seed
from rl_lab.trees import leaves_of
from rl_lab.types import UsageError
from toys import Counting


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Path:
    """40 episodes of random play on FrozenLake."""
    return on_frozen_lake(tmp_path_factory.mktemp("lake") / "data")


def require_same_steps(episode: Any, played: dict[str, list[Any]]) -> None:
    """Compare an episode, read by us or by Minari, with what was witnessed as it was played."""
    for k, leaf in enumerate(leaves_of(episode.observations, sort_keys=True)):
        require_equal(leaf, [leaves_of(obs, sort_keys=True)[k] for obs in played["obs"]])
    require_equal(episode.actions, played["action"])
    require_equal(episode.rewards, played["reward"])
    require_equal(episode.terminations, played["terminated"])
    require_equal(episode.truncations, played["truncated"])


class TestRecording:
    @pytest.mark.parametrize("name", ENVIRONMENTS)
    def test_reading_gives_what_was_played(self, name, tmp_path):
        make = ENVIRONMENTS[name]
        log, found = record_random(make, tmp_path / "data"), Dataset(tmp_path / "data")
        assert found.num_episodes == len(log) == 5
        assert (found.observation_space, found.action_space) == (
            make().observation_space,
            make().action_space,
        )
        for number, played in enumerate(log):
            episode = found.episode(number)
            require_same_steps(episode, played)
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
            require_same_steps(episode, played)
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

    def test_no_run_plays_the_recorded_episodes(self):
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


class TestEpsilon:
    def actions(self, epsilon: float, mask=None, space=None, seed=3) -> np.ndarray:
        space = space or spaces.Discrete(4)
        policy = EpsilonRandom(Always(space), space, epsilon, seed)
        return np.concatenate(
            [policy.act(None, (np.zeros(1),), np.zeros(1), mask).action for _ in range(2000)]
        )

    def test_replaces_its_share_of_actions_uniformly(self):
        shares = np.bincount(self.actions(0.4), minlength=4) / 2000
        assert shares == pytest.approx([0.7, 0.1, 0.1, 0.1], abs=0.03)

    @pytest.mark.parametrize("space", [spaces.Discrete(4), spaces.MultiDiscrete([3, 3])])
    def test_draws_follow_the_seed(self, space):
        first, again, other = (self.actions(1.0, space=space, seed=seed) for seed in (3, 3, 4))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)

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
        record_dataset(Always(Mixed.action_space), Mixed, tmp_path / "data", episodes=4, epsilon=0.5)
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
    def test_a_crash_while_recording_leaves_nothing(self, tmp_path):
        with pytest.raises(Died):
            record_random(lambda: FailsLater(make_env("FrozenLake-v1")), tmp_path / "data", episodes=50)
        assert list(tmp_path.iterdir()) == []

    def test_the_next_recording_removes_what_a_kill_left(self, lake, tmp_path):
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

    def test_training_reports_damage_in_one_line(self, lake, tmp_path, capsys):
        shutil.copytree(lake, tmp_path / "data")
        data = bytearray((tmp_path / "data" / DATA).read_bytes())
        data[5000] ^= 1
        (tmp_path / "data" / DATA).write_bytes(data)
        words = ["--agent", "q-learning", "--env-id", "FrozenLake-v1", "--dataset", tmp_path / "data"]
        require_refusal(call(capsys, train, *words, "--run-dir", tmp_path / "run"), DATA, SUMS)
        assert not (tmp_path / "run").exists()


def test_a_missing_package_is_named(lake, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match=r"h5py.*rl_lab\[offline\]"):
        Dataset(lake)
