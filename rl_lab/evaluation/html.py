"""Parts of what a notebook shows: text, pictures and videos as HTML that needs no other file."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from urllib.parse import quote

EMBEDDED_BYTES = 4 * 2**20  # larger videos are linked, so that the notebook can still be opened


def text(line: str) -> str:
    """Return a line of text, whatever it holds, as a paragraph."""
    return f"<p>{escape(line)}</p>"


def picture(png: bytes, name: str) -> str:
    """Return a PNG as an image; `name` stands for it where pictures aren't shown."""
    return f'<p><img alt="{escape(name)}" src="{_data(png, "image/png")}"></p>'


def video(path: Path) -> str:
    """Return an MP4 as a video to play, or as a link to the file if it has more than EMBEDDED_BYTES."""
    size = path.stat().st_size
    if size > EMBEDDED_BYTES:
        link = f'<a href="{escape(quote(path.as_posix()))}">{escape(str(path))}</a>'
        return f"<p>film ({size / 2**20:.1f} MiB, too large to embed): {link}</p>"
    source = _data(path.read_bytes(), "video/mp4")
    return f'<p><video controls loop muted width="400" src="{source}"></video></p>'


def _data(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
