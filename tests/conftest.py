"""One thread for each test process: two busy ones with two threads each starve one another."""

import json
import os
import sys
from threading import Lock

import pytest
from hypothesis import HealthCheck, settings

from disks import small_disk_at
from measured import remove_damaged

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # before numpy and torch read it
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" not in os.environ and not any("test_cuda" in word for word in sys.argv):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # figures and hashes are those of a CPU, which "auto" means then

# The same examples in each run, however slow the machine is.
settings.register_profile(
    "lab", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("lab")


def not_awaiting_the_disk(descriptor: int) -> None:
    """Leave out os.fsync here and in forks, where it takes two fifths of a short run.

    Only a power cut tells the difference, which no test can cause: what a killed process wrote, the kernel keeps.
    Scripts that tests start sync, and a test of a full disk puts its own in place.
    """


os.fsync = not_awaiting_the_disk


@pytest.hookimpl(wrapper=True, trylast=True)  # within pytest-cov's own, which reads the files afterwards
def pytest_runtestloop(session):
    """Leave out what the processes that tests killed had measured, if the kill fell into their saving."""
    result = yield
    is_worker = hasattr(session.config, "workerinput")  # others may still be writing then
    if session.config.pluginmanager.hasplugin("_cov") and not is_worker:
        remove_damaged(session.config.rootpath)
    return result


@pytest.fixture
def small_disk(tmp_path):
    """A disk of a megabyte that a test may fill."""
    with small_disk_at(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def small_disk_read_only(tmp_path_factory):
    """A folder on a disk that can't be written to; the test is skipped without the right to mount one."""
    with small_disk_at(tmp_path_factory.mktemp("mounts") / "disk", "size=64k,ro") as disk:
        if not disk.mounted:
            pytest.skip("mounting isn't allowed here")
        yield disk.folder


@pytest.fixture
def built(monkeypatch):
    """The names of the learners that are built from here on, one for each time."""
    from rl_lab.training import registry

    names = []
    original = registry._factory

    def counted(name):
        factory = original(name)

        def count(**fields):
            names.append(name)
            return factory(**fields)

        count.Config = factory.Config
        return count

    monkeypatch.setattr(registry, "_factory", counted)
    return names


@pytest.fixture
def nothing_of_wandb(tmp_path, monkeypatch):
    """Neither variables nor files of W&B's are found; the working folder and the home are the test's own."""
    for name in [name for name in os.environ if name.startswith("WANDB_") or name == "NETRC"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def no_figures():
    """Pages are written without their figures beside them, which take most of the time."""
    from rl_lab.studies.page import static

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(static, "files_of", lambda chart, agents: {})
        yield


@pytest.fixture(scope="module")
def runs_in_this_process():
    """Runs of studies go on in this process, with fields that went through JSON, instead of one process for each."""
    from rl_lab.studies import study, worker
    from rl_lab.studies.engines import engine

    def without_signals(begin):  # which only the main thread takes
        return lambda *args, signals, **fields: begin(*args, **fields)

    one_at_a_time = Lock()

    def run_task(task, stop, report):
        task.folder.mkdir(parents=True, exist_ok=True)
        with one_at_a_time:
            worker._work(task.learner, json.loads(json.dumps(task.fields)))

    with pytest.MonkeyPatch.context() as patch:
        for begin in ("learn", "resume"):
            patch.setattr(worker, begin, without_signals(getattr(worker, begin)))
        for module in (study, engine):
            patch.setattr(module, "run_task", run_task)
        yield
