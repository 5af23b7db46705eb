"""What decides about W&B: what is asked for, its variables, its settings files, a key, in this order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rl_lab.runs.config import RunConfig
from rl_lab.runs.wandb_settings import (
    ResolvedMode,
    has_api_key,
    named_fields,
    requested_again,
    resolve_mode,
    settings_paths,
)
from rl_lab.types import UsageError

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A home and a working folder without anything of W&B's."""
    for name in [name for name in os.environ if name.startswith("WANDB_") or name == "NETRC"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def write_settings(path: Path, text: str = "mode = offline") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[default]\n{text}\n")
    return path


def local() -> Path:
    return Path.cwd() / "wandb" / "settings"


class TestOrder:
    def test_without_anything_a_run_is_offline_and_online_with_a_key(self, monkeypatch):
        assert resolve_mode(None) == ResolvedMode("offline", "no API key")
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        assert resolve_mode(None) == ResolvedMode("online", "an API key")

    def test_each_source_wins_over_those_below_it(self, home, monkeypatch):
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        users = write_settings(home / ".config" / "wandb" / "settings", "mode = offline")
        assert resolve_mode(None) == ResolvedMode("offline", str(users))
        write_settings(local(), "mode = disabled")
        assert resolve_mode(None) == ResolvedMode("disabled", str(local()))
        write_settings(local(), "mode = online")
        monkeypatch.setenv("WANDB_DISABLED", "true")
        assert resolve_mode(None) == ResolvedMode("disabled", "WANDB_DISABLED=true")
        monkeypatch.setenv("WANDB_MODE", "offline")
        assert resolve_mode(None) == ResolvedMode("offline", "WANDB_MODE=offline")
        assert resolve_mode("online") == ResolvedMode("online", "--wandb")

    def test_an_online_of_the_user_does_not_overrule_the_folders_offline(self, home, monkeypatch):
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        write_settings(home / ".config" / "wandb" / "settings", "mode = online")
        write_settings(local(), "mode = offline")
        assert resolve_mode(None).mode == "offline"


class TestVariables:
    @pytest.mark.parametrize(
        ("value", "mode"),
        [
            ("offline", "offline"),
            ("dryrun", "offline"),
            ("online", "online"),
            ("run", "online"),
            ("shared", "online"),
            ("disabled", "disabled"),
            (" Offline ", "offline"),
        ],
    )
    def test_wandb_mode_is_understood_as_wandb_does(self, monkeypatch, value, mode):
        monkeypatch.setenv("WANDB_MODE", value)
        assert resolve_mode(None).mode == mode

    @pytest.mark.parametrize(("value", "mode"), [("1", "disabled"), ("yes", "disabled"), ("TRUE", "disabled"),
                                                ("false", "offline"), ("0", "offline"), ("", "offline")])  # fmt: skip
    def test_wandb_disabled_is_a_truth(self, monkeypatch, value, mode):
        monkeypatch.setenv("WANDB_DISABLED", value)
        assert resolve_mode(None).mode == mode

    def test_an_unknown_mode_names_what_is_allowed(self, monkeypatch):
        with pytest.raises(UsageError, match=r"--wandb sometimes: allowed are offline, online, disabled$"):
            resolve_mode("sometimes")
        with pytest.raises(UsageError, match="--wandb dryrun"):
            resolve_mode("dryrun")
        monkeypatch.setenv("WANDB_MODE", "dry")
        with pytest.raises(UsageError, match="WANDB_MODE=dry: allowed are dryrun, run, shared, offline"):
            resolve_mode(None)


class TestFiles:
    def test_what_wandbs_own_commands_write_is_obeyed(self, monkeypatch):
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        code = (
            "import json, pathlib, sys\n"
            "from wandb.cli import cli\n"
            "written = []\n"
            "for command in sys.argv[1:]:\n"
            "    cli.cli([command], standalone_mode=False)\n"
            "    written.append(pathlib.Path('wandb/settings').read_text())\n"
            "print(json.dumps(written))\n"
        )
        modes = {"offline": "offline", "online": "online", "disabled": "disabled", "enabled": "online",
                 "off": "offline", "on": "online"}  # fmt: skip
        local().parent.mkdir()
        command = [sys.executable, "-c", code, *modes]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for written, mode in zip(json.loads(told.splitlines()[-1]), modes.values(), strict=True):
            local().write_text(written)
            assert resolve_mode(None).mode == mode, written

    def test_the_folders_of_wandbs_variables_are_looked_in(self, tmp_path, monkeypatch):
        monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
        path = write_settings(tmp_path / "elsewhere" / "wandb" / "settings")
        assert resolve_mode(None) == ResolvedMode("offline", str(path))
        path.unlink()
        monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
        path = write_settings(tmp_path / "config" / "settings", "mode = disabled")
        assert resolve_mode(None) == ResolvedMode("disabled", str(path))

    def test_wandbs_folder_comes_before_the_working_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
        path = write_settings(tmp_path / "elsewhere" / "wandb" / "settings", "mode = disabled")
        write_settings(local(), "mode = online")
        assert resolve_mode(None) == ResolvedMode("disabled", str(path))

    @pytest.mark.parametrize("value", [" Offline ", "OFFLINE"])
    def test_capitals_and_blanks_do_not_matter(self, value):
        write_settings(local(), f"mode = {value}")
        assert resolve_mode(None) == ResolvedMode("offline", str(local()))

    def test_one_that_cannot_be_read_hides_no_setting_of_another(self, home):
        write_settings(local()).write_text("[[default")
        write_settings(home / ".config" / "wandb" / "settings", f"api_key = {KEY}")
        assert has_api_key()

    def test_a_hidden_folder_takes_the_place_of_the_open_one(self):
        write_settings(Path.cwd() / ".wandb" / "settings", "mode = disabled")
        write_settings(local(), "mode = online")
        assert next(settings_paths()) == Path.cwd() / ".wandb" / "settings"
        assert resolve_mode(None).mode == "disabled"

    @pytest.mark.parametrize("text", ["mode = later", "mode\n = [", "[[default", "\udcff"])
    def test_a_file_that_cannot_be_understood_contacts_nobody(self, monkeypatch, text):
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        write_settings(local()).write_bytes(f"[default]\n{text}\n".encode(errors="surrogateescape"))
        found = resolve_mode(None)
        assert found.mode == "offline"
        assert found.source.startswith(str(local()))

    def test_a_file_about_other_things_decides_nothing(self, monkeypatch):
        write_settings(local(), "project = birds")
        assert resolve_mode(None) == ResolvedMode("offline", "no API key")


class TestKey:
    def test_is_one_for_the_server_that_is_used(self, home, monkeypatch):
        netrc = home / ".netrc"
        netrc.write_text("machine example.org login a password b\n")
        assert not has_api_key()
        netrc.write_text("machine api.wandb.ai login user password b\n")
        assert has_api_key()
        write_settings(local(), "base_url = https://wandb.example.com")
        assert not has_api_key()  # it is for another server
        netrc.write_text("machine wandb.example.com login user password b\n")
        assert has_api_key()
        monkeypatch.setenv("WANDB_BASE_URL", "https://user:secret@wandb.example.org")
        assert not has_api_key()
        netrc.write_text("machine wandb.example.org login user password b\n")
        assert has_api_key()

    def test_is_found_in_each_of_its_places(self, home, monkeypatch, tmp_path):
        assert not has_api_key()
        (home / "_netrc").write_text("machine api.wandb.ai login user password b\n")
        assert has_api_key()
        monkeypatch.setenv("NETRC", str(tmp_path / "none"))
        assert not has_api_key()
        write_settings(local(), f"api_key = {KEY}")
        assert has_api_key()
        local().unlink()
        monkeypatch.setenv("WANDB_IDENTITY_TOKEN_FILE", "token.jwt")
        assert has_api_key()

    def test_a_broken_netrc_holds_none(self, home):
        (home / ".netrc").write_bytes(b"machine \xff\xfe nonsense {")
        assert resolve_mode(None).mode == "offline"


class TestNames:
    def test_what_is_given_wins_over_variables_and_these_over_settings(self, monkeypatch):
        write_settings(local(), "project = of-settings\nentity = team")
        config = RunConfig("CartPole-v1")
        assert named_fields(config)["wandb_project"] == "of-settings"
        assert named_fields(config)["wandb_entity"] == "team"
        monkeypatch.setenv("WANDB_PROJECT", "of-variable")
        assert named_fields(config)["wandb_project"] == "of-variable"
        assert named_fields(RunConfig("CartPole-v1", wandb_project="given"))["wandb_project"] == "given"

    def test_every_field_has_its_variable(self, monkeypatch):
        names = {"ENTITY": "e", "NAME": "n", "TAGS": "a, b,", "NOTES": "o", "JOB_TYPE": "j", "RUN_GROUP": "g"}
        for name, value in names.items():
            monkeypatch.setenv(f"WANDB_{name}", value)
        assert named_fields(RunConfig("CartPole-v1")) == {
            "wandb_project": "rl_lab", "wandb_entity": "e", "wandb_name": "n", "wandb_tags": ("a", "b"),
            "wandb_notes": "o", "wandb_job_type": "j", "group": "g",
        }  # fmt: skip


@pytest.mark.parametrize(
    ("stored", "again"),
    [
        ({"wandb": "online", "wandb_source": "an API key"}, None),
        ({"wandb": "online", "wandb_source": "--wandb"}, "online"),
        ({"wandb": "disabled", "wandb_source": "WANDB_MODE=disabled"}, None),
        ({"wandb": "disabled"}, "disabled"),  # stored before sources were
        ({"wandb": "online"}, None),
    ],
)
def test_a_run_that_goes_on_obeys_the_settings_of_today(stored, again):
    assert requested_again(stored) == again
