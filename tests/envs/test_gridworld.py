"""The grid world: its map, its three forms of observation, and that its model is what is played."""

from __future__ import annotations

import os

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from scipy import stats

from rl_lab.envs.drawing.grid_panel import AGENT
from rl_lab.envs.gridworld import GridWorld
from rl_lab.envs.maps import MAPS
from rl_lab.mdp.solve import value_iteration

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
FORMS = {
    "state": "lab/GridWorld-v0",
    "coordinates": "lab/GridWorldCoordinates-v0",
    "pixels": "lab/GridWorldPixels-v0",
}
UP, RIGHT, DOWN, LEFT = range(4)
SMALL = "S.G\n.#P"  # states 0 1 2 / 3 # 4


def play(env: gymnasium.Env, actions) -> list[tuple]:
    return [env.step(action) for action in actions]


def follow(env: gymnasium.Env, seed: int, actions) -> tuple[list, list, list]:
    """Return the states, observations and results of one episode."""
    obs, _ = env.reset(seed=seed)
    states, seen, results = [env.unwrapped._state], [obs], []
    for action in actions:
        obs, *result, _ = env.step(action)
        states.append(env.unwrapped._state)
        seen.append(obs)
        results.append(result)
        if result[1]:
            break
    return states, seen, results


class TestMoves:
    def test_walks_stays_at_walls_and_ends_at_the_goal(self):
        env = GridWorld(SMALL, step_reward=-0.5, goal_reward=2.0)
        assert env.reset(seed=0) == (0, {})
        steps = play(env, [UP, DOWN, RIGHT, UP, RIGHT, DOWN, RIGHT])
        assert [step[0] for step in steps] == [0, 3, 3, 0, 1, 1, 2]
        assert [step[1] for step in steps] == [-0.5] * 6 + [1.5]
        assert [step[2] for step in steps] == [False] * 6 + [True]
        assert not any(step[3] for step in steps)

    def test_a_pit_ends_too(self):
        env = GridWorld("SP", step_reward=0.0, pit_reward=-3.0)
        env.reset(seed=0)
        assert env.step(RIGHT)[:3] == (1, -3.0, True)

    def test_rewards_on_entering(self):
        env = GridWorld("S1", step_reward=-1.0, rewards={"1": 5.0})
        env.reset(seed=0)
        assert [step[1] for step in play(env, [RIGHT, RIGHT, LEFT])] == [4.0, 4.0, -1.0]

    def test_spaces_are_floor(self):
        assert GridWorld("S G").observation_space.n == 3

    def test_starts_are_drawn_evenly(self):
        env = GridWorld("SSS.G")
        counts = np.bincount([env.reset(seed=seed)[0] for seed in range(600)])
        assert len(counts) == 3
        assert stats.chisquare(counts).pvalue > 0.001
        np.testing.assert_allclose(env.model().initial, [1 / 3, 1 / 3, 1 / 3, 0, 0])

    @pytest.mark.parametrize("action", [-1, 4, 1.5])
    def test_refuses_other_actions(self, action):
        env = GridWorld()
        env.reset(seed=0)
        with pytest.raises(ValueError, match=f"action {action}"):
            env.step(action)


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"map": "S..\n.G"}, "map row 2 has 2 cells and must have 3"),
            ({"map": "S.x\n..G"}, "character 'x'"),
            ({"map": "defualt"}, "map 'defualt' must be one of .*'default'"),
            ({"map": "..\n.G"}, "no start"),
            ({"map": ""}, "no start"),
            ({"slip": 1.5}, "slip 1.5"),
            ({"slip": float("nan")}, "slip nan"),
            ({"observation": "text"}, "observation 'text' must be one of"),
            ({"render_mode": "ansi"}, "render_mode 'ansi'"),
            ({"rewards": {"G": 1.0}}, "rewards key 'G'"),
            ({"rewards": {"12": 1.0}}, "rewards key '12'"),
            ({"rewards": {"1": float("inf")}}, "rewards of '1' is inf"),
        ],
    )
    def test_one_line_that_names_the_value(self, fields, message):
        with pytest.raises(ValueError, match=message) as raised:
            GridWorld(**fields)
        assert "\n" not in str(raised.value)


class TestModel:
    def test_hand_computed_slip(self):
        model = GridWorld(SMALL, slip=0.2, step_reward=0.0, goal_reward=1.0).model()
        onward = model.continuation.toarray().reshape(5, 4, 5)
        np.testing.assert_allclose(onward[0, RIGHT], [0.1, 0.8, 0, 0.1, 0])  # up stays, down is state 3
        np.testing.assert_allclose(onward[1, RIGHT], [0, 0.2, 0, 0, 0])  # the goal has no continuation
        assert model.expected_reward[1, RIGHT] == pytest.approx(0.8)

    def test_goal_and_pit_are_states_that_never_go_on(self):
        model = GridWorld(SMALL, slip=0.2).model()
        for state in (2, 4):
            np.testing.assert_array_equal(model.termination[state], 1.0)
            np.testing.assert_array_equal(model.expected_reward[state], 0.0)

    def test_sampled_steps_follow_it(self):
        """Each (state, action) is drawn 400 times; the smallest p-value is corrected for their number."""
        env = GridWorld("SS.\nS#G\n1SP", slip=0.3, rewards={"1": 0.5})
        model = env.model()
        env.reset(seed=11)
        p_values = []
        for row in np.flatnonzero(np.repeat(model.termination.min(axis=1) < 1, 4)):
            # Outcomes that end lead to a state as well; so count all of them.
            expected = np.zeros(model.num_states)
            outcomes = slice(model.indptr[row], model.indptr[row + 1])
            np.add.at(expected, model.successor[outcomes], model.probability[outcomes])
            rewards = dict(zip(model.successor[outcomes], model.reward[outcomes], strict=True))
            ends = dict(zip(model.successor[outcomes], model.terminated[outcomes], strict=True))
            counts = np.zeros(model.num_states)
            for _ in range(400):
                env._state = row // 4
                state, reward, terminated, _, _ = env.step(row % 4)
                counts[state] += 1
                assert (rewards[state], ends[state]) == (reward, terminated)
            seen = expected > 0
            assert counts[~seen].sum() == 0
            if seen.sum() > 1:
                p_values.append(stats.chisquare(counts[seen], 400 * expected[seen]).pvalue)
        assert min(p_values) > 0.001 / len(p_values)
        assert stats.kstest(p_values, "uniform").pvalue > 0.001

    @pytest.mark.parametrize("name", sorted(MAPS))
    def test_every_named_map_can_be_solved(self, name):
        solution = value_iteration(
            GridWorld(name, step_reward=-1.0, goal_reward=0.0, pit_reward=-100.0).model(), 1.0
        )
        assert -25 <= solution.v[0 if name != "cliff" else 36] < 0


class TestForms:
    def test_one_problem_in_three_forms(self):
        worlds = {form: gymnasium.make(env_id, slip=0.4) for form, env_id in FORMS.items()}
        actions = np.random.default_rng(2).integers(4, size=60)
        for seed in range(5):
            episodes = {form: follow(env, seed, actions) for form, env in worlds.items()}
            states, _, results = episodes["state"]
            assert len(states) > 10
            for form, (other_states, seen, other_results) in episodes.items():
                assert (other_states, other_results) == (states, results)
                model = worlds[form].unwrapped.model()
                np.testing.assert_array_equal(np.array(seen), model.observe(np.array(states)))

    @pytest.mark.parametrize("form", FORMS)
    def test_every_state_looks_different(self, form):
        env = GridWorld("four_rooms", observation=form)
        model = env.model()
        seen = model.observe(np.arange(model.num_states)).reshape(model.num_states, -1)
        assert len(np.unique(seen, axis=0)) == model.num_states

    def test_coordinates_are_scaled(self):
        env = GridWorld("..S\n...\n...\n..G", observation="coordinates")
        np.testing.assert_array_equal(env.reset(seed=0)[0], np.array([0.0, 1.0], np.float32))
        np.testing.assert_array_equal(
            env.model().observe(np.array([3])), np.array([[1 / 3, 0.0]], np.float32)
        )

    @pytest.mark.parametrize(
        ("world", "shape"), [("SG", (36, 72, 3)), ("default", (40, 40, 3)), ("four_rooms", (39, 39, 3))]
    )
    def test_images_are_at_least_36_pixels(self, world, shape):
        assert GridWorld(world, observation="pixels").observation_space.shape == shape

    def test_cells_are_blocks_of_one_colour(self):
        image = GridWorld("default", observation="pixels").reset(seed=0)[0]
        blocks = image.reshape(8, 5, 8, 5, 3)
        np.testing.assert_array_equal(blocks, np.broadcast_to(blocks[:, :1, :, :1], blocks.shape))
        assert len(np.unique(image.reshape(-1, 3), axis=0)) == 5  # agent, floor, wall, pit, goal


class TestEnvironment:
    @pytest.mark.filterwarnings("ignore::UserWarning")  # a render mode is not asked for here
    @pytest.mark.parametrize("env_id", FORMS.values())
    def test_passes_gymnasiums_check(self, env_id):
        check_env(gymnasium.make(env_id, slip=0.2, render_mode="rgb_array").unwrapped)

    def test_picture_shows_the_agent_where_it_is(self):
        env = GridWorld("default", render_mode="rgb_array")
        env.reset(seed=0)
        first = env.render()
        assert first.dtype == np.uint8
        assert first.shape == (512, 512, 3)
        play(env, [RIGHT, RIGHT])
        second = env.render()
        differs = np.abs(first.astype(int) - second).sum(axis=2) > 0
        rows, columns = np.nonzero(differs)
        assert rows.max() < 64  # only the top row of cells changed
        assert columns.max() >= 2 * 64
        assert tuple(first[32, 32]) == tuple(second[32, 2 * 64 + 32]) == AGENT
        assert tuple(second[32, 32]) != AGENT
        env.close()

    def test_a_picture_does_not_change_what_happens(self):
        plain, drawn = GridWorld(slip=0.5), GridWorld(slip=0.5, render_mode="rgb_array")
        for env in (plain, drawn):
            env.reset(seed=4)
        for action in [1, 2, 1, 2, 0, 3] * 5:
            drawn.render()
            assert plain.step(action) == drawn.step(action)

    def test_shows_a_window(self):
        env = GridWorld("SG", render_mode="human")
        env.reset(seed=0)
        assert env.step(RIGHT)[2]
        env.close()
        env.close()  # closing twice is harmless
