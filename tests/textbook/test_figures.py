"""Each figure of the book shows the book's number or ordering, and can be drawn."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from matplotlib.figure import Figure

from commands import call, require_refusal
from rl_lab.cli.textbook import Name, textbook
from rl_lab.environments.layout import layout_of
from rl_lab.environments.make import make_env
from rl_lab.textbook import bias, cliff, maze, planned, testbed, walks
from rl_lab.textbook.control import DOUBLE_Q, Q_LEARNING, SARSA, Settings, learn
from rl_lab.textbook.figures import FIGURES
from rl_lab.textbook.lockstep import Lockstep, model_of


def texts_of(figure: Figure) -> str:
    """Everything that the axes of a figure and its title say."""
    axes = [*figure.axes, *(child for one in figure.axes for child in one.child_axes)]
    words = [a.get_xlabel() + a.get_ylabel() for a in axes] + [a.get_title(loc="left") for a in figure.axes]
    return " ".join([figure.get_suptitle(), *words])


@pytest.fixture(scope="module")
def rental():
    return planned.compute_rental()


@pytest.fixture(scope="module")
def n_step():
    return walks.compute_n_step(runs=40, seed=0, step_sizes=(0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0))


@pytest.fixture(scope="module")
def on_cliff():
    return cliff.compute(runs=12, seed=0, episodes=120, step_sizes=(0.2, 0.5, 1.0))


class TestTestbed:
    def test_figure_2_2_epsilon_of_a_tenth_finds_the_best_arm_most_often(self):
        found = testbed.compute(runs=300, seed=1)
        greedy, little, more = found.optimal[:, -50:].mean(axis=1)
        assert more == pytest.approx(0.8, abs=0.05)
        assert greedy == pytest.approx(1 / 3, abs=0.06)
        assert greedy < little < more
        assert found.reward[0, -200:].mean() == pytest.approx(1.0, abs=0.1)
        assert (found.reward[1:, -200:].mean(axis=1) > found.reward[0, -200:].mean() + 0.1).all()
        np.testing.assert_allclose((found.reward + found.regret).mean(axis=1), 1.54, atol=0.05)
        assert {"mean regret per step", "step"} <= {
            word for a in testbed.draw(found).axes for word in (a.get_ylabel(), a.get_xlabel())
        }


class TestPlanned:
    def test_figure_4_2_has_five_policies_each_better_than_the_last(self, rental):
        assert len(rental.policies) == 5
        assert (rental.policies[0] == 0).all()
        assert (rental.policies[-1].min(), rental.policies[-1].max()) == (-4, 5)
        assert rental.policies[-1][20, 0] == 5
        assert rental.policies[-1][0, 20] == -4
        for before, after in zip(rental.values, rental.values[1:], strict=False):
            assert (after >= before - 1e-9).all()
            assert after.mean() > before.mean()
        assert rental.values[-1].min() == pytest.approx(421.41, abs=0.01)
        assert "π$_{4}$, optimal" not in texts_of(planned.draw_rental(rental))
        assert "π$_4$, optimal" in texts_of(planned.draw_rental(rental))

    def test_figure_4_3_has_the_sweeps_and_stakes_of_the_book(self):
        found = planned.compute_gambler()
        first, second = found.sweeps[0], found.sweeps[1]
        assert (first[[49, 50, 99]] == [0.0, 0.4, 0.4]).all()
        np.testing.assert_allclose(second[[24, 25, 74, 75]], [0.0, 0.16, 0.4, 0.64], atol=1e-12)
        np.testing.assert_allclose(found.sweeps[-1][[25, 50, 75]], [0.16, 0.4, 0.64], atol=1e-12)
        assert found.stakes[[1, 12, 13, 25, 50, 51, 75, 99]].tolist() == [1, 12, 12, 25, 50, 1, 25, 1]
        assert "capital" in texts_of(planned.draw_gambler(found))


class TestWalks:
    def test_figure_6_2_batch_td_has_the_smaller_error(self):
        found = walks.compute_batch(runs=100, seed=0)
        assert (found.td[4:] < found.monte_carlo[4:]).all()
        assert found.td[-1] == pytest.approx(0.035, abs=0.01)
        assert found.monte_carlo[-1] == pytest.approx(0.052, abs=0.012)
        assert (found.estimates[0] == 0.5).all()
        assert ((found.estimates[1] != 0.5).sum()) == 1  # one episode changes one end alone
        distance = np.abs(found.estimates - found.truth).mean(axis=1)
        assert distance[3] < distance[2] < distance[0]
        assert "RMS error" in texts_of(walks.draw_batch(found))

    def test_batch_values_of_one_walk_are_those_of_its_own_chain(self):
        """C D E and out on the right: Monte Carlo has 1 in all three states, and so has TD(0)."""
        states = np.array([[[3, 4, 5, 6]]])
        moves, won, visits, returns = walks._count(walks.Walks(states, np.array([[3]]), np.array([[1.0]])), 5)
        assert visits[0, 0].tolist() == returns[0, 0].tolist() == [0, 0, 1, 1, 1]
        assert won[0, 0].tolist() == [0, 0, 0, 0, 1]
        assert np.argwhere(moves[0, 0]).tolist() == [[2, 3], [3, 4]]

    def test_figure_7_2_an_intermediate_n_is_best(self, n_step):
        least = dict(zip(n_step.parameters, n_step.errors.min(axis=1), strict=True))
        assert min(least, key=least.__getitem__) == 4
        assert least[4] == pytest.approx(0.26, abs=0.02)
        assert least[4] < least[2] < least[1] < least[512]
        np.testing.assert_allclose(
            n_step.errors[:, 0], 0.5477, atol=1e-3
        )  # nothing is learned with step size 0
        best = dict(zip(n_step.parameters, n_step.errors.argmin(axis=1), strict=True))
        assert best[1] > best[4] > best[16]  # the more steps, the smaller the best step size
        assert "RMS error over 19 states and 10 episodes" in texts_of(walks.draw_n_step(n_step))

    def test_figure_12_3_an_intermediate_lambda_is_as_good(self, n_step):
        found = walks.compute_lambda_return(runs=40, seed=0, step_sizes=n_step.step_sizes)
        least = dict(zip(found.parameters, found.errors.min(axis=1), strict=True))
        assert min(least, key=least.__getitem__) == 0.8
        assert least[0.8] == pytest.approx(n_step.errors.min(), abs=0.02)
        assert least[0.8] < least[0.4] < least[0.0] < least[1.0]
        assert "λ-return" in texts_of(walks.draw_lambda_return((found, n_step)))

    def test_a_lambda_of_one_is_monte_carlo_and_so_are_endless_steps(self):
        one = walks.compute_lambda_return(runs=5, lambdas=(1.0,), step_sizes=(0.05,))
        far = walks.compute_n_step(runs=5, lengths=(100_000,), step_sizes=(0.05,))
        np.testing.assert_allclose(one.errors, far.errors, atol=1e-12)


class TestCliff:
    def test_figure_6_3_sarsa_collects_more_and_expected_sarsa_most(self, on_cliff):
        assert on_cliff.optimum == -13.0
        late = {rule: curve[-60:].mean() for rule, curve in on_cliff.curves.items()}
        assert late["SARSA"] < late["Q-learning"] - 10
        for moment in (on_cliff.interim, on_cliff.asymptotic):
            assert (moment["expected SARSA"] < moment["SARSA"]).all()
            assert (moment["expected SARSA"] < moment["Q-learning"]).all()
        assert on_cliff.asymptotic["SARSA"][0] < on_cliff.asymptotic["Q-learning"][0]
        assert on_cliff.asymptotic["SARSA"][-1] > on_cliff.asymptotic["SARSA"][1] + 10
        assert all((curve >= 0).all() for curve in on_cliff.curves.values())  # nothing beats the optimum

    def test_its_axes_show_regret_and_the_books_scale(self, on_cliff):
        texts = texts_of(cliff.draw(on_cliff))
        assert "regret per episode" in texts
        assert "sum of rewards, as in the book" in texts


class TestBias:
    def test_figure_6_5_double_q_learning_is_not_misled(self):
        found = bias.compute(runs=1_000, seed=0, episodes=120)
        assert found.q_learning[:3].mean() == pytest.approx(0.55, abs=0.1)
        assert found.q_learning.max() > 0.9
        assert found.double_q.max() < 0.57
        assert found.double_q[-20:].mean() == pytest.approx(0.09, abs=0.03)
        assert (found.q_learning[10:] > found.double_q[10:]).all()
        assert "left actions from A, as in the book" in texts_of(bias.draw(found))

    def test_the_problem_costs_a_tenth_on_the_left_whatever_is_done_there(self):
        model = model_of("lab/MaximisationBias-v0")
        np.testing.assert_allclose(model.expected_reward[0], -0.1, atol=1e-12)
        assert model.available.sum(axis=1)[:2].tolist() == [10, 2]
        spread = model.probability[: model.indptr[1]] @ (model.reward[: model.indptr[1]] + 0.1) ** 2
        assert spread == pytest.approx(1.0)


class TestMaze:
    def test_figure_8_2_planning_needs_fewer_episodes(self):
        found = maze.compute(runs=5, seed=0, episodes=6)
        none, some, many = (found.steps[planning] for planning in maze.PLANNING)
        assert none[1] > 2 * some[1] > 4 * many[1]
        assert many[3:].mean() < 25
        assert (np.array(list(found.steps.values())) >= maze.SHORTEST).all()
        assert "steps per episode, as in the book" in texts_of(maze.draw(found))

    def test_a_picture_of_the_film_keeps_nothing_of_the_one_before(self):
        layout = layout_of(make_env(maze.MAZE))
        known, fresh = np.zeros((2, len(layout.cells), 4))
        known[:, 1], fresh[3, 2] = 0.7, 0.4
        one = maze._Picture(layout, 20)
        first = one.of(known, 1_234)
        picture = one.of(fresh, 5)
        assert (picture != first).any()
        np.testing.assert_array_equal(picture, maze._Picture(layout, 20).of(fresh, 5))

    def test_the_film_tells_how_far_it_is(self):
        told = []
        pictures = list(maze.film(episodes=1, frames=3, told=lambda *done: told.append(done)))
        assert told == [(k + 1, len(pictures)) for k in range(len(pictures))]

    def test_the_film_shows_values_that_grow(self):
        frames = list(maze.film(episodes=3, frames=4))
        assert 2 <= len(frames) <= 4
        assert frames[0].shape == (460, 640, 3)
        assert frames[0].dtype == np.uint8
        bright = [(frame[60:400, 10:520, 1] > 150).mean() for frame in frames]
        assert bright[-1] > bright[0]


class TestLearning:
    def test_q_learning_by_hand_on_a_walk(self):
        """The only reward is 1, on the right: the state before it learns 0.5 of it the first time."""
        model, seen = model_of("lab/RandomWalk-v0"), []
        settings = Settings(np.array([Q_LEARNING]), np.array([0.5]))
        played = learn(model, settings, 4, np.random.default_rng(0), lambda q: seen.append(q[0, :, 0].copy()))
        wins = np.flatnonzero(played.returns[0])
        ends = np.cumsum(played.steps[0])
        assert wins.size
        assert seen[ends[wins[0]] - 1].tolist() == [0, 0, 0, 0, 0, 0.5, 0]

    def test_each_run_may_have_a_rule_of_its_own(self):
        settings = Settings(np.array([SARSA, Q_LEARNING, DOUBLE_Q]), np.full(3, 0.5))
        played = learn(model_of("lab/Cliff-v0"), settings, 5, np.random.default_rng(0))
        assert played.steps.shape == (3, 5)
        assert (played.steps >= 13).all()
        assert (played.returns <= -played.steps).all()

    def test_outcomes_come_as_often_as_the_model_says(self):
        model = model_of("FrozenLake-v1")
        world = Lockstep(model, np.random.default_rng(0))
        after, reward, done = world.step(np.full(30_000, 14), np.full(30_000, 2))
        share = np.bincount(after, minlength=16)[[10, 14, 15]] / 30_000
        np.testing.assert_allclose(share, 1 / 3, atol=0.015)
        assert (done == (after == 15)).all()
        assert (reward == (after == 15)).all()


class TestCommand:
    def test_every_figure_may_be_asked_for(self):
        assert get_args(Name) == tuple(FIGURES)

    def test_figures_are_written_and_told(self, capsys, tmp_path):
        out = tmp_path / "new" / "figures"
        code, told, err = call(capsys, textbook, "6.2", "4.3", "4.3", "--out", out, "--runs", "3")
        assert (code, err) == (0, "")
        assert sorted(path.name for path in out.iterdir()) == ["figure_4.3.png", "figure_6.2.png"]
        first, second = told.splitlines()
        assert first.startswith(f"{out}/figure_6.2.png: TD(0) and Monte Carlo on the random walk, 3 runs (")
        assert second.startswith(f"{out}/figure_4.3.png: value iteration on the gambler's problem (")
        assert (out / "figure_6.2.png").read_bytes()[:4] == b"\x89PNG"

    def test_a_film_is_written_beside_the_figures(self, capsys, tmp_path, monkeypatch):
        pictures = [np.full((64, 64, 3), shade, np.uint8) for shade in (0, 128, 255)]
        monkeypatch.setattr(maze, "film", lambda seed, told: iter(pictures))
        monkeypatch.setitem(FIGURES, "8.2", FIGURES["4.3"])
        out = call(capsys, textbook, "8.2", "--out", tmp_path, "--film", tmp_path / "maze.gif")[1]
        assert "are learned and drawn ..." in out.splitlines()[-2]
        assert out.splitlines()[-1] == f"{tmp_path}/maze.gif: values in a maze while they are learned"
        assert (tmp_path / "maze.gif").read_bytes()[:3] == b"GIF"

    def test_the_seed_decides_what_is_drawn(self, capsys, tmp_path):
        pictures = []
        for seed in ("0", "1"):
            call(capsys, textbook, "6.2", "--out", tmp_path, "--runs", "3", "--seed", seed)
            pictures.append((tmp_path / "figure_6.2.png").read_bytes())
        assert pictures[0] != pictures[1]
        same = [walks.compute_batch(runs=3, seed=1) for _ in range(2)]
        np.testing.assert_array_equal(same[0].td, same[1].td)

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["9.9"], ["'9.9'", "2.2"]),
            (["--runs", "0"], ["runs", "0", "at least 1"]),
            (["--seed", "-1"], ["seed", "-1", "at least 0"]),
            (["8.2", "--film", "maze.avi"], ["'maze.avi'", ".mp4"]),
            (["2.2", "--film", "x.gif"], ["film 'x.gif'", "2.2", "allowed: with 8.2"]),
            (["4.3", "--out", ""], ["out ''", "empty"]),
        ],
    )
    def test_what_is_wrong_is_refused_before_anything_is_made(
        self, capsys, tmp_path, monkeypatch, words, named
    ):
        monkeypatch.chdir(tmp_path)
        require_refusal(call(capsys, textbook, *words), *named)
        assert list(tmp_path.iterdir()) == []
