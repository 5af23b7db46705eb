"""Runs on vectorised forms: equal to those on single environments, resumed exactly, and named where they differ."""

from __future__ import annotations

import pytest

from forms import OWN, registered
from rl_lab.environments import make
from rl_lab.environments.form_vector import FormVector
from rl_lab.runs.description import read_description
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.runs.rows import read_episodes
from rl_lab.training import launch
from rl_lab.types import UsageError
from rl_lab.watching.past import past_episodes, picked, replay_unseen, require_episodes
from rl_lab.watching.sources import watched
from runs import SMALL_DQN, asking_to_stop, learn

PPO = {"n_steps": 8, "batch_size": 36, "n_epochs": 2, "hidden": (8,)}
CASES = {
    "table": ("q-learning", "lab/GridWorld-v0", {"env_kwargs": {"slip": 0.2}}),
    "masks": ("q-learning", "lab/Blackjack-v0", {}),
    "network": ("dqn", "CartPole-v1", SMALL_DQN),
    "rollouts": ("ppo", "CartPole-v1", PPO),
}
NUM_ENVS, STEPS, STOP = 9, 540, 297


@pytest.fixture
def forms(monkeypatch) -> list[int]:
    """The numbers of environments of the vectorised forms that are made from here on."""
    made = []

    def note(form, name):
        made.append(form.num_envs)
        return FormVector(form, name)

    monkeypatch.setattr(make, "FormVector", note)
    return made


def run(folder, name, **fields):
    agent, env_id, own = CASES[name]
    given = {"num_envs": NUM_ENVS, "total_steps": STEPS, "eval_max_steps": 50, "seed": 2} | own | fields
    return learn(folder, agent, env_id, **given)


@pytest.mark.parametrize("name", ["table", "masks", "rollouts"])  # a network is resumed below
def test_a_run_is_that_on_single_environments(name, tmp_path, monkeypatch, forms):
    run(tmp_path / "form", name)
    assert forms == [NUM_ENVS]
    monkeypatch.setattr(make, "FEWEST", NUM_ENVS + 1)
    run(tmp_path / "single", name)
    assert forms == [NUM_ENVS]
    assert fingerprint(tmp_path / "form") == fingerprint(tmp_path / "single")
    one, other = (read_description(tmp_path / folder) for folder in ("form", "single"))
    assert one.config_sha256 == other.config_sha256


@pytest.mark.parametrize("name", ["table", "network"])
def test_a_stopped_run_goes_on_exactly_also_on_single_environments(name, tmp_path, monkeypatch, forms):
    run(tmp_path / "whole", name)
    for folder in ("form", "single"):
        run(tmp_path / folder, name, stop_at=STOP)
        assert not (tmp_path / folder / "summary.json").exists()
        if folder == "single":
            monkeypatch.setattr(make, "FEWEST", NUM_ENVS + 1)
        launch.resume(tmp_path / folder)
        assert fingerprint(tmp_path / folder) == fingerprint(tmp_path / "whole")
    assert forms == [NUM_ENVS] * 4


def test_recorded_episodes_happen_again_in_a_single_environment(tmp_path, forms):
    run(tmp_path / "run", "table", env_kwargs={"slip": 0.5, "map": "S.S\n..G\nS.P"})
    assert forms == [NUM_ENVS]
    source, episodes = watched(tmp_path / "run"), past_episodes(tmp_path / "run")
    assert len({episode.env_index for episode in episodes}) == NUM_ENVS
    assert all(replay_unseen(source, episode).agrees for episode in picked(episodes, "every:3", tmp_path))


def test_evaluations_are_the_same_whatever_their_width(tmp_path):
    summaries = [
        run(tmp_path / str(width), "table", eval_envs=width, eval_episodes=10).summary for width in (2, 9)
    ]
    assert summaries[0]["eval_returns"] == summaries[1]["eval_returns"]


class TestOtherEpisodes:
    def test_are_named_recorded_and_resumed_but_not_played_again(self, tmp_path):
        fields = {"num_envs": 3, "total_steps": 60, "vector": "own", "wandb": "disabled"}
        with registered():
            with pytest.warns(
                UserWarning, match=f"the vector of {OWN} plays episodes of its own: with the same seed"
            ):
                learn(tmp_path / "run", "random", OWN, **fields)
            assert {row["length"] for row in read_episodes(tmp_path / "run")} == {6}
            with pytest.warns(UserWarning, match="plays episodes of its own"), asking_to_stop(33):
                learn(tmp_path / "stopped", "random", OWN, **fields)
            with pytest.warns(UserWarning, match="plays episodes of its own"):
                launch.resume(tmp_path / "stopped")
            assert fingerprint(tmp_path / "stopped") == fingerprint(tmp_path / "run")
            config = read_description(tmp_path / "run").config
            assert config.vector == "own"
            with pytest.raises(
                UsageError, match=r"--training-episode best: the vector .* \(allowed: without it\)"
            ):
                require_episodes(config, "best")

    def test_are_learned_from_alone_and_evaluations_are_those_of_single_environments(self, tmp_path):
        fields = {"num_envs": 3, "total_steps": 60, "eval_episodes": 4, "wandb": "disabled"}
        with registered():
            single = learn(tmp_path / "sync", "random", OWN, **fields, eval_envs=1).summary
            for width in (1, 4):
                with pytest.warns(UserWarning, match="plays episodes of its own"):
                    own = learn(tmp_path / str(width), "random", OWN, **fields, vector="own", eval_envs=width)
                assert own.summary["eval_returns"] == single["eval_returns"]
                assert own.summary["eval_length_mean"] == single["eval_length_mean"] != 6  # the form's
            alone = fields | {"num_envs": 1, "vector": "own"}
            one = learn(tmp_path / "one", "random", OWN, **alone, eval_envs=4).summary
            assert one["eval_returns"] == single["eval_returns"]

    def test_a_form_that_is_not_there_is_refused_before_there_is_a_folder(self, tmp_path):
        with pytest.raises(UsageError, match="vector own needs a vectorised form, and Acrobot-v1 has none"):
            learn(tmp_path / "run", "random", "Acrobot-v1", num_envs=2, vector="own", total_steps=10)
        assert not (tmp_path / "run").exists()
