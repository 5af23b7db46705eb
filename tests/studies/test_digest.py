"""What is kept of a study in little space: all numbers, the tables and the curves, wins and losses, what is missing."""

from __future__ import annotations

import importlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from page_studies import LAKE, describe, write_run
from rl_lab.studies.digest import digest_of, insert, summary_of, write_digest
from rl_lab.studies.page import static
from rl_lab.studies.page.colours import LIGHT
from rl_lab.studies.page.contents import contents_of
from rl_lab.studies.results import load_study
from rl_lab.types import UsageError

CLIFF = "CliffWalking-v1"
AGENTS = ["one", "sb3-one", "two", "sb3-two"]  # which needn't be imported
SCRIPTS = Path(__file__).parents[2] / "scripts"
SEEDS = 8
CLOCKS = {"train_seconds": 3.000001, "wall_seconds": 10.0, "cpu_seconds": 5.0, "env_steps": 300}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """On the lake the first wins and the second loses; on the cliff a single agent has runs, of which one failed."""
    folder = describe(tmp_path_factory.mktemp("studies") / "small", AGENTS, SEEDS, (LAKE, CLIFF))
    means = {"one": 0.9, "sb3-one": 0.1, "two": 0.2, "sb3-two": 0.8}
    for agent, mean in means.items():
        for seed in range(SEEDS):
            clocks = CLOCKS | {"cpu_seconds": 2.5 if agent == "one" else 5.0}
            write_run(folder, agent, seed, [0.0, 0.123456789, mean + 0.001 * seed], **clocks)
    for seed in range(SEEDS - 1):
        write_run(folder, "two", seed, [0.0, -20.0], CLIFF, **CLOCKS)
    run = write_run(folder, "two", SEEDS - 1, [-99.0], CLIFF)
    (run / "error.txt").write_text("killed")
    return folder


@pytest.fixture(scope="module")
def files(study):
    return digest_of(contents_of(load_study(study)), "Measured on a Sunday.")


def rows_of(table):
    """Return the cells of a Markdown table's rows."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_wins_and_losses_stand_side_by_side_and_what_is_missing_is_shown(files):
    summary = files["summary.md"].decode()
    won, lost, *cliff = rows_of(summary)
    assert won[:2] + won[3:4] == [LAKE, "one", "sb3-one"]
    assert won[5:] == ["0.800 [0.800, 0.800]", "0.047", "one is better", "0.50"]
    assert lost[5:] == ["-0.600 [-0.600, -0.600]", "0.047", "sb3-two is better", "1.00"]
    assert cliff == [
        [CLIFF, "one", "– (0 of 8 seeds)", "sb3-one", "– (0 of 8 seeds)", "–", "–", "–", "–"],
        [
            CLIFF,
            "two",
            "-20.0 [-20.0, -20.0] (7 of 8 seeds)",
            "sb3-two",
            "– (0 of 8 seeds)",
            "–",
            "–",
            "–",
            "–",
        ],
    ]
    page = files["README.md"].decode()
    assert "39 of 64 runs have a result" in page
    assert "- two, seed 7: killed (last evaluated" not in page  # at step 0
    assert "- two, seed 7: killed" in page
    assert "- one, seeds 0, 1, 2, 3, 4, 5, 6, 7: never started" in page
    asked, _, table = summary.partition("\n\n")
    assert asked == "8 seeds each, 300 environment steps per run; 39 of 64 runs have a result."
    assert asked in page
    assert table.partition("\n\nThe runs had")[0] in page


def test_what_was_decided_stands_in_place_of_p_values(study, tmp_path):
    questions = [{"env_id": LAKE, "x": "sb3-one", "y": "one", "verdict": "less", "seeds": 8}]
    questions += [{"env_id": LAKE, "x": "two", "y": "sb3-two", "verdict": "undecided", "seeds": 8}]
    shutil.copytree(study, tmp_path / "decided")
    (tmp_path / "decided" / "decision.json").write_text(json.dumps({"alpha": 0.05, "questions": questions}))
    first, second, *_ = rows_of("\n".join(summary_of(contents_of(load_study(tmp_path / "decided")))))
    assert [row[6:8] for row in (first, second)] == [["–", "one is better"], ["–", "undecided"]]


def test_seconds_of_a_shared_machine_are_called_so(study, files, tmp_path):
    told = "The runs had a processor for 45 % of their wall-clock time"
    assert told in files["README.md"].decode()
    assert told in files["summary.md"].decode()
    assert json.loads(files["numbers.json"])["notes"][1] == "Measured on a Sunday."
    describe(tmp_path, ["two"], seeds=1)
    write_run(tmp_path, "two", 0, [0.5], **CLOCKS | {"cpu_seconds": 9.5})
    free = digest_of(contents_of(load_study(tmp_path)))
    assert json.loads(free["numbers.json"])["notes"] == []


def test_seconds_of_runs_that_learned_together_are_called_shares(tmp_path):
    describe(tmp_path, ["one", "two"], seeds=2)
    for seed in range(2):
        write_run(tmp_path, "one", seed, [0.5], **CLOCKS | {"cpu_seconds": 9.5})
        write_run(tmp_path, "two", seed, [0.5], **CLOCKS | {"cpu_seconds": 9.5, "runs_together": 2 + seed})
    [note] = json.loads(digest_of(contents_of(load_study(tmp_path)))["numbers.json"])["notes"]
    assert note.startswith(
        "Runs that learned together in one process: two (up to 3). Their seconds are their shares"
    )


def test_the_numbers_of_each_run_are_kept_with_its_curve(files):
    found = json.loads(files["numbers.json"])
    assert len(found["runs"]) == len(AGENTS) * SEEDS * 2
    first = found["runs"][0]
    assert (first["agent"], first["seed"], first["eval_return_mean"], first["train_seconds"]) == (
        "one",
        0,
        0.9,
        3,
    )
    assert first["curve"] == {
        "env_steps": [0, 100, 200],
        "train_seconds": [0, 1, 2],
        "return": [0, 0.12346, 0.9],
    }
    failed = next(
        run for run in found["runs"] if (run["env_id"], run["agent"], run["seed"]) == (CLIFF, "two", 7)
    )
    assert (failed["finished"], failed["missing_because"]) == (False, "killed")
    assert [row["iqm"] for row in found["results"][:2]] == pytest.approx([0.9035, 0.1035])
    shared = next(row for row in found["hyperparameters"] if row["field"] == "num_envs" and row["two"] == "1")
    assert shared["env_ids"] in ([LAKE], [LAKE, CLIFF])
    assert files["numbers.json"].count(b"\n") > len(
        found["runs"]
    )  # a line for each, for comparisons of versions


def test_curves_are_drawn_where_a_run_has_finished(files):
    assert sorted(name for name in files if name.endswith(".png")) == [
        "cliffwalking-v1.png",
        "frozenlake-v1.png",
    ]
    with Image.open(io.BytesIO(files["frozenlake-v1.png"])) as picture:
        assert np.unique(np.asarray(picture.convert("L"))).size > 10
    assert "](frozenlake-v1.png)" in files["README.md"].decode()
    assert len(files["frozenlake-v1.png"]) < 40_000


def test_agents_have_their_colours_in_pictures(files):
    with Image.open(io.BytesIO(files["frozenlake-v1.png"])) as picture:
        found = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0).astype(int)
    for colour in LIGHT[: len(AGENTS)]:
        own = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert np.abs(found - own).max(axis=1).min() <= 2


def test_pictures_have_no_curves_of_single_runs_and_seconds_only_of_free_machines(study, monkeypatch):
    drawn = []
    real = static.draw
    monkeypatch.setattr(static, "draw", lambda panels, *args: drawn.extend(panels) or real(panels, *args))
    digest_of(contents_of(load_study(study)))
    assert [panel.x_title for panel in drawn] == ["environment steps"] * 2
    monkeypatch.setattr("rl_lab.studies.digest.clocks_note", lambda study: None)
    drawn.clear()
    digest_of(contents_of(load_study(study)))
    assert [(panel.x_title, panel.seeds, panel.x_range[1]) for panel in drawn] == [
        ("environment steps", (), 204),
        ("training seconds", (), pytest.approx(2.04)),
        ("environment steps", (), 102),
        ("training seconds", (), pytest.approx(1.02)),
    ]


def test_the_script_writes_the_folder_and_the_pages(study, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    script = importlib.import_module("study_results")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- study: kept -->\nold\n<!-- end of study -->\nafter\n")
    assert script.study_results([str(study), "--out", str(tmp_path / "kept"), "--pages", str(page)]) == 0
    kept = {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir()}
    assert set(kept) == {
        "numbers.json",
        "README.md",
        "summary.md",
        "frozenlake-v1.png",
        "cliffwalking-v1.png",
    }
    before, _, after = page.read_text().partition(kept["summary.md"].decode().strip())
    assert (before, after) == (
        "before\n<!-- study: kept -->\n\n",
        f"\n\n`{tmp_path}/kept` has every number and the curves.\n\n<!-- end of study -->\nafter\n",
    )
    assert re.search(r"numbers\.json: \d+\.\d kB", capsys.readouterr().out)
    with pytest.raises(UsageError, match=r"<!-- study: other --> .* once, found 0 times"):
        script.study_results([str(study), "--out", str(tmp_path / "other"), "--pages", str(page)])
    assert not (tmp_path / "other").exists()
    with pytest.raises(UsageError, match="is not a study directory"):
        script.study_results([str(tmp_path), "--out", str(tmp_path / "other")])


def test_without_agents_of_sb3_all_pairs_have_rows(tmp_path):
    describe(tmp_path, ["a", "b", "c"], seeds=1)
    write_digest(tmp_path, tmp_path / "kept")
    assert [row[1:4:2] for row in rows_of((tmp_path / "kept" / "summary.md").read_text())] == [
        ["a", "b"], ["a", "c"], ["b", "c"]
    ]  # fmt: skip


def test_a_page_has_one_place_for_a_study():
    twice = "<!-- study: a -->\n<!-- end of study -->\n" * 2
    with pytest.raises(UsageError, match="found 2 times"):
        insert(twice, "a", "text")
