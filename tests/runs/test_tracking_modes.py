"""What a mirror gets to know of training's environment, and that a disabled one is none."""

from __future__ import annotations

import pytest

from mirrored import CANARY
from rl_lab.runs import tracking
from rl_lab.runs.tracking import Mirror, start_mirror


def test_disabled_starts_nothing(tmp_path):
    mirror = start_mirror(tmp_path / "run", "disabled")
    assert not isinstance(mirror, Mirror)
    mirror.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "has_key", "started", "warnings"),
    [("online", False, "offline", 1), ("online", True, "online", 0), ("offline", False, "offline", 0)],
)
def test_online_without_a_key_is_warned_of_before_training(
    tmp_path, monkeypatch, caplog, mode, has_key, started, warnings
):
    begun = []
    monkeypatch.setattr(tracking, "has_api_key", lambda: has_key)
    monkeypatch.setattr(tracking, "_start_process", lambda run_dir, mode: begun.append(mode))
    start_mirror(tmp_path, mode)
    assert begun == [started]
    assert len(caplog.records) == warnings
    if warnings:
        assert "No API key was found" in caplog.text
        assert f"rl-lab sync {tmp_path} --rebuild" in caplog.text


def test_only_wandbs_own_secrets_pass_and_only_online(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", CANARY)
    monkeypatch.setenv("WANDB_BASE_URL", f"https://user:{CANARY}@wandb.example.com/x")
    monkeypatch.setenv("MY_SECRET", CANARY)
    offline = tracking.mirror_environment(tmp_path, "offline")
    assert CANARY not in "".join(offline.values())
    online = tracking.mirror_environment(tmp_path, "online")
    assert [name for name, value in online.items() if CANARY in value] == ["WANDB_API_KEY"]
    assert online["WANDB_BASE_URL"] == "https://wandb.example.com/x"
