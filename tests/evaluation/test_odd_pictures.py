"""What is rendered and is no picture is told of in one line, by films, runs and the live page alike."""

from __future__ import annotations

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from commands import call
from faulty import PICTURES, Faulty
from rl_lab.cli.watch import watch
from rl_lab.environments.contract import Contract
from rl_lab.environments.observed import Refused
from rl_lab.environments.pictures import as_rgb
from rl_lab.evaluation.watch import film
from rl_lab.runs.config import RunConfig
from rl_lab.types import EnvironmentFault
from rl_lab.watching.films import Outputs, played, show
from rl_lab.watching.lane import Lane
from rl_lab.watching.pictures import encoded
from rl_lab.watching.sources import Environment, watched

FAULTY = "faulty:lab-test/Faulty-v0"
FAULTS = {
    **dict.fromkeys(PICTURES, r"render: .* \(allowed: a picture uint8 \[height, width, 3\]\)$"),
    "raise drawn": r"render raised RuntimeError: the arm is stuck \(faulty\.py, line \d+\)$",
    "quit drawn": r"render raised SystemExit \(faulty\.py, line \d+\)$",
}
each_fault = pytest.mark.parametrize("fault", FAULTS)


def drawing(fault):
    return watched("random", environment=Environment(FAULTY, {"fault": fault, "at": 3}))


@each_fault
def test_the_contract_names_the_environment_the_seed_and_the_step(fault):
    env = Contract(Faulty(fault, at=1, render_mode="rgb_array"))
    env.reset(seed=7)
    assert env.picture().shape == (4, 6, 3)
    env.step(0)
    says = rf"^environment Faulty \(number 0, seed 7, step 1\): {FAULTS[fault]}"
    with pytest.raises(EnvironmentFault, match=says):
        env.picture()


@each_fault
def test_the_live_page_names_them_too(fault):
    lane = Lane(drawing(fault).policy, lambda: Faulty(fault, 2, render_mode="rgb_array"), lambda *asked: {})
    lane.begin(7)
    lane.step()
    assert lane.scene().picture.width == 6
    lane.step()
    with pytest.raises(EnvironmentFault, match=rf"Faulty \(number 0, seed 7, step 2\): {FAULTS[fault]}"):
        lane.scene()


@pytest.mark.parametrize("fault", ["no picture", "quit drawn"])
def test_a_film_holds_what_was_drawn_before(fault, tmp_path):
    source, path = drawing(fault), tmp_path / "a.gif"
    with pytest.raises(EnvironmentFault, match=FAULTS[fault]):
        show(source, played(source, episodes=1), Outputs([path]))
    assert len(iio.imread(path, index=None)) == 3


def test_the_command_says_it_in_one_line(capsys, tmp_path):
    words = [
        "random",
        "--env-id",
        FAULTY,
        "--env-kwargs",
        "fault='no picture'",
        "at=3",
        "--gif",
        tmp_path / "a.gif",
    ]
    code, _, err = call(capsys, watch, *words)
    assert code == 1
    assert err.count("\n") == 1
    assert err.startswith("error: environment lab-test/Faulty-v0 (number 0, seed ")
    assert err.endswith("step 3): render: None (allowed: a picture uint8 [height, width, 3])\n")


def test_a_run_says_what_its_film_lacks(tmp_path):
    config = RunConfig(FAULTY, env_kwargs={"fault": "raise drawn", "at": 0})
    line = film(tmp_path / "a.mp4", drawing("").policy, config, 1)
    assert line.startswith("no video: environment lab-test/Faulty-v0 (number 0, seed ")
    assert "reset): render raised RuntimeError: the arm is stuck" in line


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_pictures_of_varying_size_are_shown_in_that_of_the_first(suffix, tmp_path):
    source, path = drawing("growing"), tmp_path / f"a{suffix}"
    outputs = Outputs([path]) if suffix == ".gif" else Outputs(sheet=path)
    assert show(source, played(source, episodes=1), outputs) == 101
    if suffix == ".gif":
        assert {frame.shape for frame in iio.imread(path, index=None)} == {(136, 204, 3)}
    else:
        assert Image.open(path).size[0] > 6 * 200


@pytest.mark.parametrize(
    "odd", [None, 3, "S", [[1, 2], [3]], np.full((4, 4, 3), 0.5), np.zeros((0, 4, 3), np.uint8)]
)
def test_nothing_is_cast(odd):
    for take in (as_rgb, encoded):
        with pytest.raises(Refused, match=r"allowed: a picture uint8"):
            take(odd)
