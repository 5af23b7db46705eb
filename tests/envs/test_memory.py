"""Every environment that needs memory keeps the contract, in a form in which memory pays."""

from __future__ import annotations

from functools import partial

import numpy as np
import pygame
import pytest

from contracts import require_determinism, require_environment
from rl_lab.environments.make import make_env
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


def test_determinism_holds_for_any_seed():
    for name, fields in FORMS.items():
        require_determinism(make(name, **fields), make(name, **fields))
