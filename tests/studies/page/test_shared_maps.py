"""The maps of a page: one scale for all agents, as far as it is known what they were drawn from."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from rl_lab.evaluation.grid_maps import PIT_COLOUR
from rl_lab.evaluation.run_maps import FILE, RunMaps, read_maps
from rl_lab.studies.page.media import maps
from rl_lab.studies.results import load_study, run_directory
from runs import learn


def grid_of(picture):
    """Return the size of an embedded picture, and the left, upper, right and lower edge of its grid's dark pits."""
    with Image.open(io.BytesIO(base64.b64decode(picture["source"].partition(",")[2]))) as opened:
        dark = (np.asarray(opened.convert("RGB")).astype(int) - to_rgb255(PIT_COLOUR)).any(axis=2) == 0
    rows, columns = np.nonzero(dark[: int(0.75 * len(dark))])  # the legend below has the colour, too
    return opened.size, (columns.min(), rows.min(), columns.max(), rows.max())


def to_rgb255(colour):
    return np.round(np.array(to_rgb(colour)) * 255).astype(int)


LAKE = "FrozenLake-v1"
AGENTS = ["value-iteration", "q-learning"]


@pytest.fixture
def study(tmp_path):
    for agent in AGENTS:
        learn(run_directory(tmp_path, LAKE, agent, 0), agent, LAKE, total_steps=300, pictures=True)
    info = {"env_ids": [LAKE], "agents": AGENTS, "seeds": 1, "total_steps": 300}
    (tmp_path / "study.json").write_text(json.dumps(info))
    return tmp_path


def test_all_agents_have_one_scale_and_older_runs_keep_their_own(study, monkeypatch):
    drawn = []
    real = RunMaps.draw
    monkeypatch.setattr(
        RunMaps,
        "draw",
        lambda self, name, limits=None, legend_rows=0: (
            drawn.append((name, limits)) or real(self, name, limits, legend_rows)
        ),
    )
    rows = {row["kind"]: row for row in maps(load_study(study), LAKE)}
    regrets = rows["regrets"]
    assert {kind: row["shared"] for kind, row in rows.items()} == {
        "values": True, "regrets": True, "value_errors": True, "residuals": False,
    }  # fmt: skip
    learned = read_maps(run_directory(study, LAKE, "q-learning", 0) / "pictures").limits()
    assert (
        "regrets",
        learned["regrets"],
    ) in drawn  # value iteration, which has none, beside those of Q-learning
    on_disk = [run_directory(study, LAKE, agent, 0) / "pictures" / "regrets.png" for agent in AGENTS]
    embedded = [base64.b64decode(p["source"].partition(",")[2]) for p in regrets["pictures"]]
    assert [content == path.read_bytes() for content, path in zip(embedded, on_disk, strict=True)] == [
        False,
        True,
    ]

    (run_directory(study, LAKE, "q-learning", 0) / "pictures" / FILE).unlink()
    rows = {row["kind"]: row for row in maps(load_study(study), LAKE)}
    assert not any(row["shared"] for row in rows.values())
    shown = [base64.b64decode(p["source"].partition(",")[2]) for p in rows["regrets"]["pictures"]]
    assert shown == [path.read_bytes() for path in on_disk]


def test_the_grids_of_a_kind_lie_at_the_same_place_however_long_the_legends_are(study):
    """An optimal policy loses nowhere, so that its legends are shorter."""
    rows = {row["kind"]: row["pictures"] for row in maps(load_study(study), LAKE)}
    rows_of_legends = {
        read_maps(run_directory(study, LAKE, agent, 0) / "pictures").legend_rows("values") for agent in AGENTS
    }
    assert rows_of_legends == {2, 3}
    for kind in ("values", "regrets", "value_errors"):
        optimal, learned = (grid_of(picture) for picture in rows[kind])
        assert optimal == learned
