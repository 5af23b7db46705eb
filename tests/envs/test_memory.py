"""Environments that need memory: what they show and pay, and that the returns they state are true."""

from __future__ import annotations

import itertools
from functools import cache, partial

import gymnasium
import numpy as np
import pygame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import require_determinism, require_environment
from rl_lab.environments.make import make_env
from rl_lab.envs.memory_chain import MemoryChain
from rl_lab.envs.repeat_previous import RepeatPrevious
from rl_lab.envs.tmaze import EAST, JUNCTION, NORTH, SIGNS, SOUTH, WEST, TMaze
from rl_lab.evaluation.exact import limited_return
from rl_lab.mdp.model import extract_model
from rl_lab.types import UsageError
from tabular_envs import make

FORMS = {  # each environment in a small form that needs memory
    "TMaze": {"length": 3, "max_steps": 30},
    "MemoryChain": {"length": 4, "num_bits": 3},
    "CartPolePositions": {},
    "RepeatPrevious": {"k": 2, "symbols": 3, "length": 9},
    "Catch": {"rows": 4, "columns": 5, "visible_rows": 1},
    "FlickeringGridWorld": {"map": "S..\n.#.\n.PG", "slip": 0.2},
}


def observed(obs) -> bytes:
    return np.asarray(obs).tobytes()


class TestEach:
    @pytest.mark.parametrize("name", FORMS)
    def test_keeps_the_contract_in_a_form_that_needs_memory(self, name):
        require_environment(partial(make_env, f"lab/{name}-v0", FORMS[name]))

    @pytest.mark.parametrize("name", FORMS)
    def test_says_that_it_is_no_finite_mdp(self, name):
        assert extract_model(make(name, **FORMS[name])) is None

    @pytest.mark.parametrize("name", FORMS)
    def test_states_what_memory_is_worth(self, name):
        env = make(name).unwrapped
        assert type(env).optimal_return.__doc__.startswith("The best expected return, with memory")
        assert "return" in type(env).memoryless_return.__doc__
        if env.memoryless_return is not None:
            assert env.memoryless_return <= env.optimal_return

    @pytest.mark.parametrize("name", FORMS)
    def test_resets_without_seed_go_on_from_the_first_seed(self, name):
        one, other = make(name, **FORMS[name]), make(name, **FORMS[name])
        runs = []
        for env in (one, other):
            seen = [env.reset(seed=5)[0]]
            for _ in range(20):
                seen += [env.reset()[0], env.step(1)[0]]
            runs.append(b"".join(observed(obs) for obs in seen))
        assert runs[0] == runs[1]

    @pytest.mark.parametrize(
        ("name", "fields", "message"),
        [
            ("TMaze", {"length": 0}, "length 0 must be a whole number of at least 1"),
            ("TMaze", {"length": 5, "max_steps": 5}, "max_steps 5 must be a whole number of at least 6"),
            ("TMaze", {"length": 2000}, "max_steps 1000 must be a whole number of at least 2001"),
            ("MemoryChain", {"length": 1.5}, "length 1.5 must be a whole number of at least 1"),
            ("MemoryChain", {"num_bits": 0}, "num_bits 0 must be"),
            ("RepeatPrevious", {"symbols": 1}, "symbols 1 must be a whole number of at least 2"),
            (
                "RepeatPrevious",
                {"k": 6, "length": 6},
                "k 6 must be a whole number of at least 0 and at most 5",
            ),
            ("RepeatPrevious", {"k": -1}, "k -1 must be"),
            ("Catch", {"columns": 20}, "columns 20 must be a whole number of at least 2 and at most 19"),
            ("Catch", {"rows": 1}, "rows 1 must be"),
            ("Catch", {"visible_rows": 11}, "visible_rows 11 must be .* at least 1 and at most 10"),
            ("FlickeringGridWorld", {"blank_probability": 1.0}, "blank_probability 1.0 must be at least 0"),
            ("FlickeringGridWorld", {"observation": "state"}, "observation 'state' can't be chosen"),
            ("FlickeringGridWorld", {"slip": 2}, "slip 2 must be a probability"),
        ],
    )
    def test_refuses_in_one_line(self, name, fields, message):
        with pytest.raises(UsageError, match=message) as error:
            make_env(f"lab/{name}-v0", fields)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("name", FORMS)
    def test_refuses_other_actions_and_render_modes(self, name):
        env = make(name, **FORMS[name]).unwrapped
        env.reset(seed=0)
        for action in (-1, env.action_space.n, 0.5):
            with pytest.raises(ValueError, match=f"action {action} must be"):
                env.step(action)
        with pytest.raises(ValueError, match="render_mode 'ansi' must be"):
            type(env)(render_mode="ansi")

    @pytest.mark.parametrize("name", FORMS)
    def test_pictures_follow_what_happens_and_change_nothing(self, name):
        plain, drawn = make(name, **FORMS[name]), make(name, render_mode="rgb_array", **FORMS[name])
        assert plain.unwrapped.render() is None
        frames = []
        for env in (plain, drawn):
            env.reset(seed=2)
        for _ in range(3):
            frames.append(drawn.render())
            one, other = plain.step(1), drawn.step(1)
            np.testing.assert_array_equal(one[0], other[0])
            assert one[1:4] == other[1:4]
        assert all(side % 2 == 0 for side in frames[0].shape[:2])  # video codecs ask for even sides
        assert len({frame.tobytes() for frame in frames}) > 1
        for env in (plain, drawn, drawn.unwrapped):
            env.close()

    @pytest.mark.parametrize("name", FORMS)
    def test_is_shown_in_a_window(self, name):
        env = make(name, render_mode="human", **FORMS[name])
        env.unwrapped.metadata = {**env.unwrapped.metadata, "render_fps": 1000}
        assert pygame.display.get_surface() is None
        env.reset(seed=0)
        env.step(1)
        shown = pygame.surfarray.array3d(pygame.display.get_surface())
        assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 1
        env.close()
        assert pygame.display.get_surface() is None


# The T-maze ------------------------------------------------------------------------------------------


def walk(env: gymnasium.Env, actions) -> list[tuple]:
    return [(tuple(int(x) for x in obs), *rest[:3]) for obs, *rest in map(env.step, actions)]


def reset_to(env: TMaze, sign: int) -> tuple:
    seed = next(s for s in range(99) if tuple(env.reset(seed=s)[0]) == SIGNS[sign])
    return tuple(env.reset(seed=seed)[0])


@cache
def memoryless_maze_returns(length: int, max_steps: int) -> dict[tuple, float]:
    """The exact return of each deterministic policy, by its actions for (sign, sign, corridor, junction)."""
    model = TMaze(length=length)._model
    return {
        actions: limited_return(model, np.eye(4)[list(actions)][classes_of(length)], max_steps)
        for actions in itertools.product(range(4), repeat=4)
    }


def classes_of(length: int) -> np.ndarray:
    """Which of the four observations each hidden state shows [S]; the last state's doesn't matter."""
    half = [2] * (length - 1) + [3]
    return np.array([0, *half, 1, *half, 3])


class TestTMaze:
    @pytest.mark.parametrize("sign", [0, 1])
    def test_shows_and_pays_what_the_paper_says(self, sign):
        env = TMaze(length=3)
        start, corridor = reset_to(env, sign), (1, 0, 1)
        assert start == [(0, 1, 1), (1, 1, 0)][sign]
        steps = walk(env, [WEST, EAST, NORTH, WEST, EAST, EAST, EAST, EAST, WEST, EAST, NORTH])
        shown = [start, corridor, corridor, start, corridor, corridor, JUNCTION, JUNCTION, corridor, JUNCTION]
        assert [step[0] for step in steps] == [*shown, (0, 0, 0)]
        assert [step[1] for step in steps] == [
            -0.1,
            0,
            -0.1,
            0,
            0,
            0,
            0,
            -0.1,
            0,
            0,
            4.0 if sign == 0 else -0.1,
        ]
        assert [step[2] for step in steps] == [False] * 10 + [True]
        assert not any(step[3] for step in steps)
        reset_to(env, sign)
        assert walk(env, [EAST] * 3 + [SOUTH])[-1][1:3] == (-0.1 if sign == 0 else 4.0, True)

    def test_both_signs_are_as_likely(self):
        env = TMaze()
        north = sum(env.reset(seed=seed)[0][0] == 0 for seed in range(1000))
        assert abs(north - 500) < 4 * np.sqrt(250)

    @pytest.mark.parametrize("length", [1, 2, 10, 70])
    def test_one_that_remembers_the_sign_gets_the_optimum(self, length):
        env, returns = TMaze(length=length), []
        for seed in range(20):
            turn = NORTH if env.reset(seed=seed)[0][0] == 0 else SOUTH
            returns.append(sum(step[1] for step in walk(env, [EAST] * length + [turn])))
        assert returns == [env.optimal_return] * 20

    @pytest.mark.parametrize(("length", "max_steps"), [(1, 2), (1, 9), (2, 3), (3, 4), (3, 50), (5, 1000)])
    def test_no_deterministic_policy_without_memory_does_better_than_stated(self, length, max_steps):
        env = TMaze(length=length, max_steps=max_steps)
        assert max(memoryless_maze_returns(length, max_steps).values()) == pytest.approx(
            env.memoryless_return
        )

    @pytest.mark.parametrize(("length", "max_steps"), [(1, 2), (2, 4), (3, 30)])
    def test_nor_does_one_that_draws_its_actions(self, length, max_steps):
        """Chances near those of good policies, and any."""
        rng, env = np.random.default_rng(0), TMaze(length=length, max_steps=max_steps)
        ranked = memoryless_maze_returns(length, max_steps)
        good = [np.eye(4)[list(a)] for a in sorted(ranked, key=ranked.__getitem__)[-30:]]
        for trial in range(600):
            chances = rng.dirichlet(np.full(4, 0.3), size=4)
            if trial % 2:
                mixed = rng.random() ** 3
                chances = mixed * chances + (1 - mixed) * good[trial % 30]
            policy = chances[classes_of(length)]
            assert limited_return(env._model, policy, max_steps) <= env.memoryless_return + 1e-12

    def test_best_policy_without_memory_plays_what_was_computed(self):
        """The environment against its hidden model: both signs, one after another."""
        env, total = TMaze(length=4), 0.0
        for sign in (0, 1):
            reset_to(env, sign)
            total += sum(step[1] for step in walk(env, [EAST] * 4 + [NORTH]))
        assert total / 2 == pytest.approx(env.memoryless_return)

    def test_is_truncated_at_its_limit_and_not_when_it_ends_there(self):
        env = TMaze(length=2, max_steps=3)
        env.reset(seed=0)
        assert [step[2:4] for step in walk(env, [WEST] * 3)] == [(False, False)] * 2 + [(False, True)]
        env.reset(seed=0)
        assert walk(env, [EAST, EAST, SOUTH])[-1][2:4] == (True, False)


# The memory chain and repeating ----------------------------------------------------------------------


def best_by_enumeration(env, contents: list) -> float:
    """The best mean return over all deterministic policies from observations to actions, each played."""
    seen: dict[bytes, int] = {}
    for content in contents:
        for obs in play_content(env, content, lambda obs: 0)[1]:
            seen.setdefault(observed(obs), len(seen))
    best = -np.inf
    for actions in itertools.product(range(env.answers), repeat=len(seen)):
        chosen = [play_content(env, c, lambda o, a=actions: a[seen[observed(o)]])[0] for c in contents]
        best = max(best, float(np.mean(chosen)))
    return best


def play_content(env, content: dict, choose) -> tuple[float, list]:
    """Play an episode of this content: (return, observations that were acted on)."""
    env.reset(seed=0)
    vars(env).update(content)
    obs, total, over, met = env._see(0), 0.0, False, []
    while not over:
        met.append(obs)
        obs, reward, over, _, _ = env.step(choose(obs))
        total += reward
    return total, met


def chain_contents(bits: int) -> list[dict]:
    return [
        {"bits": np.array(values), "query": query}
        for values in itertools.product((0, 1), repeat=bits)
        for query in range(bits)
    ]


def remember(env: MemoryChain, seed: int) -> float:
    obs, total, over = env.reset(seed=seed)[0], 0.0, False
    context = obs[2:]
    while not over:
        answer = context[int(obs[1])] > 0 if obs[0] == 0 else 0
        obs, reward, over, _, _ = env.step(int(answer))
        total += reward
    return total


class TestMemoryChain:
    def test_shows_the_context_first_and_the_query_last(self):
        env = MemoryChain(length=4, num_bits=3)
        env.reset(seed=0)
        env.bits, env.query = np.array([1, 0, 1]), 2
        seen = [env._see(0), *(env.step(1)[0] for _ in range(4))]
        rows = [[1, 0, 1, -1, 1], [0.75, 0, 0, 0, 0], [0.5, 0, 0, 0, 0], [0.25, 0, 0, 0, 0], [0, 2, 0, 0, 0]]
        np.testing.assert_array_equal(seen, np.array(rows, dtype=np.float32))
        assert env.step(1)[1:4] == (1.0, True, False)
        assert env.step(1)[1:4] == (0.0, True, False)  # over already

    def test_a_wrong_answer_costs_one(self):
        env = MemoryChain(length=1)
        for bit, answer in itertools.product((0, 1), repeat=2):
            env.reset(seed=0)
            env.bits = np.array([bit])
            assert env.step(answer)[1:3] == (0.0, False)
            assert env.step(answer)[1:3] == (1.0 if bit == answer else -1.0, True)

    @given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 2**31 - 1))
    @settings(max_examples=50, deadline=None)
    def test_one_that_remembers_gets_the_optimum(self, length, num_bits, seed):
        env = MemoryChain(length=length, num_bits=num_bits)
        assert remember(env, seed) == env.optimal_return

    @pytest.mark.parametrize(("length", "bits"), [(1, 1), (3, 1), (1, 2), (2, 2)])
    def test_no_policy_without_memory_does_better_than_stated(self, length, bits):
        """Draws can't help either: each step's reward is linear in its own step's chances."""
        env = MemoryChain(length=length, num_bits=bits)
        assert best_by_enumeration(env, chain_contents(bits)) == env.memoryless_return

    def test_contents_are_even(self):
        env, drawn = MemoryChain(num_bits=2), []
        for seed in range(800):
            env.reset(seed=seed)
            drawn.append((*env.bits.tolist(), env.query))
        counts = [drawn.count(content) for content in itertools.product((0, 1), repeat=3)]
        assert sum(counts) == 800
        assert sum((count - 100) ** 2 / 100 for count in counts) < 24.3  # chi-square of 7 at 0.001


def sequences(symbols: int, length: int) -> list[dict]:
    return [{"shown": [*shown, 0]} for shown in itertools.product(range(symbols), repeat=length)]


class TestRepeatPrevious:
    def test_pays_for_the_symbol_k_steps_before(self):
        env = RepeatPrevious(k=2, symbols=3, length=5)
        env.reset(seed=0)
        env.shown = [0, 1, 2, 1, 0, 2]
        results = [env.step(action)[:4] for action in (0, 0, 0, 2, 2)]
        third = 1.0 / 3.0
        assert [r[0] for r in results] == [1, 2, 1, 0, 2]
        assert [r[1] for r in results] == [0.0, 0.0, third, -third, third]
        assert [r[2] for r in results] == [False] * 4 + [True]

    @given(st.data(), st.integers(1, 60), st.integers(2, 7), st.integers(0, 2**31 - 1))
    @settings(max_examples=80, deadline=None)
    def test_naming_the_right_symbols_gives_one_in_total_and_the_wrong_ones_minus_one(
        self, data, length, symbols, seed
    ):
        k = data.draw(st.integers(0, length - 1))
        env = RepeatPrevious(k=k, symbols=symbols, length=length)
        for shift, total in ((0, env.optimal_return), (1, -1.0)):
            past, over, earned = [env.reset(seed=seed)[0]], False, []
            while not over:
                named = (past[-1 - k] + shift) % symbols if len(past) > k else 0
                obs, reward, over, _, _ = env.step(named)
                past.append(obs)
                earned.append(reward)
            assert len(earned) == length
            assert sum(earned) == pytest.approx(total, abs=1e-12)

    @pytest.mark.parametrize(
        ("k", "symbols", "length"), [(0, 3, 3), (1, 2, 4), (2, 2, 5), (1, 3, 3), (3, 3, 4)]
    )
    def test_no_policy_without_memory_does_better_than_stated(self, k, symbols, length):
        env = RepeatPrevious(k=k, symbols=symbols, length=length)
        best = best_by_enumeration(env, sequences(symbols, length))
        assert best == pytest.approx(env.memoryless_return, abs=1e-12)

    def test_symbols_are_even_and_independent(self):
        env, pairs = RepeatPrevious(symbols=3, length=1000), np.zeros((3, 3))
        for seed in range(9):
            env.reset(seed=seed)
            np.add.at(pairs, (env.shown[:-1], env.shown[1:]), 1)
        assert ((pairs - 1000) ** 2 / 1000).sum() < 26.1  # chi-square of 8 at 0.001


def test_determinism_holds_for_any_seed():
    for name, fields in FORMS.items():
        require_determinism(make(name, **fields), make(name, **fields))
