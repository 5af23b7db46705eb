"""Log files that don't grow without bound."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

LOG_BYTES = 1_000_000  # of a log file; the one before it, of the same size, is kept as .1


class _Handler(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Lose the line: a full disk must not end the study."""


class LogFile:
    """Appends lines to a file, of which at least the last LOG_BYTES are kept and at most twice as many.

    Bytes that aren't UTF-8 become U+FFFD. What can't be written is lost.
    """

    def __init__(self, path: Path):
        self._handler = _Handler(path, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", delay=True)

    def write(self, line: bytes) -> None:
        """Append a line, given with or without its end; may be called from several threads."""
        text = line.decode("utf-8", errors="replace").removesuffix("\n")
        self._handler.handle(logging.makeLogRecord({"msg": text}))

    def close(self) -> None:
        """Close the file."""
        self._handler.close()
