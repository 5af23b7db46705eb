"""Videos: what goes in comes out, on exceptions too; and the window."""

from __future__ import annotations

import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from rl_lab.environments.pictures import as_rgb
from rl_lab.evaluation.video import LiveWindow, VideoWriter, enlarge, fitted, write_video
from rl_lab.types import UsageError


def moving_square(count: int, height: int = 240, width: int = 320) -> list[np.ndarray]:
    """Frames [H, W, 3] on which a bright square moves to the right."""
    frames = [np.full((height, width, 3), 40, np.uint8) for _ in range(count)]
    for i, frame in enumerate(frames):
        frame[10:60, 10 * i : 10 * i + 50] = (250, 120, 10)
    return frames


def read_frames(path: Path) -> np.ndarray:
    return iio.imread(path, index=None)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_frames_survive_the_round_trip(tmp_path, suffix):
    frames = moving_square(12)
    path = tmp_path / "videos" / f"episode{suffix}"
    write_video(path, frames, fps=10)
    got = read_frames(path)
    assert got.shape == (12, 240, 320, 3)
    # Lossy, but each frame is nearest to the one that was written.
    distance = np.abs(got[:, None].astype(float) - np.stack(frames)[None]).mean(axis=(2, 3, 4))
    assert distance.argmin(axis=1).tolist() == list(range(12))
    assert distance.diagonal().max() < 6
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing temporary stays


def test_mp4_is_what_browsers_play(tmp_path):
    write_video(tmp_path / "a.mp4", moving_square(10), fps=25)
    metadata = iio.immeta(tmp_path / "a.mp4", plugin="FFMPEG")
    assert metadata["codec"] == "h264"
    assert metadata["pix_fmt"].startswith("yuv420p")
    assert metadata["fps"] == 25
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # the index comes first: it plays while it loads


def test_gif_loops_at_its_speed(tmp_path):
    write_video(tmp_path / "a.gif", moving_square(4), fps=20)
    metadata = iio.immeta(tmp_path / "a.gif", index=0)
    assert metadata["loop"] == 0
    assert metadata["duration"] == 50


def test_odd_sizes_are_padded_by_the_edge(tmp_path, capfd):
    frames = [np.full((211, 333, 3), 90, np.uint8)] * 3
    write_video(tmp_path / "odd.mp4", frames, fps=10)
    got = read_frames(tmp_path / "odd.mp4")
    assert got.shape == (3, 212, 334, 3)
    assert np.abs(got.astype(int) - 90).max() < 8
    assert capfd.readouterr().err == ""


def test_small_frames_are_enlarged_by_a_whole_factor(tmp_path):
    frame = np.zeros((8, 12, 3), np.uint8)
    frame[2, 3] = 255
    large = enlarge(frame)  # 12 * 17 = 204
    assert large.shape == (8 * 17, 12 * 17, 3)
    np.testing.assert_array_equal(large[::17, ::17], frame)
    np.testing.assert_array_equal(large[16::17, 16::17], frame)
    write_video(tmp_path / "small.mp4", [frame] * 2, fps=5)
    assert read_frames(tmp_path / "small.mp4").shape == (2, 136, 204, 3)


def test_large_frames_keep_their_size():
    frame = np.zeros((200, 10, 3), np.uint8)
    assert enlarge(frame) is frame


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_an_exception_inside_still_leaves_a_readable_file(tmp_path, suffix):
    path = tmp_path / f"broken{suffix}"

    def play():
        with VideoWriter(path, fps=10) as writer:
            for i, frame in enumerate(moving_square(10)):
                if i == 7:
                    raise RuntimeError("the environment broke")
                writer.add(frame)

    with pytest.raises(RuntimeError, match="the environment broke"):
        play()
    assert len(read_frames(path)) == 7
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a.mp4"
    writer = VideoWriter(path, fps=10)
    writer.add(moving_square(1)[0])
    assert not path.exists()
    assert list(tmp_path.glob("*.mp4")) == []
    writer.close()
    writer.close()
    assert len(read_frames(path)) == 1


def test_bad_suffix_is_refused_before_any_frame(tmp_path):
    with pytest.raises(UsageError, match=r"film\.avi.*\.mp4 or \.gif"):
        VideoWriter(tmp_path / "film.avi", fps=10)
    with pytest.raises(UsageError, match="fps 0"):
        VideoWriter(tmp_path / "film.mp4", fps=0)


def test_no_frames_is_an_error_and_no_file(tmp_path):
    with pytest.raises(ValueError, match="no frames"):
        write_video(tmp_path / "a.mp4", [], fps=10)
    assert list(tmp_path.iterdir()) == []


def test_frames_of_another_size_are_fitted_into_the_first_ones(tmp_path):
    frames = [*moving_square(3), np.zeros((300, 300, 3), np.uint8), np.zeros((200, 640, 3), np.uint8)]
    write_video(tmp_path / "a.mp4", frames, fps=10)
    assert [frame.shape for frame in read_frames(tmp_path / "a.mp4")] == [(240, 320, 3)] * 5


@pytest.mark.parametrize(
    ("shape", "top", "left", "height", "width"),
    [
        ((2, 3), 1, 1, 2, 3),
        ((8, 3), 0, 2, 4, 1),
        ((4, 12), 1, 0, 2, 6),
        ((4, 6), 0, 0, 4, 6),
        ((99, 1), 0, 2, 4, 1),
    ],
)
def test_a_fitted_picture_stands_whole_in_the_middle_of_black(shape, top, left, height, width):
    expected = np.zeros((4, 6, 3), np.uint8)
    expected[top : top + height, left : left + width] = 7
    np.testing.assert_array_equal(fitted(np.full((*shape, 3), 7, np.uint8), (4, 6, 3)), expected)


def test_grey_and_alpha_become_rgb():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(as_rgb(grey), np.stack([grey] * 3, axis=2))
    np.testing.assert_array_equal(as_rgb(grey[..., None]), np.stack([grey] * 3, axis=2))
    assert as_rgb(np.zeros((2, 3, 4), np.uint8)).shape == (2, 3, 3)


@pytest.mark.parametrize("frame", [np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)])
def test_arrays_that_are_no_pictures_are_refused(frame):
    with pytest.raises(ValueError, match=r"allowed: a picture uint8 \[height, width, 3\]"):
        as_rgb(frame)


@pytest.fixture
def no_screen(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    return pytest.importorskip("pygame")


def test_window_shows_the_frame(no_screen):
    frame = moving_square(3)[2]
    with LiveWindow(fps=1000) as window:
        assert window.add(frame)
        shown = no_screen.surfarray.array3d(no_screen.display.get_surface())
        np.testing.assert_array_equal(shown.swapaxes(0, 1), frame)
    assert not no_screen.display.get_init()


@pytest.mark.parametrize("how", ["cross", "escape"])
def test_closing_the_window_ends_the_show(no_screen, how):
    events = {
        "cross": no_screen.event.Event(no_screen.QUIT),
        "escape": no_screen.event.Event(no_screen.KEYDOWN, key=no_screen.K_ESCAPE),
    }
    frame = moving_square(1)[0]
    with LiveWindow(fps=1000) as window:
        assert window.add(frame)
        no_screen.event.post(events[how])
        assert not window.add(frame)
        assert window.closed
        assert not window.add(frame)


def test_window_keeps_the_pace(no_screen, monkeypatch):
    asked, clock = [], no_screen.time.Clock()

    class Asked:
        def tick(self, fps):
            asked.append(fps)
            return clock.tick(fps)

    monkeypatch.setattr(no_screen.time, "Clock", Asked)
    with LiveWindow(fps=50) as window:
        window.add(moving_square(1)[0])
        start = time.monotonic()
        for frame in moving_square(10):
            window.add(frame)
        assert time.monotonic() - start > 0.15  # 10 frames at 50 a second take 0.2 s
    assert asked == [50] * 11
