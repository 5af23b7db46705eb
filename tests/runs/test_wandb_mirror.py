"""What the mirror reads of a run and where it goes on: whole rows, segments of one group."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mirrored import CONFIG, append_rows, make_run_dir, row
from rl_lab.runs import wandb_mirror
from rl_lab.runs.scrubbing import REMOVED
from rl_lab.runs.wandb_keys import loggable, placed
from rl_lab.runs.wandb_mirror import Tail
from rl_lab.runs.wandb_segments import next_segment, rebuilt_segment


def test_tail_waits_for_the_newline(tmp_path):
    path = tmp_path / "metrics.jsonl"
    tail = Tail(path)
    assert list(tail.rows()) == []
    path.write_text('{"env_steps": 1}\n{"env_st')
    assert list(tail.rows()) == [{"env_steps": 1}]
    assert list(tail.rows()) == []
    with open(path, "a") as file:
        file.write('eps": 2}\n')
    assert list(tail.rows()) == [{"env_steps": 2}]
    assert tail.offset == path.stat().st_size


def test_tail_passes_over_what_is_no_row(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(
        b'{"env_steps": 1}\n\0\0\0\n\xff\n[1]\n3\n{}\n{"loss": 1}\n{"env_steps": "3"}\n{"env_steps": 2}\n'
    )
    assert list(Tail(path).rows()) == [{"env_steps": 1}, {"env_steps": 2}]


def test_tail_follows_a_file_that_is_cut_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"env_steps": 1}\n{"env_steps": 2}\n')
    tail = Tail(path)
    assert len(list(tail.rows())) == 2
    path.write_text('{"env_steps": 1}\n')
    assert list(tail.rows()) == []
    with open(path, "a") as file:
        file.write('{"env_steps": 2}\n')
    assert list(tail.rows()) == [{"env_steps": 2}]


class FakeRun:
    """A W&B run that remembers what is logged."""

    def __init__(self, folder: Path):
        self.dir = str(folder / "files")
        self.logged: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}

    def log(self, entry: dict[str, Any]) -> None:
        self.logged.append(entry)

    def finish(self, exit_code: int) -> None:
        pass


def test_rows_written_just_before_the_end_are_mirrored(tmp_path, monkeypatch):
    run_dir, run = make_run_dir(tmp_path, rows=2), FakeRun(tmp_path)
    monkeypatch.setattr(wandb_mirror, "_open_run", lambda *arguments: run)
    waits = []

    def ended(seconds: float) -> str | None:
        waits.append(seconds)
        append_rows(run_dir, range(2 * len(waits), 2 * len(waits) + 2))
        return "finished" if len(waits) == 3 else None

    wandb_mirror.mirror(run_dir, "offline", rebuilt_segment(run_dir), ended)
    sent = [{placed(k): v for k, v in row(i).items()} for i in range(8)]
    assert run.logged == sent


def test_secrets_that_an_older_version_stored_go_no_further(tmp_path, monkeypatch):
    run_dir, configs = make_run_dir(tmp_path, rows=1), []
    older = CONFIG | {
        "format": 2,
        "env_kwargs": {"token": "hush-hush-hush"},
        "wandb_notes": "token=hush-hush",
    }
    (run_dir / "config.json").write_text(json.dumps(older))

    def open_run(run_dir: Path, mode: str, segment: Any, config: dict[str, Any], following: bool) -> FakeRun:
        configs.append(config)
        return FakeRun(tmp_path)

    monkeypatch.setattr(wandb_mirror, "_open_run", open_run)
    wandb_mirror.mirror(run_dir, "offline", rebuilt_segment(run_dir), lambda seconds: "finished")
    assert configs == [older | {"env_kwargs": {"token": REMOVED}, "wandb_notes": f"token={REMOVED}"}]


def test_loggable_keeps_numbers_and_turns_lists_into_histograms():
    given = {"env_steps": 5, "loss": 0.5, "regret": None, "returns": [1, None, float("nan"), 2.5], "none": []}
    assert loggable(given, sorted) == {"env_steps": 5, "train/loss": 0.5, "train/returns": [1, 2.5]}


def test_a_segment_goes_on_after_the_last_clean_one(tmp_path):
    (tmp_path / "wandb").mkdir()
    first = next_segment(tmp_path, 900)
    first.end_byte, first.videos = 700, ["a.mp4"]
    first.write()
    second = next_segment(tmp_path, 900)  # will not end cleanly
    assert (second.start_byte, second.videos) == (700, ["a.mp4"])
    third = next_segment(tmp_path, 900)
    assert (third.start_byte, third.videos) == (700, ["a.mp4"])
    assert [s.run_id.rpartition("-")[2] for s in (first, second, third)] == ["0", "1", "2"]
    assert len({s.run_id.rpartition("-")[0] for s in (first, second, third)}) == 1
    assert next_segment(tmp_path, 600).start_byte == 600  # the file was cut back
    assert next_segment(tmp_path, 800).start_byte == 600  # nothing after it was mirrored cleanly
    assert rebuilt_segment(tmp_path).start_byte == 0


def test_segments_are_counted_past_ten(tmp_path):
    (tmp_path / "wandb").mkdir()
    for _ in range(11):
        segment = next_segment(tmp_path, 900)
    segment.end_byte = 5
    segment.write()
    assert next_segment(tmp_path, 900).start_byte == 5
