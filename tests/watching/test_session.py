"""Sessions: the episodes of an evaluation, step by step; scrubbing, replay, speed, a human's part."""

from __future__ import annotations

import numpy as np
import pytest

from rl_lab.environments.make import make_envs
from rl_lab.environments.vectors import SingleVector
from rl_lab.evaluation.evaluate import evaluate, evaluation_seed
from rl_lab.types import Decision, UsageError
from rl_lab.watching.past import PastEpisode
from rl_lab.watching.session import Pick
from watched_games import FirstLegal, balancing, make_cartpole, make_narrow, remembering, session_of

RAW = {"encode": lambda frame: np.array(frame)}


class Overheard:
    """A policy that keeps what it was asked and what it answered."""

    def __init__(self, policy):
        self.policy, self.heard = policy, []
        self.initial_state = policy.initial_state
        self.inspect = policy.inspect

    def act(self, obs, state, is_first, mask=None) -> Decision:
        """Act, and remember the action and the Q-values."""
        values = self.policy.inspect(obs, state, is_first, mask)["q_values"][0].tolist()
        decision = self.policy.act(obs, state, is_first, mask)
        self.heard.append((bool(is_first[0]), int(decision.action[0]), values))
        return decision


@pytest.mark.parametrize("policy", [balancing(), remembering()], ids=["memoryless", "with a carry"])
def test_two_episodes_are_those_of_an_evaluation_with_the_same_seed(policy):
    overheard = Overheard(policy)
    envs = make_envs("CartPole-v1")
    result = evaluate(overheard, envs, episodes=2, seed=7)
    envs.close()
    session, seen, totals = session_of(policy, seed=7), [], []
    while len(totals) < 2:
        moment = session.agents[0].track.last
        if moment.ended:
            totals.append(moment.total)
        else:
            seen.append((moment.step == 0, moment.action, moment.insight["values"]))
        session.advance()
    session.close()
    assert seen == overheard.heard
    assert totals == result.returns.tolist()


def test_frames_are_those_that_the_environment_renders_from_this_seed_and_these_actions():
    session = session_of(balancing(), seed=3, **RAW)
    frames = [session.view().lanes[0].scene.picture]
    for _ in range(5):
        session.advance()
        frames.append(session.view().lanes[0].scene.picture)
    envs = SingleVector(make_cartpole())
    envs.reset(seed=[evaluation_seed(3, 0)])
    for frame, action in zip(frames, [*session.agents[0].track.lane.actions, None], strict=True):
        assert (frame == envs.render()[0]).all()
        if action is not None:
            envs.step(action[None])
    envs.close()
    session.close()


@pytest.mark.parametrize("policy", [balancing(), remembering()], ids=["memoryless", "with a carry"])
def test_moments_that_are_no_longer_kept_are_replayed_and_equal_those_that_were_seen(policy):
    session = session_of(policy, kept=5, **RAW)
    seen = [session.view().lanes[0]]
    for _ in range(30):
        session.advance()
        seen.append(session.view().lanes[0])
    assert session.agents[0].track.kept_from == 26
    for step in (0, 12, 3, 25, 26, 30):
        session.seek(step)
        shown = session.view().lanes[0]
        assert (shown.scene.picture == seen[step].scene.picture).all()
        for name in ("step", "reward", "total", "action", "insight"):
            assert shown.figures[name] == seen[step].figures[name], name
    session.close()


def test_playing_from_a_step_that_was_scrubbed_to_shows_what_was_and_then_goes_on():
    session, twin = session_of(balancing()), session_of(balancing())
    for _ in range(10):
        session.advance()
    session.seek(4)
    assert session.position == 4
    assert session.newest == 10
    for _ in range(10):
        session.advance()
    for _ in range(14):
        twin.advance()
    assert session.position == session.newest == 14
    assert session.view().lanes[0].figures["insight"] == twin.view().lanes[0].figures["insight"]
    with pytest.raises(UsageError, match="step 15 wasn't played"):
        session.seek(15)
    session.close()
    twin.close()


def test_a_seed_restarts_at_its_first_episode_and_next_goes_to_the_second():
    session = session_of(balancing(-1.0), seed=0)
    session.next_episode()
    assert session.view().figures["episode_seed"] == evaluation_seed(0, 1)
    session.restart(5)
    assert (session.seed, session.episode) == (5, 0)
    assert session.view().figures["episode_seed"] == evaluation_seed(5, 0)
    session.advance()
    session.restart()
    assert session.position == 0
    assert session.view().figures["episode_seed"] == evaluation_seed(5, 0)
    session.close()


def test_two_agents_play_the_same_seed_and_the_shorter_episode_waits_for_the_longer():
    session = session_of(balancing(), balancing(-1.0))
    first, second = session.view().lanes
    assert (first.scene, first.figures["step"]) == (second.scene, second.figures["step"])
    while not session.agents[1].track.last.ended:
        session.advance()
    ended_at = session.agents[1].track.last.step
    for _ in range(3):
        session.advance()
    lanes = session.view().lanes
    assert [lane.figures["step"] for lane in lanes] == [ended_at + 3, ended_at]
    assert not session.is_over
    session.close()


def test_an_episode_that_is_over_stands_for_a_while_and_then_the_next_begins():
    session = session_of(balancing(-1.0))
    assert session.seconds_to_next == pytest.approx(0.02)
    session.set_speed(2.0)
    assert session.seconds_to_next == pytest.approx(0.01)
    while not session.is_over:
        session.advance()
    assert session.seconds_to_next == 0.9
    session.set_speed(0.0)
    assert session.seconds_to_next == 0.0
    session.advance()
    assert (session.episode, session.position) == (1, 0)
    session.close()


def test_a_human_takes_over_moves_by_keys_alone_and_hands_back():
    session = session_of(balancing())
    with pytest.raises(UsageError, match="the agent acts"):
        session.press(0)
    session.take_over()
    assert not session.advance()  # no key is held
    session.press(0)
    session.release()
    assert session.advance()  # a key that was pressed counts once, however short
    assert not session.advance()
    session.press(1)
    assert session.advance()
    assert session.advance()
    lane = session.agents[0].track.lane
    assert [int(a) for a in lane.actions] == [0, 1, 1]
    assert session.view().lanes[0].figures["by"] == "human"
    with pytest.raises(UsageError, match=r"action 2 isn't there \(allowed: 0 to 1\)"):
        session.press(2)
    session.hand_back()
    wanted = session.agents[0].track.last.action
    assert session.advance()
    assert int(lane.actions[-1]) == wanted
    assert session.view().lanes[0].figures["by"] == "agent"
    assert [played.human_steps for played in session.all_played()] == [3]
    session.close()


@pytest.fixture
def narrow():
    """A session of a corridor in which a human acts, and action 2 (of 1 to 3) is illegal at first."""
    session = session_of(FirstLegal(), make=make_narrow, names=())
    session.take_over()
    yield session
    session.close()


def taken(session) -> list[int]:
    """Return the actions of the open episode."""
    return [int(action) for action in session.agents[0].track.lane.actions]


def test_a_key_that_stands_for_an_illegal_action_is_refused_and_the_page_told_which_are(narrow):
    with pytest.raises(UsageError, match=r"action 2 is illegal here \(allowed: 1, 3\)"):
        narrow.press(2)
    assert not narrow.advance()
    assert narrow.view().figures["illegal"] == [2]
    narrow.press(3)
    assert narrow.advance()
    narrow.press(2)  # it is legal now
    narrow.release()
    assert narrow.view().figures["illegal"] == [3]
    assert narrow.advance()
    assert taken(narrow) == [3, 2]
    narrow.hand_back()
    assert narrow.view().figures["illegal"] == []


def test_a_key_that_is_held_while_its_action_becomes_illegal_is_waited_with(narrow):
    narrow.play()
    narrow.press(1)
    assert narrow.advance()
    assert not narrow.advance()
    assert narrow.view().figures["waiting"]
    narrow.hand_back()
    assert narrow.advance()
    assert taken(narrow) == [1, 2]


def test_an_action_that_does_nothing_is_waited_with_while_it_is_illegal():
    session = session_of(FirstLegal(), make=make_narrow, names=("a", "noop", "b"))
    session.play()
    session.take_over()
    assert not session.advance()
    assert session.view().figures["waiting"]
    session.press(1)
    session.release()
    assert session.advance()
    assert session.advance()  # by itself
    assert taken(session) == [1, 2]
    session.close()


def test_a_mask_is_that_of_the_newest_step_and_of_no_importance_at_the_end(narrow):
    for action in (3, 1, 3, 1):
        narrow.press(action)
        assert narrow.advance()
    narrow.seek(1)
    with pytest.raises(UsageError, match="action 1 is illegal here"):
        narrow.press(1)
    narrow.seek(4)
    narrow.press(3)
    assert narrow.advance()
    assert narrow.is_over
    assert narrow.view().figures["illegal"] == []
    narrow.press(3)


def past(row: int, steps: int, returned: float, terminated: bool = False) -> PastEpisode:
    """An episode as it is on record."""
    return PastEpisode(row, 0, row, 42 + row, returned, steps, terminated, False, 1000)


def alternating(episode: PastEpisode) -> list[np.ndarray]:
    """Its actions."""
    return [np.array(i % 2) for i in range(episode.length)]


def play_to_the_end(session) -> dict:
    while not session.is_over:
        session.advance()
    return session.view().figures


def test_past_episodes_follow_their_actions_and_say_whether_they_agree():
    session = session_of(balancing(-1.0))
    session.show_past(Pick([past(3, 6, 6.0)], alternating))
    assert session.view().figures["check"] is None
    with pytest.raises(UsageError, match="a past episode is as it was"):
        session.take_over()
    figures = play_to_the_end(session)
    assert (figures["past"]["row"], figures["past"]["length"]) == (3, 6)
    assert figures["check"] == {
        "agrees": True, "text": "training episode 3: return 6 and length 6 are those in episodes.csv",
    }  # fmt: skip
    assert [int(a) for a in session.agents[0].track.lane.actions] == [0, 1, 0, 1, 0, 1]
    for wrong, named in (
        (past(3, 6, 7.0), "return 6.0 instead of 7.0"),
        (past(3, 6, 6.0, True), "terminated"),
    ):
        session.show_past(Pick([wrong], alternating))
        check = play_to_the_end(session)["check"]
        assert not check["agrees"]
        assert named in check["text"]
        assert "game is not deterministic" in check["text"]
    session.show_past(Pick([past(3, 6, 7.0)], alternating, "numpy was 1 and is 2"))
    assert "numpy was 1 and is 2" in play_to_the_end(session)["check"]["text"]
    session.close()


def test_picked_episodes_follow_one_another_and_then_the_seeds_own_again():
    session = session_of(balancing(-1.0))
    read = []
    session.show_past(
        Pick([past(k, 4, 4.0) for k in (0, 5, 10)], lambda e: read.append(e.row) or alternating(e))
    )
    seen = []
    for _ in range(3):
        figures = play_to_the_end(session)
        seen.append((figures["past"]["row"], figures["past"]["place"], figures["past"]["of"]))
        assert figures["episode_seed"] == 42 + figures["past"]["row"]
        session.advance()
    assert seen == [(0, 0, 3), (5, 1, 3), (10, 2, 3)]
    assert read == [0, 5, 10]  # each when it is its turn
    assert session.view().figures["past"] is None
    assert session.view().figures["episode"] == 0
    session.close()


def test_a_new_policy_acts_from_the_next_episode_on():
    session = session_of(balancing())
    session.advance()
    other = balancing(-1.0)
    session.agents[0].fresh = other, "the checkpoint at step 20"
    session.advance()
    assert session.agents[0].track.lane.policy is not other
    assert session.view().lanes[0].figures["note"] == ""
    session.next_episode()
    assert session.agents[0].track.lane.policy is other
    assert session.view().lanes[0].figures["note"] == "the checkpoint at step 20"
    session.close()


def test_only_what_is_shown_is_drawn_and_what_was_skipped_is_drawn_when_it_is_asked_for():
    """Rendered frames are counted; those of skipped steps equal those that were shown at once."""
    drawn = []
    session = session_of(balancing(), encode=lambda frame: drawn.append(1) or np.array(frame))
    twin = session_of(balancing(), **RAW)
    frames = [twin.view().lanes[0].scene.picture]
    session.view()
    for _ in range(20):
        session.advance()
        twin.advance()
        frames.append(twin.view().lanes[0].scene.picture)
    session.view()
    assert len(drawn) == 2
    for step in (7, 3, 19, 7):
        session.seek(step)
        assert (session.view().lanes[0].scene.picture == frames[step]).all()
    assert len(drawn) == 5  # step 7 is kept
    session.close()
    twin.close()


def test_who_played_an_older_step_is_still_known_when_it_is_replayed():
    session = session_of(balancing(), kept=2)
    session.take_over()
    session.press(0)
    session.advance()
    session.hand_back()
    for _ in range(5):
        session.advance()
    by = []
    for step in (1, 2):
        session.seek(step)
        by.append(session.view().lanes[0].figures["by"])
    assert by == ["human", "agent"]
    session.close()
