"""The section on why an agent is worse: there where a run has a diagnosis, whatever it knows."""

from __future__ import annotations

import json

from page_studies import LAKE, describe, write_run
from rl_lab.diagnosis.loss_bias import LossBias
from rl_lab.diagnosis.split import RegretSplit
from rl_lab.studies.page.decisions import decision_section, diagnosis_section
from rl_lab.studies.report import write_report

PARTS = {"regret": 0.5, "exploration": 0.3, "representation": 0.0, "rest": 0.2}
DIAGNOSIS = {"agent": "dqn", "split": PARTS | {"fits": 3}, "loss": {"from_loss": 1.25}, "notes": ["x"]}


def test_each_agents_regret_is_split_into_the_parts_that_are_known():
    section = diagnosis_section({"dqn": PARTS | {"loss_bias": None}, "ppo": {"regret": 0.25}})
    assert [title.partition(":")[0] for title in section.header] == [
        *("agent", "regret", "exploration", "representation", "the rest")
    ]
    assert section.rows == (("dqn", "0.500", "0.300", "0", "0.200"), ("ppo", "0.250", "–", "–", "–"))


def test_parts_may_stand_where_a_diagnosis_has_them():
    nested = {
        "agent": "dqn",
        "split": {"regret": 0.5, "rest": 0.5},
        "loss": {"from_loss": 1.25, "huber": True},
    }
    section = diagnosis_section({"dqn": nested, "ppo": {"split": None, "loss": None, "regret": 0.25}})
    assert section.rows == (("dqn", "0.500", "0.500", "1.250"), ("ppo", "0.250", "–", "–"))


def test_without_numbers_there_is_no_section():
    assert diagnosis_section({}) is None
    assert diagnosis_section({"dqn": {"regret": None, "exploration": "much"}}) is None
    assert decision_section(None) is None


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
    assert "<td>1.250</td>" in html  # the bias of the loss
    (run / "diagnosis.json").write_text('{"regret": 0.')  # cut short
    assert write_report(tmp_path, files=False).read_text() == without


def test_a_diagnosis_has_what_the_section_shows():
    assert set(PARTS) <= set(dir(RegretSplit))
    assert "from_loss" in dir(LossBias)


def test_a_decision_that_cannot_be_read_is_left_out(tmp_path):
    describe(tmp_path, ["dqn"], seeds=1)
    write_run(tmp_path, "dqn", 0, [0.5], env_steps=1)
    for text in ("{", "[]", '{"questions": 3}', '{"questions": [1]}'):
        (tmp_path / "decision.json").write_text(text)
        assert f"On {LAKE}, dqn scores 0.5" in write_report(tmp_path, files=False).read_text()
