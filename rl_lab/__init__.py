"""rl_lab: exact, tabular and deep reinforcement-learning agents behind one interface.

The names below are loaded when first used: importing rl_lab imports neither torch, SB3 nor wandb.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from rl_lab.diagnosis.diagnose import diagnose
    from rl_lab.diagnosis.report import Diagnosis
    from rl_lab.environments.make import make_env, make_envs
    from rl_lab.evaluation.evaluate import evaluate
    from rl_lab.studies.compare import Comparison, compare
    from rl_lab.training.launch import learn, resume
    from rl_lab.training.loading import load_policy
    from rl_lab.training.result import Result
    from rl_lab.training.seeds import simulate
    from rl_lab.types import UsageError

__all__ = [
    "Comparison",
    "Diagnosis",
    "Result",
    "UsageError",
    "__version__",
    "compare",
    "diagnose",
    "evaluate",
    "learn",
    "load_policy",
    "make_env",
    "make_envs",
    "resume",
    "simulate",
]

_HOMES = {
    "Comparison": "studies.compare",
    "Diagnosis": "diagnosis.report",
    "Result": "training.result",
    "UsageError": "types",
    "compare": "studies.compare",
    "diagnose": "diagnosis.diagnose",
    "evaluate": "evaluation.evaluate",
    "learn": "training.launch",
    "load_policy": "training.loading",
    "make_env": "environments.make",
    "make_envs": "environments.make",
    "resume": "training.launch",
    "simulate": "training.seeds",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module 'rl_lab' has no attribute {name!r}")
    return getattr(import_module(f"rl_lab.{_HOMES[name]}"), name)


def _version() -> str:
    """Return the version of the installed package; pyproject.toml is where it is set."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("rl_lab")
    except PackageNotFoundError:  # a checkout on the path that was never installed
        return "0+unknown"
