"""The checks of an environment find what was put into it, and find nothing in sound ones."""

from __future__ import annotations

import re
from functools import partial
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from faulty import Faulty
from rl_lab.environments import check_env as module
from rl_lab.environments.check_env import brief_check, check_env
from rl_lab.environments.ending import CloseRaised
from rl_lab.environments.make import make_env
from rl_lab.environments.played import Played
from rl_lab.seeding import seed_of
from rl_lab.types import UsageError


def found(make, **fields) -> dict[str, tuple[str, str]]:
    return {f.check: (f.verdict, f.text) for f in check_env(make, **fields)}


class Drifts(Faulty):
    """An episode depends on how many there were before it."""

    def _observation(self):
        return np.array([0.01 * self.episode, 0.0], np.float32)


class Leaks(Faulty):
    """What an episode shows from some step on depends on how many there were before it."""

    def __init__(self, at):
        super().__init__(at=at)

    def _observation(self):
        return np.array([0.01 * self.episode * (self.steps >= self.at), 0.0], np.float32)


class Remembers(Faulty):
    """Shows at step `at`, in about `share` of the episodes, the sum of the actions of the episode before."""

    def __init__(self, at, share):
        super().__init__(at=at)
        self.share, self.taken = share, 0

    def reset(self, *, seed=None, options=None):
        self.before, self.taken = self.taken, 0
        obs, info = super().reset(seed=seed)
        self.is_open = self.np_random.random() < self.share
        return obs, info

    def step(self, action):
        self.taken += action
        return super().step(action)

    def _observation(self):
        shown = self.steps == self.at and self.is_open
        return np.array([0.01 * self.before * shown, 0.0], np.float32)


class Slow(Faulty):
    """Takes its time for each step, by a clock that it moves on."""

    def __init__(self, seconds, clock):
        super().__init__()
        self.seconds, self.clock = seconds, clock

    def step(self, action):
        self.clock.now += self.seconds
        return super().step(action)


@pytest.fixture
def clock(monkeypatch):
    """The clock of the checks, which stands still unless an environment moves it on."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


class Counts(Faulty):
    """What an episode shows depends on how many environments were made."""

    made = 0

    def __init__(self):
        super().__init__()
        Counts.made += 1
        self.number = Counts.made

    def _observation(self):
        return np.array([0.01 * self.number, 0.0], np.float32)


class Reuses(Faulty):
    """Returns the same array each time."""

    shown = np.zeros(2, np.float32)

    def _observation(self):
        self.shown[0] = self.np_random.uniform(-1, 1)
        return self.shown


class TestFindings:
    @pytest.mark.parametrize("env_id", ["CartPole-v1", "Taxi-v4", "Blackjack-v1", "lab/GridWorld-v0"])
    def test_sound_environments_have_no_fault_and_replay(self, env_id):
        result = found(partial(make_env, env_id))
        assert "fault" not in {verdict for verdict, _ in result.values()}
        assert result["replay"] == ("ok", "seed and actions give the same episode again, to the bit")
        assert result["aliasing"][0] == "ok"
        assert result["seeds"][0] == ("note" if env_id.startswith("lab/") else "ok")

    def test_so_many_steps_and_episodes_are_played(self):
        assert found(Faulty, steps=250, episodes=1)["contract"][1].startswith("300 steps in 3 episodes")
        assert found(Faulty, steps=1, episodes=3)["contract"][1].startswith("3 steps in 3 episodes")

    @pytest.mark.parametrize(
        ("fault", "at", "episode"), [("nan", 99, 2), ("nan reward", 60, 8), ("raise", 1, 0)]
    )
    def test_faults_that_come_late_are_found(self, fault, at, episode):
        result = found(partial(Faulty, fault, at, episode))
        assert result["contract"][0] == "fault"
        assert f"step {at})" in result["contract"][1]

    @pytest.mark.parametrize("fault", ["huge reward", "quit"])
    def test_that_is_said_of_rewards_and_of_ends_of_the_program_too(self, fault):
        verdict, text = found(partial(Faulty, fault, 60))["contract"]
        assert (verdict, "step 60)" in text) == ("fault", True)

    def test_what_is_raised_when_it_is_closed_is_noted(self):
        noted = check_env(partial(Faulty, "raise closed", 3))[-1]
        assert (noted.check, noted.verdict) == ("contract", "note")
        assert noted.text.startswith("environment Faulty: close raised RuntimeError: the arm is stuck (")

    def test_an_episode_that_depends_on_earlier_ones_does_not_replay(self):
        verdict, text = found(Drifts)["replay"]
        assert verdict == "note"
        assert "differs at the reset when it is played again after other episodes" in text

    def test_neither_does_one_that_depends_on_the_instance(self):
        verdict, text = found(Counts)["replay"]
        assert verdict == "note"
        assert "differs at the reset when it is played again in a fresh environment" in text

    @pytest.mark.parametrize("at", [21, 60, 99])
    def test_what_leaks_over_a_reset_late_in_an_episode_is_noted(self, at):
        verdict, text = found(partial(Leaks, at))["replay"]
        assert verdict == "note"
        assert f"differs at step {at} when it is played again after other episodes" in text

    @pytest.mark.parametrize(("at", "share"), [(1, 0.1), (4, 0.1), (60, 0.4)])
    def test_what_the_episode_before_leaves_to_few_others_is_noted(self, at, share):
        verdict, text = found(partial(Remembers, at, share))["replay"]
        assert verdict == "note"
        assert f"differs at step {at} when it is played again after other episodes" in text

    def test_few_episodes_are_begun_where_that_takes_long(self, monkeypatch):
        def begun():
            made = []
            found(lambda: made.append(Faulty()) or made[-1])
            return made[0].episode

        assert begun() > 200
        monkeypatch.setattr("rl_lab.environments.check_env.OPENING_SECONDS", 0.0)
        assert begun() < 40

    def test_observations_that_change_later_are_noted(self):
        assert found(Reuses)["aliasing"] == (
            "note",
            "the observation of step 0 is changed by a later step; the lab copies observations",
        )

    def test_seeds_without_effect_are_noted(self):
        assert found(Faulty)["seeds"] == ("note", "four seeds open four episodes alike")

    def test_episodes_that_never_end_are_noted(self):
        class Endless(Faulty):
            def step(self, action):
                return *super().step(action)[:3], False, {}

        result = found(Endless)
        assert result["ends"][0] == "note"
        assert "no episode of up to 1000 steps ended, and there is no time limit" in result["ends"][1]
        assert found(lambda: TimeLimit(Endless(), 20))["ends"][0] == "ok"

    def test_masks_are_counted(self):
        assert found(partial(make_env, "Taxi-v4"))["masks"][1].endswith("of 6 are legal")

    def test_only_legal_parts_of_an_action_are_taken(self):
        class Parts(Faulty):
            action_space = spaces.MultiDiscrete([2, 3])

            def reset(self, *, seed=None, options=None):
                return super().reset(seed=seed)[0], {"action_mask": [0, 1, 1, 0, 1]}

            def step(self, action):
                assert action.tolist() in ([1, 0], [1, 2])
                return *super().step(action)[:4], {"action_mask": [0, 1, 1, 0, 1]}

        assert found(Parts)["masks"] == ("ok", "3 to 3 of 5 are legal")

    def test_a_space_that_no_agent_takes_is_refused(self):
        class Talks(Faulty):
            observation_space = spaces.Text(5)

        with pytest.raises(UsageError, match="no fixed shape"):
            check_env(Talks)


class TestEpisodes:
    def test_differ_where_they_first_do(self):
        def episode(*shown, rewards=(0.0, 0.0), masks=None):
            observations = [np.array([x]) for x in shown]
            outcomes = [(r, False, False) for r in rewards]
            return Played(0, observations, [0, 0], outcomes, masks or [None] * len(shown), observations)

        one = episode(1.0, 2.0, 3.0)
        assert one.difference(episode(1.0, 2.0, 3.0)) is None
        assert one.difference(episode(1.5, 2.0, 3.0)) == "the reset"
        assert one.difference(episode(1.0, 2.0, 3.5)) == "step 2"
        assert one.difference(episode(1.0, 2.0, 3.0, rewards=(0.0, 1.0))) == "step 2"
        assert one.difference(episode(1.0, 2.0, rewards=(0.0,))) == "step 2"
        assert one.difference(episode(-0.0, 2.0, 3.0)) == "the reset"
        masks = [np.array([True]), np.array([True]), np.array([False])]
        assert episode(1.0, 2.0, 3.0, masks=masks).difference(
            episode(1.0, 2.0, 3.0, masks=[np.array([True])] * 3)
        ) == "step 2"  # fmt: skip


class TestBriefly:
    def test_a_sound_environment_says_nothing(self):
        assert brief_check(partial(gymnasium.make, "CartPole-v1")) == []

    def test_an_early_fault_is_refused(self):
        with pytest.raises(UsageError, match=r"step 3\): reward: nan"):
            brief_check(partial(Faulty, "nan reward", 3))

    def test_what_is_raised_when_it_is_closed_is_a_warning(self, monkeypatch):
        monkeypatch.setattr("rl_lab.environments.ending._said", set())
        with pytest.warns(CloseRaised) as said:
            assert brief_check(partial(Faulty, "raise closed", 3)) == []
        assert len(said) == 1

    def test_what_does_not_replay_is_said(self):
        assert len(brief_check(Drifts)) == 1

    @pytest.mark.parametrize("at", [21, 60, 99])
    @pytest.mark.usefixtures("clock")  # by which the episode is quick
    def test_what_leaks_over_a_reset_late_in_an_episode_is_said(self, at):
        (said,) = brief_check(partial(Leaks, at))
        assert f"differs at step {at} when it is played again after other episodes" in said

    def test_an_episode_of_a_slow_environment_is_played_no_further_than_it_must(self, monkeypatch):
        monkeypatch.setattr("rl_lab.environments.check_env.LONG_SECONDS", -1.0)
        assert brief_check(partial(Leaks, 60)) == []
        assert len(brief_check(partial(Leaks, 19))) == 1

    def test_a_check_that_is_cut_short_says_so(self, clock):
        (said,) = brief_check(lambda: Slow(1.5, clock))
        assert clock.now < module.BRIEF_SECONDS + 3 * 1.5
        assert re.search(r"cut short, 3 of 20 steps were played \(rl-lab check-env takes its time\)", said)

    def test_a_replay_that_is_cut_short_says_so_and_blames_nothing(self, clock):
        class Tires(Slow):
            def reset(self, **kwargs):
                self.seconds = 3.0 if self.episode >= 0 else 0.0
                return super().reset(**kwargs)

        (said,) = brief_check(lambda: Tires(0.0, clock))
        assert "an episode was played again for 4 steps only" in said


def test_a_reset_that_fails_after_the_episodes_is_a_fault_beside_the_rest():
    class Tires(Faulty):
        def reset(self, *, seed=None, options=None):
            if seed == seed_of(0, "check", 3):  # the fourth of the seeds that are compared
                raise RuntimeError("tired")
            return super().reset(seed=seed)

    result = found(Tires, steps=1)
    assert result["contract"][0] == "fault"
    assert "tired" in result["contract"][1]
    assert result["replay"][0] == "ok"
