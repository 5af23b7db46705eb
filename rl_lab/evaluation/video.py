"""Shows frames to people, in video files or in a window.

A sink takes frames one by one and is a context manager; `VideoWriter` and `LiveWindow` are sinks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from PIL import Image

from rl_lab.environments.pictures import as_rgb
from rl_lab.evaluation.encoders import ENCODERS, Encoder, EncoderFailed, encoder_of
from rl_lab.storage.errors import NotWritten
from rl_lab.storage.files import reason_of, replacing
from rl_lab.storage.places import require_file
from rl_lab.types import UsageError

MIN_SIDE_PIXELS = 200  # smaller pictures are enlarged


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
        UsageError, NotWritten: see `VideoWriter`.
        ValueError: there are no frames.
    """
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.add(frame)
    if writer.frames == 0:
        raise ValueError(f"{path}: there were no frames to write")


class VideoWriter(Sink):
    """Writes frames to a file, which appears complete when the writer is closed, even after an exception.

    A film that can't be finished, or that doesn't hold what was sent, never appears; one that was there stays.

    Raises:
        UsageError: the suffix or `fps` isn't allowed, or nothing can be written at this place.
        NotWritten: (from `add` and `close`) the encoder failed, or the file system refused.
    """

    def __init__(self, path: str | Path, fps: float):
        self.path = require_film(path)
        self.frames = 0
        if not fps > 0:
            raise UsageError(f"fps {fps}: must be above 0")
        self._fps = fps
        self._shape: tuple[int, ...] = ()
        self._encoder: Encoder | None = None  # made at the first frame, whose size it needs
        # Holds the temporary, and gives it its name when it is closed without an error.
        self._place = ExitStack()

    def add(self, frame: np.ndarray) -> bool:
        """Append one frame uint8 [H, W, 3], or grey [H, W]; return True. All are fitted into the first one's size.

        Raises:
            ValueError: it isn't such a frame.
            NotWritten: the encoder failed, or the file system refused.
        """
        picture = enlarge(as_rgb(frame))
        picture = fitted(picture, self._shape or picture.shape)
        with self._giving_up():
            if self._encoder is None:
                self._encoder = self._start(picture)
            self._encoder.add(picture)
        self.frames += 1
        return True

    def _start(self, picture: np.ndarray) -> Encoder:
        if self._shape:
            raise EncoderFailed("it was given up before")
        self._shape = picture.shape
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._place.enter_context(replacing(self.path, self._check))
        return encoder_of(self.path)(temporary, self._fps, picture.shape)

    def _check(self, temporary: Path) -> None:
        encoder_of(self.path).check(temporary, self._fps, self.frames)

    def close(self) -> None:
        """Finish the file and give it its name; without any frames there is no file.

        Raises:
            NotWritten: the encoder failed, the file doesn't hold all frames, or the file system refused.
        """
        if self._encoder is None:
            return
        with self._giving_up():
            self._encoder.close()
            self._place.close()
        self._encoder = None

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        """Remove the temporary and end the encoder if a block fails; what it means for the file is NotWritten."""
        try:
            yield
        except Exception as error:
            encoder, self._encoder = self._encoder, None
            if encoder is not None:
                encoder.abandon()
            self._place.__exit__(type(error), error, error.__traceback__)
            if isinstance(error, EncoderFailed | OSError):
                reason = reason_of(error) if isinstance(error, OSError) else str(error)
                raise NotWritten(f"{self.path} could not be written: {reason}") from error
            raise


def require_film(path: str | Path, name: str = "video") -> Path:
    """Return the path of a film, if it has a suffix that is known, and files can be written there.

    Args:
        name: of the option or argument, for the message.

    Raises:
        UsageError: it hasn't, or they can't.
    """
    if Path(path).suffix.lower() not in ENCODERS:
        raise UsageError(f"{name} {str(path)!r}: a video must end in {' or '.join(ENCODERS)}")
    return require_file(path, name)


# ---------------------------------------------------------------- pictures


def enlarge(picture: np.ndarray) -> np.ndarray:
    """Enlarge a picture [H, W, 3] by a whole factor so that its longer side has at least MIN_SIDE_PIXELS."""
    factor = math.ceil(MIN_SIDE_PIXELS / max(picture.shape[:2]))
    return picture if factor == 1 else picture.repeat(factor, axis=0).repeat(factor, axis=1)


def fitted(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a picture [H, W, 3] in the middle of a black one of a shape, shrunk if it is larger."""
    if picture.shape == shape:
        return picture
    scale = min(1.0, shape[0] / picture.shape[0], shape[1] / picture.shape[1])
    height, width = (max(1, int(side * scale)) for side in picture.shape[:2])
    if scale < 1.0:
        picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))
    out = np.zeros(shape, np.uint8)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    out[top : top + height, left : left + width] = picture
    return out


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
