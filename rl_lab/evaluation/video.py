"""Shows frames to people, in video files or in a window.

A sink takes frames one by one and is a context manager; `VideoWriter` and `LiveWindow` are sinks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from rl_lab.types import UsageError

MIN_SIDE_PIXELS = 200  # smaller pictures are enlarged
GIF_MIN_MILLISECONDS = 20  # browsers play anything shorter at 100 ms


class Sink(Protocol):
    """Takes frames one by one until it is closed, also as a context manager."""

    def add(self, frame: np.ndarray) -> bool:
        """Show one frame uint8 [H, W, 3]; return whether more are wanted."""

    def close(self) -> None:
        """Finish showing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write frames uint8 [H, W, 3] to an .mp4 or .gif.

    Raises:
        UsageError: see `VideoWriter`.
        ValueError: there are no frames, or their shapes differ.
    """
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.add(frame)
    if writer.frames == 0:
        raise ValueError(f"{path}: there were no frames to write")


class VideoWriter(Sink):
    """Writes frames to a file, which appears complete when the writer is closed, even after an exception.

    Raises:
        UsageError: the suffix or `fps` isn't allowed, or (from `add`) the file can't be written.
    """

    def __init__(self, path: str | Path, fps: float):
        self.path = Path(path)
        self.frames = 0
        if self.path.suffix.lower() not in _ENCODERS:
            raise UsageError(f"{str(path)!r}: a video must end in {' or '.join(_ENCODERS)}")
        if not fps > 0:
            raise UsageError(f"fps {fps}: must be above 0")
        self._fps = fps
        self._shape: tuple[int, ...] = ()
        self._encoder: Any = None  # made at the first frame, whose size it needs
        # The name has neither suffix, so that nobody who looks for videos finds an unfinished one.
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")

    def add(self, frame: np.ndarray) -> bool:
        """Append one frame uint8 [H, W, 3], or grey [H, W]; return True.

        Raises:
            ValueError: it isn't such a frame, or its shape differs from the first one's.
        """
        picture = enlarge(as_rgb(frame))
        if self._encoder is None:
            self._start(picture)
        if picture.shape != self._shape:
            raise ValueError(f"{self.path}: a frame of {picture.shape} follows frames of {self._shape}")
        self._encoder.add(picture)
        self.frames += 1
        return True

    def _start(self, picture: np.ndarray) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.touch()
        except OSError as error:
            raise UsageError(f"{str(self.path)!r} can't be written: {error.strerror}") from error
        self._encoder = _ENCODERS[self.path.suffix.lower()](self._temporary, self._fps, picture.shape)
        self._shape = picture.shape

    def close(self) -> None:
        """Finish the file and give it its name; without any frames there is no file."""
        encoder, self._encoder = self._encoder, None
        if encoder is None:
            return
        try:
            encoder.close()
            self._temporary.replace(self.path)
        finally:
            self._temporary.unlink(missing_ok=True)


# ---------------------------------------------------------------- pictures


def as_rgb(frame: np.ndarray) -> np.ndarray:
    """Return a frame as uint8 [H, W, 3]; grey [H, W] or [H, W, 1] is repeated, alpha is dropped.

    Raises:
        ValueError: it has another shape or dtype.
    """
    frame = np.asarray(frame)
    if frame.ndim == 2:
        frame = frame[..., None]
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] not in (1, 3, 4) or frame.size == 0:
        raise ValueError(f"a frame of {frame.shape} {frame.dtype}: must be [H, W, 3] uint8")
    if frame.shape[2] == 1:
        return np.repeat(frame, 3, axis=2)
    return frame[..., :3]


def enlarge(picture: np.ndarray) -> np.ndarray:
    """Enlarge a picture [H, W, 3] by a whole factor so that its longer side has at least MIN_SIDE_PIXELS."""
    factor = math.ceil(MIN_SIDE_PIXELS / max(picture.shape[:2]))
    return picture if factor == 1 else picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _pad_to_even(picture: np.ndarray) -> np.ndarray:
    """Repeat the last row and column of a picture [H, W, 3] if needed, since yuv420p halves both sides."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


# ---------------------------------------------------------------- encoders


class _Mp4Encoder:
    """Encodes H.264 in yuv420p, which every browser plays, with the index at the front of the file."""

    def __init__(self, path: Path, fps: float, shape: tuple[int, ...]):
        import imageio_ffmpeg

        height, width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
        self._sink = imageio_ffmpeg.write_frames(
            str(path),
            (width, height),
            fps=fps,
            codec="libx264",
            pix_fmt_out="yuv420p",
            macro_block_size=1,  # sizes are even already; the default would scale to multiples of 16
            output_params=["-f", "mp4", "-movflags", "+faststart"],
            ffmpeg_log_level="error",
        )
        self._sink.send(None)

    def add(self, picture: np.ndarray) -> None:
        self._sink.send(np.ascontiguousarray(_pad_to_even(picture)))

    def close(self) -> None:
        self._sink.close()


class _GifEncoder:
    """Encodes a looping GIF with Pillow, which needs all frames at the end."""

    def __init__(self, path: Path, fps: float, shape: tuple[int, ...]):
        self._path = path
        self._milliseconds = max(GIF_MIN_MILLISECONDS, round(100 / fps) * 10)
        self._pictures: list[Any] = []

    def add(self, picture: np.ndarray) -> None:
        from PIL import Image

        # A picture with its own palette takes a third of the memory while it waits.
        self._pictures.append(Image.fromarray(picture).quantize(256))

    def close(self) -> None:
        first, rest = self._pictures[0], self._pictures[1:]
        first.save(
            self._path,
            format="GIF",
            save_all=True,
            append_images=rest,
            duration=self._milliseconds,
            loop=0,
        )


_ENCODERS: dict[str, type[_Mp4Encoder] | type[_GifEncoder]] = {".mp4": _Mp4Encoder, ".gif": _GifEncoder}

# ---------------------------------------------------------------- a window


class LiveWindow(Sink):
    """Shows frames in a window at their own speed, until somebody closes it or presses Escape."""

    def __init__(self, fps: float, title: str = "rl_lab"):
        import pygame

        self._pygame = pygame
        self._fps = fps
        self._title = title
        self._clock = pygame.time.Clock()
        self._size: tuple[int, int] | None = None  # width, height; None while there is no window yet
        self.closed = False

    def add(self, frame: np.ndarray) -> bool:
        """Show one frame uint8 [H, W, 3]; return False once the window is closed."""
        if self.closed:
            return False
        picture = enlarge(as_rgb(frame))
        surface = self._window((picture.shape[1], picture.shape[0]))
        self._pygame.surfarray.blit_array(surface, picture.swapaxes(0, 1))
        self._pygame.display.flip()
        self._clock.tick(self._fps)
        if any(self._asks_to_close(event) for event in self._pygame.event.get()):
            self.close()
        return not self.closed

    def _window(self, size: tuple[int, int]) -> Any:
        display = self._pygame.display
        if size != self._size:
            display.init()
            display.set_mode(size)
            display.set_caption(self._title)
            self._size = size
        return display.get_surface()

    def _asks_to_close(self, event: Any) -> bool:
        pygame = self._pygame
        return event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE)

    def close(self) -> None:
        """Close the window; pygame itself keeps running for environments that draw with it."""
        if self._size is not None and not self.closed:
            self._pygame.display.quit()
        self.closed = True
