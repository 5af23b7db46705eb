"""The files of a diagnosis: diagnosis.json and pictures beside the run."""

from __future__ import annotations

from pathlib import Path

from rl_lab.diagnosis.report import Diagnosis
from rl_lab.storage.files import write_json

NAME = "diagnosis.json"


def write_diagnosis(diagnosis: Diagnosis, folder: str | Path, *, pictures: bool = True) -> list[Path]:
    """Write a diagnosis into a folder, usually the run directory; return the files.

    Args:
        folder: gets diagnosis.json, and pictures in its folder pictures/.
        pictures: draw too.

    Raises:
        NotWritten: the file system refused; files that were there are as they were.
    """
    folder = Path(folder)
    write_json(folder / NAME, diagnosis.as_dict())
    files = [folder / NAME]
    if pictures:
        from rl_lab.diagnosis.pictures import draw_diagnosis  # brings matplotlib
        from rl_lab.evaluation.pictures import write_picture

        place = folder / "pictures"
        for name, figure in draw_diagnosis(diagnosis).items():
            place.mkdir(exist_ok=True)
            write_picture(place / f"{name}.png", figure)
            files.append(place / f"{name}.png")
    return files
