"""Puts an environment into each of its states, and compares the steps that it takes from there with its model.

Play comes seldom or never to some states; a goal that pays something else may lie there. Toy-text environments
keep their state in an attribute `s`, others may have a method `enter_state(state)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from rl_lab.mdp.following import near, objection, outcomes_of, unlikely
from rl_lab.mdp.guide import distances
from rl_lab.mdp.model import TabularModel
from rl_lab.mdp.sources import has_toy_text, own_method
from rl_lab.types import Array

SAMPLES = 30  # of a row with several outcomes, if there are steps enough
RARE = np.log(1e-12)  # of the probability of a count that is called wrong: thousands of rows are tested
AT_HOME = 0.9  # share of the steps that must lead to a neighbour of the state for placing to count as working
ELSEWHERE = 0.5  # share that may do so from another state's point of view, or neighbours prove nothing


def setter_of(env: gymnasium.Env) -> Callable[[int], None] | None:
    """Return the function that puts an environment into a state of its model; None if there is none.

    Args:
        env: has been reset: toy-text has no state before.
    """
    base: Any = env.unwrapped
    if own_method(base) is not None:
        enter = getattr(base, "enter_state", None)
        return enter if callable(enter) else None
    if not has_toy_text(base) or not isinstance(getattr(base, "s", None), int | np.integer):
        return None
    return lambda state: setattr(base, "s", state)


@dataclass(frozen=True)
class Placed:
    """Steps taken from states that were set, in columns of the same length M, and what the model says of them."""

    model: TabularModel
    row: Array  # int64 [M]
    obs: list[Any]
    reward: Array  # float64 [M]
    terminated: Array  # bool [M]
    fits: Array  # bool [M]: the model allows it
    probability: Array  # float64 [M]: of what came, by the model
    kind: Array  # int64 [M]: the first outcome of the model that fits, -1 for none
    works: bool  # setting the state had the effect that it should have

    def objections(self) -> list[tuple[int, str]]:
        """Return rows from which something came that the model doesn't allow, each with it in words."""
        found = {}
        for i in np.flatnonzero(~self.fits):
            row = int(self.row[i])
            if row not in found:
                came = self.obs[i], float(self.reward[i]), bool(self.terminated[i])
                state, action = divmod(row, self.model.num_actions)
                found[row] = objection(state, action, *came, outcomes_of(self.model, row))
        return list(found.items())

    def share(self, row: int) -> float:
        """Return how large a share of a row's steps the model doesn't allow."""
        return float(np.mean(~self.fits[self.row == row]))

    def improbable(self) -> str | None:
        """Return in words that one outcome came too often for its probability, or None.

        A count of c in n with probability p is at most exp(-n KL(c / n, p)) likely (Chernoff's bound).
        """
        pairs = np.stack([self.row, self.kind], axis=1)[self.fits]
        if not len(pairs):
            return None
        unique, first, counts = np.unique(pairs, axis=0, return_index=True, return_counts=True)
        p = np.minimum(self.probability[self.fits][first], 1.0)
        n = np.bincount(self.row)[unique[:, 0]]
        often = counts / n
        with np.errstate(divide="ignore", invalid="ignore"):
            rest = np.where(often < 1, (1 - often) * np.log((1 - often) / (1 - p)), 0.0)
            bound = np.where(often > p, -n * (often * np.log(often / p) + rest), 0.0)
        worst = int(np.argmin(bound))
        if bound[worst] >= RARE:
            return None
        row = int(unique[worst, 0])
        others = np.array([counts[worst], n[worst] - counts[worst]])
        state, action = divmod(row, self.model.num_actions)
        return unlikely(state, action, others, np.array([p[worst], 1 - p[worst]]))


def place(env: gymnasium.Env, model: TabularModel, seed: int, steps: int) -> Placed | None:
    """Step from every state that can be reached, or from a sample where there are more rows than `steps`.

    Returns:
        What came of it; None where states can't be set.

    Whatever the environment raises in a state that was set means that states can't be set. The environment is to
    be reset afterwards.
    """
    env.reset(seed=seed)
    if (put := setter_of(env)) is None:
        return None
    rng = np.random.default_rng(seed)
    rows = _rows_to_try(model, steps, rng)
    try:
        taken = list(_steps(env, model, put, rows, seed))
    except Exception:  # whatever a stranger's code makes of a state that it didn't come to by itself
        return None
    return _compared(model, rows, taken) if taken else None


def _rows_to_try(model: TabularModel, steps: int, rng: np.random.Generator) -> Array:
    """Return rows in a random order, int64 [at most `steps`], those with several outcomes many times."""
    reached = np.isfinite(distances(model))
    rows = np.flatnonzero((model.available & reached[:, None]).ravel())
    rows = rng.permutation(rows)[:steps]
    several = rows[np.diff(model.indptr)[rows] > 1]
    more = min(SAMPLES - 1, (steps - len(rows)) // max(1, len(several)))
    return rng.permutation(np.concatenate([rows, np.repeat(several, more)]))


def _steps(
    env: gymnasium.Env, model: TabularModel, put: Callable[[int], None], rows: Array, seed: int
) -> Any:
    """Take a step from each row; yield (observation, reward, terminated)."""
    start = int(env.action_space.start)  # type: ignore[attr-defined]
    over = True
    for i, row in enumerate(rows.tolist()):
        if over:
            env.reset(seed=seed + i)
        state, action = divmod(row, model.num_actions)
        put(state)
        obs, reward, terminated, truncated, _ = env.step(action + start)
        yield np.array(obs), float(reward), bool(terminated)
        over = terminated or truncated


def _compared(model: TabularModel, rows: Array, taken: list[tuple[Any, float, bool]]) -> Placed:
    """Compare all steps with the model at once."""
    obs, reward, terminated = (
        [x[0] for x in taken],
        np.array([x[1] for x in taken]),
        np.array([x[2] for x in taken]),
    )
    looks = _Looks(model, rows)
    seen = np.array([looks.number(x) for x in obs])
    counts = np.diff(model.indptr)[rows]
    step = np.repeat(np.arange(len(rows)), counts)  # [E]: each step beside each outcome of its row
    place = model.indptr[rows][step] + np.arange(len(step)) - (np.cumsum(counts) - counts)[step]
    fits = (looks.of[model.successor[place]] == seen[step]) & (model.probability[place] > 0)
    fits &= near(model.reward[place], reward[step]) & (model.terminated[place] == terminated[step])
    probability = np.bincount(step, np.where(fits, model.probability[place], 0.0), len(rows))
    kind = np.full(len(rows), -1)
    matched, first = np.unique(step[fits], return_index=True)
    kind[matched] = place[fits][first]
    states = rows // model.num_actions
    works = (
        looks.near(states, seen) >= AT_HOME
        and looks.near(np.roll(states, len(states) // 2), seen) <= ELSEWHERE
    )
    return Placed(model, rows, obs, reward, terminated, kind >= 0, probability, kind, works)


class _Looks:
    """Numbers what states look like: states that show the same have the same number."""

    def __init__(self, model: TabularModel, rows: Array):
        states = np.unique(rows // model.num_actions)
        width = model.num_actions
        spans = [np.arange(model.indptr[s * width], model.indptr[(s + 1) * width]) for s in states]
        of_state = np.repeat(states, [len(span) for span in spans])
        successor = model.successor[np.concatenate(spans)]
        known = np.unique(successor)
        shown = model.observe(known)
        self._dtype, self._shape = shown.dtype, shown.shape[1:]
        self._numbers: dict[bytes, int] = {}
        self.of = np.full(model.num_states, -2)  # int64 [S]
        self.of[known] = [self._numbers.setdefault(self._key(x), len(self._numbers)) for x in shown]
        self._pairs = set(zip(of_state.tolist(), self.of[successor].tolist(), strict=True))

    def number(self, obs: Any) -> int:
        """Return the number of an observation; -1 for one that no state shows."""
        seen = np.asarray(obs)
        return self._numbers.get(self._key(seen), -1) if seen.shape == self._shape else -1

    def _key(self, shown: Any) -> bytes:
        return (np.asarray(shown, self._dtype) + 0).tobytes()  # -0.0 is 0.0

    def near(self, states: Array, seen: Array) -> float:
        """Return in what share of steps the observation shows a neighbour of the state."""
        return float(
            np.mean([pair in self._pairs for pair in zip(states.tolist(), seen.tolist(), strict=True)])
        )
