"""Following a run that trains: rows as they are appended, half lines, a cut back, newer checkpoints."""

from __future__ import annotations

import json

import pytest

from rl_lab.storage.checkpoint import Checkpoints
from rl_lab.types import UsageError
from rl_lab.watching.following import Curve, Following


def append(folder, text):
    """Append text to the rows."""
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(text)


def row(steps, **values):
    """A row as it stands in the file."""
    return json.dumps({"env_steps": steps, **values}) + "\n"


def test_rows_are_read_once_and_a_half_line_waits_for_its_end(tmp_path):
    following = Following(tmp_path, lambda: None)
    assert following.look() == (None, None)
    append(tmp_path, row(10, episode_return_mean=1.0) + row(20, eval_return_mean=3.0) + '{"env_st')
    notice, _ = following.look()
    assert notice == {
        "type": "curves", "env_steps": 20, "curves": {"training": [(10.0, 1.0)], "evaluation": [(20.0, 3.0)]},
    }  # fmt: skip
    assert following.look()[0] is None
    append(tmp_path, 'eps": 30, "episode_return_mean": 2.0}\nno row\n' + row(40, episode_return_mean=None))
    notice, _ = following.look()
    assert notice["curves"]["training"] == [(10.0, 1.0), (30.0, 2.0)]
    assert notice["env_steps"] == 40


def test_rows_that_a_resumed_run_drops_are_dropped_here(tmp_path):
    following = Following(tmp_path, lambda: None)
    append(tmp_path, row(10, episode_return_mean=1.0) + row(20, episode_return_mean=2.0))
    following.look()
    (tmp_path / "metrics.jsonl").write_text(row(10, episode_return_mean=1.0))
    assert following.look()[0]["curves"]["training"] == [(10.0, 1.0)]


@pytest.mark.parametrize("steps", [(10, 15, 18, 19), (10, 15, 25, 30)], ids=["fewer steps", "more steps"])
def test_dropped_rows_are_noticed_if_the_file_has_grown_longer_since(tmp_path, steps):
    following = Following(tmp_path, lambda: None)
    append(tmp_path, "".join(row(n, episode_return_mean=1.0) for n in (10, 20, 22)))
    following.look()
    (tmp_path / "metrics.jsonl").write_text("".join(row(n, episode_return_mean=2.0) for n in steps))
    notice = following.look()[0]
    assert notice["curves"]["training"] == [(n, 2.0) for n in steps]
    assert notice["env_steps"] == steps[-1]
    assert following.look()[0] is None


def test_a_checkpoint_that_is_swept_away_at_the_first_look_is_none(tmp_path, monkeypatch):
    def swept(checkpoints):
        raise FileNotFoundError

    monkeypatch.setattr(Checkpoints, "manifests", swept)
    assert Following(tmp_path, lambda: None).look() == (None, None)


def test_a_newer_checkpoint_is_loaded_once_and_again_later_if_it_can_not_be_yet(tmp_path):
    answers = [UsageError("half written"), ("policy", 20)]

    def load():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "000000000010-a.json").write_text("{}")
    following = Following(tmp_path, load, load_seconds=0.0)
    assert following.look()[1] is None  # it is the one that is watched already
    (tmp_path / "checkpoints" / "000000000020-b.json").write_text("{}")
    assert [following.look()[1] for _ in range(3)] == [None, "policy", None]


def test_a_checkpoint_that_can_not_be_loaded_is_not_tried_at_every_look(tmp_path):
    tries = []

    def load():
        tries.append(1)
        raise UsageError("damaged")

    following = Following(tmp_path, load, load_seconds=1000.0)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "000000000020-b.json").write_text("{}")
    assert [following.look()[1] for _ in range(3)] == [None] * 3
    assert len(tries) == 1


def test_the_checkpoint_is_the_one_that_was_loaded_though_a_newer_one_came_meanwhile(tmp_path):
    def load():
        (tmp_path / "checkpoints" / "000000000030-c.json").write_text("{}")
        return "policy", 30

    following = Following(tmp_path, load)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "000000000020-b.json").write_text("{}")
    assert following.look()[1] == "policy"
    assert following.checkpoint == 30


def test_looks_are_rare(tmp_path):
    following = Following(tmp_path, lambda: None, seconds=1000.0)
    assert following.is_due()
    following.look()
    assert not following.is_due()


@pytest.mark.parametrize("count", [3, 9, 100, 1000])
def test_a_curve_stays_short_in_order_and_ends_with_the_newest_point(count):
    curve = Curve(most=8)
    for i in range(count):
        curve.add(i, -i)
    points = curve.points()
    assert len(points) <= 9
    assert points == sorted(points)
    assert points[0] == (0, 0)
    assert points[-1] == (count - 1, 1 - count)
