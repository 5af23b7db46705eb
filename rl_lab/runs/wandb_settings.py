"""Whether a run goes to W&B, and under which names: what is asked for, W&B's variables, its settings files, a key.

W&B itself is not imported; its files are read as it reads them.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rl_lab.runs.scrubbing import read_netrc, without_login
from rl_lab.types import UsageError

MODES = ("offline", "online", "disabled")
OF_WANDB = {"dryrun": "offline", "run": "online", "shared": "online"} | {mode: mode for mode in MODES}
ASKED_FOR = "--wandb"  # the source of a mode that was asked for
PROJECT, SERVER = "rl_lab", "https://api.wandb.ai"
NO = ("", "0", "false", "no", "off", "n", "f")  # what WANDB_DISABLED may say to mean nothing
# W&B's own variables, which are the defaults of the fields.
VARIABLES = {
    "wandb_project": "WANDB_PROJECT",
    "wandb_entity": "WANDB_ENTITY",
    "wandb_name": "WANDB_NAME",
    "wandb_tags": "WANDB_TAGS",
    "wandb_notes": "WANDB_NOTES",
    "wandb_job_type": "WANDB_JOB_TYPE",
    "group": "WANDB_RUN_GROUP",
}


@dataclass(frozen=True)
class ResolvedMode:
    """What happens with W&B, and what decided it."""

    mode: str  # one of MODES
    source: str  # "--wandb", a variable, a settings file, "an API key" or "no API key"


def resolve_mode(requested: str | None) -> ResolvedMode:
    """Return what is to happen with W&B. Never prompts.

    The first of these that says something decides: what was asked for, WANDB_MODE, WANDB_DISABLED, the settings
    file of the working folder, that of the user (`wandb offline`, `wandb disabled` and `wandb online` write the
    former). Else the run is online if there is an API key, and offline without one.

    Raises:
        UsageError: an unknown mode was asked for, or stands in WANDB_MODE.
    """
    if requested:
        return ResolvedMode(_known(requested, f"{ASKED_FOR} "), ASKED_FOR)
    if named := os.environ.get("WANDB_MODE", "").strip():
        return ResolvedMode(_known(named.lower(), "WANDB_MODE="), f"WANDB_MODE={named}")
    if (disabled := os.environ.get("WANDB_DISABLED", "").strip()).lower() not in NO:
        return ResolvedMode("disabled", f"WANDB_DISABLED={disabled}")
    for path in settings_paths():
        if (found := _mode_in(path)) is not None:
            return found
    return ResolvedMode("online", "an API key") if has_api_key() else ResolvedMode("offline", "no API key")


def _known(mode: str, source: str) -> str:
    allowed = MODES if source.startswith(ASKED_FOR) else tuple(OF_WANDB)
    if mode not in allowed:
        raise UsageError(f"{source}{mode}: allowed are {', '.join(allowed)}")
    return OF_WANDB[mode]


def _mode_in(path: Path) -> ResolvedMode | None:
    """Return the mode that a settings file sets; None if it sets none. A file that can't be understood is offline."""
    try:
        mode = _read_settings(path).get("mode")
    except (OSError, ValueError, configparser.Error):
        return ResolvedMode("offline", f"{path}, which can't be read")
    if mode is None:
        return None
    known = OF_WANDB.get(mode.strip().lower())
    return (
        ResolvedMode(known, str(path)) if known else ResolvedMode("offline", f"{path}: unknown mode {mode}")
    )


def settings_paths() -> Iterator[Path]:
    """Yield the settings files that W&B reads, those that take precedence first; they may not exist."""
    for folder in dict.fromkeys(filter(None, (os.environ.get("WANDB_DIR"), os.getcwd()))):
        root = Path(folder).expanduser()
        yield root / (".wandb" if (root / ".wandb").exists() else "wandb") / "settings"
    config = os.environ.get("WANDB_CONFIG_DIR") or os.path.join("~", ".config", "wandb")
    yield Path(config).expanduser() / "settings"


def _read_settings(path: Path) -> dict[str, str]:
    """Return the settings of a file; {} if there is none."""
    parser = configparser.ConfigParser()
    try:
        text = path.read_text(encoding="utf8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    parser.read_string(text, str(path))
    return dict(parser.items("default")) if parser.has_section("default") else {}


def setting(name: str) -> str | None:
    """Return what the settings files say; None if none does, or none that says it can be read."""
    for path in settings_paths():
        try:
            found = _read_settings(path).get(name)
        except (OSError, ValueError, configparser.Error):
            continue
        if found is not None:
            return found
    return None


def has_api_key() -> bool:
    """Say whether W&B would find an API key, or an identity token, without asking for one."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    if setting("api_key"):
        return True
    found = read_netrc(os.environ)
    host = urlsplit(without_login(server())).netloc
    return found is not None and found.authenticators(host) is not None


def server() -> str:
    """Return the address of the W&B server."""
    return os.environ.get("WANDB_BASE_URL") or setting("base_url") or SERVER


def named_fields(config: Any) -> dict[str, Any]:
    """Return the fields by which W&B knows a run, with W&B's variables and settings where nothing was given.

    Args:
        config: the run's fields, as they were asked for.
    """
    fields: dict[str, Any] = {field: getattr(config, field) or _default(field) for field in VARIABLES}
    return fields | {"wandb_project": fields["wandb_project"] or PROJECT}


def _default(field: str) -> Any:
    value = os.environ.get(VARIABLES[field])
    if not value and field in ("wandb_project", "wandb_entity"):
        value = setting(field.removeprefix("wandb_"))
    if field == "wandb_tags":
        return tuple(tag.strip() for tag in (value or "").split(",") if tag.strip())
    return value or None


def requested_again(stored: Mapping[str, Any]) -> str | None:
    """Return what a run that goes on was asked for, so that W&B's settings of today decide where nothing was.

    Args:
        stored: config.json. If an older version wrote it, without `wandb_source`, its mode counts as asked for, unless
            it is "online".
    """
    mode, source = stored.get("wandb"), stored.get("wandb_source")
    asked = mode != "online" if source is None else source == ASKED_FOR
    return mode if asked else None
