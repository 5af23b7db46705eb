"""The problem that a learner gets: its spec, its model and the cells of its states, from one instance."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.toy_text import FrozenLakeEnv
from gymnasium.wrappers import FrameStackObservation, TimeLimit, TransformReward

import rl_lab.envs  # noqa: F401  registers lab/*
from odd_models import RichGoal
from rl_lab.environments.layout import cells_of
from rl_lab.problem import frame_stack_of
from toys import CueRecall, Masked, problem_on


class TestProbing:
    def test_spec_is_that_of_the_environment(self):
        problem = problem_on(lambda: gymnasium.make("Taxi-v4"), num_envs=3)
        spec = problem.spec
        assert (spec.env_id, spec.num_envs, spec.max_episode_steps) == ("toy", 3, 200)
        assert (spec.observation_space, spec.action_space) == (spaces.Discrete(500), spaces.Discrete(6))
        assert (spec.has_mask, spec.has_lives, spec.frame_stack) == (True, False, 1)
        assert problem.model.available.shape == (500, 6)

    def test_masks_are_noticed_and_models_need_not_be_there(self):
        assert problem_on(Masked).spec.has_mask
        assert not problem_on(CueRecall).spec.has_mask
        assert problem_on(CueRecall).model is problem_on(CueRecall).layout is None

    def test_another_seed_asks_no_instance_again(self):
        made = []

        def make():
            made.append(gymnasium.make("FrozenLake-v1"))
            return made[-1]

        problem = problem_on(make)
        model = problem.model
        problem.check()
        count, other = len(made), problem.with_seed(9)
        other.check()
        assert (other.seed, other.model is model, other.spec, len(made)) == (9, True, problem.spec, count)

    def test_one_instance_is_made_when_it_is_first_asked_for(self):
        made = []

        def make():
            made.append(CueRecall())
            return made[-1]

        problem = problem_on(make)
        assert made == []
        assert problem.spec is problem.spec
        assert problem.model is None
        assert len(made) == 1

    def test_a_model_that_is_wrong_only_in_a_remote_state_is_not_given(self):
        problem = problem_on(RichGoal)
        assert problem.model is None
        assert "reward 5, the end; the model allows" in problem.model_fault
        assert "(so nothing exact is reported)" in problem.warnings[0]


class TestCells:
    def test_of_toy_text_are_numbered_row_by_row(self):
        cells = cells_of(gymnasium.make("FrozenLake-v1"))
        assert cells.shape == (16, 2)
        assert cells[5].tolist() == [1, 1]
        assert cells_of(gymnasium.make("CliffWalking-v1"))[47].tolist() == [3, 11]

    def test_of_the_labs_own_are_those_that_they_tell(self):
        assert cells_of(gymnasium.make("lab/GridWorld-v0", map="S.\n.G"))[:2].tolist() == [[0, 0], [0, 1]]

    @pytest.mark.parametrize(("name", "value"), [("cells", lambda self: 3), ("shape", np.array([4, 4]))])
    def test_attributes_of_those_names_that_are_others_are_left_alone(self, name, value):
        foreign = type("Foreign", (FrozenLakeEnv,), {name: value})
        assert cells_of(foreign()).shape == (16, 2)

    def test_there_are_none_without_a_grid(self):
        assert cells_of(gymnasium.make("CartPole-v1")) is None
        assert cells_of(gymnasium.make("Taxi-v4")) is None


class Frames(gymnasium.Env):
    """Shows nothing but zeros."""

    observation_space, action_space = spaces.Box(0, 255, (4, 4), np.uint8), spaces.Discrete(2)


@pytest.mark.parametrize(
    ("env", "frames"),
    [
        (Frames(), 1),
        (FrameStackObservation(Frames(), 3), 3),
        (TimeLimit(FrameStackObservation(Frames(), 3), 5), 3),
        (TransformReward(FrameStackObservation(Frames(), 3), float), 1),  # it might do anything
    ],
    ids=["none", "stacked", "beneath a time limit", "beneath a stranger"],
)
def test_a_stack_of_frames_counts_where_nothing_hides_it(env, frames):
    assert frame_stack_of(env) == frames
