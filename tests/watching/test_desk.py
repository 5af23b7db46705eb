"""The desk of a live page: what it says of how little it takes from a run that trains."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rl_lab.runs.directory import SUMMARY
from rl_lab.watching import desk as module
from rl_lab.watching.desk import Desk


@pytest.mark.parametrize(
    ("can_be_set", "said"), [(True, r"lowest priority (nice 19)"), (False, "can't be lowered")]
)
def test_the_page_says_of_the_priority_what_was_done(tmp_path, monkeypatch, can_be_set, said):
    monkeypatch.setattr(module, "give_way", lambda: can_be_set)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    desk = Desk([SimpleNamespace(folder=tmp_path, is_newest=True)], [], tmp_path)
    told, session = [], SimpleNamespace()
    desk.tell = told.append
    texts = [desk.give_way(session) for _ in range(2)]
    assert said in texts[0]
    assert ("nice 19" in texts[0]) == can_be_set
    assert "at most 6 pictures a second" in texts[0]
    (tmp_path / SUMMARY).write_text("{}")
    assert desk.give_way(session) == ""
    assert texts == [texts[0]] * 2
    assert told == [{"type": "gentle", "text": texts[0]}, {"type": "gentle", "text": ""}]
