"""Reasons of decisions on the page: saliency in the picture, contributions beside it, those of the same decision."""

from __future__ import annotations

import numpy as np
import pytest

from rl_lab.explanation.attribution import attribution
from rl_lab.explanation.saliency import saliency_overlay
from rl_lab.watching.lane import Lane
from rl_lab.watching.reasons import reasons_of
from rl_lab.watching.sources import Environment, watched
from rl_lab.watching.thoughts import thoughts_of
from rl_lab.watching.track import Track
from runs import SMALL_DQN, learn


def track_of(source, kept=600) -> Track:
    """A track whose pictures are arrays."""
    thoughts = thoughts_of(source)
    lane = Lane(source.policy, source.make, thoughts, encode=np.array)
    lane.begin(0)
    lane.reasons = reasons_of(source.policy, thoughts.facts, *lane.asked)
    track = Track(lane, kept)
    track.begin(5)
    return track


@pytest.fixture(scope="module")
def on_images(tmp_path_factory):
    """A recurrent network that sees pixels."""
    folder = tmp_path_factory.mktemp("seen") / "run"
    fields = SMALL_DQN | {"total_steps": 60, "memory": "lstm", "memory_size": 8, "encoder": "cnn"}
    learn(folder, "dqn", "lab/GridWorldPixels-v0", **fields)
    return watched(folder)


@pytest.mark.parametrize("kept", [600, 2])
def test_saliency_is_that_of_the_decision_with_its_carry_also_where_it_is_replayed(on_images, kept):
    track, twin = track_of(on_images, kept), track_of(on_images)
    assert track.lane.reasons.methods == ("gradient", "perturbation")
    space, expected = on_images.problem.spec.observation_space, []
    for _ in range(5):
        plain = twin.at(twin.last.step)[1].picture
        obs, state, is_first, mask = twin.lane.asked
        expected.append(
            saliency_overlay(
                on_images.policy, obs, state, is_first, plain, space=space, method="gradient", mask=mask
            )
        )
        assert not np.array_equal(expected[-1], plain)
        twin.step()
        track.step()
    for step in (3, 1, 4):
        plain = track.at(step)[1].picture
        np.testing.assert_array_equal(track.at(step, "gradient")[1].picture, expected[step])
        np.testing.assert_array_equal(track.at(step)[1].picture, plain)  # and it can be switched off
    for one in (track, twin):
        one.close()


def test_numbers_of_a_vector_have_contributions_and_the_picture_stays(tmp_path):
    learn(tmp_path / "run", "dqn", "CartPole-v1", **(SMALL_DQN | {"total_steps": 60}))
    source = watched(tmp_path / "run")
    track = track_of(source)
    assert track.lane.reasons.methods == ("contributions",)
    track.step()
    plain = track.at(1)[1]
    assert plain.contributions is None
    found = track.at(1, "contributions")[1]
    np.testing.assert_array_equal(found.picture, plain.picture)
    facts = track.lane.reasons.facts
    assert found.contributions == attribution(source.policy, *track.lane.asked, facts).as_dict()
    assert found.contributions["names"][2] == "pole angle"
    track.close()


def test_there_are_none_at_an_episodes_end_and_of_what_tells_no_figures(on_images):
    track = track_of(on_images)
    while not track.last.ended:
        track.step()
    last = track.last.step
    np.testing.assert_array_equal(track.at(last, "gradient")[1].picture, track.lane.scene().picture)
    track.close()
    for spec, env_id in (("random", "lab/GridWorldPixels-v0"), ("human", "CartPole-v1")):
        track = track_of(watched(spec, environment=Environment(env_id)))
        assert track.lane.reasons.methods == ()
        track.close()
