"""The way of a step as a table, traced when the pages are built."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "way_of_a_step.py"


def way_table() -> str:
    """Return a Markdown table of the files that an update of vanilla DQN enters, in order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "way.json"
        subprocess.run([sys.executable, str(SCRIPT), "--json", str(path)], check=True, capture_output=True)
        rows = json.loads(path.read_text())
    lines = ["| file | lines | what an update calls in it |", "|---|---:|---|"]
    for row in rows:
        calls = ", ".join(f"`{name}`" for name in row["functions"])
        lines.append(f"| `{row['file']}` | {row['lines']} | {calls} |")
    total = sum(row["lines"] for row in rows)
    return "\n".join([*lines, f"| {len(rows)} files | {total} | |"])
