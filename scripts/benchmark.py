"""Speed beside a peer: both sides take turns in one run, and the ratio of their medians is what counts."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch read it

import tyro

from rl_lab.cli import main, parse
from rl_lab.config import unknown_name
from rl_lab.learning import learn, set_threads
from rl_lab.logs import read_rows
from rl_lab.registry import preset_fields
from rl_lab.types import UsageError

QUIET: dict[str, Any] = {"wandb": "disabled", "video_episodes": 0, "eval_episodes": 0}


@dataclass(frozen=True)
class Options:
    """What benchmark.py takes."""

    name: tyro.conf.Positional[str]
    """Benchmark: acting, dp, dqn, replay, sb3."""
    json: str | None = None
    """File for the results."""
    turns: int = 5
    """Times that each side is run."""


@dataclass(frozen=True)
class Work:
    """One piece of work, done by us and by a peer; a side returns the seconds it took."""

    work: str
    peer: str
    ours: Callable[[], float]
    theirs: Callable[[], float]
    moved_bytes: float = 0.0
    """That our side reads and writes at the least; 0 where memory is not what bounds it."""


def lab_seconds(agent: str, *, shares: bool = False, **fields: Any) -> float:
    """Train in a run directory and return the training clock; print where it went, if asked."""
    with tempfile.TemporaryDirectory() as folder:
        summary = learn(agent, "CartPole-v1", run_dir=f"{folder}/run", **QUIET, **fields).summary
        assert summary is not None
        if shares:
            print_shares(Path(folder) / "run", summary)
    return summary["train_seconds"]


def print_shares(run_dir: Path, summary: dict[str, Any]) -> None:
    """Print the seconds of acting, stepping, storing, sampling and learning, as the rows have them."""
    totals: Counter[str] = Counter()
    for row in read_rows(run_dir):
        totals.update({k: v for k, v in row.items() if k.endswith("_seconds") and k != "train_seconds"})
    totals["update_seconds"] -= totals["sample_seconds"]
    parts = ", ".join(f"{name.removesuffix('_seconds')} {s:.2f}" for name, s in totals.most_common())
    print(f"    {summary['train_seconds']:.2f} s: {parts}", flush=True)


def plain_sb3_seconds(total_steps: int, **arguments: Any) -> float:
    """Train SB3's DQN as its own users do and return the seconds of learn()."""
    from stable_baselines3 import DQN

    model = DQN("MlpPolicy", "CartPole-v1", seed=0, device="cpu", **arguments)
    begun = time.perf_counter()
    model.learn(total_steps)
    return time.perf_counter() - begun


def acting() -> list[Work]:
    """Act and store without gradient steps: N = 1, MLP 256-256, epsilon 0.1 on both sides."""
    steps = 20_000
    fields: dict[str, Any] = {
        "total_steps": steps,
        "hidden": (256, 256),
        "gradient_steps_per_update": 0,
        "learning_starts_env_steps": 0,
        "epsilon_initial": 0.1,
        "epsilon_final": 0.1,
        "target_period_env_steps": 10_000,
    }
    arguments = sb3_arguments(fields)
    return [
        Work(
            f"acting and storing, CartPole-v1, N = 1, MLP 256-256, {steps} steps",
            "sb3",
            lambda: lab_seconds("dqn", **fields),
            lambda: plain_sb3_seconds(steps, **arguments),
        )
    ]


def sb3_arguments(fields: dict[str, Any]) -> dict[str, Any]:
    """Return what SB3's DQN takes for the lab's fields."""
    from agents.sb3 import DQNConfig

    return DQNConfig(**{k: v for k, v in fields.items() if k != "total_steps"}).arguments(1)


def sbx_seconds(total_steps: int, **arguments: Any) -> float:
    """Train SBX's DQN (JAX) and return the seconds of learn()."""
    from sbx import DQN

    known = {k: v for k, v in arguments.items() if k != "max_grad_norm"}  # it doesn't clip
    model = DQN("MlpPolicy", "CartPole-v1", seed=0, **known)
    begun = time.perf_counter()
    model.learn(total_steps)
    return time.perf_counter() - begun


# A run of its own process whose compiler finds an empty cache, and one that finds it filled.
FRESH = """
import sys
sys.path.insert(0, {folder!r})
from benchmark import lab_seconds, preset_fields, set_threads
set_threads(1)
print(lab_seconds("dqn", **preset_fields("dqn", "zoo:CartPole-v1")))
"""


def print_cold() -> None:
    """Print the training clock of processes that have compiled nothing yet, without and with a cache on disk."""
    code = FRESH.format(folder=str(Path(__file__).parent))
    with tempfile.TemporaryDirectory() as cache:
        env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}
        for what in ("cold, empty cache", "new process, cache on disk"):
            seconds = float(subprocess.check_output([sys.executable, "-c", code], text=True, env=env))
            print(f"  dqn, zoo hyperparameters, {what}: {seconds:.1f} s, compiling included", flush=True)


def dqn() -> list[Work]:
    """DQN at the zoo's hyperparameters for CartPole, as many gradient steps on both sides: the training clock."""
    print_cold()
    works = []
    for hidden in ((256, 256), (64, 64)):
        fields = preset_fields("dqn", "zoo:CartPole-v1") | {"hidden": hidden}
        steps, arguments = fields["total_steps"], sb3_arguments(fields)
        peers: dict[str, Callable[[], float]] = {"sb3": partial(plain_sb3_seconds, steps, **arguments)}
        if find_spec("sbx") is not None:  # optional
            peers["sbx"] = partial(sbx_seconds, steps, **arguments)
        name = f"dqn, CartPole-v1, zoo hyperparameters, net {hidden}, {steps} steps"
        ours = partial(lab_seconds, "dqn", shares=True, **fields)
        works += [Work(name, peer, ours, theirs) for peer, theirs in peers.items()]
    return works


def print_bytes(ours: Any, theirs: Any) -> None:
    """Print what a transition takes, of CartPole on both sides and of Atari's stacks."""
    import numpy as np
    from gymnasium import spaces

    from rl_lab.replay.memory import replay_bytes
    from rl_lab.types import EnvSpec

    names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
    sb3_bytes = sum(getattr(theirs, name).nbytes for name in names) / theirs.buffer_size
    print(f"  bytes of a transition, CartPole: ours {ours.nbytes / ours.rows:.0f}, sb3 {sb3_bytes:.0f}")
    frames = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    spec = EnvSpec("Atari", frames, spaces.Discrete(18), 1, None, False, frame_stack=4)
    million = replay_bytes(1_000_000, spec)
    print(
        f"  a million of Atari's: ours {million / 1e9:.2f} GB, sb3 {2 * 4 * 84 * 84 / 1e3:.1f} GB", flush=True
    )


REPLAY_STEPS, REPLAY_DRAWS = 20_000, 5_000


def replay() -> list[Work]:
    """Adding to and sampling from a replay of CartPole's shapes, and the bytes of a transition."""
    import gymnasium
    import numpy as np
    from stable_baselines3.common.buffers import ReplayBuffer

    from rl_lab.replay.transitions import TransitionReplay
    from rl_lab.types import EnvSpec, Step

    env = gymnasium.make("CartPole-v1")
    spec = EnvSpec("CartPole-v1", env.observation_space, env.action_space, 1, 500, False)
    rng, no = np.random.default_rng(0), np.zeros(1, np.bool_)
    seen = rng.normal(size=(REPLAY_STEPS + 1, 1, 4)).astype(np.float32)
    action, reward = np.zeros(1, np.int64), np.ones(1)
    ends = [np.array([t % 100 == 99]) for t in range(REPLAY_STEPS)]
    steps = [
        Step(seen[t], action, reward, ends[t], no, seen[t + 1], ends[t - 1], (), (), None, None)
        for t in range(REPLAY_STEPS)
    ]
    ours = TransitionReplay(50_000, spec)
    theirs = ReplayBuffer(50_000, env.observation_space, env.action_space, handle_timeout_termination=True)

    def add_ours() -> None:
        for step in steps:
            ours.add(step)

    def add_theirs() -> None:
        for t in range(REPLAY_STEPS):
            theirs.add(seen[t], seen[t + 1], action, reward, ends[t], [{}])

    def draw_theirs(size: int) -> None:
        for _ in range(REPLAY_DRAWS):
            theirs.sample(size)

    def draw_ours(size: int) -> None:
        for _ in range(REPLAY_DRAWS):
            ours.sample(size, rng)

    add_ours(), add_theirs()
    print_bytes(ours, theirs)
    adding = Work(
        f"adding {REPLAY_STEPS} transitions", "sb3", lambda: timed(add_ours), lambda: timed(add_theirs)
    )
    return [adding] + [
        Work(
            f"sampling {REPLAY_DRAWS} batches of {size}", "sb3",
            partial(timed, partial(draw_ours, size)), partial(timed, partial(draw_theirs, size)),
        )
        for size in (64, 256)
    ]  # fmt: skip


def sb3() -> list[Work]:
    """SB3's DQN through the lab beside plain SB3: what the lab's records and seeds cost it."""
    steps = 10_000
    fields = preset_fields("sb3-dqn", "zoo:CartPole-v1") | {"total_steps": steps}
    from agents.sb3 import build_dqn

    learner = build_dqn(**{k: v for k, v in fields.items() if k != "total_steps"})
    arguments = learner.config.arguments(1)
    return [
        Work(
            f"sb3-dqn through the lab, CartPole-v1, zoo hyperparameters, {steps} steps",
            "sb3",
            lambda: lab_seconds("sb3-dqn", **fields),
            lambda: plain_sb3_seconds(steps, **arguments),
        )
    ]


DP_THREADS = 2
DP_ERROR = 1e-6  # of V, certified on our side


def random_model(states: int, actions: int = 4, successors: int = 5) -> Any:
    """Return a model in which each action leads to random states with random probabilities."""
    import numpy as np

    from rl_lab.mdp.model import TabularModel

    rng = np.random.default_rng(0)
    shape = (states, actions, successors)
    probability = rng.random(shape)
    probability /= probability.sum(axis=2, keepdims=True)
    reward = rng.random((states, actions, 1))
    return TabularModel.from_arrays(probability, rng.integers(0, states, shape, dtype=np.int32), reward)


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that a piece of work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def solve_model(model: Any, gamma: float) -> Any:
    """Solve by the default method until V is certified to DP_ERROR, whatever its size."""
    from rl_lab.mdp.solve import solve

    solution = solve(model, gamma, tolerance=DP_ERROR * (1 - gamma), threads=DP_THREADS)
    assert solution.bound <= DP_ERROR
    return solution


def quantecon_problem(model: Any, gamma: float) -> Any:
    """Return the model as QuantEcon takes it."""
    from quantecon.markov import DiscreteDP

    from rl_lab.mdp.exchange import to_quantecon

    reward, transitions, states, actions = to_quantecon(model)
    return DiscreteDP(reward, transitions, gamma, states, actions)


def jacobi_work(model: Any, gamma: float, sweeps: int) -> Work:
    """As many sweeps of value iteration as V needs, and nothing else, on both sides."""
    import numpy as np

    from rl_lab.mdp.rows import list_rows
    from rl_lab.mdp.sweeps import make_sweeps

    rows = list_rows(model)
    ours = make_sweeps(rows, gamma, DP_THREADS)

    def sweep_ours() -> None:
        values = np.zeros(model.num_states)
        for _ in range(sweeps):
            values, _, _ = ours.improve(values)

    def sweep_scipy() -> None:
        values = np.zeros(model.num_states)
        for _ in range(sweeps):
            values = (
                (rows.reward + gamma * (rows.continuation @ values)).reshape(model.available.shape).max(1)
            )

    matrix = rows.continuation
    once = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes + rows.reward.nbytes
    return Work(
        f"{sweeps} Jacobi sweeps, {model.num_states} states, {DP_THREADS} threads",
        "scipy CSR",
        lambda: timed(sweep_ours),
        lambda: timed(sweep_scipy),
        moved_bytes=sweeps * (once + 4.0 * 8 * model.num_states),  # values, new values, choice, first rows
    )


def quantecon_work(model: Any, gamma: float, method: str) -> Work:
    """The optimum by our default method and by one of QuantEcon's."""
    problem = quantecon_problem(model, gamma)

    def solve_theirs() -> None:
        problem.solve(method, epsilon=DP_ERROR, max_iter=100_000)

    return Work(
        f"optimum of {model.num_states} states at gamma {gamma} to {DP_ERROR}, {DP_THREADS} threads",
        f"quantecon {method}",
        lambda: timed(lambda: solve_model(model, gamma)),
        lambda: timed(solve_theirs),
    )


def pymdptoolbox_work(states: int, gamma: float) -> Work:
    """The optimum of a model that fits dense arrays."""
    from mdptoolbox.mdp import PolicyIteration

    from rl_lab.mdp.exchange import to_pymdptoolbox

    model = random_model(states)
    transitions, reward = to_pymdptoolbox(model)
    return Work(
        f"optimum of {states} states at gamma {gamma}",
        "pymdptoolbox policy iteration",
        lambda: timed(lambda: solve_model(model, gamma)),
        lambda: timed(lambda: PolicyIteration(transitions, reward, gamma).run()),
    )


def million_seconds(gamma: float) -> float:
    """Solve 1,000,000 states in a process of their own, print its peak memory, return the solver's seconds."""
    command = [sys.executable, "-c", MILLION.format(folder=str(Path(__file__).parent), gamma=gamma)]
    seconds, gigabytes, sweeps, bound = subprocess.check_output(command, text=True).split()
    print(f"  1,000,000 states: {float(seconds):.2f} s, {sweeps} sweeps, bound {bound}, peak {gigabytes} GB")
    return float(seconds)


# Compiling, or loading what was compiled, is left out as on the peer's side.
MILLION = """
import resource, sys, time
sys.path.insert(0, {folder!r})
from benchmark import random_model, solve_model
solve_model(random_model(10_000), {gamma})
model = random_model(1_000_000)
begun = time.perf_counter()
solution = solve_model(model, {gamma})
seconds = time.perf_counter() - begun
print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, solution.sweeps, solution.bound)
"""


def dp() -> list[Work]:
    """Dynamic programming on sparse random models, 4 actions with 5 successors each."""
    model, million = random_model(200_000), quantecon_work(random_model(1_000_000), 0.99, "mpi")
    return [
        jacobi_work(model, 0.95, sweeps=273),
        quantecon_work(model, 0.95, "vi"),
        quantecon_work(model, 0.95, "mpi"),
        pymdptoolbox_work(1000, 0.95),
        replace(million, ours=lambda: million_seconds(0.99)),
    ]


def copy_bandwidth() -> float:
    """Return the bytes per second, read and written, of copies too large for any cache on DP_THREADS threads."""
    import numpy as np

    source = np.ones(2**25)
    target = np.zeros_like(source)
    size = len(source) // DP_THREADS
    halves = [
        (target[i * size : (i + 1) * size], source[i * size : (i + 1) * size]) for i in range(DP_THREADS)
    ]
    with ThreadPoolExecutor(DP_THREADS) as pool:
        seconds = [timed(lambda: list(pool.map(lambda pair: np.copyto(*pair), halves))) for _ in range(10)]
    return 2 * source.nbytes / min(seconds)


BENCHMARKS: dict[str, Callable[[], list[Work]]] = {
    "acting": acting, "dp": dp, "dqn": dqn, "replay": replay, "sb3": sb3,
}  # fmt: skip


def compare(work: Work, turns: int) -> dict[str, Any]:
    """Let the sides take turns after one uncounted turn each; return a row of results."""
    work.ours(), work.theirs()
    pairs = [(work.ours(), work.theirs()) for _ in range(turns)]
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = sorted(t / o for o, t in pairs)
    print(f"{work.work}: ours {ours:.2f} s, {work.peer} {theirs:.2f} s")
    print(f"  ratio {theirs / ours:.2f} (turn by turn {ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True)
    share: dict[str, float] = {}
    if work.moved_bytes:
        share = {"bandwidth_share": work.moved_bytes / copy_bandwidth() / ours}
        print(f"  {share['bandwidth_share']:.0%} of what the bandwidth of memory allows")
    return {
        "work": work.work,
        "peer": work.peer,
        "unit": "s",
        "ours": ours,
        "theirs": theirs,
        "ratio": theirs / ours,
        "ratio_range": [ratios[0], ratios[-1]],
        **share,
    }


def benchmark(argv: Sequence[str]) -> int:
    """Run one benchmark by name."""
    options: Options = parse(Options, argv, description=__doc__)
    if options.name not in BENCHMARKS:
        raise UsageError(unknown_name("benchmark", options.name, sorted(BENCHMARKS)))
    if options.turns < 1:
        raise UsageError(f"turns must be at least 1, got {options.turns}")
    set_threads(1)
    results = [compare(work, options.turns) for work in BENCHMARKS[options.name]()]
    if options.json:
        Path(options.json).write_text(json.dumps({"results": results}, indent=1))
    return 0


if __name__ == "__main__":
    main(benchmark)
