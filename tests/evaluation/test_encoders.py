"""A film is whole or not there: failing encoders, full disks and old films."""

from __future__ import annotations

import re

import imageio.v3 as iio
import numpy as np
import pytest

from commands import call
from disks import FULL
from encoders import REASONS, failing_encoder
from rl_lab.cli.train import train
from rl_lab.cli.watch import watch
from rl_lab.evaluation.encoders import GifEncoder, Mp4Encoder
from rl_lab.evaluation.video import VideoWriter, write_video
from rl_lab.storage.errors import NotWritten
from rl_lab.types import UsageError
from runs import learn


def noise(count: int, side: int = 200) -> list[np.ndarray]:
    """Frames [H, W, 3] that take much room."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (side, side, 3), np.uint8) for _ in range(count)]


@pytest.fixture(params=REASONS)
def failing(request, tmp_path, monkeypatch):
    """What is said of an encoder that fails in each way, as a pattern."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", failing_encoder(tmp_path / "bin", request.param))
    return REASONS[request.param]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    learn(folder, "random", "FrozenLake-v1", total_steps=10)
    return folder


class TestFailingEncoder:
    def test_the_old_film_stays_and_the_error_is_one_line(self, failing, tmp_path):
        films = tmp_path / "films"
        films.mkdir()
        (films / "a.mp4").write_bytes(b"old")
        with pytest.raises(NotWritten, match=rf"a\.mp4 could not be written: {failing}") as failure:
            write_video(films / "a.mp4", noise(6), fps=10)
        assert "\n" not in str(failure.value)
        assert (films / "a.mp4").read_bytes() == b"old"
        assert [path.name for path in films.iterdir()] == ["a.mp4"]

    def test_watch_exits_with_1_and_one_line(self, failing, run_dir, tmp_path, capsys):
        film = tmp_path / "a.mp4"
        film.write_bytes(b"old")
        code, out, err = call(capsys, watch, run_dir, "--video", film)
        assert (code, out) == (1, "")
        assert re.fullmatch(rf"error: {re.escape(str(film))} could not be written: {failing}.*\n", err)
        assert film.read_bytes() == b"old"

    def test_training_goes_on_with_one_warning_and_no_film(self, failing, tmp_path, capfd):
        words = "--agent random --env-id FrozenLake-v1 --total-steps 100 --eval-episodes 1 --wandb disabled"
        code, out, err = call(capfd, train, *words.split(), "--run-dir", tmp_path / "run")
        assert code == 0
        lines = [line for line in err.splitlines() if "steps/s" not in line]
        assert lines[:-1] == ["drawing pictures", "filming"]
        assert re.match(rf"warning: no video: .*final\.mp4 could not be written: {failing}", lines[-1])
        assert list((tmp_path / "run" / "videos").iterdir()) == []
        assert (tmp_path / "run" / "summary.json").exists()
        assert "run directory" in out

    def test_a_writer_that_failed_takes_no_more_and_closes_quietly(self, tmp_path, monkeypatch):
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "missing"))
        writer = VideoWriter(tmp_path / "a.mp4", fps=10)
        for _ in range(2):
            with pytest.raises(NotWritten):
                writer.add(noise(1)[0])
        writer.close()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
class TestFullDisk:
    def test_the_old_film_stays(self, small_disk, suffix):
        film = small_disk.folder / f"a{suffix}"
        write_video(film, noise(1), fps=10)
        small_disk.fill()
        with pytest.raises(NotWritten, match=rf"could not be written: .*({FULL}|signal 25)"):
            write_video(film, noise(3), fps=10)
        small_disk.free()
        assert len(iio.imread(film, index=None)) == 1
        assert small_disk.names() == {film.name}

    def test_watch_says_so_in_a_line(self, small_disk, suffix, run_dir, capsys):
        film = small_disk.folder / f"a{suffix}"
        film.write_bytes(b"old")
        small_disk.fill()
        code, out, err = call(capsys, watch, run_dir, "--video" if suffix == ".mp4" else "--gif", film)
        small_disk.free()
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert re.search(f"{FULL}|signal 25", err)
        assert film.read_bytes() == b"old"


class TestChecks:
    @pytest.mark.parametrize("suffix", [".mp4", ".gif"])
    @pytest.mark.parametrize("fps", [0.5, 29.97, 60, 1000])
    def test_what_was_written_well_passes_at_any_speed(self, suffix, fps, tmp_path):
        write_video(tmp_path / f"a{suffix}", noise(5, 16), fps)
        write_video(tmp_path / f"b{suffix}", noise(1, 16) * 7, fps)  # equal frames, which a GIF merges
        assert (tmp_path / f"a{suffix}").stat().st_size > 0

    @pytest.mark.parametrize("kind", [Mp4Encoder, GifEncoder])
    def test_another_number_of_frames_is_found(self, kind, tmp_path):
        path = tmp_path / ("a.mp4" if kind is Mp4Encoder else "a.gif")
        write_video(path, noise(5), fps=10)
        kind.check(path, 10, 5)
        with pytest.raises(ValueError, match=r"the film (has 5 of 6 frames|lasts 500 ms instead of 600)"):
            kind.check(path, 10, 6)

    @pytest.mark.parametrize("kind", [Mp4Encoder, GifEncoder])
    def test_a_film_that_lost_its_end_is_found(self, kind, tmp_path):
        path = tmp_path / ("a.mp4" if kind is Mp4Encoder else "a.gif")
        write_video(path, noise(5), fps=10)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ValueError, match="the film"):
            kind.check(path, 10, 5)


@pytest.mark.parametrize("name", ["-f.mp4", "-i.gif", "-dash/-f.mp4"])
def test_names_may_begin_with_a_dash(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(name, noise(3), fps=10)
    assert len(iio.imread(tmp_path / name, index=None)) == 3


def test_a_film_is_refused_before_any_frame_where_it_can_not_be(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UsageError, match="can't be written: Not a directory"):
        VideoWriter(tmp_path / "file" / "a.mp4", fps=10)
