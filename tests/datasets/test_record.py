"""Learning from recorded transitions: handed out, scheduled, checkpointed and resumed as if they were played."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
from gymnasium import spaces

import rl_lab
from commands import call, require_refusal
from recorded import by_minari, on_frozen_lake, random_policy, record_random, walk
from rl_lab.cli.record import record
from rl_lab.cli.train import train
from rl_lab.cli.watch import watch
from rl_lab.datasets.dataset import DATA, Dataset
from rl_lab.datasets.record import record_dataset, recorded_seed
from rl_lab.environments.make import make_env
from rl_lab.runs.description import read_description
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.runs.rows import read_actions, read_episodes
from rl_lab.training.experience import RecordedOrder
from rl_lab.types import UsageError
from runs import asking_to_stop, differences, learn

ROOT = Path(__file__).resolve().parents[2]
MAZE = {"env_kwargs": {"map": "S..\n.#.\n..G", "slip": 0.1}}


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Path:
    """40 episodes of random play on FrozenLake."""
    return on_frozen_lake(tmp_path_factory.mktemp("lake") / "data")


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

    @pytest.mark.long
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

    def test_random_takes_part_with_the_recorded_actions(self, lake, tmp_path):
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
    @pytest.mark.parametrize("num_envs", [1, pytest.param(4, marks=pytest.mark.long)])
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
        assert "dataset" not in json.loads((folder / "config.json").read_bytes())
        assert call(capsys, train, "--resume", "--run-dir", folder)[0] == 0


class TestConfig:
    def test_hash_follows_the_content_not_the_place(self, lake, tmp_path):
        shutil.copytree(lake, tmp_path / "copy")
        on_frozen_lake(tmp_path / "other", seed=1)
        told = []
        for k, path in enumerate((lake, tmp_path / "copy", tmp_path / "other", None)):
            fields = {} if path is None else {"dataset": str(path)}
            learn(tmp_path / str(k), "q-learning", "FrozenLake-v1", total_steps=20, **fields)
            told.append(read_description(tmp_path / str(k)))
        hashes = [t.config_sha256 for t in told]
        assert hashes[0] == hashes[1]
        assert len(set(hashes)) == 3
        assert [t.dataset_sha256 for t in told] == [
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

    def test_an_agent_may_say_that_it_has_to_act_itself(self, lake, tmp_path):
        with pytest.raises(UsageError, match="agent 'sarsa' can't learn from dataset"):
            rl_lab.learn("sarsa", "FrozenLake-v1", dataset=str(lake), run_dir=str(tmp_path / "run"))

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
        told, described = found.metadata["rl_lab"], read_description(run_dir)
        assert told["agent"] == found.metadata["algorithm_name"] == "q-learning"
        assert told["config_sha256"] == described.config_sha256
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
        described = read_description(tmp_path / "run")
        assert described.dataset_sha256 == Dataset(tmp_path / "data").sha256
        assert Dataset(tmp_path / "data").metadata["rl_lab"]["agent"] == "random"

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["--agent", "dqn", "--env-id", "CartPole-v1"], ("'dqn'", "random")),
            (["--env-id", "CartPole-v1"], ("run directory or --agent is missing", "random")),
            (["--agent", "random", "--env-id", "CartPole-v1", "--best"], ("best", "run directory")),
            (["nowhere", "--preprocess", "none"], ("preprocess 'none'", "run directory")),
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
