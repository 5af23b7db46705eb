"""The shape of a checkpoint's manifest: a hash that fits doesn't say that the lab wrote it."""

from __future__ import annotations

from typing import Any

MOST = 2**62  # of counts: beyond any run, and within 64 bits


def require_manifest(body: Any) -> None:
    """Check that a manifest has every part that readers rely on, each of its type; more parts are allowed.

    Raises:
        ValueError: it hasn't; the message says which.
    """
    _require(_is_dict(body), "the manifest")
    _require(_is_count(body.get("env_steps")), "env_steps")
    _require(_is_dict(body.get("info")), "info")
    score = body["info"].get("score")
    _require(score is None or (isinstance(score, int | float) and not isinstance(score, bool)), "info score")
    _require(_is_dict(body.get("members")), "members")
    for name, member in body["members"].items():
        _require_member(f"member {name!r}", member)


def _require_member(name: str, member: Any) -> None:
    _require(_is_dict(member), name)
    _require(_is_segment(member.get("structure")), f"{name} structure")
    _require(
        "tensors" in member and (not member["tensors"] or _is_segment(member["tensors"])), f"{name} tensors"
    )
    _require(_is_dict(member.get("rings")), f"{name} rings")
    for path, ring in member["rings"].items():
        _require_ring(f"{name} ring {path!r}", ring)


def _require_ring(name: str, ring: Any) -> None:
    _require(_is_dict(ring) and isinstance(ring.get("segments"), list), name)
    _require(
        _is_count(ring.get("written")) and _is_count(ring.get("capacity")), f"{name} written and capacity"
    )
    for segment in ring["segments"]:
        ends = _is_segment(segment) and _is_count(segment.get("start")) and _is_count(segment.get("stop"))
        _require(ends, f"{name} segment")


def _is_segment(value: Any) -> bool:
    return _is_dict(value) and all(isinstance(value.get(key), str) for key in ("file", "sha256"))


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{what} is missing or of the wrong type")
