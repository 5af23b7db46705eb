"""The contract of action masks: which are taken, alike for one environment, vectors and worker processes."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from rl_lab.environments.actions import leaf_spaces, mask_size, structured_actions
from rl_lab.environments.contract import Contract
from rl_lab.environments.make import vector_of
from rl_lab.environments.masks import MaskFromObservation, MaskReader, choices_of, legal_actions, mask_of
from rl_lab.environments.observed import Refused
from rl_lab.evaluation.evaluate import evaluate
from rl_lab.types import Decision, EnvironmentFault, UsageError
from telling import WIDTHS, Told, play


class TestMasks:
    GIVEN = ([1, 1, 1, 0], (True, True, True, False), np.array([1, 1, 1, 0], np.int8), [1.0, 1.0, 1.0, 0.0])

    @WIDTHS
    @pytest.mark.parametrize("mask", GIVEN, ids=["list", "tuple", "array", "floats"])
    def test_sequences_of_zeros_and_ones_are_taken(self, mask, num_envs, vector):
        *_, info = play(lambda: Told(mask), num_envs, vector)
        assert mask_of(info).tolist() == [[True, True, True, False]] * num_envs
        assert mask_of(info).dtype == np.bool_

    def test_other_entries_of_info_stay_beside_a_mask_that_is_known(self):
        class Noted(Told):
            def step(self, action):
                *rest, info = super().step(action)
                return *rest, {**info, "note": len(info)}

        env = Contract(Noted(np.ones(4, np.int8)))
        env.reset(seed=0)
        infos = [env.step(np.int64(0))[-1] for _ in range(2)]
        assert [(sorted(info), info["action_mask"].dtype) for info in infos] == [
            (["action_mask", "note"], np.dtype(np.bool_))
        ] * 2

    def test_an_array_that_the_environment_changes_is_read_anew(self):
        reader, given = MaskReader(Told([1, 1, 1, 1])), np.array([1, 0, 0, 1], np.int8)
        first = reader.read({"action_mask": given}, False, False)
        given[:] = [0, 1, 0, 0]
        second = reader.read({"action_mask": given}, False, False)
        given[:] = [1, 0, 0, 1]
        again = reader.read({"action_mask": given}, False, False)
        assert [first.tolist(), second.tolist()] == [[True, False, False, True], [False, True, False, False]]
        assert again.tolist() == first.tolist()
        with pytest.raises(ValueError, match="read-only"):
            again[:] = True

    def test_what_counts_as_legal_at_an_end_is_not_remembered_for_later_steps(self):
        reader, none = MaskReader(Told([1, 1, 1, 1])), {"action_mask": np.zeros(4, np.int8)}
        reader.read({"action_mask": np.ones(4, np.int8)}, False, False)
        for _ in range(2):
            assert reader.read(none, True, False).all()
            with pytest.raises(Refused, match="no action is legal"):
                reader.read(none, False, False)

    def test_no_more_than_so_many_masks_are_remembered(self, monkeypatch):
        monkeypatch.setattr("rl_lab.environments.masks.MOST_KNOWN", 2)
        reader = MaskReader(Told([1, 1, 1, 1]))
        for a in range(4):
            assert reader.read({"action_mask": np.eye(4, dtype=np.bool_)[a]}, False, False).tolist() == [
                a == b for b in range(4)
            ]
        assert len(reader._known) == 2

    @WIDTHS
    @pytest.mark.parametrize(
        "mask", [[[1, 1, 1, 0]], np.ones((1, 4)), [1], [1, 1, 1], [1, 1, 1, 0.5], [1, 1, [1], 0], "1110", 7]
    )
    def test_other_forms_are_refused_at_every_width(self, mask, num_envs, vector):
        with pytest.raises(EnvironmentFault, match=r"action mask: .* \(allowed: 4 entries of 0 or 1\)"):
            play(lambda: Told(mask), num_envs, vector)

    @WIDTHS
    @pytest.mark.parametrize(
        ("at", "said"), [(("reset",), "none came, .* gave one"), (("step",), "one came, .* gave none")]
    )
    def test_masks_come_always_or_never(self, at, said, num_envs, vector):
        with pytest.raises(EnvironmentFault, match=rf"step 1\): action mask: {said}"):
            play(lambda: Told([1, 1, 1, 0], at), num_envs, vector)

    def test_a_later_reset_may_not_drop_them(self):
        class Forgets(Told):
            def reset(self, *, seed=None, options=None):
                obs, info = super().reset()
                return obs, info if seed == 0 else {}

        for num_envs in (1, 2):
            envs = vector_of(lambda: Forgets([1, 1, 1, 0]), num_envs)
            envs.reset(seed=[0] * num_envs)
            with pytest.raises(EnvironmentFault, match=r"seed 5, reset\): action mask: none came"):
                envs.reset(seed=[5] * num_envs)

    def test_some_action_is_legal_until_the_end(self):
        with pytest.raises(EnvironmentFault, match=r"reset\): action mask: no action is legal"):
            play(lambda: Told([0, 0, 0, 0]), 1, "sync")

        class Ends(Told):
            def step(self, action):
                self.mask = [0, 0, 0, 0]
                return *super().step(action)[:2], True, False, self._info("step")

        *_, info = play(lambda: Ends([1, 0, 0, 0]), 1, "sync", steps=1)
        assert mask_of(info).tolist() == [[True] * 4]

    def test_at_the_end_each_part_without_a_legal_value_has_all(self):
        class Ends(Told):
            action_space = spaces.MultiDiscrete([2, 3])

            def step(self, action):
                return 0, 0.0, True, False, {"action_mask": [0, 1, 0, 0, 0]}

        *_, info = play(lambda: Ends([1, 1, 1, 1, 1]), 2, "sync", steps=1)
        assert mask_of(info).tolist() == [[False, True, True, True, True]] * 2

    @pytest.mark.parametrize("method", [False, True])
    def test_where_an_episode_terminates_none_has_to_come(self, method):
        class Ends(Told):
            def step(self, action):
                return 0, 0.0, True, False, {}

        class Asked(Ends):
            def action_masks(self):
                if self.count < 0:
                    raise RuntimeError("the game is over")
                return [1, 1, 1, 0]

            def step(self, action):
                self.count = -1
                return super().step(action)

        *_, info = play(Asked if method else (lambda: Ends([1, 1, 1, 0], at=("reset",))), 2, "sync", steps=1)
        assert mask_of(info).tolist() == [[True] * 4] * 2

    def test_where_an_episode_is_cut_off_one_has_to_come(self):
        with pytest.raises(EnvironmentFault, match="none came"):
            play(lambda: TimeLimit(Told([1, 1, 1, 0], at=("reset",)), 1), 1, "sync", steps=1)

    def test_the_mask_is_a_copy(self):
        env = Told(np.ones(4, np.int8))
        envs = vector_of(lambda: env, 1)
        _, info = envs.reset(seed=[0])
        env.mask[:] = 0
        assert info["action_mask"].all()

    @WIDTHS
    def test_masks_of_a_vector_may_be_written_to_and_are_its_own_at_every_step(self, num_envs, vector):
        envs = vector_of(lambda: Told(np.ones(4, np.int8)), num_envs, vector=vector)
        envs.reset(seed=range(num_envs))
        first, second = (envs.step(np.zeros(num_envs, np.int64))[-1]["action_mask"] for _ in range(2))
        first[:] = False
        assert second.all()
        assert (second.shape, second.dtype) == ((num_envs, 4), np.dtype(np.bool_))
        envs.close()

    @WIDTHS
    def test_a_method_gives_them_where_info_does_not(self, num_envs, vector):
        class Method(Told):
            def action_masks(self):
                return [True, False, self.count % 2 == 0, False]

        *_, info = play(Method, num_envs, vector, steps=1)
        assert mask_of(info).tolist() == [[True, False, False, False]] * num_envs
        *_, info = play(lambda: TimeLimit(Method(), 9), num_envs, vector, steps=2)
        assert mask_of(info).tolist() == [[True, False, True, False]] * num_envs

    @WIDTHS
    def test_a_method_that_asks_for_arguments_is_the_environments_own(self, num_envs, vector):
        class Method(Told):
            def action_masks(self, state):
                raise AssertionError("asked")

        *_, info = play(Method, num_envs, vector)
        assert info == {}
        *_, info = play(lambda: Method([1, 0, 1, 0]), num_envs, vector)
        assert mask_of(info).tolist() == [[True, False, True, False]] * num_envs

    @WIDTHS
    def test_an_error_of_the_method_is_one_line(self, num_envs, vector):
        class Method(Told):
            def action_masks(self):
                return [True] * 4 if self.count < 2 else [1, 2][self.count]

        with pytest.raises(
            EnvironmentFault, match=r"step 2\): action mask: action_masks raised IndexError: "
        ):
            play(Method, num_envs, vector)

    @WIDTHS
    def test_a_dict_observation_may_hold_them(self, num_envs, vector):
        class Holds(Told):
            observation_space = spaces.Dict(
                {
                    "seen": spaces.Discrete(4),
                    "action_mask": spaces.MultiBinary(4),
                }
            )

            def reset(self, *, seed=None, options=None):
                return {"seen": 1, "action_mask": np.int8([1, 0, 0, 1])}, {}

            def step(self, action):
                return {"seen": 2, "action_mask": np.int8([0, 1, 0, 0])}, 1.0, False, False, {}

        env = MaskFromObservation(Holds())
        assert env.observation_space == spaces.Dict({"seen": spaces.Discrete(4)})
        obs, *_, info = play(lambda: MaskFromObservation(Holds()), num_envs, vector)
        assert {k: v.tolist() for k, v in obs.items()} == {"seen": [2] * num_envs}
        assert mask_of(info).tolist() == [[False, True, False, False]] * num_envs

    def test_an_observation_of_nothing_else_is_refused(self):
        class Bare(Told):
            observation_space = spaces.Dict({"action_mask": spaces.MultiBinary(4)})

        assert MaskFromObservation.fits(Bare())
        with pytest.raises(UsageError, match="nothing but 'action_mask'"):
            MaskFromObservation(Bare())

    def test_the_parts_of_multidiscrete_actions_lie_one_after_another(self):
        class Two(Told):
            action_space = spaces.MultiDiscrete([2, 3])

        *_, info = play(lambda: Two([1, 0, 0, 0, 1]), 2, "sync")
        assert mask_of(info).tolist() == [[True, False, False, False, True]] * 2
        with pytest.raises(EnvironmentFault, match="no action is legal"):
            play(lambda: Two([1, 0, 0, 0, 0]), 2, "sync")
        with pytest.raises(EnvironmentFault, match="allowed: 5 entries"):
            play(lambda: Two([1, 0, 0]), 1, "sync")

    def test_actions_without_a_choice_take_none(self):
        class Continuous(Told):
            action_space = spaces.Box(-1, 1, (1,))

        with pytest.raises(
            EnvironmentFault, match=r"Box.* actions take none \(allowed: actions with discrete"
        ):
            play(lambda: Continuous([1]), 1, "sync")

    def test_an_evaluation_plays_legally_whatever_the_width(self):
        class Legal:
            """Takes the last legal action; an illegal one raises in the environment."""

            def initial_state(self, num_envs):
                return ()

            def act(self, obs, state, is_first, mask=None):
                return Decision(3 - mask[:, ::-1].argmax(1))

            def inspect(self, *_):
                return {}

        for width in (1, 4):
            envs = vector_of(lambda: TimeLimit(Told([1, 1, 1, 0]), 50), width)
            assert evaluate(Legal(), envs, episodes=4, seed=0).returns.tolist() == [50.0] * 4


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(4, start=-2),
        spaces.MultiDiscrete([[3, 2], [1, 4]], start=[[1, 0], [-5, 2]]),
        spaces.MultiBinary(3),
        spaces.Dict(
            b=spaces.Box(1.0, 2.0, (2,)), a=spaces.MultiDiscrete([2, 3]), c=spaces.Discrete(5, start=7)
        ),
    ],
    ids=str,
)
def test_some_legal_action_is_found_in_every_space(space):
    rng, num_envs = np.random.default_rng(0), 40
    masks = rng.random((num_envs, mask_size(space))) < 0.4
    choices = choices_of(space)
    for first, beyond in choices:
        masks[np.arange(num_envs), rng.integers(first, beyond, num_envs)] = True
    actions = legal_actions(space, num_envs, masks)
    assert actions.shape[0] == num_envs
    for i, action in enumerate(actions):
        entries = []
        for leaf, part in zip(leaf_spaces(space), _leaves_of(space, action), strict=True):
            assert leaf.contains(part)
            if not isinstance(leaf, spaces.Box):
                entries += (np.asarray(part) - getattr(leaf, "start", 0)).ravel().tolist()
        assert all(masks[i, first + k] for (first, _), k in zip(choices, entries, strict=True))
    assert len(np.unique(actions, axis=0)) > 3


def _leaves_of(space, action):
    """Return one action's parts, in the order of their spaces."""
    if not isinstance(space, spaces.Dict):
        return [action.astype(space.dtype)]
    parts = structured_actions(space, action[None])
    return [parts[key][0] for key in sorted(space.spaces)]
