"""Numbers of numpy in every field of the run and of every agent: taken, and plain from then on."""

from __future__ import annotations

import dataclasses
import json
import typing

import numpy as np
import pytest

from rl_lab.runs.config import RunConfig
from rl_lab.training.registry import agent_names, make_config
from rl_lab.training.setup import configs_of
from rl_lab.types import UsageError
from runs import learn

PLAIN = (bool, int, float, str, type(None), tuple, dict)
OF_NUMPY = {bool: np.bool_, int: np.int32, float: np.float64, str: np.str_}


def config_at_defaults(agent):
    return make_config(agent), RunConfig("FrozenLake-v1")


def numpys(value):
    """Return a value with numpy's scalars for Python's, and an array for a tuple of numbers."""
    if isinstance(value, tuple) and value and not isinstance(value[0], str):
        return np.array(value)
    return OF_NUMPY[type(value)](value) if type(value) in OF_NUMPY else value


def is_plain(value):
    inside = value if isinstance(value, tuple) else value.values() if isinstance(value, dict) else ()
    return type(value) in PLAIN and all(map(is_plain, inside))


def numbers_of(agent):
    """Return (name, type) of each field of an agent and of the run that is an int or a float, or None instead."""
    for config in config_at_defaults(agent):
        for name, hint in typing.get_type_hints(type(config)).items():
            kinds = set(typing.get_args(hint) or (hint,)) & {int, float}
            if name in {f.name for f in dataclasses.fields(config)} and typing.get_origin(hint) is not tuple:
                yield from ((name, kind) for kind in kinds)


@pytest.mark.parametrize("agent", agent_names())
def test_every_field_is_taken_and_becomes_plain(agent):
    own, of_run = config_at_defaults(agent)
    fields = dataclasses.asdict(own) | dataclasses.asdict(of_run)
    found = configs_of(agent, {name: numpys(value) for name, value in fields.items()})
    assert found == (own, of_run)
    values = {name: value for config in found for name, value in vars(config).items()}
    assert {name: type(value) for name, value in values.items() if not is_plain(value)} == {}
    assert {name: type(value) for name, value in values.items()} == {
        name: type(value) for config in (own, of_run) for name, value in vars(config).items()
    }
    json.dumps(values)


@pytest.mark.parametrize("agent", agent_names())
def test_what_is_no_whole_number_is_refused_and_so_is_true(agent):
    for name, kind in numbers_of(agent):
        for wrong in (
            True,
            np.True_,
            "1",
            [1],
            {"a": 1},
            *((np.float64(200.5), 200.5, np.nan) if kind is int else ()),
        ):
            with pytest.raises(UsageError, match=rf"^{name} must be a") as refused:
                configs_of(agent, {"env_id": "FrozenLake-v1", name: wrong})
            assert "\n" not in str(refused.value), name


@pytest.mark.parametrize("agent", agent_names())
def test_a_number_is_no_flag(agent):
    for config in config_at_defaults(agent):
        for name, hint in typing.get_type_hints(type(config)).items():
            if hint is bool:
                with pytest.raises(UsageError, match=rf"^{name} must be true or false, got 1$"):
                    configs_of(agent, {"env_id": "FrozenLake-v1", name: np.int64(1)})


def test_config_json_holds_plain_numbers(tmp_path):
    fields = {"learning_rate": np.float32(0.001), "hidden": np.array([8, 4]), "double": np.bool_(True)}
    learn(tmp_path, "dqn", "CartPole-v1", total_steps=np.float64(40), num_envs=np.uint8(2), **fields)
    body = json.loads((tmp_path / "config.json").read_bytes())
    assert (body["total_steps"], body["num_envs"]) == (40, 2)
    assert body["fields"]["hidden"] == [8, 4]
    assert body["fields"]["double"] is True
    assert body["fields"]["learning_rate"] == pytest.approx(0.001, rel=1e-7)
