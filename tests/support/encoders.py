"""Stand-ins for ffmpeg that fail in the ways in which encoders do; for IMAGEIO_FFMPEG_EXE."""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg

ENCODES = 'case "$*" in *"-i - "*) ;; *) exec {real} "$@" ;; esac\n'  # what only reads a film is left to the real one
LAST = "for last; do :; done\n"  # the film
KINDS = {
    "fails at once": 'echo "some context" >&2\necho "codec is broken" >&2\nexit 1\n',
    "fails in the end": 'cat > /dev/null\necho "codec is broken" >&2\nexit 1\n',
    "leaves half a film": LAST + '{real} "$@"\ntruncate -s $(($(stat -c %s "$last") / 2)) "$last"\n',
    "leaves an empty film": LAST + 'cat > /dev/null\n: > "$last"\n',
    "loses a frame": LAST + '{real} "${{@:1:$#-1}}" -frames:v 2 "$last" && cat > /dev/null\n',
    "writes no film": "cat > /dev/null\n",
    "leaves a text": LAST + 'cat > /dev/null\necho "no film" > "$last"\n',
    "is killed": "kill -9 $$\n",
}
REASONS = {
    "fails at once": "ffmpeg ended with exit code 1: codec is broken",
    "fails in the end": "ffmpeg ended with exit code 1: codec is broken",
    "leaves half a film": "(the film can't be read|the film has [0-9]+ of [0-9]+ frames)",
    "leaves an empty film": "ffmpeg left an empty file",
    "loses a frame": "the film has 2 of [0-9]+ frames",
    "writes no film": "No such file or directory",
    "leaves a text": "the film can't be read",
    "is killed": "ffmpeg was killed by signal 9",
    "is missing": "ffmpeg can't be started: .*No such file or directory",
}
"""What is said of each, as a pattern."""


def failing_encoder(folder: Path, kind: str) -> str:
    """Write a stand-in that fails in this way; return the path of its program."""
    program = folder / "ffmpeg"
    if kind != "is missing":
        real = imageio_ffmpeg.get_ffmpeg_exe()
        program.write_text("#!/bin/bash\n" + (ENCODES + KINDS[kind]).format(real=real))
        program.chmod(0o755)
    return str(program)
