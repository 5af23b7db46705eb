"""The process that sends a study to W&B: `python -m rl_lab.studies.wandb_page OUT MODE`.

It makes one W&B run of the study: its tables, the verdicts in its summary, and the page with all files beside it as an
artifact. A page that was sent before isn't sent again.
"""

from __future__ import annotations

import csv
import hashlib
import json
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rl_lab.runs.scrubbing import scrub, without_secrets
from rl_lab.runs.tracking import MISHAP
from rl_lab.runs.wandb_mirror import check_written, private_settings
from rl_lab.runs.wandb_settings import PROJECT
from rl_lab.storage.files import write_atomically
from rl_lab.studies.page.formats import slug
from rl_lab.studies.publishing import published_config
from rl_lab.studies.report import FIGURES, PAGE, TABLES
from rl_lab.studies.results import StudyResults, load_study, read_object

SENT = "page.json"  # in OUT/wandb: what was sent, and as which run
JOB = "comparison"
TABLED = ("results", "pairs", "aggregates")  # the tables that W&B shows


def send(study_dir: Path, mode: str) -> None:
    """Make a W&B run of a study, unless it was made of the same files in the same mode.

    Raises:
        OSError: W&B lost rows, as it does on a full disk.
    """
    import wandb

    study, record = load_study(study_dir), study_dir / "wandb" / SENT
    config = published_config(study)
    files = dict(files_of(study_dir))
    before, now = read_object(record) or {}, {"sha256": _sha256(files), "mode": mode}
    if config is None or now.items() <= before.items():
        return
    run_id = str(before.get("run_id") or f"{secrets.token_hex(4)}-page")
    run = _open(study, config, mode, run_id)
    for name in TABLED:
        columns, rows = _table(files[f"{TABLES}/{name}.csv"])
        run.log({f"{JOB}/{name}": wandb.Table(columns=columns, data=rows)})
    run.summary.update({"state": "finished", **_verdicts(files[f"{TABLES}/numbers.json"])})
    artifact = wandb.Artifact(f"page-{slug(study.directory.absolute().name)}", type="page")
    for name, path in files.items():
        artifact.add_file(str(path), name=name)
    run.log_artifact(artifact)
    run.finish()
    check_written(Path(run.dir).parent)
    write_atomically(record, json.dumps(now | {"run_id": run_id}).encode())


def files_of(study_dir: Path) -> Iterator[tuple[str, Path]]:
    """Yield the page and the files beside it, with their paths in the study's folder."""
    yield PAGE, study_dir / PAGE
    for folder in (FIGURES, TABLES):
        for path in sorted((study_dir / folder).glob("*.*")):
            yield f"{folder}/{path.name}", path


def _sha256(files: dict[str, Path]) -> str:
    found = hashlib.sha256()
    for name, path in files.items():
        found.update(name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def _open(study: StudyResults, config: dict[str, Any], mode: str, run_id: str) -> Any:
    import wandb

    name = study.directory.absolute().name
    described = {
        "env_ids": list(study.env_ids),
        "agents": list(study.agents),
        "seeds": list(study.seeds),
        "total_steps": study.total_steps,
    }
    return wandb.init(
        mode=mode,  # type: ignore[arg-type]
        dir=str(study.directory.absolute()),
        project=config.get("wandb_project") or PROJECT,
        entity=config.get("wandb_entity"),
        id=run_id,
        resume="allow" if mode == "online" else None,
        name=name,
        group=_group(study) or name,
        job_type=JOB,
        tags=config.get("wandb_tags"),
        notes=config.get("wandb_notes"),
        config=without_secrets(described),
        settings=private_settings(system=False),
    )


def _group(study: StudyResults) -> str | None:
    """Return the group of the study's runs; None if they are in several, one for each environment."""
    runs = [run for env_id in study.env_ids for run in study.of_env(env_id) if run.config]
    groups = {run.config.get("group") for run in runs}
    return groups.pop() if len(groups) == 1 else None


def _table(path: Path) -> tuple[list[Any], list[list[Any]]]:
    """Return the columns and the rows of a CSV file, numbers as numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        columns, *rows = list(csv.reader(file)) or [[]]
    return list(columns), [[_value(text) for text in row] for row in rows]


def _value(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text


def _verdicts(numbers: Path) -> dict[str, str]:
    verdicts = json.loads(numbers.read_bytes())["study"]["verdicts"]
    return {f"verdict/{verdict['of']}": verdict["text"] for verdict in verdicts}


if __name__ == "__main__":
    try:
        send(Path(sys.argv[1]), sys.argv[2])
    except Exception as error:
        print(f"{MISHAP}{scrub(f'{type(error).__name__}: {error}'[:300])}".replace("\n", " "), flush=True)
        sys.exit(1)
