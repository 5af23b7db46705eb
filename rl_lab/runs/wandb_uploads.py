"""What a W&B run gets beside rows, where it is asked for: videos, pictures, the model, and code."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rl_lab.runs.scrubbing import holds_secret
from rl_lab.runs.wandb_keys import AXIS

MOST_CODE_BYTES = 1_000_000  # of a Python file; larger ones are data
PASSED_OVER = ("site-packages", "node_modules", "__pycache__", "wandb", "runs", "venv", "env")  # folders


OF_A_STEP = re.compile(r"step-(\d+)\.mp4")  # a film of the policy that learning had reached there
PROGRESS = "videos/progress"  # the key of these films, so that W&B shows them one after the other


def upload_videos(run: Any, run_dir: Path, env_steps: float, done: list[str]) -> None:
    """Log the videos of a run directory; `done` names those that were, and is added to.

    Films of a step are logged at that step, under one key; others at `env_steps`, each under its own name.
    """
    upload_films(run, run_dir, done)
    _upload_videos(run, run_dir, "*.mp4", lambda path: (f"videos/{path.stem}", env_steps), done)


def upload_films(run: Any, run_dir: Path, done: list[str]) -> None:
    """Log the films of the steps that learning has passed; they appear in their folder complete."""
    _upload_videos(run, run_dir, "step-*.mp4", lambda path: (PROGRESS, step_of(path)), done)


def step_of(path: Path) -> int:
    """Return the environment step of a film."""
    found = OF_A_STEP.fullmatch(path.name)
    return int(found[1]) if found else 0


def _upload_videos(
    run: Any, run_dir: Path, pattern: str, entry: Callable[[Path], tuple[str, float]], done: list[str]
) -> None:
    import wandb

    for path in sorted((run_dir / "videos").glob(pattern)):
        if path.name not in done:
            key, at = entry(path)
            run.log({key: wandb.Video(str(path), format="mp4"), AXIS: at})
            done.append(path.name)


def upload_pictures(run: Any, run_dir: Path, env_steps: float) -> None:
    """Log the pictures of a run directory."""
    import wandb

    for path in sorted((run_dir / "pictures").glob("*.png")):
        run.log({f"pictures/{path.stem}": wandb.Image(str(path)), AXIS: env_steps})


def upload_model(run: Any, run_dir: Path, run_id: str) -> None:
    """Log an artifact of the last weights, from which `rl_lab.load_policy` makes a policy once it is downloaded."""
    import wandb

    if not (files := list(model_files(run_dir))):
        return
    artifact = wandb.Artifact(f"model-{run_id}", type="model")
    for path in files:
        artifact.add_file(str(path), name=path.relative_to(run_dir).as_posix())
    run.log_artifact(artifact, aliases=["final"])


def model_files(run_dir: Path) -> Iterator[Path]:
    """Yield config.json, the newest manifest, and the segments of its weights: no replay, no optimiser."""
    checkpoints = run_dir / "checkpoints"
    manifests = sorted(checkpoints.glob("*.json"), key=lambda p: (p.name.split("-")[0], p.stat().st_mtime_ns))
    if not manifests:
        return
    yield from (run_dir / "config.json", manifests[-1])
    members = json.loads(manifests[-1].read_bytes())["members"]
    read = [members[name] for name in ("weights", "selected") if name in members]  # by `load_policy`
    stored = [
        segment
        for weights in read
        for segment in (
            weights["structure"],
            weights["tensors"],
            *(s for r in weights["rings"].values() for s in r["segments"]),
        )
    ]
    yield from (checkpoints / "segments" / segment["file"] for segment in stored if segment)


def upload_code(run: Any, folder: Path, run_id: str) -> None:
    """Log an artifact of the Python files beneath the working folder of training."""
    import wandb

    if not (files := list(code_files(folder))):
        return
    artifact = wandb.Artifact(f"code-{run_id}", type="code")
    for path in files:
        artifact.add_file(str(path), name=path.relative_to(folder).as_posix())
    run.log_artifact(artifact)


def code_files(folder: Path) -> Iterator[Path]:
    """Yield the Python files beneath a folder, without packages, run directories, and files that hold a secret."""
    for place, folders, names in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(name for name in folders if not _is_passed_over(here / name))
        for path in (here / name for name in sorted(names) if name.endswith(".py")):
            if path.stat().st_size > MOST_CODE_BYTES or holds_secret(path.read_text(errors="replace")):
                print(f"code: {path} is left out, as too large or since it may hold a secret")
            else:
                yield path


def _is_passed_over(folder: Path) -> bool:
    is_run = (folder / "config.json").exists() and (folder / "metrics.jsonl").exists()
    return folder.name.startswith(".") or folder.name in PASSED_OVER or is_run
