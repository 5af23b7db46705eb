"""Format numbers: step by step up to the current one, and never beyond it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rl_lab.runs import migrations as config_migrations
from rl_lab.storage import checkpoint, formats
from rl_lab.storage.checkpoint import Checkpoints, read_manifest
from rl_lab.storage.errors import CheckpointCorrupt, FormatTooNew
from rl_lab.training.migrations import member_migrations
from toys import Identity, problem_on


def test_migrations_are_applied_one_after_the_other(monkeypatch):
    monkeypatch.setattr(formats, "FORMAT", 4)
    steps = {
        number: lambda data, number=number: data | {"seen": [*data["seen"], number]} for number in (1, 2, 3)
    }
    assert formats.migrate({"seen": []}, 1, steps) == {"seen": [1, 2, 3]}
    assert formats.migrate({"seen": []}, 3, steps) == {"seen": [3]}
    assert formats.migrate({"seen": []}, 4, steps) == {"seen": []}


def test_every_format_before_this_one_has_its_migrations():
    before = list(range(1, formats.FORMAT))
    assert sorted(checkpoint.MIGRATIONS) == before
    assert sorted(config_migrations.MIGRATIONS) == before
    assert sorted(member_migrations(problem_on(Identity).spec)) == before


def test_newer_format_is_named_with_its_file():
    formats.require_readable(formats.FORMAT, Path("a.json"))
    with pytest.raises(FormatTooNew, match=r"^a\.json has format 9 \(allowed: up to 3"):
        formats.require_readable(9, Path("a.json"))


class TestCheckpointsOfOlderFormats:
    @pytest.fixture
    def older(self, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(formats, "FORMAT", 1)
            path = Checkpoints(tmp_path).save(1, {"weights": {"w": np.arange(3)}, "agent": {"old": 1}})
        return path

    def test_manifests_are_migrated_step_by_step(self, older, monkeypatch):
        monkeypatch.setattr(formats, "FORMAT", 3)
        more = {
            1: lambda body: body | {"env_steps": 10},
            2: lambda body: body | {"env_steps": body["env_steps"] + 1},
        }
        monkeypatch.setattr(checkpoint, "MIGRATIONS", more)
        assert read_manifest(older)["format"] == 3
        assert Checkpoints(older.parent).load()[0] == 11

    def test_members_are_migrated_where_that_is_asked_for(self, older):
        migrations = {1: lambda members: members | {"agent": {"new": members["agent"]["old"]}}, 2: dict}
        assert Checkpoints(older.parent).load(migrations=migrations)[1]["agent"] == {"new": 1}
        assert Checkpoints(older.parent).load()[1]["agent"] == {"old": 1}

    def test_current_ones_are_not_migrated(self, tmp_path):
        Checkpoints(tmp_path).save(1, {"agent": {"new": 1}})
        assert Checkpoints(tmp_path).load(migrations={1: lambda members: 1 / 0})[1] == {"agent": {"new": 1}}

    def test_what_a_migration_refuses_is_no_corruption(self, older):
        with pytest.raises(ZeroDivisionError):
            Checkpoints(older.parent).load(migrations={1: lambda members: 1 / 0})

    def test_format_that_never_was_is_corruption(self, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(formats, "FORMAT", 0)
            Checkpoints(tmp_path).save(1, {"agent": {}})
        with pytest.warns(UserWarning, match="passed over"), pytest.raises(CheckpointCorrupt):
            Checkpoints(tmp_path).load()
