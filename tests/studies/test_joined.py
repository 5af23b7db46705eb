"""Joined runs beside those of a study: in its table, curves and page, kept with it, and in the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rl_lab
from commands import call, require_refusal
from foreign_files import evaluations_file, monitor_file, run_folder, score_file
from rl_lab.cli.compare import compare
from rl_lab.storage.errors import FormatTooNew
from rl_lab.studies.foreign.beside import with_joined
from rl_lab.studies.foreign.kept import joined_to
from rl_lab.studies.results import load_study
from rl_lab.studies.table import table_of
from rl_lab.types import UsageError

pytestmark = pytest.mark.usefixtures("no_figures", "runs_in_this_process")

KEPT = Path(__file__).parents[1] / "fixtures" / "format_2" / "q-learning"
LAKE = "FrozenLake-v1"
TINY = {"total_steps": 100, "eval_episodes": 2, "video_episodes": 0, "pictures": False, "wandb": "disabled"}


def study(out, *join, agents="random", seeds=2, **changes):
    return rl_lab.compare(LAKE, agents, seeds=seeds, out=out, join=join, **(TINY | changes))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder with one source of each kind, all of FrozenLake."""
    folder = tmp_path_factory.mktemp("sources")
    points = ((0, 0.0, 50), (0, 0.25, 100), (1, 0.5, 50), (1, 0.75, 100))
    score_file(folder / "scores.csv", *(f"a,{LAKE},{seed},{score},{steps}" for seed, score, steps in points))
    monitor_file(folder / "training", [(1.0, 10, 1.0)], env_id=LAKE)
    evaluations_file(folder / "evaluated", [40, 80], [[0.0, 1.0], [1.0, 1.0]])
    for seed, score in ((0, 0.5), (1, 1.0)):
        known = {
            "eval_return_mean": score,
            "env_steps": 700,
            "train_seconds": 2.0,
            "eval_returns": [score] * 5,
        }
        known["versions"] = {"rl_lab": "0.1.0", "gymnasium": "1.0"}
        run_folder(
            folder / f"runs/{seed}",
            KEPT,
            known,
            seed=seed,
            total_steps=700,
            env_kwargs={"is_slippery": False},
        )
    return folder


@pytest.fixture(scope="module")
def found(tmp_path_factory, sources):
    """A study to which all of them are joined."""
    words = (
        f"csv={sources / 'scores.csv'}", f"monitored={sources / 'training'}", f"old={sources / 'runs'}",
        f"evaluated@{LAKE}={sources / 'evaluated'}",
    )  # fmt: skip
    return study(tmp_path_factory.mktemp("study") / "out", *words)


def rows(compared):
    return {row["agent"]: row for row in compared.table}


def test_rows_follow_the_studys_own_and_say_where_they_are_from(found, sources):
    assert [row["agent"] for row in found.table] == ["random", "csv", "evaluated", "monitored", "old"]
    known = rows(found)
    assert (known["random"]["source"], known["random"]["notes"]) == (None, "")
    assert known["csv"]["source"] == str(sources / "scores.csv")
    assert (known["csv"]["return_iqm"], known["csv"]["finished"], known["csv"]["seeds"]) == (0.5, 2, 2)
    assert (known["csv"]["return_low"], known["csv"]["return_high"]) == (0.25, 0.75)
    assert (known["csv"]["env_steps"], known["csv"]["train_seconds"]) == (100.0, None)
    assert (known["old"]["return_iqm"], known["old"]["train_seconds"]) == (0.75, 2.0)
    assert (known["evaluated"]["return_iqm"], known["monitored"]["return_iqm"]) == (1.0, 1.0)


def test_what_is_not_known_and_what_differs_is_said(found):
    known = {name: row["notes"].split("; ") for name, row in rows(found).items()}
    assert known["csv"] == [
        "joined scores",
        "not known: budget, evaluation episodes, whether returns are raw, versions of packages, training time",
        "in no test: not run by this study",
    ]
    assert known["old"][:4] == [
        "joined run directories",
        "budget 700 steps instead of 100",
        "5 evaluation episodes instead of 2",
        "env_kwargs {'is_slippery': False} instead of {}",
    ]
    assert any(note.startswith("rl_lab 0.1.0 instead of ") for note in known["old"])
    assert any(note.startswith("gymnasium 1.0 instead of ") for note in known["old"])
    assert not any("not known" in note for note in known["old"])
    assert "in no test: returns of training episodes" in known["monitored"]
    assert (
        "not known: seeds, budget, whether returns are raw, versions of packages, training time"
        in known["evaluated"]
    )


def test_the_page_shows_their_rows_curves_and_notes_and_tests_none_of_them(found):
    page = found.page.read_text()
    for name in ("csv", "monitored", "old", "evaluated"):
        assert f'<tr data-agent="{name}">' in page
        assert f'<li data-agent="{name}">' in page
        assert f"{name}, not run by this study: joined" in page.replace("\n", " ")
    # Nothing is paired with runs of other seeds; "old" has no rows of evaluations.
    charts = json.loads(page.split('<script type="application/json" id="charts">')[1].split("</script>")[0])
    panels = [panel for chart in charts for view in chart["views"] for panel in view["panels"]]
    drawn = {trace["meta"]["agent"] for panel in panels for trace in panel["data"]}
    assert drawn == {"random", "csv", "monitored", "evaluated"}
    assert 'data-x="' not in page


def test_figures_find_them_among_the_studys_runs_within_its_budget(found, tmp_path):
    own = load_study(found.page.parent)
    shown = with_joined(own)
    assert shown.agents == ("random", "csv", "evaluated", "monitored", "old")
    assert shown.runs[LAKE, "random"] == own.runs[LAKE, "random"]
    assert [run.seed for run in shown.runs[LAKE, "csv"]] == [0, 1]
    assert [run.seed for run in shown.runs[LAKE, "monitored"]] == [-1]
    assert own.agents == ("random",)
    path = score_file(tmp_path / "long.csv", *(f"a,{LAKE},0,{k},{k}" for k in (50, 100, 101, 500)))
    shown = with_joined(load_study(study(tmp_path / "out", f"long={path}", seeds=1).page.parent))
    (run,) = shown.runs[LAKE, "long"]
    assert [points.tolist() for points in run.curve("eval_return_mean")] == [[50.0, 100.0], [50.0, 100.0]]
    assert run.scalar("eval_return_mean") == 500.0


def test_budgets_are_compared_with_those_on_the_same_environment(tmp_path):
    score = {"eval_return_mean": 0.5, "env_steps": 100}
    for env_id in (LAKE, "CliffWalking-v1"):
        folder = run_folder(
            tmp_path / "runs" / env_id, KEPT, score, env_id=env_id, total_steps=100, stop_after_evals=None
        )
        rows = [json.dumps({"env_steps": steps, "eval_return_mean": 0.5}) for steps in (50, 100)]
        (folder / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    fields = TINY | {"eval_total_steps": 100}
    (tmp_path / "study.yaml").write_text(
        f"about: x\nexpected_time: x\nagents: [random]\nseeds: 1\nfields: {json.dumps(fields)}\n"
        f"environments: {{{LAKE}: {{total_steps: 60}}, CliffWalking-v1: {{total_steps: 100}}}}\n"
    )
    words = [f"a={tmp_path / 'runs'}"]
    found = rl_lab.compare(study=tmp_path / "study.yaml", out=tmp_path / "out", join=words)
    notes = {row["env_id"]: row["notes"] for row in found.table if row["agent"] == "a"}
    assert "budget 100 steps instead of 60;" in notes[LAKE]
    assert "budget" not in notes["CliffWalking-v1"]
    (run,) = with_joined(load_study(tmp_path / "out")).runs[LAKE, "a"]
    assert run.curve("eval_return_mean")[0].tolist() == [50.0]


def test_a_regret_of_another_discount_is_not_shown_beside_the_studys(tmp_path, sources):
    score = {"eval_return_mean": 0.5, "env_steps": 100, "regret": 0.125}
    for seed, gamma in ((0, 0.9), (1, 0.99)):
        run_folder(tmp_path / f"{gamma}", KEPT, score, seed=seed, eval_gamma=gamma)
    words = (f"same={tmp_path / '0.99'}", f"other={tmp_path / '0.9'}")
    known = rows(study(tmp_path / "out", *words, eval_gamma=0.99))
    assert (known["same"]["regret"], known["other"]["regret"]) == (0.125, None)
    assert "eval_gamma 0.9 instead of 0.99" in known["other"]["notes"]


def test_a_notebook_sees_their_notes(found):
    shown = found._repr_html_()
    assert "<th>notes</th>" in shown
    assert "budget 700 steps instead of 100" in shown


def test_a_second_call_shows_them_again_and_their_files_are_not_needed(tmp_path, sources):
    copy = tmp_path / "scores.csv"
    copy.write_bytes((sources / "scores.csv").read_bytes())
    first = study(tmp_path / "out", f"csv={copy}")
    copy.unlink()
    again = study(tmp_path / "out")
    assert again.table == first.table
    assert "csv, not run by this study" in again.page.read_text()
    (tmp_path / "out/joined/csv.json").unlink()
    assert [row["agent"] for row in study(tmp_path / "out").table] == ["random"]


def test_reading_again_says_what_changed(tmp_path, sources, capsys):
    study(tmp_path / "out", f"csv={sources / 'scores.csv'}")
    score_file(tmp_path / "more.csv", f"a,{LAKE},0,1,50")
    study(tmp_path / "out", f"csv={tmp_path / 'more.csv'}", progress=True)
    lines = capsys.readouterr().out.splitlines()
    told = f"joined csv is read again from {tmp_path / 'more.csv'}, in place of {sources / 'scores.csv'}"
    assert told in lines
    study(tmp_path / "out", f"csv={tmp_path / 'more.csv'}", progress=True)
    assert not [line for line in capsys.readouterr().out.splitlines() if "read again" in line]


def test_names_of_agents_are_not_taken(tmp_path, sources):
    with pytest.raises(UsageError, match=r"agent 'random' is compared, and 'random' was joined"):
        study(tmp_path / "out", f"random={sources / 'scores.csv'}")
    assert not (tmp_path / "out").exists()
    study(tmp_path / "out", f"q-learning={sources / 'scores.csv'}")
    with pytest.raises(UsageError, match="agent 'q-learning' is compared, and 'q-learning' was joined"):
        study(tmp_path / "out", agents=("random", "q-learning"))


def test_a_refused_study_keeps_nothing_of_what_was_to_be_joined(tmp_path, sources):
    study(tmp_path / "out")
    with pytest.raises(UsageError, match="already holds another study"):
        study(tmp_path / "out", f"csv={sources / 'scores.csv'}", total_steps=50)
    assert not (tmp_path / "out/joined").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda body: "{",
        lambda body: "[]",
        lambda body: json.dumps(body | {"joined": [{"agent": "a"}]}),
        lambda body: json.dumps(body | {"joined": [body["joined"][0] | {"runs": []}]}),
        lambda body: json.dumps(body).replace("0.25", '"x"'),
        lambda body: json.dumps(body).replace('"eval_return_mean": 0.25', '"other": 0.25'),
    ],
)
def test_a_damaged_file_of_the_study_is_one_line(tmp_path, sources, change):
    study(tmp_path / "out", f"csv={sources / 'scores.csv'}", seeds=1)
    path = tmp_path / "out/joined/csv.json"
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(UsageError, match=r"csv\.json is damaged: .*remove it") as refused:
        joined_to(tmp_path / "out")
    assert "\n" not in str(refused.value)


def test_what_a_newer_version_joined_is_refused(tmp_path, sources):
    study(tmp_path / "out", f"csv={sources / 'scores.csv'}", seeds=1)
    path = tmp_path / "out/joined/csv.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(FormatTooNew, match="format 99"):
        table_of(load_study(tmp_path / "out"))


class TestCommand:
    WORDS = (
        "--env-id",
        LAKE,
        "--agents",
        "random",
        "--seeds",
        "1",
        "--total-steps",
        "100",
        "--wandb",
        "disabled",
    )
    SET = ("--set", "eval_episodes=2", "video_episodes=0", "pictures=false")

    def test_joins_as_often_as_the_option_is_given(self, capsys, tmp_path, sources):
        joins = ("--join", f"csv={sources / 'scores.csv'}", "--join", f"old={sources / 'runs'}")
        code, out, err = call(capsys, compare, *self.WORDS, *joins, "--out", tmp_path / "out", *self.SET)
        assert (code, err) == (0, "")
        assert sorted(path.name for path in (tmp_path / "out/joined").iterdir()) == ["csv.json", "old.json"]
        assert "joined csv on FrozenLake-v1: return 0.5 (2 runs)" in out

    @pytest.mark.parametrize("word", ["nothing", "a=nowhere", "zoo:nobody", "zoo:dqn", "a={evaluated}"])
    def test_refuses_in_a_line_before_anything_is_written(self, capsys, tmp_path, sources, word):
        word = word.format(evaluated=sources / "evaluated")
        outcome = call(capsys, compare, *self.WORDS, "--join", word, "--out", tmp_path / "out", *self.SET)
        require_refusal(outcome, "allowed" if word != "zoo:dqn" else "there is: Acrobot-v1")
        assert not (tmp_path / "out").exists()
