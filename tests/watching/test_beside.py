"""What is watched side by side on the page: kept checkpoints, random, a person; refusals in a line."""

from __future__ import annotations

import re

import numpy as np
import pytest

from rl_lab.evaluation.evaluate import evaluation_seed
from rl_lab.types import UsageError
from rl_lab.watching import desk
from rl_lab.watching.beside import watched_beside
from rl_lab.watching.films import played
from rl_lab.watching.guard import Guard
from rl_lab.watching.human import HumanPolicy
from rl_lab.watching.opening import live_page
from rl_lab.watching.sources import Environment, ModelFile
from runs import learn


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run of Q-learning with several checkpoints kept."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    fields = {"total_steps": 400, "checkpoint_every_steps": 100, "keep_checkpoints": 9, "keep_best": 0}
    learn(folder, "q-learning", "FrozenLake-v1", seed=2, **fields)
    return str(folder)


@pytest.fixture
def opened(monkeypatch):
    """Opens pages, and closes their sessions afterwards."""
    monkeypatch.setattr(desk, "give_way", lambda: None)
    sessions = []

    def open_page(*shown):
        page = live_page(shown, Guard(1))
        sessions.append(page.player.session)
        return page

    yield open_page
    for session in sessions:
        session.close()


def test_two_checkpoints_of_one_run_stand_side_by_side(run_dir, opened):
    shown = watched_beside([run_dir], ["200", "last"])
    assert [one.note for one in shown] == ["the checkpoint at step 200", "the last checkpoint, at step 400"]
    assert [one.is_newest for one in shown] == [False, True]
    page = opened(*shown)
    labels = [agent["label"] for agent in page._hello["agents"]]
    assert labels == [
        "q-learning on FrozenLake-v1, the checkpoint at step 200",
        "q-learning on FrozenLake-v1, the last checkpoint, at step 400",
    ]
    assert list(page.player._idle.__self__._following) == [1]  # an older one isn't replaced by newer ones


def test_what_is_no_run_plays_where_the_run_beside_it_does(run_dir, opened):
    run, random = watched_beside([run_dir, "random"], ["200"])
    assert run.note == "the checkpoint at step 200"
    assert random.config == run.config
    session = opened(run, random).player.session
    first, second = session.view().lanes
    assert first.scene.picture == second.scene.picture
    assert second.figures["insight"]["values"] == [0.25] * 4
    session.advance()
    assert session.view().figures["episode_seed"] == evaluation_seed(2, 0)


def test_a_person_plays_from_the_start_beside_the_agent(run_dir, opened):
    page = opened(*watched_beside([run_dir, "human"]))
    session = page.player.session
    assert [agent["human"] for agent in page._hello["agents"]] == [False, True]
    assert session.human == 1
    assert not session.advance()  # no key is held
    session.press(2)
    assert session.advance()
    assert [agent.track.last.by for agent in session.agents] == ["agent", "human"]
    insight = session.view().lanes[1].figures["insight"]
    assert (insight["values"], insight["chosen"], insight["regret"]) == (None, None, None)
    assert isinstance(session.agents[1].track.lane.policy, HumanPolicy)


def test_a_person_or_chance_alone_needs_an_environment(opened):
    (one,) = watched_beside(["random"], environment=Environment("FrozenLake-v1", seed=4))
    page = opened(one)
    assert page.player.session.seed == 4
    assert page._hello["past_episodes"] == 0
    page.player._idle(page.player.session)  # nothing to follow


def test_episodes_of_chance_differ_and_can_be_seen_again(opened):
    (one,) = watched_beside(["random"], environment=Environment("FrozenLake-v1", {"is_slippery": False}))
    session = opened(one).player.session
    seen = []
    for _ in range(4):
        while not session.is_over:
            session.advance()
        seen.append([int(a) for a in session.agents[0].track.lane.actions])
        session.next_episode()
    assert len({tuple(actions) for actions in seen}) == 4
    session.restart(0)
    while not session.is_over:
        session.advance()
    assert [int(a) for a in session.agents[0].track.lane.actions] == seen[0]
    filmed = [[]]
    for moment in played(one, episodes=4):
        filmed[-1] += [] if moment.action is None else [int(moment.action)]
        filmed += [[]] if moment.action is None else []
    assert filmed[:4] == seen


@pytest.mark.parametrize(
    ("specs", "fields", "complaint"),
    [
        (["RUN"], {"checkpoints": ["7"]}, "no checkpoint at step 7"),
        (["RUN"], {"checkpoints": ["early"]}, "checkpoint 'early' is unknown (allowed: last, best, or"),
        (["RUN", "RUN", "RUN"], {"checkpoints": ["last", "100"]}, "2 checkpoints for 3 policies"),
        (["RUN", "random"], {"checkpoints": ["last", "100"]}, "'random' has no checkpoint 100"),
        (["RUN", "random"], {"environment": Environment("CartPole-v1")}, "has an environment of its own"),
        (["RUN"], {"model_file": ModelFile("dqn")}, "is no model file of SB3's"),
        (["random"], {}, "'random' plays no environment of its own (allowed: with --env-id ID)"),
        (["RUN", "nowhere.zip"], {}, "model file 'nowhere.zip' is not there"),
    ],
)
def test_what_can_not_be_shown_is_refused_in_a_line(run_dir, specs, fields, complaint):
    with pytest.raises(UsageError, match=re.escape(complaint)):
        watched_beside([run_dir if spec == "RUN" else spec for spec in specs], **fields)


def test_a_model_file_beside_a_run_needs_trust(run_dir, tmp_path):
    (tmp_path / "model.zip").write_bytes(b"PK")
    with pytest.raises(UsageError, match="its pickles run whatever code"):
        watched_beside([run_dir, str(tmp_path / "model.zip")])


def test_reasons_that_nobody_can_find_are_refused(run_dir, opened):
    session = opened(*watched_beside([run_dir])).player.session
    assert session.agents[0].track.lane.reasons.methods == ()
    with pytest.raises(UsageError, match=r"reasons by 'gradient' can't be found here \(allowed: none\)"):
        session.set_reasons("gradient")
    assert np.isfinite(session.view().lanes[0].figures["total"])
