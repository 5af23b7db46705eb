"""Whether a run is mirrored and how: what is asked for, the variables, a key; and what the mirror gets to know."""

from __future__ import annotations

import pytest

from rl_lab.runs import tracking
from rl_lab.runs.tracking import Mirror, start_mirror
from rl_lab.types import UsageError

CANARY = "canary0123456789canary0123456789canary01"  # as long as an API key


@pytest.fixture
def no_key(monkeypatch, tmp_path):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


def test_the_default_is_offline_without_a_key_and_online_with_one(no_key, monkeypatch):
    assert resolve_mode(None) == "offline"
    no_key.write_text("machine example.org login a password b\n")
    assert resolve_mode(None) == "offline"
    no_key.write_text("machine api.wandb.ai login user password b\n")
    assert resolve_mode(None) == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.com")
    assert resolve_mode(None) == "offline"  # the key is for another host
    monkeypatch.setenv("WANDB_API_KEY", CANARY)
    assert resolve_mode(None) == "online"


@pytest.mark.parametrize("name", [".netrc", "_netrc"])
def test_without_a_variable_the_key_is_looked_for_at_home(no_key, monkeypatch, tmp_path, name):
    monkeypatch.delenv("NETRC")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_mode(None) == "offline"
    (tmp_path / name).write_text("machine api.wandb.ai login user password b\n")
    assert resolve_mode(None) == "online"


def test_a_broken_netrc_is_no_key(no_key):
    no_key.write_bytes(b"machine \xff\xfe nonsense {")
    assert resolve_mode(None) == "offline"


def test_what_is_asked_for_wins_over_wandb_mode(no_key, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve_mode(None) == "disabled"
    assert resolve_mode("offline") == "offline"


def test_an_unknown_mode_names_what_is_allowed(no_key, monkeypatch):
    with pytest.raises(UsageError, match="--wandb sometimes: allowed are offline, online, disabled"):
        resolve_mode("sometimes")
    monkeypatch.setenv("WANDB_MODE", "dry")
    with pytest.raises(UsageError, match="WANDB_MODE=dry"):
        resolve_mode(None)


def test_disabled_starts_nothing(tmp_path):
    mirror = start_mirror(tmp_path / "run", "disabled")
    assert not isinstance(mirror, Mirror)
    mirror.close()
    assert list(tmp_path.iterdir()) == []


def test_only_wandbs_own_secrets_pass_and_only_online(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", CANARY)
    monkeypatch.setenv("WANDB_BASE_URL", f"https://user:{CANARY}@wandb.example.com/x")
    monkeypatch.setenv("MY_SECRET", CANARY)
    offline = tracking.mirror_environment(tmp_path, "offline")
    assert CANARY not in "".join(offline.values())
    online = tracking.mirror_environment(tmp_path, "online")
    assert [name for name, value in online.items() if CANARY in value] == ["WANDB_API_KEY"]
    assert online["WANDB_BASE_URL"] == "https://wandb.example.com/x"
