"""The table of what was exported: printed, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rl_lab.evaluation.statistics import Estimate
from rl_lab.exporting.measure import Measured

HEADS = ("policy", "file", "bytes", "zipped", "µs/action", "return", "change", "change %")


def cells(row: Measured) -> list[str]:
    """Return the cells of a row; numbers with their 95 % intervals."""
    percent = row.change_percent
    return [
        row.name,
        row.file or "-",
        "-" if row.bytes is None else f"{row.bytes:,}",
        "-" if row.compressed_bytes is None else f"{row.compressed_bytes:,}",
        f"{row.microseconds:,.1f}",
        _estimate(row.mean_return),
        "-" if row.change is None else _estimate(row.change),
        "-" if percent is None else f"{percent:+.1f}",
    ]


def printed(rows: Sequence[Measured]) -> str:
    """Return the table for a terminal, in columns."""
    lines = [list(HEADS), *map(cells, rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(HEADS))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def markdown(rows: Sequence[Measured], episodes: int) -> str:
    """Return the table as Markdown, with what its columns mean."""
    lines = [list(HEADS), ["---"] * len(HEADS), *map(cells, rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    notes = "".join(f"- {row.name}: {row.note}\n" for row in rows if row.note)
    return f"{table}\n\n{legend(episodes)}\n" + (f"\n{notes}" if notes else "")


def legend(episodes: int) -> str:
    """Return what the columns mean."""
    return (
        f"Returns are means over {episodes} seeded episodes, the same for all rows, with 95 % intervals in brackets;"
        " changes are from the lab's own policy, episode by episode. Times are medians for one observation, measured in"
        " turn. Zipped is the size after compression."
    )


def as_json(rows: Sequence[Measured], facts: dict[str, Any]) -> bytes:
    """Return the table as JSON, beside other facts."""
    body = facts | {"rows": [_row(row) for row in rows]}
    return (json.dumps(body, indent=1, allow_nan=False) + "\n").encode()


def _row(row: Measured) -> dict[str, Any]:
    return {
        "policy": row.name,
        "file": row.file,
        "bytes": row.bytes,
        "compressed_bytes": row.compressed_bytes,
        "microseconds_per_action": row.microseconds,
        "returns": row.returns.tolist(),
        "return": _numbers(row.mean_return),
        "change": None if row.change is None else _numbers(row.change),
        "change_percent": row.change_percent,
        "note": row.note,
    }


def _numbers(estimate: Estimate) -> dict[str, float | None]:
    return {name: None if x != x else float(x) for name, x in estimate._asdict().items()}


def _estimate(estimate: Estimate) -> str:
    if estimate.low != estimate.low:  # a single episode has no interval
        return f"{estimate.value:.4g}"
    return f"{estimate.value:.4g} [{estimate.low:.4g}, {estimate.high:.4g}]"
