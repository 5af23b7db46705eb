"""Long runs stay flat: the logic of scripts/soak.py at a small scale, and what it would say of a leak."""

from __future__ import annotations

import gc
import importlib.util
import json
import mmap
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from commands import SCRIPTS, run_script

_found = importlib.util.spec_from_file_location("soak", SCRIPTS / "soak.py")
assert _found is not None
assert _found.loader is not None
soak = importlib.util.module_from_spec(_found)
sys.modules["soak"] = soak
_found.loader.exec_module(soak)

MOST_KB = 100.0  # the batch of steps under way comes and goes
MOST_RESIDENT_MB = (
    4.0  # allocators settle; of 2,500 updates, one that kept a copy of the weights would cost 9 MB
)


# What Python and numpy hold is traced once a short run has imported what it needs; torch's memory is not among it.
# The cache of seeds is full from the start, as it is in a long run.
ALONE = """
import dataclasses, gc, json, os, sys, tracemalloc
os.fsync = lambda descriptor: None  # nothing here is about what reaches the disk
sys.path.insert(0, sys.argv[1])
import soak
from rl_lab.seeding import episode_seed

def traced_mb():
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / 2**20

if {traced}:
    soak.soak_training(100, learning_starts_env_steps=50)
    tracemalloc.start(1)
    for k in range(episode_seed.cache_info().maxsize):
        episode_seed(-1, 0, k)
found = soak.{call}
print(json.dumps([dataclasses.asdict(sample) for sample in found.samples]))
"""


def alone(call: str) -> soak.Soaked:
    """Return what a call finds in a process of its own, where no other test's threads, files and garbage count."""
    code = ALONE.format(call=call, traced="traced_mb" in call)
    done = subprocess.run(
        [sys.executable, "-c", code, str(SCRIPTS)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return soak.Soaked(call, [soak.Sample(**sample) for sample in json.loads(done.stdout.splitlines()[-1])])


@pytest.mark.long
def test_training_holds_no_more_memory_and_no_more_handles_as_it_goes_on():
    found = alone(
        "soak_training(20_000, traced_mb, train_period_env_steps=100, replay_capacity=500, log_every_steps=500)"
    )
    assert [sample.env_steps for sample in found.samples] == list(range(500, 20_001, 500))
    assert len(found.handles()) == 1
    assert abs(found.growth_mb()) * 1024 < MOST_KB


@pytest.mark.long
def test_evaluations_hold_no_more_memory_and_no_more_handles_as_they_go_on():
    found = alone("soak_evaluations(100, traced_mb)")
    assert len(found.samples) == 100
    assert len(found.handles()) == 1
    assert abs(found.growth_mb()) * 1024 < MOST_KB


@pytest.mark.long
def test_training_takes_no_more_resident_memory_as_it_goes_on():
    found = alone("soak_training(10_000, train_period_env_steps=4, replay_capacity=500, log_every_steps=250)")
    assert len(found.samples) == 40
    assert found.growth_mb() < MOST_RESIDENT_MB


def test_memory_that_torch_holds_is_seen():
    gc.collect()  # else what other tests have left may be freed meanwhile
    kept = []

    def keep_pages(event):
        pages = mmap.mmap(-1, 2**22)  # the heap may have as much free that is resident already
        kept.append(torch.frombuffer(pages, dtype=torch.float32).fill_(1.0))

    found = soak.soak_training(800, log_every_steps=20, callbacks=[keep_pages])
    assert found.growth_mb() > MOST_RESIDENT_MB
    assert not found.flat()


def samples(memory, handles):
    return [soak.Sample(step, m, h, 1) for step, (m, h) in enumerate(zip(memory, handles, strict=True))]


@pytest.mark.parametrize(
    ("memory", "handles", "growth", "flat"),
    [
        ([50.0] * 2 + [90.0] * 8, [3] + [9] * 9, 0.0, True),  # what the warm-up does doesn't count
        ([100.0 + k for k in range(10)], [9] * 10, 6.0, True),
        ([100.0 + 4 * k for k in range(10)], [9] * 10, 24.0, False),
        ([100.0] * 10, [9] * 9 + [10], 0.0, False),
    ],
)
def test_growth_is_found(memory, handles, growth, flat):
    found = soak.Soaked("work", samples(memory, handles))
    assert (found.growth_mb(), found.flat()) == (growth, flat)


def test_the_script_writes_what_it_found(tmp_path):
    done = run_script("soak.py", "--steps", 0, "--evaluations", 30, "--json", tmp_path / "soak.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("30 evaluations: memory grew by ")
    assert done.stdout.endswith(": flat\n")
    (result,) = json.loads(Path(tmp_path, "soak.json").read_text())["results"]
    assert (result["work"], result["flat"], len(result["samples"])) == ("30 evaluations", True, 30)
    assert result["samples"][-1]["env_steps"] == 30
