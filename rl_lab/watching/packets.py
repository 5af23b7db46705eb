"""One view as one binary message, so that a picture never stands beside another step's numbers.

    4 bytes   the length of the JSON, big-endian
    JSON      {"type": "view", ..., "lanes": [{..., "picture": {"kind", "bytes", "width", "height"}, "rows", "from"}]}
    pictures  one after the other, in the order of the lanes

`rows` are those of the episode that this client hasn't been sent yet, [reward, value, return so far] for each moment;
`from` is the number of the first.
"""

from __future__ import annotations

import json
import math
from typing import Any

from rl_lab.watching.session import View

ROWS = 2_000  # of an episode at most, the newest, to somebody who has none


class Packer:
    """Makes the messages for one client, and remembers what it has been sent."""

    def __init__(self) -> None:
        self._episode = 0
        self._sent: list[int] = []

    def pack(self, view: View) -> bytes:
        """Return the message for a view."""
        if view.episode_id != self._episode:
            self._episode, self._sent = view.episode_id, [0] * len(view.lanes)
        lanes, pictures = [], []
        for i, shown in enumerate(view.lanes):
            start = max(min(self._sent[i], shown.count), shown.count - ROWS)
            rows = shown.rows[start : shown.count]
            self._sent[i] = shown.count
            picture = shown.scene.picture
            told = {
                "kind": picture.kind,
                "bytes": len(picture.data),
                "width": picture.width,
                "height": picture.height,
            }
            lanes.append({**shown.figures, "picture": told, "rows": rows, "from": start})
            pictures.append(picture.data)
        head = {"type": "view", "episode_id": view.episode_id, **view.figures, "lanes": lanes}
        body = plain_json(head).encode()
        return b"".join([len(body).to_bytes(4, "big"), body, *pictures])


def plain_json(tree: Any) -> str:
    """Return JSON that every browser reads: what isn't finite, as the value of an illegal action, is null."""
    try:
        return json.dumps(tree, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_finite(tree), allow_nan=False, separators=(",", ":"))


def _finite(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _finite(part) for key, part in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(part) for part in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree
