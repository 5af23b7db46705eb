"""The command `diagnose`: it prints and writes what was found; wrong input is one line."""

from __future__ import annotations

import json

import pytest

from commands import call, require_refusal, run_script
from rl_lab.cli.diagnose import diagnose


class TestRefuses:
    def test_an_empty_directory(self, capsys, tmp_path):
        require_refusal(call(capsys, diagnose, tmp_path), str(tmp_path), "config.json")

    def test_a_directory_that_is_not_there(self, capsys, tmp_path):
        require_refusal(call(capsys, diagnose, tmp_path / "none"), str(tmp_path / "none"))
        assert not (tmp_path / "none").exists()

    def test_a_run_that_has_saved_nothing(self, capsys, run_dir, tmp_path):
        (tmp_path / "config.json").write_bytes((run_dir / "config.json").read_bytes())
        require_refusal(call(capsys, diagnose, tmp_path), "no checkpoint")

    @pytest.mark.parametrize(("option", "value"), [("--fits", 0), ("--fit-steps", 0), ("--episodes", -1)])
    def test_numbers_that_are_not_allowed(self, capsys, run_dir, option, value):
        name = option[2:].replace("-", "_")
        require_refusal(call(capsys, diagnose, run_dir, option, value), f"{name} must be at least")
        assert not (run_dir / "diagnosis.json").exists()


class TestDiagnose:
    def test_prints_the_parts_and_writes_them_beside_the_run(self, capsys, run_dir):
        code, out, err = call(capsys, diagnose, run_dir)
        assert (code, err) == (0, "")
        split = json.loads((run_dir / "diagnosis.json").read_text())["split"]
        assert sum(split[name] for name in ("exploration", "representation", "rest")) == pytest.approx(
            split["regret"], abs=1e-10
        )
        for text in ("q-learning on FrozenLake-v1", "exploration", "representation", "rest", "calibration"):
            assert text in out
        named = out.splitlines()[-1].removeprefix("written: ").split(", ")
        assert named[0] == str(run_dir / "diagnosis.json")
        assert {name.split("/")[-1] for name in named[1:]} == {
            path.name for path in (run_dir / "pictures").glob("diagnosis_*.png")
        }

    def test_the_script_is_the_same_command_and_draws_nothing_where_asked(self, run_dir, tmp_path):
        done = run_script("diagnose.py", run_dir, "--no-pictures", "--episodes", 0)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == f"written: {run_dir / 'diagnosis.json'}"
        assert json.loads((run_dir / "diagnosis.json").read_text())["calibration"] is None
