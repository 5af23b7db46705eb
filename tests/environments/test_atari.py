"""Games under protocols: one in Python and many in C++ play the same episodes, as the protocol says."""

from __future__ import annotations

import os
import pickle
import time

import ale_py
import cv2
import numpy as np
import pytest
from ale_py import roms

from rl_lab.environments.atari import Game, GameVector, below, twister_draws
from rl_lab.environments.contract import Contract
from rl_lab.environments.make import make_env, make_envs
from rl_lab.environments.protocols import PROTOCOLS, Protocol, protocol_of
from rl_lab.environments.vectors import LocalVector, SingleVector
from rl_lab.environments.workers import WorkerVector
from rl_lab.environments.wrappers import LIFE_LOST
from rl_lab.problem import frame_stack_of, frames_per_step_of

SHORT = {"max_num_frames_per_episode": 600}  # so that episodes are truncated, too


def singles(env_id, num_envs, env_kwargs, **fields):
    """Return n single games as the lab makes them, stepped one after another."""
    return LocalVector([Contract(make_env(env_id, env_kwargs, **fields), i) for i in range(num_envs)])


def require_equal(one, other):
    """Hold two answers of vectors to equality, of values and of dtypes."""
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        if isinstance(a, dict):
            assert a.keys() == b.keys()
            require_equal([a[key] for key in sorted(a)], [b[key] for key in sorted(a)])
        else:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def play_both(game, protocol, env_kwargs, num_envs, steps):
    """Play the vector and single games alike, and hold them to equality.

    Returns:
        How many episodes terminated and were truncated, and how many lives were lost.
    """
    fields = {"preprocess": protocol, "life_loss_terminates": True}
    both = (
        make_envs(f"ALE/{game}-v5", num_envs, env_kwargs, **fields),
        singles(f"{game}-v4", num_envs, env_kwargs, **fields),
    )
    assert isinstance(both[0], GameVector)
    assert both[0].single_observation_space == both[1].single_observation_space
    assert both[0].single_action_space == both[1].single_action_space
    draws = np.random.Generator(np.random.PCG64(1))
    require_equal(*(envs.reset(seed=[2**31 - 1, 0, 3][:num_envs]) for envs in both))
    counts = np.zeros(3, int)
    for _ in range(steps):
        actions = draws.integers(both[0].single_action_space.n, size=num_envs)
        answers = [envs.step(actions) for envs in both]
        require_equal(*answers)
        _, _, terminated, truncated, info = answers[0]
        counts += [terminated.sum(), truncated.sum(), info[LIFE_LOST].sum()]
        if (ends := terminated | truncated).any():
            drawn = draws.integers(2**31, size=num_envs)
            seeds = [int(s) if over else None for s, over in zip(drawn, ends, strict=True)]
            require_equal(*(envs.reset(seed=seeds, options={"reset_mask": ends}) for envs in both))
    for envs in both:
        envs.close()
    return counts


def test_many_in_one_vector_are_single_ones_with_the_same_seeds():
    """Over lost lives, both kinds of ends, and masked resets."""
    env_kwargs = {"use_fire_reset": True, "max_num_frames_per_episode": 600}
    terminated, truncated, lives = play_both("Breakout", "nature", env_kwargs, 2, 151)
    assert min(terminated, truncated) >= 1
    assert lives > 5 * terminated  # a game has five, and others go on


@pytest.mark.long
@pytest.mark.parametrize(
    ("game", "protocol", "env_kwargs"),
    [
        ("Breakout", "machado", SHORT),
        ("Pong", "v5", {"frameskip": 3, "maxpool": False, "max_num_frames_per_episode": 500}),
    ],
)
def test_many_are_single_ones_under_every_protocol(game, protocol, env_kwargs):
    _, truncated, _ = play_both(game, protocol, env_kwargs, 3, 300)
    assert truncated


def test_an_episode_is_its_seed_and_its_actions_whatever_was_played_before(pongs):
    actions = np.random.Generator(np.random.PCG64(0)).integers(6, size=30)

    def play(envs, seed):
        """Play an episode in the first column; return copies of its observations, and them as they are in the end."""
        kept = [envs.reset(seed=[seed] * envs.num_envs)[0]]
        copies = [kept[0].copy()]
        for action in actions:
            kept.append(envs.step(np.full(envs.num_envs, action))[0])
            copies.append(kept[-1].copy())
        np.testing.assert_array_equal(kept, copies)  # what was observed stays as it was
        return np.array(copies)[:, 0]

    first, other = play(pongs, 5), play(pongs, 6)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(play(pongs, 5), first)
    alone = make_envs("ALE/Pong-v5", 1, SHORT, preprocess="v5")
    assert isinstance(alone, SingleVector)
    np.testing.assert_array_equal(play(alone, 5), first)


@pytest.fixture(scope="module")
def pongs():
    """Two games in one vector; each test resets them."""
    envs = make_envs("ALE/Pong-v5", 2, SHORT, preprocess="v5")
    yield envs
    envs.close()


class TestAVector:
    def test_refuses_actions_outside_its_space(self, pongs):
        pongs.reset(seed=[1, 2])
        with pytest.raises(ValueError, match="6"):
            pongs.step(np.array([0, 6]))

    def test_refuses_to_go_on_with_a_finished_game(self, pongs):
        pongs.reset(seed=[1, 2])
        for _ in range(149):
            assert not pongs.step(np.array([0, 0]))[3].any()
        assert pongs.step(np.array([0, 0]))[3].all()
        with pytest.raises(AssertionError):
            pongs.step(np.array([0, 0]))
        pongs.reset(seed=[None, 3], options={"reset_mask": np.array([False, True])})
        with pytest.raises(AssertionError):  # the other one
            pongs.step(np.array([0, 0]))

    def test_ends_its_threads(self):
        def threads():
            return set(os.listdir("/proc/self/task"))

        before = threads()
        envs = make_envs("ALE/Pong-v5", 2, preprocess="nature")
        own = threads() - before
        assert own
        envs.close()
        envs.close()
        deadline = time.monotonic() + 60
        while own & threads():  # one that was waited for is listed for a moment longer
            assert time.monotonic() < deadline
            time.sleep(0.01)

    @pytest.mark.parametrize(
        ("fields", "kind"),
        [
            ({"vector": "async"}, WorkerVector),
            ({"render_mode": "rgb_array"}, LocalVector),
            ({"env_kwargs": {"difficulty": 1}}, LocalVector),  # ale_py's vector has none
        ],
    )
    def test_gives_way_to_single_games_where_it_can_not_serve(self, fields, kind):
        envs = make_envs("ALE/Pong-v5", 2, preprocess="nature", **fields)
        assert type(envs) is kind
        envs.close()


class TestAGame:
    """Held to ALE itself, played by hand."""

    @pytest.fixture
    def ale(self):
        ale = ale_py.ALEInterface()
        ale.setFloat("repeat_action_probability", 0.0)
        ale.loadROM(roms.get_rom_path("breakout"))
        return ale

    @staticmethod
    def begin(ale, seed, noops):
        ale.setInt("random_seed", seed)
        ale.loadROM(roms.get_rom_path("breakout"))
        ale.reset_game()
        for _ in range(noops):
            ale.act(ale_py.Action.NOOP)

    @staticmethod
    def small(frames):
        return cv2.resize(np.max(frames, axis=0), (84, 84), interpolation=cv2.INTER_AREA)

    @pytest.mark.parametrize("protocol", ["nature", "dopamine"])
    def test_shows_the_brighter_of_the_last_two_of_four_frames_and_an_action_may_stick_at_each(
        self, ale, protocol
    ):
        game = Game("breakout", PROTOCOLS[protocol])
        ale.setFloat("repeat_action_probability", PROTOCOLS[protocol].repeat_action_probability)
        obs = game.reset(seed=2)[0]
        self.begin(ale, 2, below(30, twister_draws(2)) if protocol == "nature" else 0)
        pictures = [np.zeros((84, 84), np.uint8)] * 3 + [self.small([ale.getScreenGrayscale()])]
        np.testing.assert_array_equal(obs, pictures)
        total = 0
        for action in [1] + list(np.random.Generator(np.random.PCG64(0)).integers(4, size=120)):
            obs, reward, over, _, info = game.step(action)
            rewards, frames = 0, []
            for _ in range(4):
                rewards += ale.act(ale.getMinimalActionSet()[action])
                frames.append(ale.getScreenGrayscale())
            pictures = [*pictures[1:], self.small(frames[2:])]
            np.testing.assert_array_equal(obs, pictures)
            assert (reward, over, info["lives"]) == (rewards, ale.game_over(), ale.lives())
            total += reward
        assert total > 0

    @pytest.mark.parametrize("noop_max", [0, 30])
    def test_begins_after_as_many_frames_as_its_seed_draws(self, noop_max):
        game = Game("pong", Protocol(noop_max=noop_max))
        drawn = {game.reset(seed=seed)[1]["episode_frame_number"] for seed in range(3)}
        assert drawn <= set(range(max(1, noop_max)))
        assert len(drawn) > 1 or noop_max < 30

    def test_draws_again_where_numbers_would_be_unequal(self):
        """2**32 = 10 * 429,496,729 + 6: of the products those whose rest is below 6 are drawn again."""
        assert below(10, iter([0, 2**31, 2**31 + 1])) == 5
        assert below(10, iter([429_496_730, 2**32 - 1])) == 9  # 10 * 429,496,730 = 2**32 + 4
        assert below(10, iter([858_993_460])) == 2  # 10 * 858,993,460 = 2 * 2**32 + 8
        assert below(16, iter([0])) == 0  # divides 2**32

    def test_is_truncated_after_its_frames_and_not_those_of_no_ops(self):
        game = Game("pong", Protocol(noop_max=30, max_num_frames_per_episode=10))
        game.reset(seed=4)
        assert below(30, twister_draws(4)) > 10
        assert [game.step(0)[3] for _ in range(3)] == [False, False, True]

    def test_holds_on_to_the_last_action_if_that_is_sticky(self):
        """With a probability of 1 the first action is held for ever: nothing but no-ops, whatever is chosen."""
        always, never = (Game("pong", Protocol(repeat_action_probability=p)) for p in (1.0, 0.0))
        ends = {}
        for name, game, action in (("stuck", always, 2), ("idle", never, 0), ("moving", never, 2)):
            game.reset(seed=1)
            for _ in range(20):
                ends[name] = game.step(action)[0]
        np.testing.assert_array_equal(ends["stuck"], ends["idle"])
        assert not np.array_equal(ends["moving"], ends["idle"])

    def test_is_drawn_and_named_as_its_id_says(self):
        env = make_env("ALE/Pong-v5", preprocess="machado", render_mode="rgb_array")
        env.reset(seed=1)
        assert env.render().shape == (210, 160, 3)
        assert env.spec.id == "ALE/Pong-v5"
        assert env.action_space.n == 18
        env.close()

    def test_is_pickled_as_what_it_is(self):
        game = pickle.loads(pickle.dumps(Game("pong", PROTOCOLS["machado"])))
        assert game.protocol == PROTOCOLS["machado"]
        assert game.reset(seed=3)[0].shape == (4, 84, 84)


@pytest.mark.parametrize(
    ("env_id", "fields", "stack", "frames"),
    [
        ("ALE/Pong-v5", {"preprocess": "v5"}, 4, 4),
        (
            "ALE/Pong-v5",
            {"preprocess": "v5", "env_kwargs": {"frameskip": 3}, "life_loss_terminates": True},
            4,
            3,
        ),
        ("ALE/Pong-v5", {}, 4, 4),
        ("ALE/Pong-v5", {"preprocess": "none"}, 1, 4),
        ("PongNoFrameskip-v4", {"preprocess": "none"}, 1, 1),
        ("Pong-v4", {"preprocess": "none"}, 1, None),  # 2 to 4, drawn at each step
        ("CartPole-v1", {}, 1, None),
    ],
)
def test_stacks_and_frames_of_a_step_are_known(env_id, fields, stack, frames):
    env = Contract(make_env(env_id, **fields))
    assert (frame_stack_of(env), frames_per_step_of(env)) == (stack, frames)
    env.close()


def test_gymnasiums_preprocessing_shows_the_same_without_colours():
    """It looks at the screen itself, so what ALE is asked to return only costs time."""
    grey, coloured = make_env("ALE/Pong-v5"), make_env("ALE/Pong-v5", {"obs_type": "rgb"})
    for env in (grey, coloured):
        env.reset(seed=2)
    for action in (2, 2, 3, 3, 0, 1):
        a, b = grey.step(action), coloured.step(action)
        np.testing.assert_array_equal(a[0], b[0])
        assert a[1:4] == b[1:4]


def test_protocols_of_several_games_are_taken_from_any_id():
    assert protocol_of("v5", {}).noop_max == 30
    env = make_env("ale_py:ALE/Breakout-v5", preprocess="v5")
    assert env.unwrapped.spec.kwargs["game"] == "breakout"
    env.close()
