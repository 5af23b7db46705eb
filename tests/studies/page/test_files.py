"""The files beside the page: every figure, every number, and tables for papers; and the command that repeats it."""

from __future__ import annotations

import csv
import json
import shlex

import numpy as np
import pytest
from PIL import Image

from page_studies import AGENTS, HOSTILE, LAKE, describe, hostile_study, write_run
from rl_lab.cli.compare import CompareOptions, study_of
from rl_lab.cli.parsing import parse
from rl_lab.storage.errors import NotWritten
from rl_lab.studies.page.contents import contents_of
from rl_lab.studies.page.hyperparameters import command_of
from rl_lab.studies.page.tables import csv_of, in_latex
from rl_lab.studies.report import write_report
from rl_lab.studies.results import load_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = hostile_study(tmp_path_factory.mktemp("study"))
    write_report(folder)
    return folder


def test_every_figure_is_there_as_png_svg_and_csv(study):
    charts = contents_of(load_study(study)).charts
    assert [chart.slug.removeprefix("frozenlake-v1-") for chart in charts] == [
        *("returns", "regrets", "aggregates", "profile", "improvement")
    ]
    for chart in charts:
        views = [f"-by-{view.split()[-1]}" for view in chart.views] if len(chart.views) > 1 else [""]
        for view in views:
            with Image.open(study / "figures" / f"{chart.slug}{view}.png") as picture:
                assert np.unique(np.asarray(picture.convert("L"))).size > 10
            svg = (study / "figures" / f"{chart.slug}{view}.svg").read_text()
            assert svg.lstrip().startswith("<?xml")
            assert "<script>" not in svg
        with (study / "figures" / f"{chart.slug}.csv").open() as file:
            assert list(csv.DictReader(file))
    assert len(list((study / "figures").iterdir())) == 2 * (5 + 2) + 5


def test_the_numbers_of_the_table_are_those_of_the_files(study):
    with (study / "tables" / "results.csv").open() as file:
        rows = {row["agent"]: row for row in csv.DictReader(file)}
    assert list(rows) == AGENTS
    dqn = rows["dqn"]
    assert [float(dqn[name]) for name in ("iqm", "iqm_low", "iqm_high", "regret")] == [0.5, 0.25, 0.75, 0.125]
    assert (rows[HOSTILE]["finished"], rows[HOSTILE]["seeds"], rows[HOSTILE]["iqm_low"]) == ("1", "2", "")
    found = json.loads((study / "tables" / "numbers.json").read_bytes())
    assert [row["iqm"] for row in found["results"]] == [0.5, 0.5, 0.74]
    assert found["results"][1]["iqm_low"] is None
    assert found["study"]["verdicts"][0]["of"] == LAKE
    curve = [
        row
        for row in found["figures"]["frozenlake-v1-returns"]
        if row["seed"] == "all" and row["agent"] == "dqn"
    ]
    assert [(row["x"], row["value"]) for row in curve if row["view"] == "environment steps"] == [
        (0.0, 0.0), (100.0, 0.25), (200.0, 0.25), (300.0, 0.5)
    ]  # fmt: skip
    missing = next(row for row in found["runs"] if not row["finished"])
    assert (missing["agent"], missing["seed"], missing["missing_because"]) == (
        HOSTILE,
        1,
        "loss is <nan> at 120",
    )


def test_tables_for_papers_hold_what_the_page_shows(study):
    markdown = (study / "tables" / "results.md").read_text()
    assert (
        "| dqn | 2 of 2 | 0.500 [0.250, 0.750] | 0.500 | 0.250 … 0.750 | 0.125 [0.125, 0.125] |" in markdown
    )
    latex = (study / "tables" / "results.tex").read_text()
    assert r"dqn & 2 of 2 & 0.500 [0.250, 0.750] & 0.500 & 0.250 \ldots{} 0.750" in latex
    assert latex.count(r"\\") == 1 + len(AGENTS)
    assert r"\textless{}script\textgreater{}" in latex


def test_what_latex_reserves_is_escaped():
    assert in_latex("a_b & 95 % {x} ~") == r"a\_b \& 95 \% \{x\} \textasciitilde{}"


def test_csv_has_all_columns_and_empty_cells_for_what_is_not_known():
    assert csv_of([{"a": 1}, {"a": float("nan"), "b": "x,y"}]) == b'a,b\n1,\n,"x,y"\n'


def test_the_same_study_gives_the_same_files(study):
    files = [*study.glob("figures/*"), *study.glob("tables/*"), study / "index.html"]
    before = {path: path.read_bytes() for path in files}
    write_report(study)
    assert {path: path.read_bytes() for path in files} == before


SHARED = {"total_steps": 300, "gamma": 0.99, "env_kwargs": {"is_slippery": False}}
STORED = {
    "dqn": SHARED | {"hidden": [64, 64], "wandb": "offline"},
    "ppo": SHARED | {"compile": "yes", "clip": 1e-05, "init_from": "runs/a b"},
}


def test_the_command_gives_the_same_fields_again(tmp_path):
    """Text that YAML would read as something else is quoted; what decides nothing is left out."""
    file = describe(tmp_path, ["dqn", "ppo"], seeds=4, env_ids=(LAKE, "CartPole-v1")) / "study.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"fields": STORED}))
    program, name, *words = shlex.split(command_of(load_study(tmp_path)))
    assert (program, name) == ("rl-lab", "compare")
    again = study_of(parse(CompareOptions, words, program="rl-lab compare", about=""))
    assert (again.env_ids, again.agents, again.seeds) == ((LAKE, "CartPole-v1"), ("dqn", "ppo"), 4)
    wanted = {a: {n: v for n, v in fields.items() if n != "wandb"} for a, fields in STORED.items()}
    assert {agent: again.fields_for(agent) for agent in again.agents} == wanted


def test_commands_for_environments_of_other_fields_have_folders_of_their_own(tmp_path):
    """In one folder the second one would be refused: other fields make another study."""
    file = describe(tmp_path, ["dqn"], seeds=4, env_ids=(LAKE, "lab/TMaze-v0")) / "study.json"
    by_env = {LAKE: {"dqn": {"total_steps": 300}}, "lab/TMaze-v0": {"dqn": {"total_steps": 500}}}
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"env_fields": by_env}))
    commands = [shlex.split(line) for line in command_of(load_study(tmp_path)).splitlines()]
    told = [parse(CompareOptions, words[2:], program="rl-lab compare", about="") for words in commands]
    assert [(one.env_id, one.total_steps, one.out) for one in told] == [
        ((LAKE,), 300, "runs/again/frozenlake-v1"),
        (("lab/TMaze-v0",), 500, "runs/again/lab-tmaze-v0"),
    ]


def test_the_command_diagnoses_again_what_was_diagnosed(tmp_path):
    file = describe(tmp_path, ["dqn"]) / "study.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"fields": {"dqn": SHARED}}))
    diagnosis = write_run(tmp_path, "dqn", 0, [0.5], wall_seconds=1.0) / "diagnosis.json"
    assert "--diagnose" not in command_of(load_study(tmp_path))
    diagnosis.write_text('{"seed": 0}')
    assert command_of(load_study(tmp_path)).endswith(" --diagnose --out runs/again")
    (diagnosis.parent / "summary.json").unlink()  # as where the run is being extended
    assert "--diagnose" in command_of(load_study(tmp_path))
    diagnosis.write_text('{"split": ')
    assert "--diagnose" not in command_of(load_study(tmp_path))


def test_the_command_lets_agents_learn_together_where_they_did(tmp_path):
    file = describe(tmp_path, ["dqn"]) / "study.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"fields": {"dqn": SHARED}}))
    write_run(tmp_path, "dqn", 0, [0.5], env_steps=1)
    assert "--batched" not in command_of(load_study(tmp_path))
    write_run(tmp_path, "dqn", 1, [0.5], env_steps=1, runs_together=2)
    assert command_of(load_study(tmp_path)).endswith(" --batched --out runs/again")


def test_a_study_that_did_not_store_its_fields_has_no_command(tmp_path):
    describe(tmp_path, ["dqn"])
    assert command_of(load_study(tmp_path)) is None
    assert "did not store its fields" in write_report(tmp_path, files=False).read_text()


def test_a_folder_that_cannot_be_made_is_named_and_the_old_page_stays(tmp_path):
    write_run(describe(tmp_path, ["dqn"], seeds=1), "dqn", 0, [0.5], env_steps=1)
    before = write_report(tmp_path, files=False).read_bytes()
    (tmp_path / "tables").write_text("in the way")
    with pytest.raises(NotWritten, match="tables could not be made"):
        write_report(tmp_path)
    assert (tmp_path / "index.html").read_bytes() == before


def test_machines_and_versions_are_named_and_differences_marked(tmp_path):
    describe(tmp_path, ["dqn"])
    for seed, cores in enumerate("24"):
        write_run(tmp_path, "dqn", seed, [0.5], env_steps=1, hardware={"processor": "A", "cores": cores})
    html = write_report(tmp_path, files=False).read_text()
    assert '<span class="bad">cores: 2 and 4</span>' in html
    assert "<span>processor: A</span>" in html
