"""Encodes frames as films, and checks that a film holds what was sent."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np

GIF_MIN_MILLISECONDS = 20  # browsers play anything shorter at 100 ms
QUALITY = 25  # crf of x264: 0 is lossless, 51 the worst


class EncoderFailed(Exception):
    """A film couldn't be encoded; the message is why, in one line."""


class Encoder(Protocol):
    """Writes one film.

    Args:
        path: the file, whose name doesn't matter.
        fps: frames per second.
        shape: of the frames, [H, W, 3].

    Raises:
        EncoderFailed: there is no encoder.
    """

    def __init__(self, path: Path, fps: float, shape: tuple[int, ...]): ...

    def add(self, picture: np.ndarray) -> None:
        """Append a frame uint8 [H, W, 3]. Raises EncoderFailed if the encoder has ended."""

    def close(self) -> None:
        """Finish the file. Raises EncoderFailed or OSError if that fails."""

    def abandon(self) -> None:
        """End without a file; never raises."""

    @staticmethod
    def check(path: Path, fps: float, frames: int) -> None:
        """Check that a film can be read and holds so many frames. Raises ValueError if it doesn't."""


class Mp4Encoder:
    """Encodes H.264 in yuv420p, which every browser plays, with the index at the front of the file.

    Raises:
        EncoderFailed: ffmpeg can't be started.
    """

    def __init__(self, path: Path, fps: float, shape: tuple[int, ...]):
        import imageio_ffmpeg

        height, width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process; a pipe could fill up
        try:
            self._process = subprocess.Popen(
                [
                    imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error",
                    "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
                    "-r", str(Fraction(fps).limit_denominator()), "-i", "-",
                    "-an", "-vcodec", "libx264", "-pix_fmt", "yuv420p", "-crf", str(QUALITY),
                    "-f", "mp4", "-movflags", "+faststart",
                    str(path.absolute()),  # else a name with a leading dash would be an option
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                start_new_session=True,  # Ctrl-C is for this process, which finishes the film
            )  # fmt: skip
        except (OSError, RuntimeError) as error:
            self._said.close()
            raise EncoderFailed(f"ffmpeg can't be started: {_last_line(str(error))}") from error

    def add(self, picture: np.ndarray) -> None:
        """Append a frame uint8 [H, W, 3]. Raises EncoderFailed if ffmpeg has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(_pad_to_even(picture)).data)
        except OSError:  # it no longer reads, so it has ended
            self.close()
            raise EncoderFailed("ffmpeg ended before the last frame") from None

    def close(self) -> None:
        """Finish the file. Raises EncoderFailed if ffmpeg failed."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended; its exit code says how
            self._process.stdin.close()
        code = self._process.wait()
        self._said.seek(0)
        said = _reason(self._said.read().decode(errors="replace"))
        self._said.close()
        if code != 0:
            ending = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise EncoderFailed(f"ffmpeg {ending}{f': {said}' if said else ''}")

    def abandon(self) -> None:
        """End ffmpeg; its file is not to be used."""
        self._process.kill()
        self._process.wait()
        self._said.close()

    @staticmethod
    def check(path: Path, fps: float, frames: int) -> None:
        """Decode a film. Raises ValueError if it doesn't hold so many frames."""
        import imageio_ffmpeg

        if not path.stat().st_size:
            raise ValueError("ffmpeg left an empty file")
        try:
            found, _ = imageio_ffmpeg.count_frames_and_secs(str(path.absolute()))
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(f"the film can't be read: {_last_line(str(error))}") from error
        if found != frames:
            raise ValueError(f"the film has {found} of {frames} frames")


class GifEncoder:
    """Encodes a looping GIF with Pillow, which needs all frames at the end."""

    def __init__(self, path: Path, fps: float, shape: tuple[int, ...]):
        self._path = path
        self._milliseconds = _milliseconds(fps)
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

    def abandon(self) -> None:
        self._pictures.clear()

    @staticmethod
    def check(path: Path, fps: float, frames: int) -> None:
        """Read a GIF. Raises ValueError if it doesn't last as long as so many frames; equal ones may be merged."""
        from PIL import Image, ImageSequence

        try:
            with Image.open(path, formats=["GIF"]) as film:
                lasts = sum(frame.info.get("duration", 0) for frame in ImageSequence.Iterator(film))
        except (OSError, EOFError, SyntaxError) as error:
            raise ValueError(f"the film can't be read: {_last_line(str(error))}") from error
        if lasts != frames * _milliseconds(fps):
            raise ValueError(f"the film lasts {lasts} ms instead of {frames * _milliseconds(fps)}")


ENCODERS: dict[str, type[Mp4Encoder] | type[GifEncoder]] = {".mp4": Mp4Encoder, ".gif": GifEncoder}
"""By the suffix of the film's name."""


def encoder_of(path: Path) -> type[Mp4Encoder] | type[GifEncoder]:
    """Return the encoder of a film, by its suffix."""
    return ENCODERS[path.suffix.lower()]


def _milliseconds(fps: float) -> int:
    """Return how long a GIF shows each frame, a multiple of 10 ms."""
    return max(GIF_MIN_MILLISECONDS, round(100 / fps) * 10)


def _pad_to_even(picture: np.ndarray) -> np.ndarray:
    """Repeat the last row and column of a picture [H, W, 3] if needed, since yuv420p halves both sides."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _reason(text: str) -> str:
    """Return why ffmpeg failed, in a line: that the disk is full if it says so anywhere, else its last line."""
    full = os.strerror(errno.ENOSPC)
    return full if full in text else _last_line(text)


def _last_line(text: str) -> str:
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
