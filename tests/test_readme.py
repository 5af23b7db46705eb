"""What the README shows works as it stands there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import rl_lab
from rl_lab.runs.config import RunConfig
from rl_lab.training.registry import agent_names, make_learner

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf8")
QUIET = ["--wandb", "disabled", "--video-episodes", "0", "--eval-episodes", "2"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Install the package that the README writes, code and project file as they are, without network."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for block in [*blocks("python"), *blocks("toml")]:
        name = block.splitlines()[0].removeprefix("# ")
        if name.endswith((".py", ".toml")):
            (source / name).parent.mkdir(exist_ok=True)
            (source / name).write_text(block)
    (source / "my_lab" / "__init__.py").touch()
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True)
    return target


def run_script(name, *arguments, site=None, cwd=None):
    env = os.environ | ({"PYTHONPATH": str(site)} if site else {})
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *arguments]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)


def test_its_package_trains_compares_and_is_watched(site, tmp_path):
    options = [
        "--agent",
        "averages",
        "--env-id",
        "my_lab/Arms-v0",
        "--total-steps",
        "400",
        "--run-dir",
        "run",
    ]
    trained = run_script("train", *options, *QUIET, site=site, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    watched = run_script("watch", "run", "--gif", "arms.gif", site=site, cwd=tmp_path)
    assert watched.returncode == 0, watched.stderr
    assert (tmp_path / "arms.gif").stat().st_size > 0
    options = [
        "--env-id",
        "my_lab/Arms-v0",
        "--agents",
        "averages",
        "random",
        "--seeds",
        "1",
        "--total-steps",
        "100",
    ]
    compared = run_script(
        "compare", *options, "--out", "study", "--wandb", "disabled", site=site, cwd=tmp_path
    )
    assert compared.returncode == 0, compared.stderr
    assert (tmp_path / "study" / "index.html").is_file()


def test_its_python_example_runs(tmp_path, monkeypatch):
    example = next(block for block in blocks("python") if "rl_lab.load_policy(" in block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    said = {}
    exec(
        compile(example.replace("20_000", "300").replace("print(", "said.update(returns="), "README", "exec"),
        {"said": said},
    )
    assert said["returns"].shape == (20,)


def test_its_classifier_learns_digits(tmp_path, monkeypatch, capsys):
    example = next(block for block in blocks("python") if "write_examples(" in block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    exec(compile(example, "README", "exec"), {})
    f1, mean_return = map(float, capsys.readouterr().out.split())
    assert f1 > 0.9
    assert mean_return >= 0.8


def test_its_exact_example_solves_car_rental(capsys):
    example = next(block for block in blocks("python") if "solve(" in block)
    exec(compile(example, "README", "exec"), {})
    assert capsys.readouterr().out.startswith("636.98")


def test_every_option_it_shows_exists():
    options = set(re.findall(r"(?<![-\w])--([a-z][a-z-]+)", README))
    known = {f.replace("_", "-") for f in RunConfig.__dataclass_fields__}
    for agent in agent_names():
        known |= {f.replace("_", "-") for f in make_learner(agent).Config.__dataclass_fields__}
    for script in ("train", "compare", "watch", "benchmark", "verify", "demo", "record"):
        known |= set(re.findall(r"--([a-z][a-z-]+)", run_script(script, "--help").stdout))
    assert options <= known


def test_it_and_the_help_name_every_benchmark():
    refused, told = run_script("benchmark", "zzz").stderr, run_script("benchmark", "--help").stdout
    allowed = re.findall(r"\w+", refused.partition("(allowed:")[2])
    assert sorted(re.findall(r"scripts/benchmark\.py (\w+) ", README)) == allowed
    assert f"Benchmark: {', '.join(allowed)}." in re.sub(r"[\s│]+", " ", told)


def test_what_memory_is_worth_is_what_was_measured():
    studies = json.loads((ROOT / "scripts" / "results" / "memory.json").read_bytes())["studies"]
    table = README.partition("What an LSTM makes of that")[2]
    for study in studies:
        row = re.findall(rf"\| `{study['env_id']}`.*\|.*\|(.*)\|(.*)\|", table)[0]
        for told, agent in zip(row, study["agents"].values(), strict=True):
            assert [float(x) for x in told.split(",")] == pytest.approx(
                agent["eval_return_mean_by_seed"], rel=0.01
            )


def test_every_agent_and_environment_it_names_exists():
    import rl_lab.envs  # noqa: F401

    named = set(re.findall(r"`(lab/[A-Za-z0-9]+-v\d+)`", README))
    assert named
    assert named <= set(gymnasium.registry)
    assert all(f"`{agent}`" in README for agent in agent_names())


def test_pong_is_made_with_the_standard_preprocessing():
    envs = rl_lab.make_envs("ALE/Pong-v5", num_envs=2)
    try:
        obs, _ = envs.reset(seed=[1, 2])
        assert obs.shape == (2, 4, 84, 84)
        assert obs.dtype == np.uint8
        for _ in range(3):
            obs, reward, *_ = envs.step(np.array([2, 3]))
        assert obs[:, -1].std() > 0
        assert reward.dtype == np.float64
    finally:
        envs.close()
