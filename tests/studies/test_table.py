"""The table of a comparison: from Python and from the command, as numbers and in a notebook."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch

import rl_lab
from rl_lab.cli.compare import compare
from rl_lab.cli.parsing import main
from rl_lab.studies.table import CLOCKS

TINY = {"total_steps": 200, "eval_episodes": 2, "video_episodes": 0, "pictures": False, "wandb": "disabled"}
pytestmark = pytest.mark.usefixtures("no_figures")

TIMES = {*CLOCKS, "peak_rss_mb"}


@pytest.fixture(scope="module")
def found(tmp_path_factory, runs_in_this_process):
    """A comparison whose numbers are numpy's."""
    return rl_lab.compare(
        agents=["q-learning", "random"],
        env_ids=["FrozenLake-v1"],
        seeds=np.int64(2),
        out=tmp_path_factory.mktemp("compared"),
        workers=np.int8(2),
        agent_fields={"q-learning": {"learning_rate": np.float32(0.25)}},
        **(TINY | {"total_steps": np.int64(200)}),
    )


def test_a_row_is_that_of_its_summaries(found):
    rows = found.table
    assert [(row["env_id"], row["agent"]) for row in rows] == [
        ("FrozenLake-v1", "q-learning"), ("FrozenLake-v1", "random")
    ]  # fmt: skip
    folder = found.page.parent / "runs" / "FrozenLake-v1" / "random"
    summaries = [json.loads((folder / f"seed_{k}" / "summary.json").read_bytes()) for k in (0, 1)]
    returns = [summary["eval_return_mean"] for summary in summaries]
    row = rows[1]
    # Of two returns both are the mean, and the interval is as wide as it can be.
    assert row["return_mean"] == row["return_iqm"] == pytest.approx(sum(returns) / 2)
    assert (row["return_low"], row["return_high"]) == (min(returns), max(returns))
    assert (row["finished"], row["seeds"], row["env_steps"]) == (2, 2, 200)
    assert row["regret"] == pytest.approx(sum(summary["regret"] for summary in summaries) / 2)


@pytest.mark.long
def test_the_command_finds_the_same(found, tmp_path):
    words = (
        "--env-id FrozenLake-v1 --agents q-learning random --seeds 2 --total-steps 2e2 --wandb disabled --set"
    )
    fields = ["eval_episodes=2", "video_episodes=0", "pictures=false", "q-learning:learning_rate=0.25"]
    with pytest.raises(SystemExit) as ended:
        main(compare, [*words.split(), *fields, "--out", str(tmp_path)])
    assert not ended.value.code
    page = tmp_path / "index.html"
    of_command = rl_lab.Comparison(page, {}).table
    assert [{k: v for k, v in row.items() if k not in TIMES} for row in of_command] == [
        {k: v for k, v in row.items() if k not in TIMES} for row in found.table
    ]
    of_python, other = (json.loads((p / "study.json").read_bytes()) for p in (found.page.parent, tmp_path))
    assert of_python == other


def test_its_repr_is_one_short_line(found):
    assert "\n" not in repr(found)
    assert repr(found).startswith("Comparison(q-learning on FrozenLake-v1 0")
    assert repr(found).endswith(f"{str(found.page)!r})")


def test_a_notebook_sees_rows_curves_and_what_failed(found):
    shown = rl_lab.Comparison(found.page, {"a seed 1": "5 < 6"})._repr_html_()
    assert shown.count("<tr>") == 3
    assert "2 of 2" in shown
    assert shown.count("<svg") == 1
    assert "#0072b2" in shown  # the first agent's colour
    assert re.findall(r"<text[^>]*>(q-learning|random)</text>", shown) == [
        "q-learning",
        "random",
    ]  # the legend
    assert "failed: a seed 1: 5 &lt; 6" in shown


@pytest.mark.parametrize(
    ("name", "value"), [("seeds", True), ("seeds", "3"), ("workers", 1.5), ("workers", None)]
)
def test_counts_are_whole_numbers(tmp_path, name, value):
    with pytest.raises(rl_lab.UsageError, match=f"{name} must be a whole number, got {value!r}"):
        rl_lab.compare("FrozenLake-v1", "random", out=tmp_path / "out", **(TINY | {name: value}))


def test_thread_counts_stay(tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(rl_lab.UsageError):
            rl_lab.compare("FrozenLake-v1", "no-such-agent", out=tmp_path / "a", **TINY)
        rl_lab.compare("FrozenLake-v1", "random", seeds=1, out=tmp_path / "b", threads=1, **TINY)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
