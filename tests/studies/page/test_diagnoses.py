"""The section on why an agent is worse: there where a run has a diagnosis, whatever it knows."""

from __future__ import annotations

import json

import pytest

import rl_lab
from page_studies import describe, write_run
from rl_lab.diagnosis.calibration import Calibration
from rl_lab.diagnosis.loss_bias import LossBias
from rl_lab.diagnosis.split import RegretSplit
from rl_lab.studies.page.diagnoses import LOSS, PLACES, SPLIT, diagnosis_section
from rl_lab.studies.page.media import DIAGNOSED
from rl_lab.studies.report import write_report
from rl_lab.studies.results import run_directory

SPLIT_OF_DQN = {"regret": 0.5, "exploration": 0.3, "representation": 0.0, "rest": 0.2}
DIAGNOSIS = {"seed": 3, "split": SPLIT_OF_DQN | {"fits": 3}, "loss": {"from_loss": 1.25}, "notes": ["x"]}
TOLD = {"seed": 0, "split": None, "calibration": {"bias": 0.75, "gap_median": 0.125, "entropy_mean": None}}

FIELDS = {
    "total_steps": 200,
    "eval_episodes": 2,
    "video_episodes": 0,
    "pictures": False,
    "wandb": "disabled",
}


def titles(section):
    return [title.partition(":")[0] for title in section.header]


def test_each_agents_regret_is_split_into_the_parts_that_are_known():
    section = diagnosis_section({"dqn": DIAGNOSIS, "ppo": {"split": {"regret": 0.25}, "loss": None}})
    assert titles(section) == [
        *("agent", "regret", "exploration", "representation, at most", "the rest"),
        "error of values that the loss itself brings",
    ]
    assert section.rows == (("dqn", "0.500", "0.300", "0", "0.200", "1.250"), ("ppo", "0.250", *"––––"))
    assert "upper bound" in section.lines[0]
    assert section.lines[1] == "What the loss itself brings is an error of values, and no part of the regret."
    assert section.lines[-1] == "One run of each agent is diagnosed: dqn seed 3 and ppo."


def test_values_gaps_and_entropy_are_told_where_nothing_is_known_of_the_regret():
    section = diagnosis_section({"ppo": TOLD})
    assert titles(section) == ["agent", "values, less the returns that followed", "action gap, median"]
    assert section.rows == (("ppo", "0.750", "0.125"),)
    assert not any("regret" in line for line in section.lines)


def test_without_numbers_there_is_no_section():
    assert diagnosis_section({}) is None
    assert diagnosis_section({"dqn": {"split": {"regret": None, "exploration": "much"}, "loss": 3}}) is None


def test_the_page_has_the_section_where_a_run_has_a_diagnosis(tmp_path):
    describe(tmp_path, ["dqn", "ppo"], seeds=1)
    run = write_run(tmp_path, "dqn", 0, [0.5], env_steps=1)
    write_run(tmp_path, "ppo", 0, [0.5], env_steps=1)
    without = write_report(tmp_path, files=False).read_text()
    (run / "diagnosis.json").write_text(json.dumps(DIAGNOSIS))
    html = write_report(tmp_path, files=False).read_text()
    assert "Why is it worse?" in html
    assert "Why is it worse?" not in without
    assert "exploration: states never visited" in html
    assert "<td>0.300</td>" in html
    assert "<td>1.250</td>" in html  # of the loss
    (run / "diagnosis.json").write_text('{"split": {"regret": 0.')  # cut short
    assert write_report(tmp_path, files=False).read_text() == without


def test_a_diagnosis_has_what_the_section_shows():
    assert set(SPLIT) <= set(dir(RegretSplit))
    assert {PLACES[name] for name in LOSS} == {("loss", "from_loss")}
    assert "from_loss" in dir(LossBias)
    assert {key for part, key in PLACES.values() if part == "calibration"} <= set(Calibration.__annotations__)


@pytest.mark.usefixtures("runs_in_this_process", "no_figures")
class TestComparing:
    def test_diagnoses_one_run_of_each_agent_if_it_is_asked_to(self, tmp_path):
        given = {"env_ids": "FrozenLake-v1", "agents": ["q-learning", "random"], "seeds": 2, **FIELDS}
        plain = rl_lab.compare(**given, out=tmp_path / "out")
        assert not list(tmp_path.rglob("diagnosis.json"))
        assert "Why is it worse?" not in plain.page.read_text()
        found = rl_lab.compare(**given, out=tmp_path / "out", diagnose=True)
        of = [run_directory(tmp_path / "out", "FrozenLake-v1", agent, 0) for agent in given["agents"]]
        files = [folder / "diagnosis.json" for folder in of]
        assert sorted(tmp_path.rglob("diagnosis.json")) == sorted(files)
        page = found.page.read_text()
        split = json.loads(files[0].read_bytes())["split"]
        assert split["regret"] == pytest.approx(
            split["exploration"] + split["representation"] + split["rest"]
        )
        told = "One run of each agent is diagnosed: q-learning seed 0 at 200 steps and random seed 0 at 200 steps."
        assert told in page
        pictures = {file.stem for file in files[0].parent.glob("pictures/diagnosis_*.png")}
        assert "diagnosis_calibration" in pictures
        assert pictures <= set(DIAGNOSED)
        assert {name for name in pictures if f'data-map="{name}"' in page} == pictures
        assert page.index("Why is it worse?") < page.index(DIAGNOSED["diagnosis_calibration"])
        assert "<h4>diagnosis_" not in page
        written = [file.stat().st_mtime_ns for file in files]
        rl_lab.compare(**given, out=tmp_path / "out", diagnose=True)
        assert [file.stat().st_mtime_ns for file in files] == written  # it isn't made twice
        whole = files[0].read_bytes()
        files[0].write_bytes(whole[:-9])
        rl_lab.compare(**given, out=tmp_path / "out", diagnose=True)
        assert files[0].read_bytes() == whole

    def test_says_what_cannot_be_diagnosed_and_writes_its_page(self, tmp_path, capsys, monkeypatch):
        def refuse(folder):
            raise rl_lab.UsageError(f"{folder.name} has no weights")

        monkeypatch.setattr("rl_lab.diagnosis.diagnose.diagnose", refuse)
        fields = FIELDS | {"seeds": 1, "diagnose": True, "progress": True}
        found = rl_lab.compare("FrozenLake-v1", "random", out=tmp_path / "out", **fields)
        told = capsys.readouterr().out
        assert "FrozenLake-v1 random seed 0: diagnosing\n" in told
        assert "FrozenLake-v1 random seed 0: not diagnosed: seed_0 has no weights\n" in told
        assert found.page.is_file()

    def test_writes_its_page_whatever_a_diagnosis_raises(self, tmp_path, capsys, monkeypatch):
        def fail(folder):
            raise MemoryError("too large")

        monkeypatch.setattr("rl_lab.diagnosis.diagnose.diagnose", fail)
        fields = FIELDS | {"seeds": 1, "diagnose": True, "progress": True}
        found = rl_lab.compare("FrozenLake-v1", "random", out=tmp_path / "out", **fields)
        assert "not diagnosed: MemoryError: too large\n" in capsys.readouterr().out
        assert found.page.is_file()

    def test_refuses_what_is_no_flag(self, tmp_path):
        with pytest.raises(rl_lab.UsageError, match="diagnose must be true or false, got 'no'"):
            rl_lab.compare("FrozenLake-v1", "random", out=tmp_path / "out", diagnose="no")
