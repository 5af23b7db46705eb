"""Figures 6.2, 7.2 and 12.3: prediction on random walks, whose true values are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.solve import policy_evaluation
from rl_lab.textbook.axes import BLUE, GREY, RED, legend, make_figure, name, shades
from rl_lab.textbook.lockstep import Lockstep, model_of
from rl_lab.types import Array

SMALL, LARGE = "lab/RandomWalk-v0", "lab/RandomWalk19-v0"
SHOWN_EPISODES = (0, 1, 10, 100)
LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
LAMBDAS = (0.0, 0.4, 0.8, 0.9, 0.95, 0.975, 0.99, 1.0)
STEP_SIZES = (0.0, 0.0125, 0.025, 0.0375, 0.05, 0.075, *(round(0.05 * k, 2) for k in range(2, 21)))
EPISODES = 10


@dataclass(frozen=True)
class Walks:
    """Episodes of K runs, as long as the longest one, [K, E, T + 1]."""

    states: Array
    """The end of an episode repeats."""
    lengths: Array
    """Steps, [K, E]."""
    outcomes: Array
    """The reward of the last step, [K, E]; all others are 0."""


def true_values(model: TabularModel) -> Array:
    """Return the values of the states between the ends, [S]."""
    return policy_evaluation(model, np.ones((model.num_states, 1)), 1.0)[1:-1]


def walk(model: TabularModel, runs: int, episodes: int, rng: np.random.Generator) -> Walks:
    """Play episodes."""
    world, copies = Lockstep(model, rng), runs * episodes
    state = world.begin(copies)
    seen, lengths, outcomes = [state], np.zeros(copies, np.int64), np.zeros(copies)
    going = np.arange(copies)
    while going.size:
        after, reward, done = world.step(state[going], np.zeros(len(going), np.int64))
        state = state.copy()
        state[going] = after
        seen.append(state)
        lengths[going] += 1
        outcomes[going] = reward
        going = going[~done]
    shape = (runs, episodes)
    return Walks(np.stack(seen, axis=1).reshape(*shape, -1), lengths.reshape(shape), outcomes.reshape(shape))


# Figure 6.2 ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Estimates of one run of TD(0), [4, 5], and the errors of both methods under batch training, [E]."""

    estimates: Array
    truth: Array
    td: Array
    monte_carlo: Array


def compute_batch(runs: int = 100, seed: int = 0, episodes: int = 100) -> Batch:
    """Train on all episodes so far until the values no longer change, after each episode.

    TD(0) then has the values of the most likely Markov chain, and Monte Carlo the mean of the returns seen.
    """
    model = model_of(SMALL)
    truth, walks = true_values(model), walk(model, runs, episodes, np.random.default_rng(seed))
    moves, won, visits, returns = _count(walks, len(truth))
    start = np.full(len(truth), 0.5)  # where a state has not been seen
    seen = visits > 0
    rows = np.where(seen[..., None], moves / np.maximum(visits, 1)[..., None], 0.0)
    reward = np.where(seen, won / np.maximum(visits, 1), start)
    td = np.linalg.solve(np.eye(len(truth)) - rows, reward[..., None])[..., 0]
    monte_carlo = np.where(seen, returns / np.maximum(visits, 1), start)
    errors = [np.sqrt(((v - truth) ** 2).mean(axis=2)).mean(axis=0) for v in (td, monte_carlo)]
    return Batch(_learn_online(walks, len(truth), 0.1), truth, *errors)


def _count(walks: Walks, size: int) -> tuple[Array, Array, Array, Array]:
    """Return what has been seen up to each episode: moves [K, E, S, S], wins, visits and returns [K, E, S]."""
    shape = walks.lengths.shape
    moves, won = np.zeros((*shape, size, size)), np.zeros((*shape, size))
    visits, returns = np.zeros((*shape, size)), np.zeros((*shape, size))
    for t in range(walks.states.shape[2] - 1):
        on = t < walks.lengths
        k, e = np.nonzero(on)
        at, to = walks.states[k, e, t] - 1, walks.states[k, e, t + 1] - 1
        last, outcome = t == walks.lengths[on] - 1, walks.outcomes[on]
        visits[k, e, at] += 1
        returns[k, e, at] += outcome
        won[k, e, at] += np.where(last, outcome, 0.0)
        np.add.at(moves, (k[~last], e[~last], at[~last], to[~last]), 1.0)
    return tuple(np.cumsum(part, axis=1) for part in (moves, won, visits, returns))  # type: ignore[return-value]


def _learn_online(walks: Walks, size: int, step_size: float) -> Array:
    """Return TD(0)'s estimates of the first run after SHOWN_EPISODES episodes, [4, S]."""
    values, kept = np.append(np.insert(np.full(size, 0.5), 0, 0.0), 0.0), []
    for episode in range(walks.lengths.shape[1] + 1):
        if episode in SHOWN_EPISODES:
            kept.append(values[1:-1].copy())
        if episode == walks.lengths.shape[1]:
            break
        states, length = walks.states[0, episode], walks.lengths[0, episode]
        for t in range(length):
            reward = walks.outcomes[0, episode] if t == length - 1 else 0.0
            values[states[t]] += step_size * (reward + values[states[t + 1]] - values[states[t]])
    return np.array(kept)


def draw_batch(found: Batch) -> Figure:
    """Draw the estimates of one run, and the errors of batch training."""
    figure, (left, right) = make_figure("Figure 6.2 and example 6.2   The random walk", 2)
    left.plot(
        list("ABCDE"), found.truth, color=GREY, linestyle="--", marker="o", linewidth=1.2, label="true values"
    )
    for episodes, values, colour in zip(SHOWN_EPISODES, found.estimates, shades(5), strict=False):
        plural = "" if episodes == 1 else "s"
        left.plot(
            list("ABCDE"),
            values,
            color=colour,
            marker="o",
            markersize=4,
            label=f"after {episodes} episode{plural}",
        )
    name(left, "Values that TD(0) learns, α = 0.1", "state", "estimated value")
    left.set_ylim(0, 1)
    legend(left, "upper left")
    seen = np.arange(1, len(found.td) + 1)
    right.plot(seen, found.monte_carlo, color=RED, linewidth=1.7, label="Monte Carlo")
    right.plot(seen, found.td, color=BLUE, linewidth=1.7, label="TD(0)")
    name(right, "Batch training", "walks / episodes", "RMS error, averaged over states")
    right.set_xlim(0, len(seen))
    right.set_ylim(0, 0.25)
    legend(right, "upper right")
    return figure


# Figures 7.2 and 12.3 -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Errors:
    """RMS errors over states, averaged over the first episodes and the runs, [P, M]."""

    parameters: tuple[float, ...]
    step_sizes: tuple[float, ...]
    errors: Array


def compute_n_step(
    runs: int = 100,
    seed: int = 0,
    lengths: tuple[int, ...] = LENGTHS,
    step_sizes: tuple[float, ...] = STEP_SIZES,
) -> Errors:
    """Predict the values of the walk of 19 states by n-step TD."""
    model = model_of(LARGE)
    truth, walks = true_values(model), walk(model, runs, EPISODES, np.random.default_rng(seed))
    values = np.zeros((len(lengths), len(step_sizes), runs, model.num_states))
    ahead, sizes, run = np.array(lengths), np.array(step_sizes)[:, None], np.arange(runs)
    errors = np.zeros(values.shape[:2])
    for episode in range(EPISODES):
        states, stop, outcome = (
            walks.states[:, episode],
            walks.lengths[:, episode],
            walks.outcomes[:, episode],
        )
        for t in range(stop.max()):
            on = run[t < stop]
            late = np.minimum(
                t + ahead[:, None], states.shape[1] - 1
            )  # [N, 1]: the state that is bootstrapped from
            beyond = states[on[None, :], late]  # [N, K]
            after = np.take_along_axis(values[:, :, on], beyond[:, None, :, None], axis=3)[..., 0]
            target = np.where((t + ahead[:, None] < stop[on])[:, None], after, outcome[on])
            at = states[on, t]
            values[:, :, on, at] += sizes * (target - values[:, :, on, at])
        errors += _measure(values, truth)
    return Errors(lengths, step_sizes, errors / EPISODES)


def compute_lambda_return(
    runs: int = 100,
    seed: int = 0,
    lambdas: tuple[float, ...] = LAMBDAS,
    step_sizes: tuple[float, ...] = STEP_SIZES,
) -> Errors:
    """Predict the same by the off-line lambda-return algorithm: all updates of an episode come at its end."""
    model = model_of(LARGE)
    truth, walks = true_values(model), walk(model, runs, EPISODES, np.random.default_rng(seed))
    values = np.zeros((len(lambdas), len(step_sizes), runs, model.num_states))
    trace, sizes, run = np.array(lambdas)[:, None, None], np.array(step_sizes)[:, None], np.arange(runs)
    errors = np.zeros(values.shape[:2])
    for episode in range(EPISODES):
        states, stop, outcome = (
            walks.states[:, episode],
            walks.lengths[:, episode],
            walks.outcomes[:, episode],
        )
        longest = int(stop.max())
        returns = np.zeros((longest, *values.shape[:3]))
        latest = np.zeros(values.shape[:3])
        for t in reversed(range(longest)):
            mixed = (1.0 - trace) * values[:, :, run, states[:, t + 1]] + trace * latest
            latest = np.where(t == stop - 1, outcome, np.where(t < stop, mixed, 0.0))
            returns[t] = latest
        for t in range(longest):
            on = run[t < stop]
            at = states[on, t]
            values[:, :, on, at] += sizes * (returns[t][:, :, on] - values[:, :, on, at])
        errors += _measure(values, truth)
    return Errors(lambdas, step_sizes, errors / EPISODES)


def _measure(values: Array, truth: Array) -> Array:
    """Return the RMS error over the states of values [P, M, K, S], averaged over the runs, [P, M]."""
    return np.sqrt(((values[..., 1:-1] - truth) ** 2).mean(axis=3)).mean(axis=2)


def draw_n_step(found: Errors) -> Figure:
    """Draw the errors of n-step TD over step sizes."""
    figure, (axes,) = make_figure("Figure 7.2   n-step TD on the walk of 19 states", width=7.6, height=4.8)
    _draw_errors(axes, found, "n")
    return figure


def draw_lambda_return(found: tuple[Errors, Errors]) -> Figure:
    """Draw the errors of the off-line lambda-return algorithm, and of n-step TD beside it."""
    figure, (left, right) = make_figure("Figure 12.3   The walk of 19 states", 2, height=4.8)
    _draw_errors(left, found[0], "λ")
    _draw_errors(right, found[1], "n")
    left.set_title("Off-line λ-return algorithm", fontsize=10.5, loc="left")
    right.set_title("n-step TD methods, from figure 7.2", fontsize=10.5, loc="left")
    return figure


def _draw_errors(axes: Axes, found: Errors, parameter: str) -> None:
    for value, errors, colour in zip(
        found.parameters, found.errors, shades(len(found.parameters)), strict=True
    ):
        axes.plot(found.step_sizes, errors, color=colour, linewidth=1.6, label=f"{parameter} = {value:g}")
    name(
        axes,
        "Errors after learning with each step size",
        "step size α",
        "RMS error over 19 states and 10 episodes",
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0.25, 0.55)
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
