"""Rows of metrics with odd values, and files with odd lines: every reader takes them, and a resume cuts them back."""

from __future__ import annotations

import json
import math
import shutil
import warnings

import numpy as np
import pytest
from fuzz import HUGE, JSON, LEAVES, TEXT, fuzzed
from hypothesis import given
from hypothesis import strategies as st

from rl_lab.evaluation.run_curves import draw_curves, points
from rl_lab.runs.fingerprint import rows_without_times
from rl_lab.runs.rows import EPISODES, METRICS, RowFiles, is_number, read_rows
from rl_lab.runs.wandb_mirror import Tail, loggable
from rl_lab.storage.errors import CheckpointCorrupt
from rl_lab.studies.results import REGRET, RETURN, _read_rows

NAMES = st.sampled_from([RETURN, REGRET, "eval_returns", "episode_return_mean", "loss"]) | TEXT
STORABLE = LEAVES.filter(lambda v: json_can_hold(v))
ROWS = st.builds(
    lambda steps, values: values | {"env_steps": steps},
    st.integers(0, 10**6),
    st.dictionaries(NAMES, STORABLE | st.lists(STORABLE, max_size=3), max_size=4),
)
LINES = st.one_of(
    JSON.map(lambda v: json.dumps(v).encode()), st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")),
    st.sampled_from([
        b"", b"null", b"[" * 100_000, b'{"env_steps": 1e999, "eval_return_mean": 1}', b"\xff\xfe", b"9" * 5000,
        b'{"env_steps": true, "eval_return_mean": 1}', b'{"env_steps": "5", "eval_return_mean": 1}',
        f'{{"env_steps": {HUGE}, "eval_return_mean": 1}}'.encode(), b'{"eval_return_mean": 2}', b"\r",
        f'{{"env_steps": 1, "eval_return_mean": {HUGE}, "eval_returns": [{HUGE}, 1.0]}}'.encode(), b'{"env_steps": 3',
        b'{"env_steps": 1, "eval_return_mean": [1]}', b'{"env_steps": 2, "eval_return_mean": true, "regret": "x"}',
    ]),
)  # fmt: skip


def json_can_hold(value) -> bool:
    plain = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    try:
        json.dumps(plain)
    except (TypeError, ValueError):
        return False
    return True


def expected(value):
    """Return a value as a row holds it: as JSON, with None for nan and infinity."""
    plain = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    if isinstance(plain, list):
        return [expected(part) for part in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def read_by_all(folder) -> list:
    """Let every reader of rows read a file; return what `read_rows` found."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lines that were passed over
        rows = read_rows(folder)
        rows_without_times(folder)
    for key in (RETURN, REGRET):
        points(_read_rows(folder / METRICS), key)
    for row in Tail(folder / METRICS).rows():
        loggable(row, lambda numbers: [float(n) for n in numbers])
    return rows


def fresh(tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "fuzzed_rows"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


@given(st.lists(ROWS, max_size=3))
@fuzzed(60)
def test_what_is_written_is_read_by_every_reader(tmp_path_factory, rows):
    folder = fresh(tmp_path_factory)
    files = RowFiles(folder)
    returned = [files.row(row) for row in rows]
    files.close()
    assert read_by_all(folder) == returned == [{k: expected(v) for k, v in row.items()} for row in rows]


@given(ROWS, st.lists(LINES, max_size=3), st.binary(max_size=10))
@fuzzed(60)
def test_other_lines_and_half_a_line_cost_no_row(tmp_path_factory, row, lines, tail):
    folder = fresh(tmp_path_factory)
    files = RowFiles(folder)
    files.row(row)
    with (folder / METRICS).open("ab") as file:
        file.write(b"".join(line + b"\n" for line in lines))
    files.close()
    files = RowFiles(folder)
    files.row(row)
    files.close()
    with (folder / METRICS).open("ab") as file:
        file.write(tail.replace(b"\n", b""))
    read = read_by_all(folder)
    wanted = {k: expected(v) for k, v in row.items()}
    assert (read[0], read[-1]) == (wanted, wanted)
    assert all(is_number(row["env_steps"]) for row in read)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, HUGE, -HUGE, 1e308, "x", None, [1.0], True, np.float32(2)]
)
def test_curves_are_drawn_whatever_stands_in_a_row(tmp_path, value):
    files = RowFiles(tmp_path)
    files.row({"env_steps": 1, RETURN: 0.5, "episode_return_mean": value})
    files.row({"env_steps": 2, RETURN: value})
    files.row({"env_steps": 3, RETURN: -1.7e308})
    files.row({"env_steps": 10**300, RETURN: 1.7e308})
    files.close()
    assert draw_curves(tmp_path).startswith(b"\x89PNG")


def test_lines_that_are_passed_over_are_told(tmp_path):
    (tmp_path / METRICS).write_bytes(
        b'{"env_steps": 1}\nnonsense\n{"env_steps": null}\n{"env_steps": 2}\n{"env'
    )
    with pytest.warns(UserWarning, match=r"metrics\.jsonl: 2 lines that are no rows were passed over"):
        assert read_rows(tmp_path) == [{"env_steps": 1}, {"env_steps": 2}]


@given(st.lists(ROWS, min_size=1, max_size=3), st.binary(max_size=30), st.data())
@fuzzed(50)
def test_a_resume_cuts_back_to_where_a_checkpoint_was(tmp_path_factory, rows, later, data):
    folder = fresh(tmp_path_factory)
    files = RowFiles(folder)
    at = data.draw(st.integers(0, len(rows)))
    for row in rows[:at]:
        files.row(row)
    positions, before = files.positions(), (folder / METRICS).read_bytes()
    for row in rows[at:]:
        files.row(row)
    files.close()
    for name in (METRICS, EPISODES):
        with (folder / name).open("ab") as file:
            file.write(later)
    again = RowFiles(folder)
    again.cut_back(positions)
    assert (folder / METRICS).read_bytes() == before
    again.row(rows[-1])
    again.close()
    assert len(read_by_all(folder)) == at + 1


@given(JSON)
@fuzzed(60)
def test_positions_that_are_none_are_corrupt(tmp_path_factory, position):
    files = RowFiles(fresh(tmp_path_factory))
    files.row({"env_steps": 1})
    try:
        files.cut_back({METRICS: position})
    except CheckpointCorrupt as error:
        told = str(error)
        assert told
    else:
        assert 0 <= position <= len(b'{"env_steps": 1}\n')
    finally:
        files.close()
