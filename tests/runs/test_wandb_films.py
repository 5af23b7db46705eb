"""Films at a period reach W&B once each, at their own step, also while training goes on."""

from __future__ import annotations

from mirrored import moving_video
from rl_lab.runs.directory import film_name
from rl_lab.runs.wandb_keys import AXIS
from rl_lab.runs.wandb_uploads import PROGRESS, step_of, upload_films, upload_videos


class Logged:
    """A W&B run that keeps what it is told."""

    def __init__(self):
        self.entries = []

    def log(self, entry):
        key = next(name for name in entry if name != AXIS)
        self.entries.append((key, entry[AXIS]))


def test_each_film_is_logged_once_at_its_step(tmp_path):
    (tmp_path / "videos").mkdir()
    run, done = Logged(), []
    for at in (500, 1000):
        moving_video(tmp_path / "videos" / film_name(at))
    upload_films(run, tmp_path, done)
    moving_video(tmp_path / "videos" / film_name(1500))
    moving_video(tmp_path / "videos" / "final.mp4")
    upload_films(run, tmp_path, done)
    expected = [(PROGRESS, 500), (PROGRESS, 1000), (PROGRESS, 1500)]
    assert run.entries == expected
    upload_videos(run, tmp_path, 2000, done)
    assert run.entries == [*expected, ("videos/final", 2000)]
    upload_videos(run, tmp_path, 2000, done)
    assert len(run.entries) == 4


def test_films_that_are_left_to_the_end_come_at_their_steps_too(tmp_path):
    (tmp_path / "videos").mkdir()
    run = Logged()
    moving_video(tmp_path / "videos" / film_name(500))
    upload_videos(run, tmp_path, 2000, [])
    assert run.entries == [(PROGRESS, 500)]


def test_the_name_of_a_film_tells_its_step(tmp_path):
    assert step_of(tmp_path / film_name(1_234_567)) == 1_234_567
