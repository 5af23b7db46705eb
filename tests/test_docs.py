"""What the pages show works as it stands there, and they build without a warning."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

import rl_lab
from pages import (
    PAGES,
    ROOT,
    SCRIPTS,
    Block,
    Folder,
    blocks_of,
    commands_of,
    import_once,
    name_of,
    shows,
)
from pages import rl_lab as command
from rl_lab.runs.config import RunConfig
from rl_lab.runs.run import Run
from rl_lab.runs.signals import STOPPED
from rl_lab.studies.packing import PACKED
from rl_lab.training.registry import agent_names, config_of, preset_fields
from rl_lab.updates.fields import TrainedFields

README = (ROOT / "README.md").read_text(encoding="utf8")
TEXT = {name_of(page): page.read_text(encoding="utf8") for page in PAGES}
ALL = "\n".join(TEXT.values())
LANGUAGES = {"sh", "python", "toml", "yaml", "json", "text", "html"}


@pytest.mark.long
@pytest.mark.parametrize("page", [p for p in PAGES if blocks_of(p)], ids=name_of)
def test_every_block_runs(page, tmp_path):
    import_once()
    folder = Folder(tmp_path)
    for block in blocks_of(page):
        folder.run(block)


@pytest.mark.parametrize(
    ("language", "text", "marks"),
    [
        ("sh", "rl-lab train --agent dqn --env-id CartPole-v1 --no-such-option 1", ()),
        ("sh", "cat no-such-file", ()),
        ("python", "print(1 / 0)", ()),
        ("python", "print(1)", ("prints ^2",)),
        ("python", "print(1)", ("100 -> 1",)),
        ("toml", "a = ", ()),
        ("text", "never printed", ()),
    ],
)
def test_a_block_that_fails_is_noticed(tmp_path, language, text, marks):
    with pytest.raises((AssertionError, ValueError)):
        Folder(tmp_path).run(Block(ROOT / "README.md", 1, language, text, marks))


@pytest.mark.parametrize(
    ("text", "marks", "printed", "expected"),
    [
        ("12 steps in 3.5 s,\nreturn -1", (), "log\n7 steps in 1e-05 s, return 0.25\n", True),
        ("12 steps in 3.5 s", (), "12 steps within 3.5 s", False),
        ("stopped; go on with: rl-lab", (), "stopped; continue with: rl-lab", False),
        ("a  c\nb", ("in any order",), "a\nb\nc\n", True),
        ("a  c\nb", ("in any order",), "a\nb\nc\nd\n", False),
    ],
)
def test_shown_output_is_compared_apart_from_numbers_and_line_breaks(text, marks, printed, expected):
    assert shows(Block(ROOT / "README.md", 1, "text", text, marks), printed) is expected


def test_a_stopped_run_prints_what_the_first_hour_shows(tmp_path):
    shown = next(b for b in blocks_of(ROOT / "docs/first-hour.md") if "stopped after" in b.text)
    assert shown.skipped
    assert test_a_stopped_run_prints_what_the_first_hour_shows.__name__ in shown.skipped

    def train_and_press_ctrl_c():  # in a fork, so that the patch doesn't outlive it
        Run.row = lambda *_: os.kill(os.getpid(), signal.SIGINT)
        words = "rl-lab train --agent q-learning --env-id FrozenLake-v1 --run-dir runs/first"
        command(shlex.split(words))

    code, printed = Folder(tmp_path).call(train_and_press_ctrl_c)
    assert code == STOPPED
    assert shows(shown, printed), printed


def test_every_block_names_its_language():
    assert {str(b): b.language for p in PAGES for b in blocks_of(p) if b.language not in LANGUAGES} == {}


def test_what_is_left_to_ci_is_run_there():
    ci = (ROOT / ".ci" / "run").read_text()
    left = [b for p in PAGES for b in blocks_of(p) if b.skipped == "CI runs it"]
    assert left
    for block in left:
        for line in commands_of(block.text):
            assert re.search(rf"^{re.escape(line)}$", ci, re.MULTILINE), f"{block}: {line}"


# The site --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the pages strictly."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return out


LOADED = re.compile(
    r"<(?:script|img|iframe|video|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*>"
    r"|<link\b(?![^>]*rel=[\"']?canonical)[^>]*\bhref=[\"']?(?:https?:)?//[^>]*>"
    r"|@import[^;]*//[^;]*|url\([\"']?(?:https?:)?//[^)]*\)"
)


@pytest.mark.long
def test_pages_load_nothing_from_elsewhere(site):
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(files) > len(PAGES) - 2
    found = {str(path): LOADED.findall(path.read_text(encoding="utf8")) for path in files}
    assert {path: what for path, what in found.items() if what} == {}
    assert not any('class="mermaid"' in path.read_text(encoding="utf8") for path in site.rglob("*.html"))


def test_the_check_for_foreign_files_sees_them():
    for text in (
        '<script src="https://unpkg.com/x.js"></script>',
        '<link rel="preconnect" href="//fonts.gstatic.com" crossorigin>',
        "@import 'https://fonts.googleapis.com/css'",
        'src: url("https://example.org/font.woff2")',
    ):
        assert LOADED.search(text)
    assert not LOADED.search('<a href="https://arxiv.org/abs/1707.06347">paper</a>')


@pytest.mark.long
def test_fields_and_packages_are_filled_in(site):
    dqn = (site / "agents" / "dqn.html").read_text(encoding="utf8")
    for field in dataclasses.fields(config_of("dqn")):
        assert f"<code>--{field.name.replace('_', '-')}</code>" in dqn
    architecture = (site / "architecture.html").read_text(encoding="utf8")
    for package in (p.parent.name for p in (ROOT / "rl_lab").glob("*/__init__.py")):
        assert re.search(rf"<text[^>]*>{package}</text>", architecture)
    assert not any("<!-- fields" in path.read_text(encoding="utf8") for path in site.rglob("*.html"))


@pytest.mark.long
@pytest.mark.parametrize(
    ("page", "agent", "titles"),
    [
        ("dqn", "dqn", ["Learning", "Replay", "Exploration", "Returns"]),
        ("policy-gradients", "ppo", ["Learning", "Rollout", "Network", "Optimiser"]),
    ],
)
def test_fields_shared_with_other_agents_are_folded(site, page, agent, titles):
    text = (site / "agents" / f"{page}.html").read_text(encoding="utf8")
    fields = re.split(r'<h2 id="fields', text)[1]  # of the first agent of the page
    folded = re.findall(r"<details[^>]*>\s*<summary>(.*?)</summary>(.*?)</details>", fields, re.DOTALL)
    assert [title for title, _ in folded] == [
        f"{group} (shared with other agents)" for group in ("Network", "Optimiser")
    ]
    open_ = re.sub(r"<details.*?</details>", "", fields, flags=re.DOTALL)
    assert re.findall(r"<p><strong>(.*?)</strong></p>", open_) == titles
    shared = {field.name for field in dataclasses.fields(TrainedFields)}
    for name in (field.name for field in dataclasses.fields(config_of(agent))):
        option = f"<code>--{name.replace('_', '-')}</code>"
        assert (option in "".join(table for _, table in folded)) is (name in shared), name
        assert (f"<td>{option}" in open_) is (name not in shared), name


@pytest.mark.long
def test_the_way_of_a_step_is_filled_in(site):
    page = (site / "architecture.html").read_text()
    assert "<code>rl_lab/updates/td.py</code>" in page


def test_links_of_the_readme_and_of_contributing_lead_somewhere():
    for name in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", TEXT[name]):
            assert (ROOT / target).exists(), f"{name}: {target}"


def test_the_readme_is_short_and_its_pictures_are_small():
    assert len(README.splitlines()) <= 150
    shown = re.findall(r"!\[[^]]*\]\((docs/images/[^)]+)\)", README)
    assert len(shown) >= 2
    assert all((ROOT / path).stat().st_size < 150_000 for path in shown)


# What the pages name ---------------------------------------------------------------------------------


COMMANDS = (
    "train", "compare", "watch", "diagnose", "export", "record", "sync", "check-env", "solve", "benchmark", "verify",
    "textbook",
)  # fmt: skip
OF_OTHERS = {
    "check",
    "evaluations",
    "every",
    "frames",
    "note",
    "pages",
    "runs",
}  # of sha256sum, scripts/soak.py and scripts/saving.py, of scripts/study_results.py


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What a command prints, even where it ends with an error."""
    folder = Folder(tmp_path_factory.mktemp("help"))
    return lambda *words: folder.call(lambda: command(["rl-lab", *words]))[1]


def test_every_option_they_show_exists(told):
    shown = set(re.findall(r"(?<![-\w])--([a-z][a-z-]+)", ALL)) - OF_OTHERS
    helps = [told(name, "--help-all") for name in COMMANDS]
    helps.append(told("watch", "--web", "--help"))
    mirror = [sys.executable, "-m", "rl_lab.runs.tracking", "--help"]
    helps.append(subprocess.run(mirror, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    known = {"help-all", "print-completion"} | set(re.findall(r"--([a-z][a-z-]+)", "\n".join(helps)))
    for config in (RunConfig, *map(config_of, agent_names())):
        known |= {field.name.replace("_", "-") for field in dataclasses.fields(config)}
    assert {option for option in shown if option.removeprefix("no-") not in known} == set()


def test_every_agent_and_environment_they_name_exists_and_none_is_missing():
    importlib.import_module("rl_lab.envs")

    registered = {env_id for env_id in gymnasium.registry if env_id.startswith("lab/")}
    assert set(re.findall(r"`(lab/[A-Za-z0-9]+-v\d+)`", ALL)) <= registered
    assert {e for e in registered if f"`{e}`" not in TEXT["docs/environments.md"]} == set()
    assert {a for a in agent_names() if f"`{a}`" not in TEXT["docs/agents/index.md"]} == set()


def test_the_page_on_speed_and_the_help_name_every_benchmark(told):
    allowed = re.findall(r"\w+", told("benchmark", "zzz").partition("(allowed:")[2].partition(")")[0])
    assert sorted(re.findall(r"^\| `(\w+)` \|", TEXT["docs/speed.md"], re.MULTILINE)) == allowed
    assert ", ".join(allowed) in re.sub(r"[\s│]+", " ", told("benchmark", "--help"))


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


def test_every_test_that_they_name_exists():
    defined = "\n".join(p.read_text(encoding="utf8") for p in (ROOT / "tests").rglob("test_*.py"))
    for path in set(re.findall(r"`(tests/[\w/]+\.py)`", ALL)):
        assert (ROOT / path).is_file(), path
    for name in set(re.findall(r"`(test_\w+)`", ALL)):
        assert f"def {name}(" in defined, name


# What the pages say was measured ---------------------------------------------------------------------


def results(name: str) -> dict:
    return json.loads((ROOT / "scripts" / "results" / f"{name}.json").read_bytes())


def numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"-?\d+(?:\.\d+)?", text)]


def rows(page: str, title: str) -> list[list[str]]:
    """Return the cells of the table whose header holds `title`."""
    table = re.search(rf"^\|[^\n]*{re.escape(title)}[^\n]*\n\|[-|]+\n((?:\|.*\n)+)", TEXT[page], re.MULTILINE)
    assert table, f"{page} has no table {title!r}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]


def test_what_memory_is_worth_is_what_was_measured():
    told = {row[0].strip("`").partition("`")[0]: row[2:] for row in rows("docs/memory.md", "| LSTM |")}
    studies = results("memory")["studies"]
    assert set(told) == {study["env_id"] for study in studies}
    for study in studies:
        for cell, agent in zip(told[study["env_id"]], study["agents"].values(), strict=True):
            assert numbers(cell) == pytest.approx(agent["eval_return_mean_by_seed"], rel=0.01)


def test_what_pages_say_of_a_study_is_what_was_kept_of_it():
    """scripts/study_results.py puts it there; before a study has results, the place is empty."""
    marks = re.compile(r"<!-- study: (\S+) -->\n(.*?)<!-- end of study -->", re.DOTALL)
    told = [found for page in PAGES for found in marks.findall(page.read_text(encoding="utf8"))]
    assert sorted(name for name, _ in told) == ["classic", "minatar", "qr-dqn", "qr-dqn-epsilon"]
    kept = {path.parent.name for path in (SCRIPTS / "results").glob("*/summary.md")}
    assert kept <= {name for name, _ in told}
    for name, text in told:
        kept = SCRIPTS / "results" / name / "summary.md"
        assert (kept.read_text(encoding="utf8").strip() if kept.is_file() else "") in text
        assert bool(text.strip()) == kept.is_file()
        assert sum(path.stat().st_size for path in kept.parent.glob("*") if path.name != PACKED) < 300_000


def test_what_the_recommended_presets_reach_is_what_was_measured():
    told = {row[0].split()[0]: row for row in rows("docs/agents/dqn.md", "`recommended:*`")}
    studies = results("dqn_recommended")["studies"]
    assert set(told) == {study["env_id"] for study in studies}
    for study in studies:
        row = told[study["env_id"]]
        assert numbers(row[2])[0] == pytest.approx(study["agents"]["dqn"]["iqm"], rel=0.003)
        assert numbers(row[3]) == [study["seeds"]]
        assert numbers(row[4])[0] == pytest.approx(study["sb3_dqn_at_the_zoos"]["iqm"], rel=0.003)


def test_how_often_pqn_solves_cartpole_is_what_was_measured():
    told = {row[0].strip("`"): row for row in rows("docs/agents/pqn.md", "| solved |")}
    measured = results("pqn_cartpole")
    assert set(told) == set(measured["agents"])
    for agent, found in measured["agents"].items():
        steps = preset_fields(agent, measured["preset"])["total_steps"]
        assert numbers(told[agent][1].replace(",", "")) == [steps]
        assert {run["env_steps"] for run in found["runs"]} == {steps}
        assert numbers(told[agent][2]) == [found["solved"], found["seeds"]]


def test_how_long_checkpoints_hold_learning_up_is_what_was_measured():
    told = {int(envs): numbers(longest)[0] for envs, longest in rows("docs/reliability.md", "| longest stop")}
    runs = results("saving")["runs"]
    longest = {run["num_envs"]: max(saved["seconds"] for saved in run["checkpoints"]) for run in runs}
    assert told == pytest.approx(longest, rel=0.07)
    assert {(run["frames"], run["every"]) for run in runs} == {(1_000_000, 200_000)}


@pytest.mark.parametrize("agent", ["ppo", "dqn"])
def test_how_the_lab_stands_beside_sb3_is_what_was_measured(agent):
    told = {row[0].partition(",")[2].split()[0]: row for row in rows("docs/agents/sb3.md", "| the lab | SB3 |")
            if row[0].lower().startswith(agent)}  # fmt: skip
    studies = [s for s in results(f"{agent}_zoo")["studies"] if agent in s["agents"]]
    assert set(told) == {study["env_id"] for study in studies}
    for study in studies:
        for cell, side in zip(told[study["env_id"]][1:], (agent, f"sb3-{agent}"), strict=True):
            measured = study["agents"][side]
            assert numbers(cell) == pytest.approx([measured["iqm"], *measured["interval_95"]], abs=0.8)


SPEED = {
    "net 256-256, as many": ("dqn", "net (256, 256)"),
    "net of 64-64 |": ("dqn", "net (64, 64)"),
    "SBX": ("sbx", "not clipped"),
    "acting and storing, CartPole": ("acting", "acting and storing"),
    "Pong, zoo": ("atari", ""),
    "every reward": ("guards", "every reward"),
    "value-iteration sweeps": ("dp", "Jacobi"),
    "gamma 0.999, one outcome": ("dp", "states at gamma 0.999"),
    "slippery grid": ("dp", "slippery grid"),
    "optimum of 1,000,000 states": ("dp", "1000000 states"),
    "optimum of 1,000 states": ("dp", "optimum of 1000 states"),
    "eight seeds as one program": ("batched", "seeds as one program"),
    "in simulation, one sequence": ("tabular", "one sequence"),
    "1,000 seeds of it in one call": ("tabular", "1,000 seeds of 100,000 steps"),
    "through `env.step`, recorded": ("tabular", "through env.step"),
    "seeded episodes with random actions": ("vectors", "steps of CartPole-v1 in seeded"),
    "GridWorld-v0, likewise": ("vectors", "steps of lab/GridWorld-v0 in seeded"),
    "as a run that is recorded": ("vectors", "recorded in a run"),
    "DQN acts and stores": ("vectors", "DQN acts and stores"),
    "four gradient steps for 32": ("vectors", "PPO learns"),
}


@pytest.mark.parametrize("words", SPEED)
def test_how_fast_it_is_is_what_was_measured(words):
    benchmark, work = SPEED[words]
    found = [r for r in results("benchmarks")["benchmarks"][benchmark]["results"] if work in r["work"]]
    line = next(x for x in TEXT["docs/speed.md"].splitlines() if words in x)
    assert numbers(line.strip(" |").rpartition("|")[2]) == [
        pytest.approx(r["ratio"], abs=0.051, rel=5e-3) for r in found
    ]
