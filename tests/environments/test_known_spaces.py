"""Spaces that can't be served are refused with the wrapper that helps."""

from __future__ import annotations

import gymnasium
import pytest
from gymnasium import spaces

from commands import call, require_refusal
from rl_lab.cli.train import train
from rl_lab.environments.known_spaces import require_known
from rl_lab.types import UsageError

PLAIN = spaces.Discrete(2)
UNKNOWN = {
    "Text": spaces.Text(5),
    "Graph": spaces.Graph(spaces.Box(0, 1), spaces.Discrete(2)),
    "Sequence": spaces.Sequence(spaces.Discrete(2)),
    "OneOf": spaces.OneOf((spaces.Discrete(2), spaces.Box(0, 1))),
}
MISSION = spaces.Dict({"image": spaces.Box(0, 255, (7, 7, 3)), "mission": spaces.Text(50)})


class Showing(gymnasium.Env):
    """Must never be stepped."""

    def __init__(self, observations=PLAIN, actions=PLAIN, render_mode=None):
        self.observation_space, self.action_space = observations, actions

    def reset(self, *, seed=None, options=None):
        raise AssertionError("reset")


gymnasium.register("toys/Unserved-v0", entry_point=Showing, kwargs={"observations": MISSION})


@pytest.mark.parametrize("name", UNKNOWN)
def test_observations_and_actions_are_refused_in_a_line(name):
    for spaces_of, wrapper in (
        ((UNKNOWN[name], PLAIN), "Observation"),
        ((PLAIN, UNKNOWN[name]), "TransformAction"),
    ):
        with pytest.raises(UsageError, match=rf"space {name}.* has no fixed shape .*{wrapper}") as refused:
            require_known(*spaces_of)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "empty",
    [
        spaces.Box(-1, 1, (0,)), spaces.Dict({"a": spaces.Box(-1, 1, (2, 0))}), spaces.Dict({}), spaces.Tuple(()),
        spaces.Dict({"a": spaces.Tuple(())}),
    ],
)  # fmt: skip
def test_actions_without_a_number_are_refused(empty):
    with pytest.raises(UsageError, match="holds no numbers"):
        require_known(PLAIN, empty)


def test_parts_are_named_by_their_place():
    space = spaces.Dict({"a": spaces.Tuple((PLAIN, UNKNOWN["Sequence"]))})
    with pytest.raises(UsageError, match=r"observation space\['a'\]\[1\] Sequence"):
        require_known(space, PLAIN)


def test_what_is_made_of_numbers_passes():
    parts = spaces.Dict(
        {"a": spaces.Tuple((spaces.MultiBinary(2), spaces.MultiDiscrete([2]))), "b": spaces.Box(0, 1)}
    )
    require_known(parts, parts)


@pytest.mark.parametrize("agent", ["random", "ppo", "sb3-ppo"])
def test_a_mission_is_refused_before_the_first_step_with_minigrids_wrappers(agent, capsys):
    words = ["--agent", agent, "--env-id", "toys/Unserved-v0", "--wandb", "disabled"]
    require_refusal(
        call(capsys, train, *words), "--wrappers minigrid.wrappers:FlatObsWrapper", "ImgObsWrapper"
    )
