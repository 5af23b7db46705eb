"""Past training episodes: choosing them, replaying them to the last bit, and naming those that don't repeat."""

from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from rl_lab.runs.description import read_description
from rl_lab.types import UsageError
from rl_lab.watching.past import (
    Found,
    PastEpisode,
    Replay,
    changed_since,
    past_episodes,
    picked,
    replay_unseen,
    require_episodes,
    verdict,
)
from rl_lab.watching.sources import watched
from runs import learn

RUNS = {
    "CartPole-v1": {"agent": "random", "total_steps": 1500, "num_envs": 2},
    "lab/GridWorld-v0": {"agent": "q-learning", "total_steps": 3000, "eval_episodes": 0},
}


class Whimsical(gymnasium.Env):
    """Rewards what no seed decides, for as many steps as no seed decides."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012
    observation_space, action_space = spaces.Discrete(2), spaces.Discrete(2)
    count = 0

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 4
        return 0, {}

    def step(self, action):
        Whimsical.count += 1
        self.left -= 1
        return 0, float(Whimsical.count), self.left == 0, False, {}

    def render(self):
        return np.full((8, 8, 3), 100, np.uint8)


gymnasium.register("lab-test/Whimsical-v0", Whimsical, disable_env_checker=True)


def episode(row, return_, length=3):
    return PastEpisode(row, 0, row, row, return_, length, True, False, 10 * row)


FIVE = [episode(row, return_) for row, return_ in enumerate([1.0, 5.0, -2.0, 5.0, -2.0])]


class TestPicked:
    @pytest.mark.parametrize(
        ("choice", "rows"),
        [
            ("best", [1]), ("worst", [2]), ("last", [4]), ("every:2", [0, 2, 4]), ("every:9", [0]),
            ("every:1", [0, 1, 2, 3, 4]), ("0", [0]), ("4", [4]),
        ],
    )  # fmt: skip
    def test_a_choice_means_these_rows(self, tmp_path, choice, rows):
        assert [e.row for e in picked(FIVE, choice, tmp_path)] == rows

    @pytest.mark.parametrize(
        "choice", ["first", "every", "every:", "every:0", "every:-1", "every:x", "1.5", "", "best:2"]
    )
    def test_another_choice_is_refused_with_those_that_are_allowed(self, tmp_path, choice):
        with pytest.raises(UsageError, match=r"allowed: best, worst, last, every:N, or a row"):
            picked(FIVE, choice, tmp_path)

    @pytest.mark.parametrize("row", ["-1", "5"])
    def test_a_row_that_is_not_there_is_refused_with_those_that_are(self, tmp_path, row):
        with pytest.raises(UsageError, match=rf"training episode {row} is not in .*allowed: 0 to 4"):
            picked(FIVE, row, tmp_path)

    def test_an_episode_that_no_environment_has_played_is_refused(self, tmp_path):
        simulated = [*FIVE[:4], dataclasses.replace(FIVE[4], seed=-1)]
        with pytest.raises(
            UsageError, match=r"training episode 4 of .* can't be played again: it was simulated"
        ):
            picked(simulated, "last", tmp_path)
        assert picked(simulated, "0", tmp_path) == FIVE[:1]

    def test_a_run_without_episodes_is_refused(self, tmp_path):
        with pytest.raises(UsageError, match="no training episode has ended"):
            picked([], "best", tmp_path)


@pytest.fixture(scope="module", params=RUNS)
def run_dir(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    learn(folder, env_id=request.param, **RUNS[request.param])
    return folder


class TestReplay:
    def test_fifty_random_episodes_happen_again(self, run_dir):
        source, episodes = watched(run_dir), past_episodes(run_dir)
        rows = np.random.default_rng(0).permutation(len(episodes))[:50]
        assert len(rows) == 50
        found = [replay_unseen(source, episodes[row]) for row in rows]
        assert [(f.return_, f.length) for f in found] == [
            (episodes[r].return_, episodes[r].length) for r in rows
        ]
        assert all(f.agrees for f in found)

    def test_what_is_shown_is_what_is_checked(self, run_dir):
        source = watched(run_dir)
        replay = Replay(source, picked(past_episodes(run_dir), "every:20", run_dir))
        shown = list(replay.moments())
        assert len(shown) == sum(e.length + 1 for e in replay.episodes)
        assert len(replay.found) == len(replay.episodes) > 1
        assert verdict(replay.found, "x")[0]
        ends = [m for m in shown if m.action is None]
        assert [m.return_ for m in ends] == [e.return_ for e in replay.episodes]
        assert [(m.terminated, m.truncated) for m in ends] == [
            (e.terminated, e.truncated) for e in replay.episodes
        ]

    def test_other_actions_are_noticed(self, run_dir, monkeypatch):
        source, episodes = watched(run_dir), past_episodes(run_dir)
        e = max(episodes, key=lambda e: e.length)
        file = run_dir / "actions" / "actions.bin"
        data = bytearray(file.read_bytes())
        before = sum(x.length for x in episodes[: e.row])
        item = (
            len(data) // sum(x.length for x in episodes)
            if len(data) % sum(x.length for x in episodes) == 0
            else 1
        )
        changed = bytearray(data)
        for step in range(e.length):
            at = (before + step) * item
            changed[at] = 0
        file.write_bytes(changed)
        try:
            assert not replay_unseen(source, e).agrees
        finally:
            file.write_bytes(data)


@pytest.mark.long
def test_fifty_random_episodes_of_lunar_lander_happen_again(tmp_path):
    learn(tmp_path, "random", "LunarLander-v3", total_steps=6_000, num_envs=2)
    source, episodes = watched(tmp_path), past_episodes(tmp_path)
    rows = np.random.default_rng(0).permutation(len(episodes))[:50]
    assert len(rows) == 50
    found = [replay_unseen(source, episodes[row]) for row in rows]
    assert [(f.return_, f.length) for f in found] == [(episodes[r].return_, episodes[r].length) for r in rows]
    assert verdict(found, "LunarLander-v3")[0]


class TestVerdict:
    def test_an_environment_that_does_not_repeat_is_named(self, tmp_path):
        learn(tmp_path, "random", "lab-test/Whimsical-v0", total_steps=20)
        source, episodes = watched(tmp_path), past_episodes(tmp_path)
        Whimsical.count = 1000
        replay = Replay(source, episodes[:2])
        list(replay.moments())
        agrees, line = verdict(replay.found, source.config.env_id)
        assert not agrees
        assert replay.found[0].return_ > 4 * 1000
        assert line == (
            f"training episode 0 did not happen again: return {replay.found[0].return_}"
            f" instead of {episodes[0].return_};"
            " lab-test/Whimsical-v0 is not deterministic, since the same seed and actions gave another episode"
            " (and 1 more of 2)"
        )

    @pytest.mark.parametrize(
        ("found", "named"),
        [
            ({"return_": 5.000001}, "return 5.000001 instead of 5.0"),
            ({"length": 2}, "length 2 instead of 3"),
            ({"terminated": False}, "terminated False instead of True"),
        ],
    )
    def test_each_difference_is_named(self, found, named):
        one = Found(**({"episode": FIVE[1], "return_": 5.0, "length": 3, "terminated": True} | found))
        assert not one.agrees
        assert named in one.line("E-v0")

    def test_versions_that_have_changed_are_named_instead(self):
        one = Found(FIVE[1], 4.0, 3, True)
        line = one.line("E-v0", "gymnasium was 1.0 and is 1.4")
        assert line.endswith("; gymnasium was 1.0 and is 1.4 since the run began")

    def test_agreement_is_said(self):
        one = Found(FIVE[1], 5.0, 3, True)
        assert verdict([one], "E-v0") == (
            True, "training episode 1: return 5 and length 3 are those in episodes.csv"
        )  # fmt: skip
        assert verdict([one] * 3, "E-v0") == (
            True, "3 training episodes: their returns and lengths are those in episodes.csv"
        )  # fmt: skip


def test_only_versions_that_decide_play_count_as_changed(run_dir):
    description = read_description(run_dir)
    assert changed_since(description) == ""
    other = dataclasses.replace(
        description, versions={**description.versions, "gymnasium": "0.1", "wandb": "0.1"}
    )
    assert changed_since(other).startswith("gymnasium was 0.1 and is 1")


def test_a_run_on_a_dataset_has_no_episodes(run_dir):
    config = read_description(run_dir).config
    require_episodes(config, "best")
    with pytest.raises(UsageError, match="--training-episode best: this run played no training episodes"):
        require_episodes(dataclasses.replace(config, dataset="data"), "best")
