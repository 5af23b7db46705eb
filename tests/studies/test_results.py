"""What is read of a study's folder: whatever is there of it, and one line where study.json is damaged."""

from __future__ import annotations

import json

import pytest

from commands import call, require_refusal
from rl_lab.cli.compare import compare
from rl_lab.storage.errors import FormatTooNew
from rl_lab.studies.results import load_study, read_study_json
from rl_lab.studies.study import run_study
from rl_lab.types import UsageError
from studies_made import small_study

WHOLE = {
    "format": 1, "env_ids": ["FrozenLake-v1"], "agents": ["random"], "seeds": 1, "total_steps": 600, "fields": {},
}  # fmt: skip
DAMAGED = [
    ("{", "Expecting property name"),
    ("[]", r"it holds \[\]"),
    ("{}", "env_ids is None"),
    (json.dumps(WHOLE | {"agents": "random"}), "agents is 'random'"),
    (json.dumps(WHOLE | {"env_ids": []}), r"env_ids is \[\]"),
    (json.dumps(WHOLE | {"seeds": "three"}), "seeds is 'three'"),
    (json.dumps(WHOLE | {"format": "new"}), "format is 'new'"),
    (json.dumps(WHOLE | {"fields": 5}), "fields is 5"),
    (json.dumps(WHOLE | {"fields": {"random": 5}}), "fields is "),
]


@pytest.mark.parametrize(("text", "why"), DAMAGED)
def test_a_damaged_study_is_refused_in_a_line_and_stays_as_it_is(tmp_path, text, why):
    (tmp_path / "study.json").write_text(text)
    for read in (load_study, read_study_json, lambda out: run_study(small_study(), out)):
        with pytest.raises(UsageError, match=rf"study\.json is damaged: {why}.* \(allowed: ") as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value)
    assert (tmp_path / "study.json").read_text() == text


@pytest.mark.parametrize("fields", [None, {}, {"q-learning": {}}])
def test_one_that_lacks_fields_is_shown_and_does_not_go_on(tmp_path, fields):
    told = {k: v for k, v in WHOLE.items() if k != "fields"} | ({} if fields is None else {"fields": fields})
    (tmp_path / "study.json").write_text(json.dumps(told))
    assert load_study(tmp_path).agents == ("random",)
    with pytest.raises(
        UsageError, match=r"study\.json is damaged: it lacks the fields of 'random' \(allowed: "
    ):
        run_study(small_study(agents=("random",)), tmp_path)


def test_one_of_a_newer_version_is_said_to_be_newer_whatever_it_holds(tmp_path):
    (tmp_path / "study.json").write_text('{"format": 99}')
    with pytest.raises(FormatTooNew, match="has format 99"):
        read_study_json(tmp_path)


def test_a_folder_without_one_holds_no_study(tmp_path):
    assert read_study_json(tmp_path) is None
    with pytest.raises(UsageError, match="is not a study directory"):
        load_study(tmp_path)


def test_the_command_refuses_it_with_exit_code_2(tmp_path, capsys):
    (tmp_path / "study.json").write_text("{")
    words = ["--env-id", "FrozenLake-v1", "--agents", "random", "--out", str(tmp_path)]
    require_refusal(call(capsys, compare, *words), "study.json is damaged")
