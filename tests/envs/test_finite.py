"""Every registered finite environment plays the model that it shows; what their base does."""

from __future__ import annotations

import os

import gymnasium
import numpy as np
import pytest
from scipy import stats

from rl_lab.mdp.model import TabularModel, extract_model
from tabular_envs import make, model_of

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
UP, RIGHT = 0, 1


def finite_environments() -> list[str]:
    return sorted(i for i in gymnasium.registry if i.startswith("lab/"))


def outcomes_of(model: TabularModel, row: int) -> dict[tuple, float]:
    """The probability of each (successor, reward, terminated) of a row, those of equal outcomes added."""
    chances: dict[tuple, float] = {}
    for k in range(model.indptr[row], model.indptr[row + 1]):
        key = (int(model.successor[k]), float(model.reward[k]), bool(model.terminated[k]))
        chances[key] = chances.get(key, 0.0) + float(model.probability[k])
    return {key: p for key, p in chances.items() if p > 0}


def goodness(counts: dict, chances: dict, total: int) -> tuple[float, int]:
    """The chi-square statistic and its degrees of freedom; rare outcomes are counted together."""
    unknown = counts.keys() - chances.keys()
    assert not unknown, f"{sorted(unknown)[:3]} is no outcome of the model"
    cells, rare = [], np.zeros(2)
    for key, p in chances.items():
        cell = np.array([counts.get(key, 0), total * p])
        if cell[1] >= 5:
            cells.append(cell)
        else:
            rare += cell
    if rare[1] >= 5:
        cells.append(rare)
    elif cells:
        cells[-1] = cells[-1] + rare
    seen, expected = np.array(cells).reshape(-1, 2).T
    return float(((seen - expected) ** 2 / np.maximum(expected, 1e-300)).sum()), max(len(cells) - 1, 0)


def draw(env: gymnasium.Env, model: TabularModel, rows, times: int) -> dict[int, dict]:
    """How often each outcome of each row was seen: counts by row."""
    seen: dict[int, dict] = {}
    for row in rows:
        state, action = divmod(int(row), model.num_actions)
        for _ in range(times):
            env._state = state
            _, reward, terminated, truncated, _ = env.step(action)
            assert not truncated
            key = (int(env._state), float(reward), bool(terminated))
            counts = seen.setdefault(int(row), {})
            counts[key] = counts.get(key, 0) + 1
    return seen


def follow(env: gymnasium.Env, model: TabularModel, steps: int) -> dict[int, dict]:
    """The same for an environment whose state can't be set: what was seen on the way, by observation."""
    shown = model.observe(np.arange(model.num_states))
    state_of = {np.asarray(obs).tobytes(): s for s, obs in enumerate(shown)}
    assert len(state_of) == model.num_states, "states that look alike need env._state"
    rng, seen, state = np.random.default_rng(3), {}, None
    for step in range(steps):
        if state is None:
            state = state_of[np.asarray(env.reset(seed=step)[0]).astype(shown.dtype).tobytes()]
        action = int(rng.choice(np.flatnonzero(model.available[state])))
        obs, reward, terminated, truncated, _ = env.step(action)
        successor = state_of[np.asarray(obs).astype(shown.dtype).tobytes()]
        counts = seen.setdefault(state * model.num_actions + action, {})
        key = (successor, float(reward), bool(terminated))
        counts[key] = counts.get(key, 0) + 1
        state = None if terminated or truncated else successor
    return seen


@pytest.fixture(scope="module", params=finite_environments())
def finite(request):
    """Each registered environment that has a model: (environment, model)."""
    env = gymnasium.make(request.param)
    model = extract_model(env)
    if model is None:
        pytest.skip("no finite model")
    yield env.unwrapped, model
    env.close()


class TestEveryFiniteEnvironment:
    def test_has_a_valid_model(self, finite):
        env, model = finite
        np.testing.assert_allclose(
            model._sum_rows(model.probability)[model.available.ravel()], 1.0, atol=1e-9
        )
        assert model.initial.sum() == pytest.approx(1.0)
        assert env.action_space.n == model.num_actions

    def test_steps_follow_the_model(self, finite):
        """Every row is tried, some often; one chi-square over all rows, at 0.001."""
        env, model = finite
        env.reset(seed=17)
        rows = np.flatnonzero(np.diff(model.indptr))
        often = np.random.default_rng(1).choice(rows, min(40, len(rows)), replace=False)
        if isinstance(getattr(env, "_state", None), int):
            seen = draw(env, model, rows, 2) | draw(env, model, often, 500)
        else:
            seen = follow(env, model, 20_000)
        fits = [goodness(c, outcomes_of(model, row), sum(c.values())) for row, c in seen.items()]
        statistic, freedom = np.sum(fits, axis=0)
        assert stats.chi2.sf(statistic, max(freedom, 1)) > 0.001

    def test_starts_follow_the_model(self, finite):
        env, model = finite
        chances = {s: float(p) for s, p in enumerate(model.initial) if p > 0}
        shown = [np.asarray(obs) for obs in model.observe(np.arange(model.num_states))]
        name_of = {obs.tobytes(): s for s, obs in enumerate(shown)}
        merged: dict = {}  # states that look alike are one
        for state, p in chances.items():
            name = name_of[shown[state].tobytes()]
            merged[name] = merged.get(name, 0.0) + p
        counts: dict = {}
        for seed in range(1000):
            obs = np.asarray(env.reset(seed=seed)[0]).astype(shown[0].dtype)
            name = name_of[obs.tobytes()]
            counts[name] = counts.get(name, 0) + 1
        statistic, freedom = goodness(counts, merged, 1000)
        assert freedom == 0 or stats.chi2.sf(statistic, freedom) > 0.001

    def test_masks_are_those_of_the_model(self, finite):
        env, model = finite
        _, info = env.reset(seed=3)
        if model.available.all():
            assert "action_mask" not in info
            return
        rng, over = np.random.default_rng(0), False
        for _ in range(50):
            assert info["action_mask"].dtype == np.int8
            np.testing.assert_array_equal(info["action_mask"], model.available[env._state])
            if over:
                _, info = env.reset()
            _, _, over, _, info = env.step(int(rng.choice(np.flatnonzero(info["action_mask"]))))

    def test_play_alone_follows_the_model_too(self):
        """What serves environments whose state can't be set."""
        env = make("WindyGrid", stochastic=True).unwrapped
        seen = follow(env, env.model(), 5000)
        fits = [goodness(c, outcomes_of(env.model(), r), sum(c.values())) for r, c in seen.items()]
        statistic, freedom = np.sum(fits, axis=0)
        assert sum(sum(c.values()) for c in seen.values()) == 5000
        assert freedom > 10
        assert stats.chi2.sf(statistic, freedom) > 0.001

    def test_a_wrong_model_would_be_seen(self):
        env = make("WindyGrid", stochastic=True).unwrapped
        wrong = model_of("WindyGrid", stochastic=False)
        env.reset(seed=0)
        with pytest.raises(AssertionError, match="is no outcome"):
            [
                goodness(c, outcomes_of(wrong, r), 50)
                for r, c in draw(env, wrong, [13 * 4 + RIGHT], 50).items()
            ]
        statistic, freedom = goodness({0: 480, 1: 520}, {0: 0.4, 1: 0.6}, 1000)
        assert stats.chi2.sf(statistic, freedom) < 0.001
