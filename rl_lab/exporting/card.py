"""The policy card: one HTML page with what a policy was trained on, its scores, its replay and how to run it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rl_lab.exporting.acting import Trained
from rl_lab.exporting.described import problem_text, template
from rl_lab.exporting.measure import Measured
from rl_lab.exporting.table import HEADS, cells, legend
from rl_lab.runs.scrubbing import without_secrets

EMBEDDED_BYTES = 8 * 2**20  # of a film within the page; a larger one stays beside it
TRAINED_ON = (
    "env_id", "env_kwargs", "wrappers", "preprocess", "total_steps", "num_envs", "seed", "dataset", "init_from",
)  # fmt: skip


def card(
    trained: Trained, rows: Sequence[Measured], film: Path | None, replay: str, files: Sequence[Path]
) -> bytes:
    """Return the page.

    Args:
        rows: of the table.
        film: an mp4, which is embedded unless it is too large.
        replay: what the film shows, or why there is none.
        files: what was written, whose hashes are shown.
    """
    description = trained.description
    video = None
    if film is not None and film.stat().st_size <= EMBEDDED_BYTES:
        video = "data:video/mp4;base64," + base64.b64encode(film.read_bytes()).decode("ascii")
    elif film is not None:
        replay = f"{replay} {film.name}, beside this page, is too large to be embedded."
    file = next(path.name for path in files if path.suffix in (".onnx", ".pt"))
    package = "onnxruntime" if file.endswith(".onnx") else "torch"
    config = description.config
    page = template("card.html.jinja", escapes=True).render(
        title=f"{description.agent} on {config.env_id}",
        summary=f"Trained for {config.total_steps:,} environment steps with seed {config.seed}."
        f" Return {cells(rows[0])[5]} over {len(rows[0].returns)} evaluation episodes.",
        heads=HEADS,
        rows=[cells(row) for row in rows],
        legend=legend(len(rows[0].returns)),
        notes=[f"{row.name}: {row.note}" for row in rows if row.note],
        video=video,
        replay=replay,
        how=f"pip install numpy gymnasium {package}\n"
        "python play.py        # the first evaluation episode; play.py SEED another one",
        interface=f"{file} runs without rl_lab. policy.json describes what goes in and what comes out.",
        sections=_sections(trained, files),
    )
    return page.encode()


def _sections(trained: Trained, files: Sequence[Path]) -> list[tuple[str, list[tuple[str, Any]]]]:
    body = without_secrets(trained.description.to_json())
    trained_on = [(name, body[name]) for name in TRAINED_ON if body.get(name) not in (None, {}, [], ())]
    hashes = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    hashes += [
        ("configuration", trained.description.config_sha256),
        ("weights of the run", trained.weights_sha256),
    ]
    if body.get("dataset_sha256"):
        hashes.append(("dataset", body["dataset_sha256"]))
    return [
        ("Trained on", trained_on + list(problem_text(trained.problem).items())),
        ("Hyperparameters", sorted(body["fields"].items())),
        ("SHA-256", hashes),
        ("Versions of the run", sorted(body["versions"].items())),
    ]
