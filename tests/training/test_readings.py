"""Runs that read the same images otherwise aren't mixed: warm starts and studies that began with an older version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from boxes import floats, uint8
from rl_lab.agents.dqn import Config
from rl_lab.agents.tabular.config import Config as TableConfig
from rl_lab.studies.readings import require_same_readings
from rl_lab.training.readings import differing_reading
from rl_lab.types import UsageError
from runs import learn

FIXTURES = Path(__file__).parents[1] / "fixtures"
PLANES = spaces.Box(0, 3, (8, 9, 7), np.uint8)
OLD = {"encoder": "auto", "channels": "smaller", "image_scale": "byte"}


@pytest.mark.parametrize(
    ("space", "config", "there", "differs"),
    [
        (PLANES, Config(channels="last"), OLD, True),
        (PLANES, Config(channels="last", image_scale="byte"), OLD, False),
        (PLANES, Config(channels="first", image_scale="byte"), OLD, True),
        (PLANES, Config(channels="last"), {"encoder": "auto", "channels": "last"}, False),
        (uint8(84, 84, 4), Config(), OLD, False),  # up to 255, and the channels are clear
        (uint8(2, 5, 5, 3), Config(), OLD, True),
        (spaces.Dict({"a": floats(2), "b": PLANES}), Config(channels="last"), OLD, True),
        (floats(3), Config(), OLD, False),
        (PLANES, Config(encoder="mlp"), OLD, False),
        (PLANES, TableConfig(), OLD, False),
        (PLANES, Config(channels="last"), {"gamma": 0.9}, False),
    ],
)
def test_tells_whether_images_are_read_alike(space, config, there, differs):
    found = differing_reading(config, space, there)
    assert (found is not None) == differs
    if differs:
        assert found == "channels 'smaller' and image_scale 'byte'"


@pytest.fixture
def planes(tmp_path, monkeypatch):
    """A run of format 2 that divided bytes by 255."""
    monkeypatch.syspath_prepend(str(FIXTURES / "format_2_bytes"))
    return Path(shutil.copytree(FIXTURES / "format_2_bytes" / "dqn-planes", tmp_path / "old"))


def test_a_warm_start_from_a_run_that_read_images_otherwise_is_refused(planes, tmp_path):
    fields = {
        "total_steps": 4,
        "init_from": str(planes),
        "hidden": (8,),
        "channels": "last",
        "eval_episodes": 0,
    }
    env_id = "format_2_envs:Format2Planes-v0"
    with pytest.raises(UsageError, match=r"'smaller' and image_scale 'byte' \(allowed: the same\)$"):
        learn(tmp_path / "new", "dqn", env_id, **fields)
    assert not (tmp_path / "new").exists()
    assert learn(tmp_path / "new", "dqn", env_id, image_scale="byte", **fields).summary is not None


def test_a_study_is_not_finished_with_runs_that_would_read_images_otherwise(planes, tmp_path):
    fields = {"env_id": "format_2_envs:Format2Planes-v0", "hidden": (8,), "channels": "last"}
    new = ("dqn", fields, tmp_path / "new")
    with pytest.raises(UsageError, match="as older versions read images") as refused:
        require_same_readings([("dqn", fields, planes), new])
    assert "\n" not in str(refused.value)
    require_same_readings([("dqn", fields, planes)])  # which is resumed as it began
    require_same_readings(
        [
            ("dqn", fields | {"image_scale": "byte"}, planes),
            ("dqn", fields | {"image_scale": "byte"}, tmp_path / "new"),
        ]
    )
    path = planes / "config.json"  # of the current format
    body = json.loads(path.read_bytes())
    path.write_text(json.dumps(body | {"format": 3, "fields": body["fields"] | {"channels": "last"}}))
    require_same_readings([("dqn", fields, planes), new])


@pytest.mark.parametrize(
    ("first", "then", "told"),
    [
        (
            {"distribution": "categorical", "atoms": 5},
            {"distribution": "quantile", "quantiles": 5},
            "distribution",
        ),
        (
            {"distribution": "categorical", "v_max": 100.0},
            {"distribution": "categorical", "v_max": 1.0},
            r"v_max 100\.0",
        ),
        ({"value_rescaling": True}, {}, "value_rescaling True"),
        ({"activation": "tanh"}, {}, "activation 'tanh'"),
        ({"heads": 2, "prior_scale": 1.0}, {"heads": 2, "prior_scale": 5.0}, r"prior_scale 1\.0"),
    ],
)
def test_weights_that_mean_something_else_start_no_run(tmp_path, first, then, told):
    fields = {"total_steps": 60, "hidden": (4,), "batch_size": 4, "learning_starts_env_steps": 20}
    learn(tmp_path / "first", "dqn", "CartPole-v1", **fields, **first)
    then = fields | then | {"init_from": str(tmp_path / "first")}
    said = rf"init_from .*first' learned with {told}.*, but here it is .* \(allowed: the same\)"
    with pytest.raises(UsageError, match=said):
        learn(tmp_path / "then", "dqn", "CartPole-v1", **then)
    assert not (tmp_path / "then").exists()
