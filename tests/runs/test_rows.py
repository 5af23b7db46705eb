"""Row files: appended to, measured, and cut back to what a checkpoint saw of them."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from rl_lab.environments.actions import stored_dtype
from rl_lab.environments.episodes import Episode
from rl_lab.runs.rows import (
    ACTIONS,
    COLUMNS,
    EPISODES,
    METRICS,
    RowFiles,
    read_actions,
    read_episodes,
    read_rows,
)
from rl_lab.storage.errors import CheckpointCorrupt, NotWritten
from rl_lab.types import UsageError

ACTION = spaces.Discrete(4)


def episode(number: int, *actions: int) -> Episode:
    taken = np.array(actions, stored_dtype(ACTION))
    return Episode(10 * number, 0, number, 5 + number, 0.5 * number, len(taken), True, False, taken)


@pytest.fixture
def rows(tmp_path):
    files = RowFiles(tmp_path)
    yield files
    files.close()


def test_what_is_written_is_read(rows, tmp_path):
    rows.episode(episode(0, 3, 1))
    rows.episode(episode(1, 2))
    rows.row({"env_steps": 10, "loss": float("nan"), "bound": float("inf"), "kept": [1]})
    assert read_rows(tmp_path) == [{"env_steps": 10, "loss": None, "bound": None, "kept": [1]}]
    assert (tmp_path / EPISODES).read_text().splitlines() == [
        COLUMNS,
        "0,0,0,5,0.0,2,1,0",
        "10,0,1,6,0.5,1,1,0",
    ]
    assert [row["return"] for row in read_episodes(tmp_path)] == [0.0, 0.5]
    assert read_actions(tmp_path, 0, ACTION).tolist() == [3, 1]
    assert read_actions(tmp_path, 1, ACTION).tolist() == [2]
    with pytest.raises(UsageError, match=r"training episode 2 is not in .* \(allowed: 0 to 1\)"):
        read_actions(tmp_path, 2, ACTION)


def test_a_half_written_row_is_left_out(rows, tmp_path):
    rows.row({"env_steps": 1})
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"env_st')
    assert read_rows(tmp_path) == [{"env_steps": 1}]
    assert read_rows(tmp_path / "nowhere") == []


def test_cutting_back_drops_what_came_after(rows, tmp_path):
    rows.row({"env_steps": 1})
    rows.episode(episode(0, 3))
    positions = rows.positions()
    assert positions == {name: (tmp_path / name).stat().st_size for name in (METRICS, EPISODES, ACTIONS)}
    rows.row({"env_steps": 2})
    rows.episode(episode(1, 1))
    rows.cut_back(positions)
    rows.row({"env_steps": 3})
    assert [row["env_steps"] for row in read_rows(tmp_path)] == [1, 3]
    assert [row["episode"] for row in read_episodes(tmp_path)] == [0]
    rows.cut_back({})
    rows.flush()
    assert read_rows(tmp_path) == read_episodes(tmp_path) == []
    assert (tmp_path / EPISODES).read_text() == f"{COLUMNS}\n"


def test_a_file_that_is_too_short_is_never_padded(rows, tmp_path):
    rows.row({"env_steps": 1})
    with pytest.raises(CheckpointCorrupt, match=r"metrics\.jsonl has 17 bytes, 99 at the last checkpoint"):
        rows.cut_back({METRICS: 99})


def test_an_episode_whose_actions_are_not_written_yet_is_refused_in_a_line(rows, tmp_path):
    rows.episode(episode(0, 3, 1))
    rows.episode(episode(1, 2))
    rows.flush()
    with (tmp_path / ACTIONS).open("r+b") as file:
        file.truncate(2 * stored_dtype(ACTION).itemsize)
    assert read_actions(tmp_path, 0, ACTION).tolist() == [3, 1]
    with pytest.raises(
        UsageError, match=r"training episode 1 of .* can't be played yet: actions/actions\.bin"
    ):
        read_actions(tmp_path, 1, ACTION)


def test_a_half_written_episode_is_left_out(rows, tmp_path):
    rows.episode(episode(0, 3, 1))
    rows.flush()
    with (tmp_path / EPISODES).open("a") as file:
        file.write("20,0,1,6,0.")
    assert [row["episode"] for row in read_episodes(tmp_path)] == [0]


def test_episodes_are_not_flushed_before_their_actions(rows, tmp_path, monkeypatch):
    class Full:
        """A file that the file system refuses to write."""

        def flush(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setitem(rows._files, ACTIONS, Full())
    rows._files[EPISODES].write(b"a row\n")
    with pytest.raises(NotWritten, match=r"actions\.bin could not be written"):
        rows.flush()
    assert (tmp_path / EPISODES).read_bytes() == b""
