"""Takes secrets out of what is written: config.json, and with it everything that W&B gets to see."""

from __future__ import annotations

import netrc
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from rl_lab.types import UsageError

REMOVED = "[removed]"  # stands where a secret stood
# The variable RL_LAB_ENV_NAME supplies the value of env_kwargs NAME that was removed.
SUPPLIED = "RL_LAB_ENV_"
# The fields of a run that are text which may hold secrets; what decides a run otherwise has to stay as it is.
SCRUBBED = (
    "env_kwargs", "group", "wandb_project", "wandb_entity", "wandb_name", "wandb_job_type", "wandb_tags", "wandb_notes",
)  # fmt: skip
SHORTEST = 8  # characters; shorter values of secret variables may be ordinary words

_SECRET_NAME = re.compile(
    r"(^|_)(token|secret|password|passwd|passphrase|credentials?|auth|api_?key|(access|private|secret)_?key)s?(_|$)",
    re.IGNORECASE,
)
_SECRET_VARIABLE = re.compile(
    r"(^|_)(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL)S?(_|$)", re.IGNORECASE
)
_HASH_NAME = re.compile(r"(^|_)(sha\d*|hash|digest|checksum|commit|revision|version)(_|$)", re.IGNORECASE)
_LOGIN_IN_URL = re.compile(r"(?<=://)[^\s/@]+@")
_KEYS = re.compile(  # of W&B, GitHub, Hugging Face, OpenAI, AWS and Slack
    r"\bwandb_v\d+_\w{20,}|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bhf_\w{20,}|\bsk-[\w-]{20,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bxox[abprs]-[\w-]{10,}"
)
_ASSIGNED = re.compile(  # what follows "Bearer" or "token="
    r"(?<=bearer )\S{8,}|(?<=token=)\S+|(?<=token: )\S+|(?<=password=)\S+|(?<=password: )\S+|(?<=key=)\S{8,}",
    re.IGNORECASE,
)
_AS_LONG_AS_A_KEY = re.compile(r"(?<![0-9A-Za-z])[0-9a-z]{40}(?![0-9A-Za-z])")  # W&B's keys of 40 digits


def scrub(value: Any, name: str = "") -> Any:
    """Return a value, at any depth, without the secrets in its texts.

    What goes: texts under a name such as token or password, logins in URLs, texts that look like a key, and
    the values of secret environment variables and of netrc, wherever they stand.

    Args:
        name: what the value is called; texts of 40 characters stay where it says that they are hashes.
    """
    return _scrub(value, name, tuple(secret_values()))


def _scrub(value: Any, name: str, known: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        return {k: _scrub(v, str(k), known) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_scrub(v, name, known) for v in value)
    if not isinstance(value, str) or not value:
        return value
    if _SECRET_NAME.search(name):
        return REMOVED
    value = _ASSIGNED.sub(REMOVED, _without_keys(value, known))
    return value if _HASH_NAME.search(name) else _AS_LONG_AS_A_KEY.sub(REMOVED, value)


def _without_keys(text: str, known: tuple[str, ...]) -> str:
    for secret in known:
        text = text.replace(secret, REMOVED)
    return _KEYS.sub(REMOVED, _LOGIN_IN_URL.sub(f"{REMOVED}@", text))


def holds_secret(code: str) -> bool:
    """Say whether program code holds a secret; passing on a token by its name is none."""
    return code != _AS_LONG_AS_A_KEY.sub(REMOVED, _without_keys(code, tuple(secret_values())))


def secret_values(environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Yield what must not be written: values of variables with secret names, logins in URLs, netrc's passwords."""
    environment = os.environ if environment is None else environment
    for name, value in environment.items():
        if _SECRET_VARIABLE.search(name) and len(value) >= SHORTEST and not value.startswith(("/", "~", ".")):
            yield value
        elif "://" in value and (password := _password_of(value)) and len(password) >= SHORTEST:
            yield password
    yield from (p for p in _netrc_passwords(environment) if len(p) >= SHORTEST)


def _password_of(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return None


def netrc_path(environment: Mapping[str, str]) -> str:
    """Return the path of the netrc file that W&B reads; it may not exist."""
    home = [os.path.expanduser(path) for path in ("~/.netrc", "~/_netrc")]
    named = environment.get("NETRC")
    return os.path.expanduser(named) if named else next((p for p in home if os.path.exists(p)), home[0])


def read_netrc(environment: Mapping[str, str]) -> netrc.netrc | None:
    """Return the netrc file that W&B reads; None if there is none that can be read."""
    try:
        return netrc.netrc(netrc_path(environment))
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return None


def _netrc_passwords(environment: Mapping[str, str]) -> Iterator[str]:
    found = read_netrc(environment)
    for _, _, password in found.hosts.values() if found else ():
        if password:
            yield password


def without_secrets(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's fields, or the contents of its config.json, as they may be written."""
    written = {name: scrub(value, name) if name in SCRUBBED else value for name, value in fields.items()}
    if isinstance(own := written.get("fields"), Mapping):  # those of the agent
        written["fields"] = {k: scrub(v, k) if isinstance(v, Mapping) else v for k, v in own.items()}
    return written


def supplied(env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return env_kwargs with the values that were removed as secrets, which environment variables supply.

    Items of lists are known by their position: the first of `servers` is `servers_0`.

    Raises:
        UsageError: a variable isn't set.
    """
    return {name: _supplied(name, value) for name, value in env_kwargs.items()}


def _supplied(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _supplied(str(k), v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_supplied(f"{name}_{i}", item) for i, item in enumerate(value))
    if not isinstance(value, str) or REMOVED not in value:
        return value
    variable = SUPPLIED + re.sub(r"\W", "_", name).upper()
    if variable not in os.environ:
        raise UsageError(
            f"env_kwargs {name} {value!r} was not stored, since it looks like a secret"
            f" (allowed: its value in the environment variable {variable})"
        )
    return os.environ[variable]


def without_login(url: str) -> str:
    """Return a URL without `user:password@`."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
