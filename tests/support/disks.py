"""Disks that are really full: the kernel refuses what is written, not a stub."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = "(No space left on device|File too large)"
"""How the kernel says it, on a full file system or beyond the limit on file sizes."""
PAGE = 4096  # bytes that a tmpfs gives out at a time


class SmallDisk:
    """A file system of a megabyte; without the right to mount one, a limit on the size of every file."""

    def __init__(self, folder: Path, mounted: bool):
        self.folder, self.mounted = folder, mounted
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, leave: int = 0) -> None:
        """Take all room but `leave` bytes; on a limit, let files grow to so many bytes and no more."""
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (leave, self._limits[1]))
            return
        with (self.folder / "filler").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(PAGE))
            except OSError:
                file.truncate(max(0, file.tell() // PAGE * PAGE - leave))

    def free(self) -> None:
        """Give all room back."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)
        if (self.folder / "filler").exists():
            (self.folder / "filler").unlink()

    def names(self) -> set[str]:
        """Return the names of all that lies in the folder, what fills it aside."""
        return {path.name for path in self.folder.iterdir()} - {"filler"}


@contextmanager
def small_disk_at(folder: Path, options: str = "size=1m") -> Iterator[SmallDisk]:
    """Mount a tmpfs at a folder and unmount it in the end."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    disk = SmallDisk(folder, mounted)
    try:
        yield disk
    finally:
        disk.free()
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)
