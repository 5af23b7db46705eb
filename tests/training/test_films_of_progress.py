"""Films at a period: of the policy as it is then, apart from training, and without a change to what is learned."""

from __future__ import annotations

import imageio.v3 as imageio
import pytest

from rl_lab.evaluation import watch
from rl_lab.runs.config import RunConfig
from rl_lab.runs.description import read_description
from rl_lab.runs.run import Run
from rl_lab.storage.errors import NotWritten
from rl_lab.training.launch import resume
from rl_lab.types import UsageError
from rl_lab.watching.films import played
from rl_lab.watching.sources import watched
from runs import SMALL_DQN, learn

PERIOD = {"total_steps": 200, "video_every_steps": 60}
AGENTS = {
    "dqn": {"env_id": "CartPole-v1", **SMALL_DQN},
    "q-learning": {"env_id": "FrozenLake-v1"},
    "ppo": {"env_id": "CartPole-v1", "n_steps": 20, "num_envs": 2, "hidden": (8,)},
    "sb3-a2c": {"env_id": "CartPole-v1"},
}


def films(folder):
    return sorted(path.name for path in (folder / "videos").glob("*.mp4"))


@pytest.mark.parametrize("agent", AGENTS)
def test_nothing_that_is_learned_depends_on_them(tmp_path, monkeypatch, agent):
    monkeypatch.setattr(watch, "FILMED_STEPS", 15)
    hashes, described = [], []
    for name, fields in (("with", PERIOD), ("without", {"total_steps": 200})):
        result = learn(tmp_path / name, agent, **AGENTS[agent], **fields)
        hashes.append((result.summary["weights_sha256"], (tmp_path / name / "episodes.csv").read_bytes()))
        described.append(read_description(tmp_path / name).config_sha256)
    assert hashes[0] == hashes[1]
    assert described[0] == described[1]
    assert films(tmp_path / "with") == [f"step-{at:012d}.mp4" for at in (60, 120, 180)]
    assert films(tmp_path / "without") == []


def test_each_shows_the_policy_of_its_step(tmp_path):
    fields = {
        "checkpoint_every_steps": 60,
        "keep_checkpoints": 9,
        "seed": 3,
        "env_kwargs": {"is_slippery": False},
    }
    learn(tmp_path, "q-learning", "FrozenLake-v1", **PERIOD, **fields)
    for at in (60, 120, 180):
        shown = list(played(watched(tmp_path, at_step=at), episodes=1))
        assert len(imageio.imread(tmp_path / "videos" / f"step-{at:012d}.mp4")) == len(shown)


def test_their_time_is_not_that_of_training(tmp_path, monkeypatch):
    inside = []

    def film(path, policy, config, episodes, should_stop):
        inside.append(seen[0]._clock._pause_began is not None)

    seen, original = [], Run.moment

    def moment(self, *args):
        seen[:] = [self]
        return original(self, *args)

    monkeypatch.setattr(Run, "moment", moment)
    monkeypatch.setattr(watch, "film", film)
    learn(tmp_path, "q-learning", "FrozenLake-v1", **PERIOD)
    assert inside == [True, True, True]


def test_what_fails_is_told_once_and_training_goes_on(tmp_path, monkeypatch, recwarn):
    def full(self, frame):
        raise NotWritten("the disk is full")

    monkeypatch.setattr(watch.VideoWriter, "add", full)
    result = learn(tmp_path, "q-learning", "FrozenLake-v1", **PERIOD)
    assert result.summary["env_steps"] == 200
    assert [str(w.message) for w in recwarn if "disk" in str(w.message)] == ["no video: the disk is full"]


def test_a_signal_ends_a_film_and_the_run_is_saved(tmp_path, monkeypatch):
    calls = []

    def film(path, policy, config, episodes, should_stop):
        calls.append(path.name)
        if len(calls) == 1:
            should_stop.__self__.stop_requested = True
            assert should_stop()
            return "ends"
        return None

    monkeypatch.setattr(watch, "film", film)
    result = learn(tmp_path, "q-learning", "FrozenLake-v1", **PERIOD)
    assert result.summary is None
    assert calls == ["step-000000000060.mp4"]
    resume(tmp_path)
    assert calls == [f"step-{at:012d}.mp4" for at in (60, 120, 180)]


def test_film_stops_where_it_is_asked_to_and_stays_playable(tmp_path):
    learn(tmp_path / "run", "random", "CartPole-v1", total_steps=10)
    source, asked = watched(tmp_path / "run"), []

    def should_stop():
        asked.append(1)
        return len(asked) == 5

    said = watch.film(tmp_path / "a.mp4", source.policy, source.config, 1, should_stop)
    assert said == "a.mp4 ends after 5 frames, where the run was asked to stop"
    assert len(imageio.imread(tmp_path / "a.mp4")) == 5


def test_an_environment_that_fails_leaves_a_film_and_is_named(tmp_path, monkeypatch):
    learn(tmp_path / "run", "random", "CartPole-v1", total_steps=10)
    source = watched(tmp_path / "run")
    from gymnasium.envs.classic_control.cartpole import CartPoleEnv

    original, steps = CartPoleEnv.step, []

    def step(self, action):
        steps.append(1)
        if len(steps) == 4:
            raise RuntimeError("the pole is gone")
        return original(self, action)

    monkeypatch.setattr(CartPoleEnv, "step", step)
    said = watch.film(tmp_path / "a.mp4", source.policy, source.config, 1)
    assert said.startswith("a.mp4 ends after 4 frames: environment CartPole-v1 (")
    assert "the pole is gone" in said
    assert len(imageio.imread(tmp_path / "a.mp4")) == 4


class TestRefuses:
    @pytest.mark.parametrize(("period", "allowed"), [(200, "up to 199"), (1000, "up to 199")])
    def test_a_period_that_leaves_no_film(self, period, allowed):
        with pytest.raises(UsageError, match=f"video_every_steps {period} leaves no film.*{allowed}"):
            RunConfig("FrozenLake-v1", total_steps=200, video_every_steps=period)
        assert RunConfig("FrozenLake-v1", total_steps=200, video_every_steps=199).video_every_steps == 199

    def test_no_steps_between_films(self):
        with pytest.raises(UsageError, match="video_every_steps must be at least 1, got 0"):
            RunConfig("FrozenLake-v1", video_every_steps=0)

    def test_an_agent_that_takes_no_steps(self, tmp_path):
        with pytest.raises(UsageError, match="agent 'value-iteration' takes no steps while it learns"):
            learn(tmp_path, "value-iteration", "FrozenLake-v1", video_every_steps=10)
