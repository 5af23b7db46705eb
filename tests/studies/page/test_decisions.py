"""What a sequential test decided, on the page: whatever can be read of it."""

from __future__ import annotations

from page_studies import LAKE, describe, write_run
from rl_lab.studies.page.decisions import decision_section
from rl_lab.studies.report import write_report


def test_without_a_decision_there_is_no_section():
    assert decision_section(None) is None


def test_a_decision_that_cannot_be_read_is_left_out(tmp_path):
    describe(tmp_path, ["dqn"], seeds=1)
    write_run(tmp_path, "dqn", 0, [0.5], env_steps=1)
    for text in ("{", "[]", '{"questions": 3}', '{"questions": [1]}'):
        (tmp_path / "decision.json").write_text(text)
        assert f"On {LAKE}, dqn scores 0.5" in write_report(tmp_path, files=False).read_text()
