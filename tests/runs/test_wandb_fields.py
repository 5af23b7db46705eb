"""The fields by which W&B knows a run: where they are stored, what they don't change, and who passes them on."""

from __future__ import annotations

import json

import pytest

import rl_lab
from commands import QUICK as QUICK_WORDS
from commands import TABLE, call, require_refusal
from rl_lab.cli.compare import CompareOptions, study_of
from rl_lab.cli.train import parse_train, train
from rl_lab.runs.config import RunConfig, read_fields
from rl_lab.runs.description import read_description
from rl_lab.runs.fingerprint import fingerprint
from rl_lab.studies.study import tasks_of
from rl_lab.types import UsageError
from runs import QUICK

NAMES = {
    "wandb_project": "birds", "wandb_entity": "team", "wandb_name": "mine", "wandb_tags": ("a", "b"),
    "wandb_notes": "by hand", "wandb_job_type": "trial", "group": "g", "wandb_upload": ("model", "system"),
}  # fmt: skip


def learn(folder, **fields):
    return rl_lab.learn(
        "q-learning", "FrozenLake-v1", run_dir=str(folder), **(QUICK | {"total_steps": 60} | fields)
    )


def test_they_are_stored_and_change_neither_the_hash_nor_what_is_learned(tmp_path):
    learn(tmp_path / "plain")
    learn(tmp_path / "named", **NAMES)
    stored = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("plain", "named")]
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in stored[1].items() if k in NAMES} == NAMES
    assert stored[0]["config_sha256"] == stored[1]["config_sha256"]
    assert fingerprint(tmp_path / "plain") == fingerprint(tmp_path / "named")
    assert read_description(tmp_path / "named").config.wandb_tags == ("a", "b")


def test_a_secret_changes_the_hash_in_no_way_and_config_json_reads_back(tmp_path, monkeypatch):
    fields = {"env_kwargs": {"is_slippery": False}, "wandb_notes": "token=abc"}
    learn(tmp_path / "one", **fields)
    learn(tmp_path / "other", **fields | {"wandb_notes": "token=xyz"})
    stored = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("one", "other")]
    assert stored[0]["wandb_notes"] == stored[1]["wandb_notes"] == "token=[removed]"
    assert stored[0]["config_sha256"] == stored[1]["config_sha256"]
    assert stored[0]["env_kwargs"] == {"is_slippery": False}


def test_a_new_run_takes_over_neither_name_nor_mode_of_the_run_whose_config_it_reads(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    learn(tmp_path / "run", **NAMES | {"wandb": None})
    fields = read_fields(tmp_path / "run" / "config.json")
    assert not {"wandb", "wandb_name", "group", "run_dir"} & set(fields)
    assert fields["wandb_project"] == "birds"
    learn(tmp_path / "asked", wandb="disabled")
    assert read_fields(tmp_path / "asked" / "config.json")["wandb"] == "disabled"


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("wandb_project", "a/b", "holds /"),
        ("wandb_project", 3, "must be text"),
        ("wandb_tags", ("x" * 65,), "65 characters"),
        ("wandb_tags", ("",), "0 characters"),
        ("wandb_tags", 3, "must be names"),
        ("wandb_upload", ("films",), "allowed: videos, pictures, model, code, system"),
    ],
)
def test_what_wandb_would_not_take_is_refused(field, value, named):
    with pytest.raises(UsageError, match=field) as refusal:
        RunConfig("CartPole-v1", **{field: value})
    assert named in str(refusal.value)


def test_they_stand_in_a_box_of_their_own_in_the_help(capsys):
    code, out, _ = call(capsys, train, "--agent", "q-learning", "--help-all")
    assert code == 0
    box = out[out.index(" Weights & Biases ") :]
    box = box[: box.index("╰")] if "╰" in box else box
    for option in ("project", "entity", "name", "job-type", "tags", "notes", "upload"):
        assert f"--wandb-{option}" in box
    assert "--group" in box
    assert "wandb_group" in box


def test_the_other_name_of_group_is_known_on_the_command_line_and_in_files(tmp_path):
    assert parse_train([*TABLE, "--wandb-group", "g"])[1]["group"] == "g"
    (tmp_path / "fields.yaml").write_text("wandb_group: f\n")
    assert parse_train([*TABLE, "--config", str(tmp_path / "fields.yaml")])[1]["group"] == "f"


def test_an_unknown_upload_is_refused_in_a_line(capsys):
    require_refusal(call(capsys, train, *TABLE, *QUICK_WORDS, "--wandb-upload", "films"), "films", "pictures")


def test_a_study_passes_them_on_with_itself_as_the_group(tmp_path):
    options = CompareOptions(
        ("FrozenLake-v1",), ("q-learning",), seeds=1, wandb_project="birds", wandb_tags=("a",),
        wandb_notes="n", wandb_upload=("model",),
    )  # fmt: skip
    (task,) = tasks_of(study_of(options), tmp_path / "lakes", tell=lambda line: None)
    assert (task.fields["wandb_project"], task.fields["wandb_tags"], task.fields["wandb_upload"]) == (
        "birds",
        ("a",),
        ("model",),
    )
    assert task.fields["group"] == "lakes-FrozenLake-v1"
    grouped = CompareOptions(("FrozenLake-v1",), ("q-learning",), seeds=1, wandb_group="mine")
    (task,) = tasks_of(study_of(grouped), tmp_path / "lakes", tell=lambda line: None)
    from rl_lab.training.setup import configs_of

    assert configs_of(task.agent, task.fields)[1].group == "mine"
