"""What can be wrong with the files of a run; every message is one line."""

from __future__ import annotations

from rl_lab.types import UsageError


class CheckpointError(Exception):
    """Something is wrong with a checkpoint or another file of a run."""


class CheckpointCorrupt(CheckpointError):
    """The bytes on disk are not those that were written."""


class CheckpointMissing(CheckpointError):
    """There is no checkpoint."""


class NotWritten(CheckpointError):
    """A file could not be written (the disk is full, say); what was there before is intact."""


class FormatTooNew(CheckpointError, UsageError):
    """A newer version of the lab wrote this file. Commands exit with 2, as for any wrong argument."""
