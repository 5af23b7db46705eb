"""The figures by the book's numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from rl_lab.textbook import bias, cliff, maze, planned, testbed, walks


@dataclass(frozen=True)
class TextbookFigure:
    """How a figure is made."""

    about: str
    """What it shows, in a few words."""
    make: Callable[[int, int], Figure]
    """Takes the number of runs and the seed."""
    runs: int | None = None
    """Runs by default, as many as in the book or fewer; None if nothing in it is random."""


def _lambda_return(runs: int, seed: int) -> Figure:
    return walks.draw_lambda_return(
        (walks.compute_lambda_return(runs, seed), walks.compute_n_step(runs, seed))
    )


FIGURES: dict[str, TextbookFigure] = {
    "2.2": TextbookFigure(
        "epsilon-greedy methods on the 10-armed testbed",
        lambda runs, seed: testbed.draw(testbed.compute(runs, seed)),
        2_000,
    ),
    "4.2": TextbookFigure(
        "policy iteration on Jack's car rental",
        lambda runs, seed: planned.draw_rental(planned.compute_rental()),
    ),
    "4.3": TextbookFigure(
        "value iteration on the gambler's problem",
        lambda runs, seed: planned.draw_gambler(planned.compute_gambler()),
    ),
    "6.2": TextbookFigure(
        "TD(0) and Monte Carlo on the random walk",
        lambda runs, seed: walks.draw_batch(walks.compute_batch(runs, seed)),
        100,
    ),
    "6.3": TextbookFigure(
        "SARSA, expected SARSA and Q-learning on the cliff",
        lambda runs, seed: cliff.draw(cliff.compute(runs, seed)),
        50,
    ),
    "6.5": TextbookFigure(
        "maximisation bias", lambda runs, seed: bias.draw(bias.compute(runs, seed)), 10_000
    ),
    "7.2": TextbookFigure(
        "n-step TD on the walk of 19 states",
        lambda runs, seed: walks.draw_n_step(walks.compute_n_step(runs, seed)),
        100,
    ),
    "8.2": TextbookFigure("Dyna-Q in a maze", lambda runs, seed: maze.draw(maze.compute(runs, seed)), 30),
    "12.3": TextbookFigure("the off-line lambda-return algorithm", _lambda_return, 100),
}
